//! Which platforms' programs run here, and by what.
//!
//! Responsible for the way from a platform, in Go's words, to qemu's. Must not look for programs: the
//! runtime does. Invariant: what this processor executes itself is emulated only where the sandbox
//! can't have its 32-bit programs.

use runtime::binfmt::{self, Emulator, Means};
use runtime::identity::Identity;

use crate::error::{Error, Result};
use crate::image::platform::Platform;

/// Go's name of an architecture, and qemu's (`GOARCH`; qemu's `linux-user` targets).
const NAMES: [(&str, &str); 13] = [
    ("386", "i386"),
    ("amd64", "x86_64"),
    ("arm", "arm"),
    ("arm64", "aarch64"),
    ("loong64", "loongarch64"),
    ("mips", "mips"),
    ("mips64", "mips64"),
    ("mips64le", "mips64el"),
    ("mipsle", "mipsel"),
    ("ppc64", "ppc64"),
    ("ppc64le", "ppc64le"),
    ("riscv64", "riscv64"),
    ("s390x", "s390x"),
];

/// How a platform's programs run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Support {
    /// This processor executes them.
    Native,
    /// By an emulator.
    Emulated(Means),
    /// Not at all: another operating system, or a processor that nothing emulates.
    Unknown,
}

/// Says how a platform's programs run here.
pub fn support(platform: &Platform) -> Support {
    let host = Platform::host();
    if is_native(platform, &host) {
        return Support::Native;
    }
    match emulated_as(platform, &host) {
        Some(name) => Support::Emulated(binfmt::means(name)),
        None => Support::Unknown,
    }
}

/// Returns the platforms that can be asked about.
pub fn known() -> impl Iterator<Item = Platform> {
    NAMES
        .iter()
        .filter_map(|(name, _)| format!("linux/{name}").parse().ok())
}

/// Finds what a container of a platform needs; nothing, where this processor executes its programs.
///
/// # Errors
/// Nothing can execute them; the hint says what to install.
pub(super) fn emulator(platform: &Platform, identity: Identity) -> Result<Option<Emulator>> {
    let host = Platform::host();
    if is_native(platform, &host) {
        // The supervisor can't answer the calls of 32-bit programs. Without an emulator it says so.
        let spared = platform.architecture == host.architecture || identity != Identity::Emulated;
        return Ok(match emulated_as(platform, &host) {
            Some(name) if !spared => Emulator::find(name).ok(),
            _ => None,
        });
    }
    let op = format!("run a step for {platform}");
    match emulated_as(platform, &host) {
        Some(name) => match Emulator::find(name) {
            Ok(emulator) => Ok(Some(emulator)),
            Err(error) => Err(Error::new(op).source(error)),
        },
        None => Err(Error::new(format!("{op}: nothing emulates it on {host}"))),
    }
}

/// Tells whether this processor executes a platform's programs.
fn is_native(platform: &Platform, host: &Platform) -> bool {
    let pair = (host.architecture.as_str(), platform.architecture.as_str());
    platform.os == host.os
        && (pair.0 == pair.1 || matches!(pair, ("amd64", "386") | ("arm64", "arm")))
}

fn emulated_as(platform: &Platform, host: &Platform) -> Option<&'static str> {
    let (_, name) = NAMES
        .iter()
        .find(|(name, _)| *name == platform.architecture)?;
    (platform.os == host.os).then_some(*name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_execute_their_own_and_their_32_bit_programs() {
        let parse = |text: &str| text.parse::<Platform>().expect(text);
        for (host, platform, expected) in [
            ("linux/amd64", "linux/amd64", true),
            ("linux/amd64", "linux/amd64/v3", true),
            ("linux/amd64", "linux/386", true),
            ("linux/amd64", "linux/arm64", false),
            ("linux/arm64", "linux/arm/v7", true),
            ("linux/arm64", "linux/amd64", false),
            ("linux/amd64", "windows/amd64", false),
        ] {
            assert_eq!(
                is_native(&parse(platform), &parse(host)),
                expected,
                "{host} {platform}"
            );
        }
    }

    #[test]
    fn every_architecture_has_a_format() {
        for (name, qemu) in NAMES {
            assert!(binfmt::Format::named(qemu).is_some(), "{name}");
        }
        assert_eq!(known().count(), NAMES.len());
        let windows = "windows/amd64".parse().expect("platform");
        assert_eq!(support(&windows), Support::Unknown);
        assert_eq!(support(&Platform::host()), Support::Native);
    }
}
