//! Package URLs: names of packages and images that tools agree on.
//!
//! Responsible for their grammar (package-url/purl-spec) and for the names of images, which are
//! BuildKit's. Must not know what they are used for.

use std::fmt::Write;

use crate::image::digest::Digest;
use crate::image::platform::Platform;
use crate::image::reference::Reference;

/// Makes a package URL of its parts: the namespace's segments are separated by `/`, and what is empty is
/// left out. Qualifiers have to be in alphabetical order.
pub fn make(
    kind: &str,
    namespace: &str,
    name: &str,
    version: &str,
    qualifiers: &[(&str, &str)],
) -> String {
    let mut text = format!("pkg:{kind}/");
    for segment in namespace.split('/').filter(|s| !s.is_empty()) {
        encode(&mut text, segment);
        text.push('/');
    }
    encode(&mut text, name);
    if !version.is_empty() {
        text.push('@');
        encode(&mut text, version);
    }
    let given = qualifiers.iter().filter(|(_, value)| !value.is_empty());
    for (n, (key, value)) in given.enumerate() {
        text.push(if n == 0 { '?' } else { '&' });
        text.push_str(key);
        text.push('=');
        encode(&mut text, value);
    }
    text
}

/// Names an image for a platform, as BuildKit does: in Docker's short form, with its tag.
pub fn image(reference: &Reference, platform: &Platform) -> String {
    let digest = reference.digest.map(|digest| digest.to_string());
    let name = Reference {
        tag: None,
        digest: None,
        ..reference.clone()
    };
    let familiar = name.familiar();
    let (namespace, name) = familiar.rsplit_once('/').unwrap_or(("", &familiar));
    let tag = match (&reference.tag, &digest) {
        (Some(tag), _) => tag,
        (None, Some(_)) => "",
        (None, None) => "latest",
    };
    let platform = platform.to_string();
    let digest = digest.unwrap_or_default();
    let qualifiers = [("digest", digest.as_str()), ("platform", &platform)];
    make("docker", namespace, name, tag, &qualifiers)
}

/// Names an image of a layout.
pub fn layout(name: &str, digest: &Digest, platform: &Platform) -> String {
    let (digest, platform) = (digest.to_string(), platform.to_string());
    make("oci", "", name, &digest, &[("platform", &platform)])
}

/// Appends a text in which everything is quoted that could mean something. A colon stays as it is.
fn encode(out: &mut String, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' => {
                out.push(char::from(byte));
            }
            _ => write!(out, "%{byte:02X}").expect("strings take everything"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_named_as_buildkit_names_them() {
        let platform: Platform = "linux/arm/v7".parse().expect("platform");
        let of = |text: &str| image(&text.parse().expect(text), &platform);
        let digest = format!("sha256:{}", "0".repeat(64));
        assert_eq!(
            of("alpine"),
            "pkg:docker/alpine@latest?platform=linux%2Farm%2Fv7"
        );
        assert_eq!(
            of("localhost:5000/a/b:1.0"),
            "pkg:docker/localhost:5000/a/b@1.0?platform=linux%2Farm%2Fv7"
        );
        let pinned = of(&format!("a/b@{digest}"));
        assert_eq!(
            pinned,
            format!("pkg:docker/a/b?digest={digest}&platform=linux%2Farm%2Fv7")
        );
    }

    #[test]
    fn parts_are_quoted() {
        let text = make("npm", "@scope", "a b", "1+2", &[("x", ""), ("y", "é")]);
        assert_eq!(text, "pkg:npm/%40scope/a%20b@1%2B2?y=%C3%A9");
    }
}
