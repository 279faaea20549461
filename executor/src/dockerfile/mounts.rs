//! `RUN --mount=`: one value, taken apart.
//!
//! Responsible for its fields, as Go's `encoding/csv` reads a record, and for which keys there are.
//! Must not expand variables nor know what values mean. Invariant: each field knows its place.

use super::suggest;
use super::text::Text;
use crate::diagnostics::Diagnostic;

/// A key of a mount. Several spellings may mean the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the key of that name")]
pub enum Key {
    Type,
    From,
    Source,
    Target,
    ReadOnly,
    ReadWrite,
    Id,
    Sharing,
    Required,
    Size,
    Mode,
    Uid,
    Gid,
    Env,
}

const KEYS: [(&str, Key); 19] = [
    ("type", Key::Type),
    ("from", Key::From),
    ("source", Key::Source),
    ("src", Key::Source),
    ("target", Key::Target),
    ("dst", Key::Target),
    ("destination", Key::Target),
    ("readonly", Key::ReadOnly),
    ("ro", Key::ReadOnly),
    ("readwrite", Key::ReadWrite),
    ("rw", Key::ReadWrite),
    ("id", Key::Id),
    ("sharing", Key::Sharing),
    ("required", Key::Required),
    ("size", Key::Size),
    ("mode", Key::Mode),
    ("uid", Key::Uid),
    ("gid", Key::Gid),
    ("env", Key::Env),
];

impl Key {
    /// Returns the name that documentation uses.
    pub fn name(self) -> &'static str {
        KEYS.iter()
            .find(|(_, key)| *key == self)
            .map_or("", |(name, _)| *name)
    }

    /// The key that decides the same.
    fn says_of(self) -> Self {
        match self {
            Key::ReadWrite => Key::ReadOnly,
            key => key,
        }
    }

    /// Whether the key may stand alone, and then means yes.
    fn is_switch(self) -> bool {
        matches!(self, Key::ReadOnly | Key::ReadWrite | Key::Required)
    }
}

/// One field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// What it says something about.
    pub key: Key,
    /// The key as written.
    pub name: Text,
    /// What it says; `None` for a key that stands alone.
    pub value: Option<Text>,
    /// Where the same was said before: what comes last counts, as in BuildKit.
    pub hides: Vec<Text>,
}

/// Takes a value apart; variables in it are still as written.
///
/// # Errors
/// The first finding: quotes that don't match, a key that there is not, one without a value, a variable
/// in `from`.
pub fn parse(text: &Text) -> Result<Vec<Field>, Diagnostic> {
    let mut fields: Vec<Field> = Vec::new();
    for field in split(text)? {
        let mut field = field_of(&field)?;
        // All but one are gone by now.
        if let Some(at) = fields
            .iter()
            .position(|f| f.key.says_of() == field.key.says_of())
        {
            let before = fields.remove(at);
            field.hides = before.hides;
            field.hides.push(before.name);
        }
        fields.push(field);
    }
    Ok(fields)
}

/// Returns the value of `from`, in which there are no variables.
pub fn from_of(fields: &[Field]) -> Option<&Text> {
    let found = fields.iter().find(|f| f.key == Key::From)?;
    found
        .value
        .as_ref()
        .filter(|value| !value.as_str().is_empty())
}

fn field_of(field: &Text) -> Result<Field, Diagnostic> {
    let text = field.as_str();
    let (name, value) = match text.find('=') {
        Some(at) => (field.slice(0..at), Some(field.slice(at + 1..text.len()))),
        None => (field.clone(), None),
    };
    let lower = name.as_str().to_ascii_lowercase();
    let Some((_, key)) = KEYS.iter().find(|(known, _)| *known == lower) else {
        let mut error = Diagnostic::error(
            name.span(),
            if text.is_empty() {
                "empty mount option".to_owned()
            } else {
                format!("unknown mount option `{}`", name.as_str())
            },
        );
        error.hint = suggest::hint(&lower, KEYS.iter().map(|(name, _)| *name));
        return Err(error);
    };
    match &value {
        None if !key.is_switch() => {
            return Err(Diagnostic::error(
                name.span(),
                format!("mount option `{}` needs a value", name.as_str()),
            )
            .hint(format!("write `{}=VALUE`", name.as_str())));
        }
        Some(value) if *key == Key::From && has_variable(value.as_str()) => {
            return Err(
                Diagnostic::error(value.span(), "`from` of a mount takes no variables")
                    .hint("name a stage after it, `FROM $image AS name`, and mount from that"),
            );
        }
        _ => {}
    }
    Ok(Field {
        key: *key,
        name,
        value,
        hides: Vec::new(),
    })
}

fn has_variable(text: &str) -> bool {
    text.find('$').is_some_and(|at| at + 1 < text.len())
}

/// Splits a record at its commas. A field that begins with a quote ends with one, and two of them in
/// it are one.
fn split(text: &Text) -> Result<Vec<Text>, Diagnostic> {
    let line = text.as_str();
    let mut fields = Vec::new();
    let mut at = 0;
    loop {
        if line[at..].starts_with('"') {
            let start = at;
            let mut parts = Vec::new();
            at += 1;
            loop {
                let Some(quote) = line[at..].find('"').map(|i| at + i) else {
                    return Err(Diagnostic::error(
                        text.locate(start..line.len()),
                        "mount option with a quote that does not end",
                    ));
                };
                if line[quote + 1..].starts_with('"') {
                    parts.push(text.slice(at..quote + 1));
                    at = quote + 2;
                } else {
                    parts.push(text.slice(at..quote));
                    at = quote + 1;
                    break;
                }
            }
            let span = text.locate(start..at);
            fields.push(Text::concat(parts, span));
            if !matches!(line[at..].chars().next(), None | Some(',')) {
                return Err(Diagnostic::error(
                    text.locate(start..at),
                    "mount option with text after its closing quote",
                ));
            }
        } else {
            let end = line[at..].find(',').map_or(line.len(), |i| at + i);
            if let Some(quote) = line[at..end].find('"') {
                return Err(Diagnostic::error(
                    text.locate(at + quote..at + quote + 1),
                    "mount option with a quote in it",
                )
                .hint("quote all of the option: `\"source=a,b\"`"));
            }
            fields.push(text.slice(at..end));
            at = end;
        }
        if at == line.len() {
            return Ok(fields);
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(line: &str) -> Text {
        Text::joined(line.to_owned(), vec![(0, 100)], 100..100 + line.len())
    }

    #[test]
    fn fields_with_their_places() {
        let fields = parse(&text("type=bind,\"src=a,\"\"b\",RO,dst=/x")).expect("valid");
        let shown: Vec<_> = fields
            .iter()
            .map(|f| (f.key, f.value.as_ref().map(Text::as_str)))
            .collect();
        assert_eq!(
            shown,
            [
                (Key::Type, Some("bind")),
                (Key::Source, Some("a,\"b")),
                (Key::ReadOnly, None),
                (Key::Target, Some("/x")),
            ]
        );
        let place = |i: usize| fields[i].value.as_ref().expect("a value").span();
        assert_eq!(place(0), 105..109);
        assert_eq!(place(3), 129..131);
        assert_eq!(fields[2].name.span(), 122..124);
    }

    #[test]
    fn the_last_of_several_counts() {
        let fields = parse(&text("dst=a,ro,id=x,target=b,rw=true,dst=c")).expect("valid");
        let shown: Vec<_> = fields
            .iter()
            .map(|f| {
                (
                    f.key,
                    f.value.as_ref().map_or("", Text::as_str),
                    f.hides.len(),
                )
            })
            .collect();
        assert_eq!(
            shown,
            [
                (Key::Id, "x", 0),
                (Key::ReadWrite, "true", 1),
                (Key::Target, "c", 2)
            ]
        );
        let hidden: Vec<_> = fields[2].hides.iter().map(Text::span).collect();
        assert_eq!(hidden, [100..103, 114..120]);
    }

    #[test]
    fn what_is_wrong() {
        for (line, message, hint) in [
            (
                "tpye=cache",
                "unknown mount option `tpye`",
                "did you mean `type`?",
            ),
            ("frobnicate=1", "unknown mount option `frobnicate`", ""),
            (
                "target",
                "mount option `target` needs a value",
                "write `target=VALUE`",
            ),
            ("type=bind,", "empty mount option", ""),
            ("", "empty mount option", ""),
            ("\"src=a", "mount option with a quote that does not end", ""),
            (
                "\"src=a\"b",
                "mount option with text after its closing quote",
                "",
            ),
            (
                "src=\"a\"",
                "mount option with a quote in it",
                "quote all of the option: `\"source=a,b\"`",
            ),
            (
                "from=$x",
                "`from` of a mount takes no variables",
                "name a stage after it, `FROM $image AS name`, and mount from that",
            ),
        ] {
            let error = parse(&text(line)).expect_err(line);
            assert_eq!(
                (&error.message[..], error.hint.as_deref().unwrap_or("")),
                (message, hint)
            );
        }
    }

    #[test]
    fn the_source_of_a_mount() {
        let of = |line: &str| {
            let fields = parse(&text(line)).expect("valid");
            from_of(&fields).map(|t| t.as_str().to_owned())
        };
        assert_eq!(of("from=build,target=/x").as_deref(), Some("build"));
        assert_eq!(of("from=,target=/x"), None);
        assert_eq!(of("target=/x"), None);
        assert_eq!(of("from=a$").as_deref(), Some("a$"));
    }
}
