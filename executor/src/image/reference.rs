//! Image references: `[registry/]repository[:tag][@digest]`.
//!
//! Responsible for parsing and normalising as Docker does (distribution-spec, "reference"):
//! `debian` means `docker.io/library/debian:latest`. Invariant: a [`Reference`] is valid and
//! complete; only the tag is absent when a digest alone was given.

use std::fmt;
use std::str::FromStr;

use crate::error::Error;
use crate::image::digest::Digest;

/// A parsed, normalised image reference.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    /// `docker.io`, `localhost:5000`, …
    pub registry: String,
    /// `library/debian`, …
    pub repository: String,
    /// The tag; absent only when there is a digest.
    pub tag: Option<String>,
    /// The digest, when the reference is pinned.
    pub digest: Option<Digest>,
}

impl Reference {
    /// Returns the shortest text a user would write: without `docker.io/library/`.
    pub fn familiar(&self) -> String {
        let full = self.to_string();
        match full.strip_prefix("docker.io/") {
            Some(rest) => match rest.strip_prefix("library/") {
                Some(short) if !short.contains('/') => short.to_owned(),
                _ => rest.to_owned(),
            },
            None => full,
        }
    }

    /// Returns registry and repository, without tag and digest.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }
}

fn invalid(text: &str, why: &str) -> Error {
    Error::new(format!("invalid image reference `{text}`: {why}"))
}

/// Checks one path component: lower-case letters and digits, with separators inside only.
fn is_component(part: &str) -> bool {
    let alnum = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = part.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    if !alnum(*first) || !alnum(*last) {
        return false;
    }
    let mut run = String::new();
    for b in bytes {
        if alnum(*b) {
            if !(matches!(run.as_str(), "" | "." | "_" | "__") || run.bytes().all(|c| c == b'-')) {
                return false;
            }
            run.clear();
        } else if matches!(b, b'.' | b'_' | b'-') {
            run.push(char::from(*b));
        } else {
            return false;
        }
    }
    true
}

fn is_registry(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').and_then(|t| t.split_once(']')) {
        Some((address, rest)) => {
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return false;
            }
            return rest.is_empty()
                || rest
                    .strip_prefix(':')
                    .is_some_and(|p| p.parse::<u16>().is_ok());
        }
        None => match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    port.is_none_or(|p| p.parse::<u16>().is_ok())
        && !host.is_empty()
        && host.split('.').all(|label| {
            !label.is_empty()
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if text.is_empty() {
            return Err(invalid(text, "it is empty"));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse::<Digest>()?)),
            None => (text, None),
        };
        let name_end = rest.rfind('/').map_or(0, |at| at + 1);
        let (name, tag) = match rest[name_end..].find(':') {
            Some(at) => (&rest[..name_end + at], Some(&rest[name_end + at + 1..])),
            None => (rest, None),
        };
        if let Some(tag) = tag {
            let first = tag.bytes().next();
            let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
            if tag.len() > 128
                || !first.is_some_and(word)
                || !tag.bytes().all(|b| word(b) || b == b'.' || b == b'-')
            {
                return Err(invalid(text, "the tag is not valid"));
            }
        }
        let (registry, repository) = match name.split_once('/') {
            Some((first, rest))
                if first.contains(['.', ':'])
                    || first == "localhost"
                    || first.bytes().any(|b| b.is_ascii_uppercase()) =>
            {
                (first, rest.to_owned())
            }
            _ => ("docker.io", name.to_owned()),
        };
        if !is_registry(registry) {
            return Err(invalid(text, "the registry's name is not valid"));
        }
        let registry = match registry {
            "index.docker.io" | "registry-1.docker.io" => "docker.io",
            other => other,
        };
        let repository = if registry == "docker.io" && !repository.contains('/') {
            format!("library/{repository}")
        } else {
            repository
        };
        if repository.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(invalid(text, "the repository's name must be lower-case"));
        }
        if repository.len() > 255 || !repository.split('/').all(is_component) {
            return Err(invalid(text, "the repository's name is not valid"));
        }
        let tag = match (tag, digest) {
            (Some(tag), _) => Some(tag.to_owned()),
            (None, Some(_)) => None,
            (None, None) => Some("latest".to_owned()),
        };
        Ok(Self {
            registry: registry.to_owned(),
            repository,
            tag,
            digest,
        })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalises_as_docker_does() {
        for (text, wanted) in [
            ("debian", "docker.io/library/debian:latest"),
            ("debian:12", "docker.io/library/debian:12"),
            ("user/app", "docker.io/user/app:latest"),
            ("localhost/app", "localhost/app:latest"),
            ("localhost:5000/app", "localhost:5000/app:latest"),
            ("127.0.0.1:5000/a/b:c", "127.0.0.1:5000/a/b:c"),
            ("[::1]:5000/app", "[::1]:5000/app:latest"),
            ("index.docker.io/debian", "docker.io/library/debian:latest"),
            ("quay.io/a_b/c__d/e--f.g", "quay.io/a_b/c__d/e--f.g:latest"),
        ] {
            assert_eq!(text.parse::<Reference>().expect(text).to_string(), wanted);
        }
    }

    #[test]
    fn refuses_what_docker_refuses() {
        for text in [
            "",
            "UPPER",
            "a:",
            "a:b:c",
            "a//b",
            "-a",
            "a-",
            "a...b",
            "a/b@sha256:12",
            "a@",
            "a b",
            "host:port/x",
            "localhost:99999/x",
            "quay.io/Upper/x",
            "a:.tag",
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_digest_alone_has_no_tag() {
        let text = format!("debian@{}", Digest::of(b""));
        let reference: Reference = text.parse().expect("reference");
        assert_eq!(reference.tag, None);
        assert_eq!(reference.familiar(), text);
    }
}
