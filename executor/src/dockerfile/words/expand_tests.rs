//! What BuildKit's lexer makes of words.

use proptest::prelude::*;

use super::*;

fn lookup(name: &str) -> Option<String> {
    let value = match name {
        "PWD" => "/home",
        "SHELL" => "bash",
        "KOREAN" => "한국어",
        "EMPTY" => "",
        "TWO" => "a b",
        "FILE" => "/opt/x.tar.gz",
        "STARS" => "a***yy*",
        "SPECIAL" => "()[]{}^$.*?|\\x",
        "SLASH" => "/tmp",
        "URL" => "http://example.net",
        _ => return None,
    };
    Some(value.to_owned())
}

fn expand(word: &str) -> Result<String, String> {
    run(word, '\\', Mode::Plain)
        .map(|e| e.text)
        .map_err(|e| e.message)
}

fn run(word: &str, escape: char, mode: Mode) -> Result<Expansion, ExpandError> {
    Expander {
        escape,
        mode,
        lookup: &lookup,
    }
    .expand(word)
}

#[test]
fn quotes_and_escapes() {
    for (word, wanted) in [
        ("hello", "hello"),
        ("he'll'o", "hello"),
        ("he\\'llo", "he'llo"),
        ("abc\\tdef", "abctdef"),
        ("\"abc\\tdef\"", "abc\\tdef"),
        ("\"abc\\\\tdef\"", "abc\\tdef"),
        ("'abc\\tdef'", "abc\\tdef"),
        ("hello\\", "hello"),
        ("hello\\\\", "hello\\"),
        ("\"hel'lo\"", "hel'lo"),
        ("'hello\\'", "hello\\"),
        ("\"''\"", "''"),
        ("''", ""),
        ("a\\ b", "a b"),
        ("\\$PWD", "$PWD"),
        ("\"\\$PWD\"", "$PWD"),
        ("'$PWD'", "$PWD"),
        ("\"'$PWD'\"", "'/home'"),
        ("'\"$PWD\"'", "\"$PWD\""),
        ("한국어", "한국어"),
        ("안녕\\\\", "안녕\\"),
    ] {
        assert_eq!(expand(word).as_deref(), Ok(wanted), "{word}");
    }
}

#[test]
fn variables() {
    for (word, wanted) in [
        ("$", "$"),
        ("he$PWD", "he/home"),
        ("he$UNKNOWN", "he"),
        ("he$PWD.", "he/home."),
        ("he$PWD_", "he"),
        ("he${PWD}_x", "he/home_x"),
        ("$KOREAN", "한국어"),
        ("he$", "he$"),
        ("$ x", "$ x"),
        ("$.", "$."),
        ("$1x", "x"),
        ("$10x", "x"),
        ("$$", ""),
        ("$@.", "."),
        ("\"$TWO\"", "a b"),
        ("${PWD:-x}", "/home"),
        ("${EMPTY:-x}", "x"),
        ("${EMPTY-x}", ""),
        ("${UNSET-x}", "x"),
        ("${UNSET:-}", ""),
        ("${UNSET:-$PWD}", "/home"),
        ("${UNSET:-${EMPTY:-${SHELL}}}", "bash"),
        ("${UNSET:-'}'}", "}"),
        ("${UNSET:-\\}}", "}"),
        ("${UNSET:-a\"b c\"d}", "ab cd"),
        ("${PWD:+x}", "x"),
        ("${EMPTY:+x}", ""),
        ("${EMPTY+x}", "x"),
        ("${UNSET+x}", ""),
        ("${PWD?no}", "/home"),
        ("${EMPTY?no}", ""),
        ("x${UNSET:-a}y${SHELL%h}z", "xaybasz"),
    ] {
        assert_eq!(expand(word).as_deref(), Ok(wanted), "{word}");
    }
}

#[test]
fn patterns() {
    for (word, wanted) in [
        ("${FILE#*/}", "opt/x.tar.gz"),
        ("${FILE##*/}", "x.tar.gz"),
        ("${FILE%.*}", "/opt/x.tar"),
        ("${FILE%%.*}", "/opt/x"),
        ("${FILE#x}", "/opt/x.tar.gz"),
        ("${FILE#}", "/opt/x.tar.gz"),
        ("${FILE##}", "/opt/x.tar.gz"),
        ("${FILE#$SLASH}", "/opt/x.tar.gz"),
        ("${STARS%%\\**\\*}", "a"),
        ("${SPECIAL#()[]{\\}^$.\\*\\?|\\\\}", "x"),
        ("${FILE/t*r/T}", "/opT.gz"),
        ("${FILE/./-}", "/opt/x-tar.gz"),
        ("${FILE//./-}", "/opt/x-tar-gz"),
        ("${FILE//\\//_}", "_opt_x.tar.gz"),
        ("${FILE//.}", "error: missing `/` in substitution"),
        ("${URL/http/https}", "https://example.net"),
        ("${SLASH/$SLASH/$PWD}", "/home"),
        ("${FILE///}", "/opt/x.tar.gz"),
        ("${FILE/$EMPTY/w}", "w/opt/x.tar.gz"),
        ("${FILE#\\x}", "error: invalid escape `\\x` in pattern"),
    ] {
        let found = expand(word).unwrap_or_else(|e| format!("error: {e}"));
        assert_eq!(found, wanted, "{word}");
    }
}

#[test]
fn errors_have_a_place() {
    for (word, message, range) in [
        ("he'llo", "missing closing single quote", 2..6),
        ("a\"b", "missing closing double quote", 1..3),
        ("\"hello\\\"", "missing closing double quote", 0..8),
        ("a${", "missing `}` in substitution", 1..3),
        ("${PWD", "missing `}` in substitution", 0..5),
        ("${}", "bad substitution", 0..3),
        ("x${:-a}", "bad substitution", 1..4),
        ("${{PWD}}", "bad substitution", 0..3),
        ("${PWD:-x", "missing `}` in substitution", 7..8),
        ("${PWD=x}", "unsupported modifier `=` in substitution", 0..6),
        (
            "${PWD:#x}",
            "unsupported modifier `:#` in substitution",
            0..7,
        ),
        ("${UNSET?no $SHELL}", "UNSET: no bash", 0..18),
        ("${UNSET?}", "UNSET: is not allowed to be unset", 0..9),
        ("${EMPTY:?}", "EMPTY: is not allowed to be empty", 0..10),
    ] {
        let error = run(word, '\\', Mode::Plain).expect_err(word);
        assert_eq!(
            (error.message.as_str(), error.range),
            (message, range),
            "{word}"
        );
    }
}

#[test]
fn backtick_escapes() {
    for (word, wanted) in [
        ("c:\\$SHELL", "c:\\bash"),
        ("`$SHELL", "$SHELL"),
        ("\"`\"`$\"", "\"$"),
        ("a``b", "a`b"),
    ] {
        let found = run(word, '`', Mode::Plain).map(|e| e.text);
        assert_eq!(found.as_deref(), Ok(wanted), "{word}");
    }
}

#[test]
fn splits_after_expansion() {
    for (word, wanted) in [
        ("80 443", &["80", "443"][..]),
        ("$TWO", &["a", "b"]),
        ("x$TWO", &["xa", "b"]),
        ("\"$TWO\"", &["a b"]),
        ("a\\ b c", &["a b", "c"]),
        ("$UNSET", &[]),
        ("''", &[]),
        (" a ", &["a"]),
    ] {
        let found = run(word, '\\', Mode::Plain).expect(word);
        let words: Vec<&str> = found.words.iter().map(|w| &found.text[w.clone()]).collect();
        assert_eq!(words, wanted, "{word}");
    }
}

#[test]
fn display_keeps_quotes_and_unknown_variables() {
    for (word, wanted) in [
        (
            "RUN echo \"$PWD\" '$PWD' $x ${x}",
            "RUN echo \"/home\" '$PWD' $x ${x}",
        ),
        ("${x:-1} ${PWD:-1}", "${x:-1} /home"),
    ] {
        let found = run(word, '\\', Mode::Display).map(|e| e.text);
        assert_eq!(found.as_deref(), Ok(wanted), "{word}");
    }
}

#[test]
fn names_what_is_undefined_without_a_default() {
    let found = run("$a ${b} ${c:-d} $PWD ${e#x}", '\\', Mode::Plain).expect("valid");
    let names: Vec<_> = found.undefined.into_iter().collect();
    assert_eq!(
        names,
        [
            ("a".to_owned(), 0..2),
            ("b".to_owned(), 3..7),
            ("e".to_owned(), 21..27)
        ]
    );
}

#[test]
fn is_bounded() {
    let deep = format!("{}x{}", "${a:-".repeat(5000), "}".repeat(5000));
    assert_eq!(
        expand(&deep),
        Err("substitutions are nested too deeply".into())
    );
    let big = "x".repeat(LONGEST);
    let twice = |_: &str| Some(big.clone());
    let expander = Expander {
        escape: '\\',
        mode: Mode::Plain,
        lookup: &twice,
    };
    assert!(expander.expand("$a$a").is_err());
    assert!(expander.expand("\"$a$a\"").is_err());
    assert!(expander.expand("${a/x/y}").is_err());
}

proptest! {
    #[test]
    fn never_panics(word in "[$a-c{}:'\"\\\\#%/?*+ `Eü-]{0,24}", backtick in any::<bool>()) {
        let escape = if backtick { '`' } else { '\\' };
        for mode in [Mode::Plain, Mode::Display] {
            if let Err(error) = run(&word, escape, mode) {
                prop_assert!(error.range.start <= error.range.end);
                prop_assert!(error.range.end <= word.len());
            }
        }
    }

    #[test]
    fn words_without_special_characters_stay(word in "[a-zA-Z0-9/:=.,ü-]{0,24}") {
        let expansion = run(&word, '\\', Mode::Plain).expect("nothing to expand");
        prop_assert_eq!(expansion.text, word);
    }
}

#[test]
fn quotes_in_a_document_are_text() {
    for (text, expected) in [
        ("it's \"$SLASH\"\n", "it's \"/tmp\"\n"),
        (r"\$SLASH \\ '$SLASH'", r"$SLASH \ '/tmp'"),
        ("'${b:-\"x\"}", "'\"x\""),
    ] {
        let found = run(text, '\\', Mode::Document).map(|e| e.text);
        assert_eq!(found.as_deref(), Ok(expected), "{text}");
    }
}
