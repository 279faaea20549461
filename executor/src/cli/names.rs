//! Files by which steps find hosts: `/etc/hosts` and `/etc/resolv.conf`.
//!
//! Responsible for what is in them: this machine's resolver, what the command line adds. Must not
//! look names up. Invariant: an address is never part of a cache key; a name is.

use std::net::IpAddr;

use super::steps::usage;
use crate::build::jobs::FileMount;
use crate::error::Result;

/// Stands for this machine in `--add-host`.
pub(super) const GATEWAY: &str = "host-gateway";

/// What the command line says about names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Names {
    /// `--add-host`, in order.
    pub hosts: Vec<(String, IpAddr)>,
    /// `--dns` and its like.
    pub resolver: Resolver,
}

/// What resolv.conf(5) says in a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Resolver {
    /// The image's own file is left alone.
    Image,
    /// This machine's file; what is given replaces all of its kind.
    Host {
        /// `nameserver` lines.
        servers: Vec<IpAddr>,
        /// The `search` line; `.` alone is none.
        search: Vec<String>,
        /// The `options` line.
        options: Vec<String>,
    },
}

impl Default for Resolver {
    fn default() -> Self {
        Self::Host {
            servers: Vec::new(),
            search: Vec::new(),
            options: Vec::new(),
        }
    }
}

impl Resolver {
    /// Reads `--dns`, `--dns-search` and `--dns-option`, which mean what they mean to podman.
    pub(super) fn parse(
        dns: Vec<String>,
        search: Vec<String>,
        options: Vec<String>,
    ) -> Result<Self> {
        if dns.iter().any(|d| d == "none") {
            if dns.len() > 1 || !search.is_empty() || !options.is_empty() {
                return Err(usage("--dns=none goes with no other name server or option"));
            }
            return Ok(Self::Image);
        }
        for word in search.iter().chain(&options) {
            if word.is_empty() || word.contains(|c: char| c.is_whitespace() || c.is_control()) {
                let word = word.escape_debug();
                return Err(usage(format!("`{word}` can't be in resolv.conf")));
            }
        }
        let server = |text: &String| {
            text.parse().map_err(|_| {
                usage(format!(
                    "--dns `{text}` is not the IP address of a name server"
                ))
            })
        };
        Ok(Self::Host {
            servers: dns.iter().map(server).collect::<Result<_>>()?,
            search,
            options,
        })
    }

    /// Whether nothing was given.
    pub(super) fn is_hosts_own(&self) -> bool {
        *self == Self::default()
    }

    /// Returns the file's content, given this machine's.
    fn content(&self, host: Vec<u8>) -> Option<Vec<u8>> {
        let Self::Host {
            servers,
            search,
            options,
        } = self
        else {
            return None;
        };
        if self.is_hosts_own() {
            return Some(host);
        }
        let replaced = |line: &str| match line.split_whitespace().next() {
            Some("nameserver") => !servers.is_empty(),
            Some("search" | "domain") => !search.is_empty(),
            Some("options") => !options.is_empty(),
            _ => false,
        };
        let host = String::from_utf8_lossy(&host);
        let mut text: String = (host.lines().filter(|line| !replaced(line)))
            .flat_map(|line| [line, "\n"])
            .collect();
        if !search.is_empty() && search != &["."] {
            text.push_str(&format!("search {}\n", search.join(" ")));
        }
        for server in servers {
            text.push_str(&format!("nameserver {server}\n"));
        }
        if !options.is_empty() {
            text.push_str(&format!("options {}\n", options.join(" ")));
        }
        Some(text.into_bytes())
    }
}

/// Returns the files that exist in a sandbox only while a command runs.
pub(super) fn provided_files(hostname: &str, names: &Names) -> Vec<FileMount> {
    // A host without the file has no name service to lend.
    let host = std::fs::read("/etc/resolv.conf").unwrap_or_default();
    let resolv = names.resolver.content(host).map(|content| FileMount {
        path: "/etc/resolv.conf".into(),
        content,
    });
    let mut hosts =
        format!("127.0.0.1\tlocalhost {hostname}\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    for (name, address) in &names.hosts {
        hosts.push_str(&format!("{address}\t{name}\n"));
    }
    let hosts = FileMount {
        path: "/etc/hosts".into(),
        content: hosts.into_bytes(),
    };
    resolv.into_iter().chain([hosts]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(dns: &[&str], search: &[&str], options: &[&str]) -> Option<String> {
        let words = |list: &[&str]| list.iter().map(|w| (*w).to_owned()).collect();
        let resolver = Resolver::parse(words(dns), words(search), words(options)).expect("valid");
        let host = b"# by hand\nnameserver 9.9.9.9\nsearch a.example\noptions ndots:5\n".to_vec();
        let text = resolver.content(host)?;
        Some(String::from_utf8(text).expect("text"))
    }

    #[test]
    fn what_is_given_replaces_its_kind() {
        let text = content(&[], &[], &[]).expect("a file");
        assert!(text.starts_with("# by hand\nnameserver 9.9.9.9\n"));
        assert_eq!(
            content(&["1.1.1.1", "::1"], &[], &[]).as_deref(),
            Some(
                "# by hand\nsearch a.example\noptions ndots:5\nnameserver 1.1.1.1\nnameserver ::1\n"
            )
        );
        assert_eq!(
            content(&[], &["b.example", "c"], &["rotate", "use-vc"]).as_deref(),
            Some("# by hand\nnameserver 9.9.9.9\nsearch b.example c\noptions rotate use-vc\n")
        );
        assert_eq!(
            content(&[], &["."], &[]).as_deref(),
            Some("# by hand\nnameserver 9.9.9.9\noptions ndots:5\n")
        );
        assert_eq!(content(&["none"], &[], &[]), None);
    }

    #[test]
    fn added_hosts_come_last() {
        let names = Names {
            hosts: vec![("a".into(), IpAddr::from([10, 0, 0, 1]))],
            resolver: Resolver::Image,
        };
        let [hosts] = &provided_files("me", &names)[..] else {
            panic!("one file");
        };
        let text = String::from_utf8_lossy(&hosts.content);
        assert!(text.starts_with("127.0.0.1\tlocalhost me\n"));
        assert!(text.ends_with("10.0.0.1\ta\n"));
    }
}
