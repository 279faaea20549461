//! The build checks by name, as BuildKit has them.
//!
//! Responsible for what is the same for all findings of a rule: its name, its description and its
//! page. Must not know how it is checked.

/// A build check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// `StageNameCasing`.
    pub name: &'static str,
    /// What it asks for, in one sentence.
    pub description: &'static str,
    /// The last part of its page's address; empty where there is no page.
    page: &'static str,
    /// Only on when it is asked for (`check=experimental=…`).
    pub experimental: bool,
}

impl Rule {
    /// Returns the address of the rule's page, if there is one.
    pub fn url(&self) -> Option<String> {
        (!self.page.is_empty())
            .then(|| format!("https://docs.docker.com/go/dockerfile/rule/{}/", self.page))
    }
}

const fn rule(name: &'static str, page: &'static str, description: &'static str) -> Rule {
    Rule {
        name,
        description,
        page,
        experimental: false,
    }
}

/// Every rule, in the order of BuildKit's list.
pub const RULES: [Rule; 22] = [
    rule(
        "StageNameCasing",
        "stage-name-casing",
        "Stage names should be lowercase",
    ),
    rule(
        "FromAsCasing",
        "from-as-casing",
        "The 'as' keyword should match the case of the 'from' keyword",
    ),
    rule(
        "NoEmptyContinuation",
        "no-empty-continuation",
        "Empty continuation lines will become errors in a future release",
    ),
    rule(
        "ConsistentInstructionCasing",
        "consistent-instruction-casing",
        "All commands within the Dockerfile should use the same casing (either upper or lower)",
    ),
    rule(
        "DuplicateStageName",
        "duplicate-stage-name",
        "Stage names should be unique",
    ),
    rule(
        "ReservedStageName",
        "reserved-stage-name",
        "Reserved words should not be used as stage names",
    ),
    rule(
        "JSONArgsRecommended",
        "json-args-recommended",
        "JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to \
         OS signals",
    ),
    rule(
        "MaintainerDeprecated",
        "maintainer-deprecated",
        "The MAINTAINER instruction is deprecated, use a label instead to define an image author",
    ),
    rule(
        "UndefinedArgInFrom",
        "undefined-arg-in-from",
        "FROM command must use declared ARGs",
    ),
    rule(
        "WorkdirRelativePath",
        "workdir-relative-path",
        "Relative workdir without an absolute workdir declared within the build can have \
         unexpected results if the base image changes",
    ),
    rule(
        "UndefinedVar",
        "undefined-var",
        "Variables should be defined before their use",
    ),
    rule(
        "MultipleInstructionsDisallowed",
        "multiple-instructions-disallowed",
        "Multiple instructions of the same type should not be used in the same stage",
    ),
    rule(
        "LegacyKeyValueFormat",
        "legacy-key-value-format",
        "Legacy key/value format with whitespace separator should not be used",
    ),
    rule(
        "InvalidBaseImagePlatform",
        "",
        "Base image platform does not match expected target platform",
    ),
    rule(
        "RedundantTargetPlatform",
        "redundant-target-platform",
        "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the \
         default behavior",
    ),
    rule(
        "SecretsUsedInArgOrEnv",
        "secrets-used-in-arg-or-env",
        "Sensitive data should not be used in the ARG or ENV commands",
    ),
    rule(
        "InvalidDefaultArgInFrom",
        "invalid-default-arg-in-from",
        "Default value for global ARG results in an empty or invalid base image name",
    ),
    rule(
        "FromPlatformFlagConstDisallowed",
        "from-platform-flag-const-disallowed",
        "FROM --platform flag should not use a constant value",
    ),
    rule(
        "CopyIgnoredFile",
        "copy-ignored-file",
        "Attempting to Copy file that is excluded by .dockerignore",
    ),
    rule(
        "ExposeProtoCasing",
        "expose-proto-casing",
        "Protocol in EXPOSE instruction should be lowercase",
    ),
    rule(
        "ExposeInvalidFormat",
        "expose-invalid-format",
        "IP address and host-port mapping should not be used in EXPOSE instruction. This will \
         become an error in a future release",
    ),
    Rule {
        name: "InvalidDefinitionDescription",
        description: "Comment for build stage or argument should follow the format: `# <arg/stage \
                      name> <description>`. If this is not intended to be a description comment, \
                      add an empty line or comment between the instruction and the comment.",
        page: "invalid-definition-description",
        experimental: true,
    },
];

/// Finds a rule by its name.
pub fn find(name: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.name == name)
}

/// Words that say that a variable holds a secret (SecretsUsedInArgOrEnv).
const SECRETS: [&str; 10] = [
    "apikey",
    "auth",
    "credential",
    "credentials",
    "key",
    "password",
    "pword",
    "passwd",
    "secret",
    "token",
];

/// Words that say that it holds something about a secret, or where one is.
const HARMLESS: [&str; 3] = ["public", "file", "version"];

/// Tells whether a variable's name sounds like a secret's: one of its words, which underscores
/// separate, is such a word, and none is harmless.
pub fn is_secret_name(name: &str) -> bool {
    let has = |wanted: &[&str]| {
        name.split('_')
            .any(|word| wanted.iter().any(|w| w.eq_ignore_ascii_case(word)))
    };
    has(&SECRETS) && !has(&HARMLESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_and_have_pages() {
        let rule = find("StageNameCasing").expect("known");
        assert_eq!(
            rule.url().as_deref(),
            Some("https://docs.docker.com/go/dockerfile/rule/stage-name-casing/")
        );
        assert!(find("stagenamecasing").is_none());
        assert_eq!(RULES.iter().filter(|r| r.experimental).count(), 1);
    }

    #[test]
    fn secret_names() {
        for (name, wanted) in [
            ("API_KEY", true),
            ("token", true),
            ("GITHUB_TOKEN", true),
            ("secret_MESSAGE", true),
            ("DATABASE_PASSWD", true),
            ("TOKENIZER", false),
            ("MONKEY", false),
            ("PUBLIC_KEY", false),
            ("KEY_PUBLIC", false),
            ("DB_PASSWORD_FILE", false),
            ("token_version", false),
            ("SECRET_FILES", true),
            ("PATH", false),
        ] {
            assert_eq!(is_secret_name(name), wanted, "{name}");
        }
    }
}
