//! Predefined arguments: what the platform gives, the proxy settings, and the date.
//!
//! Responsible for their names and values. Must not look at the running machine.

use crate::image::platform::Platform;

/// Proxy settings that RUN sees without an ARG when they are given as build arguments; each also
/// exists in lower case.
const PROXIES: [&str; 5] = [
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "FTP_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
];

/// The build argument that fixes the dates of what is built; a RUN sees it only after an ARG.
pub const SOURCE_DATE_EPOCH: &str = "SOURCE_DATE_EPOCH";

/// What a build argument of BuildKit's own does here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// What it does in BuildKit.
    Honoured,
    /// Nothing: what it controls does not exist.
    Meaningless,
}

/// Build arguments that control the build; none is seen by a step without an ARG.
const CONTROLS: [(&str, Control); 10] = [
    (SYNTAX, Control::Honoured),
    (DOCKERFILE_CHECK, Control::Honoured),
    (SANDBOX_HOSTNAME, Control::Honoured),
    ("BUILDKIT_CACHE_MOUNT_NS", Control::Honoured),
    (KEEP_GIT_DIR, Control::Honoured),
    ("BUILDKIT_MULTI_PLATFORM", Control::Honoured),
    ("BUILDKIT_BUILD_NAME", Control::Meaningless),
    ("BUILDKIT_INLINE_CACHE", Control::Meaningless),
    ("BUILDKIT_SBOM_SCAN_CONTEXT", Control::Meaningless),
    ("BUILDKIT_SBOM_SCAN_STAGE", Control::Meaningless),
];

/// The frontend to use.
pub const SYNTAX: &str = "BUILDKIT_SYNTAX";

/// Which build checks are on.
pub const DOCKERFILE_CHECK: &str = "BUILDKIT_DOCKERFILE_CHECK";

/// The host name in the sandboxes of steps.
pub const SANDBOX_HOSTNAME: &str = "BUILDKIT_SANDBOX_HOSTNAME";

/// Leaves `.git` in a context that is a repository.
pub const KEEP_GIT_DIR: &str = "BUILDKIT_CONTEXT_KEEP_GIT_DIR";

/// Finds out what a build argument controls, if it is one of these.
pub fn control(name: &str) -> Option<Control> {
    let found = CONTROLS.iter().find(|(known, _)| *known == name);
    found.map(|(_, control)| *control)
}

/// Tells whether a build argument is one of the proxy settings.
pub fn is_proxy(name: &str) -> bool {
    PROXIES.iter().any(|p| p.eq_ignore_ascii_case(name))
}

/// Returns the proxy settings among the build arguments as `NAME=value`, each in both casings as
/// BuildKit passes them on; empty ones are left out.
pub fn proxy_env<'a>(
    build_args: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Vec<(String, String)> {
    let mut given: Vec<(&str, &str)> = build_args
        .into_iter()
        .filter(|(name, value)| is_proxy(name) && !value.is_empty())
        .collect();
    given.sort_unstable();
    let mut env = Vec::new();
    for proxy in PROXIES {
        let value = given
            .iter()
            .rev()
            .find(|(name, _)| name.eq_ignore_ascii_case(proxy));
        if let Some((_, value)) = value {
            env.push((proxy.to_owned(), (*value).to_owned()));
            env.push((proxy.to_ascii_lowercase(), (*value).to_owned()));
        }
    }
    env
}

/// Returns the arguments in the global scope that need no declaration there.
pub fn predefined(
    target: &Platform,
    build: &Platform,
    target_stage: Option<&str>,
) -> Vec<(&'static str, String)> {
    let variant = |p: &Platform| p.variant.clone().unwrap_or_default();
    vec![
        ("BUILDPLATFORM", build.to_string()),
        ("BUILDOS", build.os.clone()),
        ("BUILDOSVERSION", String::new()),
        ("BUILDARCH", build.architecture.clone()),
        ("BUILDVARIANT", variant(build)),
        ("TARGETPLATFORM", target.to_string()),
        ("TARGETOS", target.os.clone()),
        ("TARGETOSVERSION", String::new()),
        ("TARGETARCH", target.architecture.clone()),
        ("TARGETVARIANT", variant(target)),
        ("TARGETSTAGE", target_stage.unwrap_or("default").to_owned()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_come_in_both_casings() {
        let env = proxy_env([("http_proxy", "a"), ("NO_PROXY", ""), ("x", "y")]);
        let names: Vec<&str> = env.iter().map(|(n, _)| n.as_str()).collect();
        assert_eq!(names, ["HTTP_PROXY", "http_proxy"]);
        assert!(env.iter().all(|(_, v)| v == "a"));
    }
}
