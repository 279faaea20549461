//! What the caller lets RUN steps ask for beyond the usual (`--allow`).
//!
//! Responsible for the names of entitlements and for the answer to a step that lacks one. Must not
//! know how a step gets what it is entitled to. Invariant: nothing is allowed unless it was named.

use std::ops::Range;

use crate::diagnostics::Diagnostic;
use crate::dockerfile::suggest;

/// The names, as BuildKit has them.
const NAMES: [&str; 3] = ["network.host", "security.insecure", "device"];

/// What steps may ask for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Entitlements {
    /// `RUN --network=host`.
    pub network_host: bool,
    /// `RUN --security=insecure`.
    pub insecure: bool,
    /// `RUN --device=`: every device.
    pub all_devices: bool,
    /// `RUN --device=`: these names.
    pub devices: Vec<String>,
}

impl Entitlements {
    /// Adds one in the form of `--allow`: a name, or `device=NAME`.
    ///
    /// # Errors
    /// What is wrong, and a hint.
    pub fn allow(&mut self, text: &str) -> Result<(), (String, String)> {
        match text.split_once('=') {
            None if text == "network.host" => self.network_host = true,
            None if text == "security.insecure" => self.insecure = true,
            None if text == "device" => self.all_devices = true,
            Some(("device", name)) if !name.is_empty() => self.devices.push(name.to_owned()),
            _ => {
                let hint = suggest::hint(text, NAMES).unwrap_or_else(|| {
                    "it is one of network.host, security.insecure and device[=NAME]".to_owned()
                });
                return Err((format!("unknown entitlement `{text}`"), hint));
            }
        }
        Ok(())
    }

    /// Checks what an instruction's flag, which is at `span`, asks for.
    pub(super) fn check_network(&self, span: &Range<usize>) -> Result<(), Diagnostic> {
        check(self.network_host, span, "RUN --network=host", NAMES[0])
    }

    /// Checks what an instruction's flag, which is at `span`, asks for.
    pub(super) fn check_insecure(&self, span: &Range<usize>) -> Result<(), Diagnostic> {
        check(self.insecure, span, "RUN --security=insecure", NAMES[1])
    }

    /// Whether a device may be used, by its full name or by the name that the step gives.
    pub fn allows_device(&self, names: &[&str]) -> bool {
        let named = |name: &&str| self.devices.iter().any(|allowed| allowed == name);
        self.all_devices || names.iter().any(named)
    }
}

fn check(allowed: bool, span: &Range<usize>, what: &str, name: &str) -> Result<(), Diagnostic> {
    if allowed {
        return Ok(());
    }
    let message = format!("`{what}` needs the entitlement {name}");
    Err(Diagnostic::error(span.clone(), message).hint(format!(
        "if you trust this Dockerfile, add `--allow {name}`"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let mut given = Entitlements::default();
        assert!(given.check_network(&(0..1)).is_err() && given.check_insecure(&(0..1)).is_err());
        for text in ["network.host", "security.insecure", "device=a.b/c=d"] {
            given.allow(text).expect("known");
        }
        assert!(given.check_network(&(0..1)).is_ok() && given.check_insecure(&(0..1)).is_ok());
        assert!(given.allows_device(&["a.b/c=d"]) && given.allows_device(&["x", "a.b/c=d"]));
        assert!(!given.allows_device(&["a.b/c"]));
        given.allow("device").expect("known");
        assert!(given.allows_device(&["a.b/c"]));
    }

    #[test]
    fn unknown_names() {
        for (text, hint) in [
            ("network.hots", "did you mean `network.host`?"),
            ("everything", "it is one of network.host"),
            ("device=", "did you mean `device`?"),
            ("network.host=yes", "it is one of network.host"),
        ] {
            let (message, found) = Entitlements::default().allow(text).expect_err(text);
            assert_eq!(message, format!("unknown entitlement `{text}`"));
            assert!(found.starts_with(hint), "{text}: {found}");
        }
    }
}
