//! The part of Go's templates that scripts use with `inspect`.
//!
//! Responsible for text with `{{.Path.To.Field}}` and `{{json .Path}}` in it. Must not guess:
//! whatever else is between braces is an error that quotes it.

use serde_json::Value;

use crate::error::{Error, Kind, Result};

fn unsupported(action: &str) -> Error {
    Error::new(format!("unsupported format action `{{{{{action}}}}}`"))
        .kind(Kind::Usage)
        .hint("{{.Path.To.Field}} and {{json .Path}} are supported; jq does the rest")
}

/// Fills a template with the fields of a value.
///
/// # Errors
/// [`Kind::Usage`] for what is not supported, and for a field that does not exist.
pub(super) fn render(template: &str, value: &Value) -> Result<String> {
    let mut out = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        out.push_str(before);
        let Some((action, after)) = after.split_once("}}") else {
            return Err(
                Error::new(format!("unclosed `{{{{` in format `{template}`")).kind(Kind::Usage),
            );
        };
        rest = after;
        let words: Vec<&str> = action.split_whitespace().collect();
        match words[..] {
            ["json", path] => out.push_str(&select(value, path, action)?.to_string()),
            [path] => print(select(value, path, action)?, &mut out),
            _ => return Err(unsupported(action)),
        }
    }
    out.push_str(rest);
    Ok(out)
}

fn select<'a>(value: &'a Value, path: &str, action: &str) -> Result<&'a Value> {
    let fields = path.strip_prefix('.').ok_or_else(|| unsupported(action))?;
    let mut value = value;
    for field in fields.split('.').filter(|_| !fields.is_empty()) {
        let plain = |c: char| c.is_alphanumeric() || c == '_';
        if field.is_empty() || !field.chars().all(plain) {
            return Err(unsupported(action));
        }
        value = match value {
            // A field that the image leaves out is empty, as it is in Docker's output.
            Value::Object(map) => map.get(field).unwrap_or(&Value::Null),
            Value::Null => &Value::Null,
            _ => {
                return Err(
                    Error::new(format!("no field `{field}` for format `{path}`")).kind(Kind::Usage),
                );
            }
        };
    }
    Ok(value)
}

/// Writes a value as Go's `{{.}}` does for strings, numbers, lists and maps of them.
fn print(value: &Value, out: &mut String) {
    match value {
        Value::Null => {}
        Value::String(text) => out.push_str(text),
        Value::Array(values) => {
            out.push('[');
            for (i, value) in values.iter().enumerate() {
                if i > 0 {
                    out.push(' ');
                }
                print(value, out);
            }
            out.push(']');
        }
        Value::Object(map) => {
            out.push_str("map[");
            for (i, (key, value)) in map.iter().enumerate() {
                if i > 0 {
                    out.push(' ');
                }
                out.push_str(key);
                out.push(':');
                print(value, out);
            }
            out.push(']');
        }
        other => out.push_str(&other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fills_in_fields() {
        let value = serde_json::json!({
            "Id": "sha256:ab",
            "Config": {"User": "app", "Cmd": ["a", "b"], "Labels": {"x": "y"}},
        });
        for (template, text) in [
            ("{{.Id}}", "sha256:ab"),
            ("user={{ .Config.User }}!", "user=app!"),
            ("{{json .Config.Cmd}}", r#"["a","b"]"#),
            ("{{.Config.Cmd}} {{.Config.Labels}}", "[a b] map[x:y]"),
            ("{{.Config.Entrypoint}}", ""),
            ("{{json .Config.Entrypoint}}", "null"),
            ("{{json .Config.User}}", "\"app\""),
        ] {
            assert_eq!(render(template, &value).expect(template), text);
        }
        assert!(
            render("{{json .}}", &value)
                .expect("all")
                .contains("Labels")
        );
        for template in [
            "{{range .Config.Cmd}}",
            "{{.Id",
            "{{index .A 0}}",
            "{{len}}",
            "{{.Id.x}}",
        ] {
            assert!(render(template, &value).is_err(), "{template}");
        }
    }
}
