//! Values as text, in annotations.
//!
//! Responsible for the part of GVariant's text format that unit properties need (GLib reference,
//! "GVariant Text Format"): `true`, `5`, `uint64 5`, `'text'`, `['a', 'b']`. Must not know
//! properties.

use super::value::Value;

/// Reads a value; `None` when the text is none.
pub(crate) fn parse(text: &str) -> Option<Value> {
    let mut parser = Parser { rest: text.trim() };
    let value = parser.value(0)?;
    parser.rest.trim().is_empty().then_some(value)
}

struct Parser<'a> {
    rest: &'a str,
}

impl Parser<'_> {
    fn value(&mut self, depth: u32) -> Option<Value> {
        if depth > 8 {
            return None;
        }
        self.rest = self.rest.trim_start();
        match self.rest.chars().next()? {
            quote @ ('\'' | '"') => self.string(quote).map(Value::Text),
            '[' => self.array(depth),
            '@' => self.empty_array(),
            _ => self.word(depth),
        }
    }

    fn string(&mut self, quote: char) -> Option<String> {
        let mut out = String::new();
        let mut chars = self.rest.char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            if c == quote {
                self.rest = &self.rest[at + 1..];
                return Some(out);
            }
            out.push(match c {
                '\\' => match chars.next()?.1 {
                    'n' => '\n',
                    't' => '\t',
                    other => other,
                },
                c => c,
            });
        }
        None
    }

    fn array(&mut self, depth: u32) -> Option<Value> {
        self.rest = &self.rest[1..];
        let mut values = Vec::new();
        loop {
            self.rest = self.rest.trim_start();
            if let Some(rest) = self.rest.strip_prefix(']') {
                self.rest = rest;
                break;
            }
            if !values.is_empty() {
                self.rest = self.rest.strip_prefix(',')?;
            }
            values.push(self.value(depth + 1)?);
        }
        let signature = values.first()?.signature();
        let same = values.iter().all(|v| v.signature() == signature);
        same.then_some(Value::Array(signature, values))
    }

    /// An empty array must say its type: `@as []`.
    fn empty_array(&mut self) -> Option<Value> {
        let (kind, rest) = self.rest[1..].split_once(' ')?;
        let element = kind.strip_prefix('a')?;
        matches!(element, "s" | "u" | "t" | "y").then_some(())?;
        self.rest = rest.trim_start().strip_prefix('[')?;
        self.rest = self.rest.trim_start().strip_prefix(']')?;
        Some(Value::Array(element.to_owned(), Vec::new()))
    }

    fn word(&mut self, depth: u32) -> Option<Value> {
        let end = self
            .rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '+' | '.' | '_')))
            .unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        if word.starts_with(|c: char| c.is_ascii_alphabetic()) && !matches!(word, "true" | "false")
        {
            return self.typed(word, depth);
        }
        Some(match word {
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            _ => match integer(word) {
                // A number without a type is a 32-bit integer.
                Some(number) => Value::I32(i32::try_from(number).ok()?),
                None => Value::Double(word.parse().ok()?),
            },
        })
    }

    fn typed(&mut self, kind: &str, depth: u32) -> Option<Value> {
        self.rest = self.rest.trim_start();
        if kind == "objectpath" {
            let Value::Text(text) = self.value(depth + 1)? else {
                return None;
            };
            return text.starts_with('/').then_some(Value::Path(text));
        }
        let end = self
            .rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '+' | '.')))
            .unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        if kind == "boolean" {
            return match word {
                "true" => Some(Value::Bool(true)),
                "false" => Some(Value::Bool(false)),
                _ => None,
            };
        }
        if kind == "double" {
            return word.parse().ok().map(Value::Double);
        }
        let number = integer(word)?;
        Some(match kind {
            "byte" => Value::Byte(number.try_into().ok()?),
            "int16" => Value::I16(number.try_into().ok()?),
            "uint16" => Value::U16(number.try_into().ok()?),
            "int32" => Value::I32(number.try_into().ok()?),
            "uint32" => Value::U32(number.try_into().ok()?),
            "int64" => Value::I64(number.try_into().ok()?),
            "uint64" => Value::U64(number.try_into().ok()?),
            _ => return None,
        })
    }
}

fn integer(word: &str) -> Option<i128> {
    let (negative, digits) = match word.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, word.strip_prefix('+').unwrap_or(word)),
    };
    let number = match digits.strip_prefix("0x") {
        Some(digits) => i128::from_str_radix(digits, 16).ok()?,
        None if digits.starts_with(|c: char| c.is_ascii_digit()) => digits.parse().ok()?,
        None => return None,
    };
    Some(if negative { -number } else { number })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        let texts = |list: &[&str]| {
            let list = list.iter().map(|t| Value::text(*t)).collect();
            Value::Array("s".to_owned(), list)
        };
        for (text, want) in [
            ("true", Some(Value::Bool(true))),
            (" 5 ", Some(Value::I32(5))),
            ("-0x10", Some(Value::I32(-16))),
            ("1.5", Some(Value::Double(1.5))),
            ("uint64 600000000", Some(Value::U64(600_000_000))),
            ("byte 255", Some(Value::Byte(255))),
            (
                "'inactive-or-failed'",
                Some(Value::text("inactive-or-failed")),
            ),
            (r#""it's \"x\"""#, Some(Value::text("it's \"x\""))),
            ("['a', \"b\"]", Some(texts(&["a", "b"]))),
            ("@as []", Some(texts(&[]))),
            ("objectpath '/a'", Some(Value::Path("/a".to_owned()))),
            ("byte 256", None),
            ("5000000000", None),
            ("['a', 5]", None),
            ("[]", None),
            ("'a", None),
            ("5 6", None),
            ("", None),
            ("inactive", None),
        ] {
            assert_eq!(parse(text), want, "{text}");
        }
    }
}
