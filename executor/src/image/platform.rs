//! Platforms: `os/architecture[/variant]`.
//!
//! Responsible for parsing, normalising and comparing platforms (OCI image-spec, "platform";
//! Go's names for operating systems and architectures). Must not look at the running machine
//! except through [`Platform::host`].

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// An operating system, an architecture, and for some architectures a variant.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// `linux`, …
    pub os: String,
    /// `amd64`, `arm64`, …
    pub architecture: String,
    /// `v7`, `v8`, …; absent where the architecture has one form only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl Platform {
    /// Returns the platform that this program was built for.
    pub fn host() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", None),
            "aarch64" => ("arm64", None),
            "arm" => ("arm", Some("v7")),
            "x86" => ("386", None),
            "powerpc64" => ("ppc64le", None),
            other => (other, None),
        };
        Self {
            os: "linux".into(),
            architecture: architecture.into(),
            variant: variant.map(Into::into),
        }
    }

    /// Tells whether an image made for `other` runs where `self` is wanted.
    pub fn accepts(&self, other: &Platform) -> bool {
        self.os == other.os
            && self.architecture == other.architecture
            && (self.variant == other.variant
                || (self.architecture == "arm64"
                    && [&self.variant, &other.variant]
                        .iter()
                        .all(|v| matches!(v.as_deref(), None | Some("v8"))))
                || self.variant.is_none())
    }
}

impl FromStr for Platform {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let parts: Vec<&str> = text.split('/').collect();
        if parts.is_empty()
            || parts.len() > 3
            || parts.iter().any(|p| {
                p.is_empty()
                    || !p
                        .bytes()
                        .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
            })
        {
            return Err(Error::new(format!("invalid platform `{text}`"))
                .hint("a platform is written os/architecture[/variant], such as linux/arm64"));
        }
        let host = Self::host();
        let lower = |s: &str| s.to_ascii_lowercase();
        let (os, architecture, variant) = match parts[..] {
            [one]
                if matches!(
                    lower(one).as_str(),
                    "linux" | "windows" | "darwin" | "freebsd"
                ) =>
            {
                (lower(one), host.architecture, host.variant)
            }
            [one] => (host.os, lower(one), None),
            [os, architecture] => (lower(os), lower(architecture), None),
            [os, architecture, variant] => (lower(os), lower(architecture), Some(lower(variant))),
            _ => unreachable!("one to three parts were checked above"),
        };
        let (architecture, variant) = match (architecture.as_str(), variant.as_deref()) {
            ("x86_64" | "x86-64", v) => ("amd64".into(), v.map(Into::into)),
            ("aarch64", v) => (
                "arm64".into(),
                v.filter(|v| *v != "v8" && *v != "8").map(Into::into),
            ),
            ("arm64", Some("v8" | "8")) => ("arm64".into(), None),
            ("armhf", _) => ("arm".into(), Some("v7".into())),
            ("armel", _) => ("arm".into(), Some("v6".into())),
            ("arm", None) => ("arm".into(), Some("v7".into())),
            ("i386", v) => ("386".into(), v.map(Into::into)),
            _ => (architecture, variant),
        };
        Ok(Self {
            os,
            architecture,
            variant,
        })
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if let Some(variant) = &self.variant {
            write!(f, "/{variant}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalises() {
        for (text, wanted) in [
            ("linux/amd64", "linux/amd64"),
            ("x86_64", "linux/amd64"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("Linux/ARM/v6", "linux/arm/v6"),
        ] {
            assert_eq!(text.parse::<Platform>().expect(text).to_string(), wanted);
        }
        for text in ["", "/", "a/b/c/d", "linux/", "lin ux/amd64"] {
            assert!(text.parse::<Platform>().is_err(), "{text}");
        }
    }

    #[test]
    fn accepts_equal_and_unspecified() {
        let parse = |t: &str| t.parse::<Platform>().expect("platform");
        assert!(parse("linux/arm64").accepts(&parse("linux/arm64/v8")));
        assert!(!parse("linux/arm/v7").accepts(&parse("linux/arm/v6")));
        assert!(!parse("linux/amd64").accepts(&parse("linux/arm64")));
    }
}
