//! Refusals, in the registry's words and ours.
//!
//! Responsible for turning a status and an error document (OCI distribution-spec, "Error Codes")
//! into an [`Error`] with kind and hint, and for deciding whether it is worth another attempt.
//! Invariant: what is quoted from a registry is short and has no control characters.

use reqwest::{Response, StatusCode};
use serde::Deserialize;
use serde_json::Value;

use super::retry::{Failure, retry_after};
use super::transport::{authority, read_body};
use crate::error::{Error, Kind};

/// The most that is read of a refusal, in bytes.
const BODY_LIMIT: u64 = 64 << 10;

/// The most that is quoted of a refusal, in characters.
const QUOTE_LIMIT: usize = 400;

#[derive(Deserialize)]
struct Document {
    errors: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    code: Option<String>,
    message: Option<String>,
    detail: Option<Value>,
}

/// Who asked, for the hints.
pub(crate) struct Asker<'a> {
    /// The registry's name as in references.
    pub(crate) registry: &'a str,
    /// Where the credential that was shown is from; `None` when none was.
    pub(crate) origin: Option<&'a str>,
    /// Sources of credentials that could not be asked.
    pub(crate) notes: &'a [String],
    /// Whether the answer is from where the registry redirected to.
    pub(crate) redirected: bool,
}

/// Describes a reply whose status is not what was hoped for. `op` says what was attempted.
pub(crate) async fn refusal(mut response: Response, op: String, asker: &Asker<'_>) -> Failure {
    let status = response.status();
    let after = retry_after(response.headers());
    let body = match read_body(&mut response, BODY_LIMIT).await {
        Ok(Some(body)) => body,
        // The status alone says enough.
        Ok(None) | Err(_) => Vec::new(),
    };
    let quoted = quote(&body);
    let mut cause = if asker.redirected {
        format!(
            "`{}`, to where `{}` redirects, answered {status}",
            authority(response.url()),
            asker.registry
        )
    } else {
        format!("registry `{}` answered {status}", asker.registry)
    };
    if !quoted.is_empty() {
        cause = format!("{cause} ({quoted})");
    }
    let error = Error::new(op).source(cause);
    // A signed address may just have expired.
    if asker.redirected && matches!(status.as_u16(), 401 | 403) {
        return Failure::transient(error);
    }
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Failure::Final(denied(error, asker)),
        StatusCode::NOT_FOUND => Failure::Final(error.kind(Kind::NotFound)),
        StatusCode::TOO_MANY_REQUESTS => Failure::Transient {
            error: if asker.origin.is_none() && quoted.contains("rate limit") {
                error.hint(login_hint(asker.registry, "a login may raise the limit"))
            } else {
                error
            },
            after,
        },
        StatusCode::NOT_IMPLEMENTED | StatusCode::HTTP_VERSION_NOT_SUPPORTED => {
            Failure::Final(error)
        }
        StatusCode::REQUEST_TIMEOUT => Failure::Transient { error, after },
        _ if status.is_server_error() => Failure::Transient { error, after },
        _ => Failure::Final(error),
    }
}

/// Makes an error one of denied access, with a hint about the credential.
pub(crate) fn denied(error: Error, asker: &Asker<'_>) -> Error {
    let mut error = error.kind(Kind::Denied);
    error = match asker.origin {
        Some(origin) => error.hint(format!(
            "the credentials from {origin} were shown; they may be wrong, expired, or not allowed \
             to do this"
        )),
        None => error.hint(login_hint(
            asker.registry,
            "no credentials were found; the repository may be private or not exist",
        )),
    };
    for note in asker.notes {
        error = error.hint(note.clone());
    }
    error
}

fn login_hint(registry: &str, why: &str) -> String {
    match registry {
        "docker.io" => format!("{why}: `sandcrab login`"),
        other => format!("{why}: `sandcrab login {other}`"),
    }
}

/// Extracts the registry's own words.
fn quote(body: &[u8]) -> String {
    let text = match serde_json::from_slice::<Document>(body) {
        Ok(document) => document
            .errors
            .iter()
            .take(3)
            .map(Item::text)
            .collect::<Vec<_>>()
            .join("; "),
        Err(_) => match serde_json::from_slice::<Value>(body) {
            // Token services answer in forms of their own.
            Ok(Value::Object(map)) => ["details", "error_description", "message", "error"]
                .iter()
                .find_map(|key| map.get(*key)?.as_str())
                .unwrap_or_default()
                .to_owned(),
            // A proxy's HTML page helps nobody.
            _ if body.trim_ascii_start().starts_with(b"<") => String::new(),
            _ => String::from_utf8_lossy(body).into_owned(),
        },
    };
    let mut short = String::new();
    for c in text.trim().chars() {
        if short.chars().count() == QUOTE_LIMIT {
            short.push('…');
            break;
        }
        short.push(if c.is_control() { ' ' } else { c });
    }
    short
}

impl Item {
    fn text(&self) -> String {
        let detail = match &self.detail {
            Some(Value::String(text)) => Some(text.as_str()),
            _ => None,
        };
        [self.code.as_deref(), self.message.as_deref(), detail]
            .into_iter()
            .flatten()
            .filter(|t| !t.is_empty())
            .collect::<Vec<_>>()
            .join(": ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_what_helps() {
        for (body, wanted) in [
            (
                r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{"Tag":"x"}}]}"#,
                "MANIFEST_UNKNOWN: manifest unknown",
            ),
            (
                r#"{"errors":[{"code":"DENIED"},{"message":"quota"}]}"#,
                "DENIED; quota",
            ),
            (
                r#"{"details":"incorrect username or password"}"#,
                "incorrect username or password",
            ),
            ("<html>Bad Gateway</html>", ""),
            ("404 page not\x1b[31m found\n", "404 page not [31m found"),
            ("", ""),
        ] {
            assert_eq!(quote(body.as_bytes()), wanted);
        }
        let long = format!(r#"{{"errors":[{{"message":"{}"}}]}}"#, "ä".repeat(1000));
        assert_eq!(quote(long.as_bytes()).chars().count(), QUOTE_LIMIT + 1);
    }
}
