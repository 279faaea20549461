//! Options about all RUN steps of a build.
//!
//! Responsible for what they are called and for what they mean together. Must not look at a
//! Dockerfile. Invariant: an option that can't hold is refused here or named in a warning later.

use std::net::IpAddr;
use std::path::PathBuf;

use runtime::sandbox::Confinement;

use super::choices::NetworkChoice;
use super::limits::LimitArgs;
use super::names::{self, Names};
use crate::build::devices;
use crate::error::{Error, Kind, Result};
use crate::plan::entitlements::Entitlements;
use crate::plan::step::Network;

/// The part of `build`'s command line that is about RUN steps.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Steps")]
pub(super) struct StepArgs {
    /// Let RUN steps ask for more than usual: network.host, security.insecure, device or
    /// device=NAME
    #[arg(long, value_name = "ENTITLEMENT")]
    allow: Vec<String>,

    /// Let RUN steps find a host by name; `host-gateway` is this machine
    #[arg(long, value_name = "NAME:IP")]
    add_host: Vec<String>,

    /// Name server of RUN steps instead of this machine's; `none` leaves the image's own
    /// resolv.conf
    #[arg(long, value_name = "IP")]
    dns: Vec<String>,

    /// Domain in which RUN steps look for names instead of this machine's; `.` is none
    #[arg(long, value_name = "DOMAIN")]
    dns_search: Vec<String>,

    /// Option of the resolver in RUN steps instead of this machine's
    #[arg(long, value_name = "OPTION")]
    dns_option: Vec<String>,

    /// Directory with specifications of devices [default: /etc/cdi and /var/run/cdi]
    #[arg(long, value_name = "DIR")]
    cdi_spec_dir: Vec<PathBuf>,

    #[command(flatten)]
    limits: LimitArgs,
}

/// What the options mean.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct StepOptions {
    /// What steps may ask for.
    pub entitlements: Entitlements,
    /// Which hosts they find, and how.
    pub names: Names,
    /// What they may do and use up.
    pub confinement: Confinement,
    /// Where specifications of devices are.
    pub device_directories: Vec<PathBuf>,
}

impl StepOptions {
    /// Returns the names of `--add-host`, and the steps' own if it is not the `usual` one.
    pub(super) fn host_names(&self, own: &str, usual: &str) -> Vec<String> {
        let hosts = self.names.hosts.iter().map(|(name, _)| name.clone());
        // Nothing that was added has a blank in it.
        let own = (own != usual).then(|| format!("own {own}"));
        hosts.chain(own).collect()
    }
}

impl StepArgs {
    /// Works out what the options mean; `network` is the one that steps get.
    ///
    /// # Errors
    /// [`Kind::Usage`], naming what is wrong.
    pub(super) fn options(self, network: NetworkChoice) -> Result<StepOptions> {
        let mut entitlements = Entitlements {
            // As buildx has it: who gives it to all steps lets them ask for it, too.
            network_host: matches!(network, NetworkChoice::Host),
            ..Entitlements::default()
        };
        for text in &self.allow {
            entitlements
                .allow(text)
                .map_err(|(message, hint)| usage(message).hint(hint))?;
        }
        let hosts = self.add_host.iter().map(|text| host(text));
        let names = Names {
            hosts: hosts.collect::<Result<_>>()?,
            resolver: names::Resolver::parse(self.dns, self.dns_search, self.dns_option)?,
        };
        if network.network() == Network::None && !names.resolver.is_hosts_own() {
            return Err(usage("--dns and its like need a network")
                .hint("leave them out with --network=none"));
        }
        Ok(StepOptions {
            entitlements,
            names,
            confinement: self.limits.confinement()?,
            device_directories: match self.cdi_spec_dir {
                none if none.is_empty() => devices::DIRECTORIES.map(PathBuf::from).to_vec(),
                given => given,
            },
        })
    }
}

/// Parses `NAME:IP` or `NAME=IP`; an IPv6 address may be in brackets.
fn host(text: &str) -> Result<(String, IpAddr)> {
    let wrong = |what: String| {
        usage(format!("--add-host `{text}`: {what}")).hint("it is NAME:IP or NAME=IP")
    };
    // The first of the two signs: an IPv6 address has colons of its own.
    let (name, address) = text
        .split_once(['=', ':'])
        .ok_or_else(|| wrong("no address".into()))?;
    let is_name = |c: char| c.is_ascii_graphic() && !matches!(c, '#' | '/');
    if name.is_empty() || !name.chars().all(is_name) {
        return Err(wrong(format!("`{name}` is not a host name")));
    }
    if address == names::GATEWAY {
        // Steps share this machine's network, so it is reached by its own loopback.
        return Ok((name.to_owned(), IpAddr::from([127, 0, 0, 1])));
    }
    let bare = address
        .strip_prefix('[')
        .and_then(|a| a.strip_suffix(']'))
        .unwrap_or(address);
    bare.parse()
        .map(|address| (name.to_owned(), address))
        .map_err(|_| wrong(format!("`{address}` is not an IP address")))
}

pub(super) fn usage(text: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(text).kind(Kind::Usage)
}

#[cfg(test)]
mod tests {
    use super::super::tests::parse;
    use super::super::{Command, build};
    use super::*;

    fn options(args: &[&str]) -> Result<StepOptions> {
        let line: Vec<&str> = ["sandcrab", "build", "."]
            .iter()
            .chain(args)
            .copied()
            .collect();
        let Command::Build(args) = parse(&line).expect("a valid command line").command else {
            panic!("not a build");
        };
        args.request(&super::super::environment::Environment::of(&[]))
            .map(|request: build::Request| request.steps)
    }

    #[test]
    fn hosts() {
        let given = options(&[
            "--add-host=a:10.0.0.1",
            "--add-host=b=10.0.0.2",
            "--add-host=c:::1",
            "--add-host=d=[fe80::1]",
            "--add-host=e:[::2]",
            "--add-host=f:host-gateway",
        ])
        .expect("options");
        let found: Vec<String> = (given.names.hosts.iter())
            .map(|(name, address)| format!("{name} {address}"))
            .collect();
        assert_eq!(
            found,
            [
                "a 10.0.0.1",
                "b 10.0.0.2",
                "c ::1",
                "d fe80::1",
                "e ::2",
                "f 127.0.0.1"
            ]
        );
    }

    #[test]
    fn entitlements() {
        let given = options(&["--allow=network.host", "--allow", "device=a/b=c"]);
        let given = given.expect("options").entitlements;
        assert!(given.network_host && !given.insecure && given.allows_device(&["a/b=c"]));
        // As buildx: who gives all steps the host's network allows it, too.
        let given = options(&["--network=host"]).expect("options").entitlements;
        assert!(given.network_host);
        assert!(!options(&[]).expect("options").entitlements.network_host);
    }

    #[test]
    fn mistakes() {
        for (args, wanted) in [
            (&["--allow=all"][..], "unknown entitlement `all`"),
            (&["--add-host=a"], "--add-host `a`: no address"),
            (&["--add-host=:1.2.3.4"], "--add-host `:1.2.3.4`: `` is not"),
            (
                &["--add-host=a b:1.2.3.4"],
                "--add-host `a b:1.2.3.4`: `a b` is not",
            ),
            (
                &["--add-host=a:1.2.3"],
                "--add-host `a:1.2.3`: `1.2.3` is not",
            ),
            (
                &["--dns=x"],
                "--dns `x` is not the IP address of a name server",
            ),
            (
                &["--dns=none", "--dns=1.1.1.1"],
                "--dns=none goes with no other",
            ),
            (
                &["--dns=none", "--dns-search=a"],
                "--dns=none goes with no other",
            ),
            (
                &["--network=none", "--dns=1.1.1.1"],
                "--dns and its like need a network",
            ),
        ] {
            let error = options(args).expect_err(wanted);
            assert!(error.to_string().starts_with(wanted), "{error}");
            assert_eq!(error.get_kind(), Kind::Usage);
        }
    }
}
