//! Findings about a Dockerfile as BuildKit's clients read them (`client.VertexWarning`).
//!
//! Responsible for the documents that `--progress=rawjson` and `--metadata-file` have of them. Must not
//! decide which findings there are. Invariant: passwords in addresses are in none of them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::answers::{detail, instruction};
use super::environment::Environment;
use super::exit::Source;
use crate::diagnostics::{Diagnostic, line_number};
use crate::dockerfile::ast::Dockerfile;
use crate::dockerfile::rules;
use crate::redact;

/// Returns a document for each finding; texts in them are in base64.
pub(super) fn documents(source: &Source, file: &Dockerfile, found: &[Diagnostic]) -> Vec<Value> {
    let text = redact::starred(&String::from_utf8_lossy(&source.text));
    let document = |finding: &Diagnostic| {
        let span = instruction(file, finding);
        let first = line_number(&source.text, span.start);
        let last = line_number(&source.text, span.end.saturating_sub(1).max(span.start));
        let message = detail(finding);
        let rule = finding.rule.and_then(rules::find);
        let short = match rule {
            Some(rule) => format!("{}: {message} (line {first})", rule.name),
            None => message,
        };
        let mut document = json!({
            "level": 1,
            "short": STANDARD.encode(redact::starred(&short)),
            "sourceInfo": {
                "filename": source.name,
                "language": "Dockerfile",
                "data": STANDARD.encode(&text),
            },
            "range": [{"start": {"line": first}, "end": {"line": last}}],
        });
        if let Some(rule) = rule {
            document["detail"] = json!([STANDARD.encode(rule.description)]);
            document["url"] = rule.url().map_or(Value::Null, Value::String);
        }
        document
    };
    found.iter().map(document).collect()
}

/// Tells whether `--metadata-file` has them: buildx's variable says so.
pub(super) fn wanted(environment: &Environment) -> bool {
    let text = environment.get("BUILDX_METADATA_WARNINGS");
    let text = text.as_deref().and_then(|text| text.to_str());
    matches!(text, Some("1" | "t" | "T" | "true" | "TRUE" | "True"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dockerfile;

    #[test]
    fn a_document_has_what_buildkits_has() {
        let text = b"FROM scratch\nRUN \\\n  https://me:word@host/\n";
        let parsed = dockerfile::read(text, &dockerfile::BuildArgs::default());
        let source = Source {
            name: "Dockerfile".to_owned(),
            text: text.to_vec(),
        };
        let found = [
            Diagnostic::warning(
                Some("JSONArgsRecommended"),
                17..20,
                "no https://me:word@host/",
            ),
            Diagnostic::warning(None, 0..0, "something else"),
        ];
        let documents = documents(&source, &parsed.file, &found);
        let text = |value: &Value| {
            let bytes = STANDARD.decode(value.as_str().unwrap_or_default());
            String::from_utf8(bytes.expect("base64")).expect("text")
        };
        let first = &documents[0];
        let short = text(&first["short"]);
        assert!(
            short.starts_with("JSONArgsRecommended: no https://"),
            "{short}"
        );
        assert!(
            short.ends_with("(line 2)") && !short.contains("word"),
            "{short}"
        );
        assert!(text(&first["detail"][0]).starts_with("JSON arguments recommended"));
        assert_eq!(
            first["url"],
            "https://docs.docker.com/go/dockerfile/rule/json-args-recommended/"
        );
        assert_eq!(first["level"], 1);
        assert_eq!(
            first["range"],
            json!([{"start": {"line": 2}, "end": {"line": 3}}])
        );
        assert_eq!(first["sourceInfo"]["filename"], "Dockerfile");
        let data = text(&first["sourceInfo"]["data"]);
        assert!(
            data.starts_with("FROM scratch\n") && !data.contains("word"),
            "{data}"
        );
        assert_eq!(text(&documents[1]["short"]), "something else");
        assert!(documents[1].get("url").is_none());
    }

    #[test]
    fn the_variable_is_a_switch() {
        for (value, on) in [("1", true), ("true", true), ("0", false), ("yes", false)] {
            let environment = Environment::of(&[("BUILDX_METADATA_WARNINGS", value)]);
            assert_eq!(wanted(&environment), on, "{value}");
        }
        assert!(!wanted(&Environment::of(&[])));
    }
}
