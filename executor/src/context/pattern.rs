//! Patterns over slash-separated names: Go's `filepath.Match`, and moby's dialect with `**`.
//!
//! Responsible for parsing one pattern and matching one name. Must not know where patterns or
//! names come from. Invariant: matching takes time linear in pattern length times name length,
//! whatever the pattern; a pattern that parsed can't fail later.

use std::fmt;

/// A pattern that parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    tokens: Vec<Token>,
    /// Bytes that every match begins with.
    prefix: Vec<u8>,
    /// Bytes that every match ends with.
    suffix: Vec<u8>,
    shape: Shape,
}

/// Why a pattern is malformed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadPattern {
    /// `[` without its `]`.
    UnclosedClass,
    /// `[]`, or a `-` without both its ends.
    BadClass,
    /// A range such as `[z-a]`; an error in ignore files only.
    ReversedRange,
    /// `\` at the end.
    TrailingEscape,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    /// One byte of a literal.
    Byte(u8),
    /// `?`: one character other than `/`.
    Any,
    /// `*`: any characters other than `/`.
    Star,
    /// `[…]`: one character, `/` too when the class has it.
    Class {
        negated: bool,
        ranges: Vec<(u32, u32)>,
    },
    /// `**` before more: nothing, or anything that ends in `/`.
    Directories,
    /// `**` at the end: anything.
    Rest,
}

/// What spares the general matcher for the patterns that people write most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// Only literal bytes.
    Exact,
    /// `**` and then only literal bytes: matches by suffix, as moby does.
    Suffix,
    General,
}

impl fmt::Display for BadPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnclosedClass => "`[` without `]`",
            Self::BadClass => "malformed character class",
            Self::ReversedRange => "character range ends before it begins",
            Self::TrailingEscape => "`\\` at the end escapes nothing",
        })
    }
}

impl std::error::Error for BadPattern {}

impl Pattern {
    /// Parses a pattern of Go's `filepath.Match`: `*`, `?`, `[a-z]`, `[^a-z]` and `\`; `**` means
    /// the same as `*`.
    pub fn glob(text: &[u8]) -> Result<Self, BadPattern> {
        Parser::new(text, false).parse()
    }

    /// Parses a pattern of moby's patternmatcher, in which `**` also crosses `/`.
    ///
    /// A class is as in `filepath.Match`. moby hands classes and escapes to a regular expression,
    /// by which `[*]` and `\d` mean something else there; nobody relies on that.
    pub fn recursive(text: &[u8]) -> Result<Self, BadPattern> {
        Parser::new(text, true).parse()
    }

    /// Tells whether the whole of `name` matches.
    pub fn matches(&self, name: &[u8]) -> bool {
        match self.shape {
            Shape::Exact => name == self.prefix,
            // `**/a` is `/a` here; it also matches a bare `a`.
            Shape::Suffix => {
                name.ends_with(&self.suffix)
                    || self.suffix.strip_prefix(b"/").is_some_and(|s| s == name)
            }
            Shape::General => {
                name.starts_with(&self.prefix)
                    && name.ends_with(&self.suffix)
                    && self.simulate(name)
            }
        }
    }

    /// Runs all ways to match at once: `at[i]` says that `name[..i]` can be consumed so far.
    fn simulate(&self, name: &[u8]) -> bool {
        let end = name.len();
        let mut at = vec![false; end + 1];
        let mut next = vec![false; end + 1];
        at[0] = true;
        for token in &self.tokens {
            next.fill(false);
            let mut alive = false;
            match token {
                Token::Byte(byte) => {
                    for i in (0..end).filter(|i| at[*i] && name[*i] == *byte) {
                        next[i + 1] = true;
                        alive = true;
                    }
                }
                Token::Any | Token::Class { .. } => {
                    for i in (0..end).filter(|i| at[*i]) {
                        let (rune, len) = decode(&name[i..]);
                        if token.accepts(rune) {
                            next[i + len] = true;
                            alive = true;
                        }
                    }
                }
                Token::Star => {
                    let mut i = 0;
                    while i <= end {
                        if !at[i] {
                            i += 1;
                            continue;
                        }
                        next[i] = true;
                        alive = true;
                        while i < end && name[i] != b'/' {
                            i += decode(&name[i..]).1;
                            next[i] = true;
                        }
                        i += 1;
                    }
                }
                Token::Directories => {
                    let first = at.iter().position(|a| *a).unwrap_or(end);
                    for i in first..=end {
                        next[i] = at[i] || (i > first && name[i - 1] == b'/');
                    }
                    alive = true;
                }
                Token::Rest => {
                    let first = at.iter().position(|a| *a).unwrap_or(end);
                    next[first..].fill(true);
                    alive = true;
                }
            }
            if !alive {
                return false;
            }
            std::mem::swap(&mut at, &mut next);
        }
        at[end]
    }
}

impl Token {
    fn accepts(&self, rune: u32) -> bool {
        match self {
            Self::Any => rune != u32::from(b'/'),
            Self::Class { negated, ranges } => {
                ranges
                    .iter()
                    .any(|(low, high)| (*low..=*high).contains(&rune))
                    != *negated
            }
            _ => false,
        }
    }
}

/// Tells whether a COPY source has a wildcard: an unescaped `*`, `?` or `[`.
pub fn has_wildcard(text: &[u8]) -> bool {
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => {
                bytes.next();
            }
            b'*' | b'?' | b'[' => return true,
            _ => {}
        }
    }
    false
}

struct Parser<'a> {
    rest: &'a [u8],
    recursive: bool,
}

impl<'a> Parser<'a> {
    fn new(text: &'a [u8], recursive: bool) -> Self {
        Self {
            rest: text,
            recursive,
        }
    }

    fn parse(mut self) -> Result<Pattern, BadPattern> {
        let mut tokens = Vec::new();
        while let Some((byte, rest)) = self.rest.split_first() {
            self.rest = rest;
            tokens.push(match byte {
                b'*' if self.recursive && self.rest.first() == Some(&b'*') => {
                    self.rest = &self.rest[1..];
                    // moby eats one `/` after it; the suffix shape wants it back.
                    let slash = self.rest.first() == Some(&b'/');
                    if slash {
                        self.rest = &self.rest[1..];
                    }
                    if self.rest.is_empty() {
                        Token::Rest
                    } else {
                        if let Some(suffix) = literal_suffix(&tokens, self.rest, slash) {
                            return Ok(Pattern {
                                tokens: Vec::new(),
                                prefix: Vec::new(),
                                suffix,
                                shape: Shape::Suffix,
                            });
                        }
                        Token::Directories
                    }
                }
                b'*' => Token::Star,
                b'?' => Token::Any,
                b'[' => self.class()?,
                b'\\' => {
                    let (byte, rest) = self.rest.split_first().ok_or(BadPattern::TrailingEscape)?;
                    self.rest = rest;
                    Token::Byte(*byte)
                }
                other => Token::Byte(*other),
            });
        }
        let literal = |token: &Token| match token {
            Token::Byte(byte) => Some(*byte),
            _ => None,
        };
        let prefix: Vec<u8> = tokens.iter().map_while(literal).collect();
        let mut suffix: Vec<u8> = tokens.iter().rev().map_while(literal).collect();
        suffix.reverse();
        let exact = prefix.len() == tokens.len();
        Ok(Pattern {
            tokens,
            prefix,
            suffix,
            shape: if exact { Shape::Exact } else { Shape::General },
        })
    }

    /// Parses what follows a `[`.
    fn class(&mut self) -> Result<Token, BadPattern> {
        let negated = self.rest.first() == Some(&b'^');
        if negated {
            self.rest = &self.rest[1..];
        }
        let mut ranges = Vec::new();
        loop {
            if self.rest.first() == Some(&b']') && !ranges.is_empty() {
                self.rest = &self.rest[1..];
                return Ok(Token::Class { negated, ranges });
            }
            let low = self.class_end()?;
            let high = if self.rest.first() == Some(&b'-') {
                self.rest = &self.rest[1..];
                self.class_end()?
            } else {
                low
            };
            if high < low && self.recursive {
                return Err(BadPattern::ReversedRange);
            }
            ranges.push((low, high));
        }
    }

    /// Parses one end of a range.
    fn class_end(&mut self) -> Result<u32, BadPattern> {
        match self.rest.first() {
            None => return Err(BadPattern::UnclosedClass),
            Some(b'-' | b']') => return Err(BadPattern::BadClass),
            Some(b'\\') => self.rest = &self.rest[1..],
            Some(_) => {}
        }
        if self.rest.is_empty() {
            return Err(BadPattern::UnclosedClass);
        }
        let (rune, len) = decode(self.rest);
        self.rest = &self.rest[len..];
        if self.rest.is_empty() {
            return Err(BadPattern::UnclosedClass);
        }
        Ok(rune)
    }
}

/// Returns what a name must end with when the pattern is a leading `**` and a literal.
fn literal_suffix(before: &[Token], rest: &[u8], slash: bool) -> Option<Vec<u8>> {
    let plain = before.is_empty()
        && !rest
            .iter()
            .any(|b| matches!(b, b'*' | b'?' | b'[' | b']' | b'\\'));
    plain.then(|| {
        let mut suffix = if slash { vec![b'/'] } else { Vec::new() };
        suffix.extend_from_slice(rest);
        suffix
    })
}

/// Decodes the first character as Go does: a byte that is not UTF-8 is U+FFFD, one byte long.
///
/// `bytes` is not empty.
fn decode(bytes: &[u8]) -> (u32, usize) {
    let len = match bytes[0] {
        0x00..=0x7f => return (u32::from(bytes[0]), 1),
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => return (0xfffd, 1),
    };
    let char = bytes
        .get(..len)
        .and_then(|b| std::str::from_utf8(b).ok())
        .and_then(|s| s.chars().next());
    char.map_or((0xfffd, 1), |c| (u32::from(c), len))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn matches_as_go_does() {
        // The cases of Go's own table that hold on Unix.
        for (pattern, name, expected) in [
            ("abc", "abc", true),
            ("*", "abc", true),
            ("*c", "abc", true),
            ("a*", "a", true),
            ("a*", "ab/c", false),
            ("a*/b", "abc/b", true),
            ("a*/b", "a/c/b", false),
            ("a*b*c*d*e*/f", "axbxcxdxe/f", true),
            ("a*b*c*d*e*/f", "axbxcxdxexxx/f", true),
            ("a*b*c*d*e*/f", "axbxcxdxe/xxx/f", false),
            ("a*b*c*d*e*/f", "axbxcxdxexxx/fff", false),
            ("a*b?c*x", "abxbbxdbxebxczzx", true),
            ("a*b?c*x", "abxbbxdbxebxczzy", false),
            ("ab[c]", "abc", true),
            ("ab[b-d]", "abc", true),
            ("ab[e-g]", "abc", false),
            ("ab[^c]", "abc", false),
            ("ab[^b-d]", "abc", false),
            ("ab[^e-g]", "abc", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "ab", false),
            ("a?b", "a☺b", true),
            ("a[^a]b", "a☺b", true),
            ("a???b", "a☺b", false),
            ("a[^a][^a][^a]b", "a☺b", false),
            ("[a-ζ]*", "α", true),
            ("*[a-ζ]", "A", false),
            ("a?b", "a/b", false),
            ("a*b", "a/b", false),
            ("[\\]a]", "]", true),
            ("[\\-]", "-", true),
            ("[x\\-]", "x", true),
            ("[x\\-]", "z", false),
            ("[\\-x]", "-", true),
            ("*x", "xxx", true),
            ("[[]", "[", true),
            ("**", "a/b", false),
            ("**", "ab", true),
        ] {
            let parsed = Pattern::glob(pattern.as_bytes()).expect(pattern);
            assert_eq!(
                parsed.matches(name.as_bytes()),
                expected,
                "{pattern} {name}"
            );
        }
    }

    #[test]
    fn refuses_what_go_refuses() {
        for pattern in [
            "[]a]", "[-]", "[x-]", "[-x]", "[a-b-c]", "[", "[^", "[^bc", "a[", "\\", "a\\", "[\\",
            "[a", "[a-",
        ] {
            assert!(Pattern::glob(pattern.as_bytes()).is_err(), "{pattern}");
            assert!(Pattern::recursive(pattern.as_bytes()).is_err(), "{pattern}");
        }
        assert!(!Pattern::glob(b"[z-a]").expect("go allows it").matches(b"m"));
        assert_eq!(Pattern::recursive(b"[z-a]"), Err(BadPattern::ReversedRange));
    }

    #[test]
    fn double_star_crosses_directories() {
        for (pattern, name, expected) in [
            ("**", "dir/file", true),
            ("**/", "dir/file", true),
            ("**/**", "dir/file", true),
            ("dir/**", "dir/file", true),
            ("dir/**", "dir/dir2/file", true),
            ("dir/**", "dir", false),
            ("**/dir", "dir", true),
            ("**/dir2/*", "dir/dir2/file", true),
            ("**/dir2/**", "dir/dir2/dir3/file", true),
            ("**file", "file", true),
            ("**file", "dir/file", true),
            ("**file", "dir/profile", true),
            ("**/file", "dir/dir/file", true),
            ("**/file", "dir/profile", false),
            ("**/file*", "dir/dir/file.txt", true),
            ("**/file*", "dir/dir/profile.txt", false),
            ("**/**/*.txt", "dir/dir/file.txt", true),
            ("**/**/*.txt2", "dir/dir/file.txt", false),
            ("**/*.txt", "file.txt", true),
            ("a**/*.txt", "a/file.txt", true),
            ("a**/*.txt", "a/dir/dir/file.txt", true),
            ("a**/*.txt", "ab.txt", true),
            ("a/*.txt", "a/dir/file.txt", false),
            ("a/*.txt**", "a/file.txt", true),
            ("a/*.txt**", "a/dir/file.txt", false),
            ("a[b-d]e", "ace", true),
            ("a[^b-d]e", "aze", true),
            (".*", ".foo", true),
            (".*", "foo", false),
            ("abc.def", "abcZdef", false),
            ("abc?def", "abcZdef", true),
            ("a\\\\", "a\\", true),
            ("abc/**", "abc/def/ghi", true),
            ("**/.foo", "bar.foo", false),
            ("a(b)c/def", "a(b)c/def", true),
            ("a.|)$(}+{bc", "a.|)$(}+{bc", true),
            ("dist/*.whl", "dist/p-2.4.0rc3.dev36+g08-none.whl", true),
        ] {
            let parsed = Pattern::recursive(pattern.as_bytes()).expect(pattern);
            assert_eq!(
                parsed.matches(name.as_bytes()),
                expected,
                "{pattern} {name}"
            );
        }
    }

    #[test]
    fn a_hostile_pattern_is_quick() {
        let pattern = "*a".repeat(200) + "b";
        let name = "a".repeat(400);
        let parsed = Pattern::glob(pattern.as_bytes()).expect("valid");
        assert!(!parsed.matches(format!("{name}c").as_bytes()));
        // The suffix must not give the answer away.
        assert!(parsed.matches(format!("{name}b").as_bytes()));
    }

    /// The textbook recursive matcher, to compare with.
    fn naive(pattern: &[u8], name: &[u8]) -> bool {
        match (pattern.first(), name.first()) {
            (None, None) => true,
            (Some(b'*'), _) => {
                naive(&pattern[1..], name)
                    || name.first().is_some_and(|b| *b != b'/') && naive(pattern, &name[1..])
            }
            (Some(b'?'), Some(b)) if *b != b'/' => naive(&pattern[1..], &name[1..]),
            (Some(a), Some(b)) if a == b && *a != b'?' => naive(&pattern[1..], &name[1..]),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_naive_matcher(pattern in "[ab/?*]{0,8}", name in "[ab/]{0,8}") {
            let parsed = Pattern::glob(pattern.as_bytes()).expect("no classes, no escapes");
            prop_assert_eq!(
                parsed.matches(name.as_bytes()),
                naive(pattern.as_bytes(), name.as_bytes())
            );
        }

        #[test]
        fn never_panics(pattern: Vec<u8>, name: Vec<u8>) {
            for parsed in [Pattern::glob(&pattern), Pattern::recursive(&pattern)].into_iter().flatten() {
                parsed.matches(&name);
            }
        }

        #[test]
        fn an_escaped_name_matches_itself(name in "[a-z*?\\[\\]\\\\/.]{0,12}") {
            let escaped: String = name.chars().flat_map(|c| ['\\', c]).collect();
            let parsed = Pattern::glob(escaped.as_bytes()).expect("escaped");
            prop_assert!(parsed.matches(name.as_bytes()));
        }
    }
}
