//! The JSON form of a command: `["a", "b"]`.
//!
//! Responsible for telling it from the shell form as BuildKit does: what is no JSON array is shell
//! form, silently; an array of anything but strings is an error.

use serde_json::Value;

/// What an argument turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// An array of strings.
    Exec(Vec<String>),
    /// Not a JSON array.
    Shell,
    /// An array that holds something else than strings.
    Mixed,
}

/// Decides which form an argument has.
pub(super) fn form(text: &str) -> Form {
    let text = text.trim_start();
    if !text.starts_with('[') {
        return Form::Shell;
    }
    let Ok(values) = serde_json::from_str::<Vec<Value>>(text) else {
        return Form::Shell;
    };
    values
        .into_iter()
        .map(|value| match value {
            Value::String(text) => Some(text),
            _ => None,
        })
        .collect::<Option<Vec<_>>>()
        .map_or(Form::Mixed, Form::Exec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_the_forms_apart() {
        let exec = |words: &[&str]| Form::Exec(words.iter().map(|w| (*w).to_owned()).collect());
        for (text, wanted) in [
            (r#"["a", "b c"]"#, exec(&["a", "b c"])),
            (r#" [ "a\n\u0041" ] "#, exec(&["a\nA"])),
            ("[]", exec(&[])),
            ("a b", Form::Shell),
            ("['a']", Form::Shell),
            (r#"["a""#, Form::Shell),
            (r#"["a"] b"#, Form::Shell),
            (r#"[ -f x ] && y"#, Form::Shell),
            (r#"["a", 1]"#, Form::Mixed),
        ] {
            assert_eq!(form(text), wanted, "{text}");
        }
    }
}
