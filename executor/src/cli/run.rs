//! `sandcrab run`: the arguments, and what they mean together.
//!
//! Responsible for the part of `docker run`'s command line that trying an image needs. Must not
//! start anything. Invariant: a [`Request`] is free of contradictions that can be seen without
//! looking at the image.

use super::RegistryArgs;
use super::build::{from_environment, pull_policy};
use super::choices::{IsolationChoice, NetworkChoice};
use super::environment::Environment;
use crate::build::base::PullPolicy;
use crate::error::{Error, Kind, Result};
use crate::plan::step::Network;

const EXAMPLES: &str = "\
Examples:
  sandcrab run hello
  sandcrab run -it debian:12 bash
  sandcrab run -e GREETING=hi --entrypoint /bin/echo hello world";

/// The command line of `run`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Image to run: a name, or the beginning of an id
    #[arg(value_name = "IMAGE")]
    image: String,

    /// Command and its arguments, in place of the image's own
    #[arg(
        value_name = "COMMAND",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    command: Vec<String>,

    /// Keep standard input open
    #[arg(short, long)]
    interactive: bool,

    /// Give the command a terminal
    #[arg(short, long)]
    tty: bool,

    /// Set an environment variable; without a value it is taken from the environment
    #[arg(short, long = "env", value_name = "NAME[=VALUE]")]
    env: Vec<String>,

    /// Directory to start in
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,

    /// User, and group after a colon, by name or number
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,

    /// Program to run in place of the image's entry point; empty for none
    #[arg(long, value_name = "PROGRAM")]
    entrypoint: Option<String>,

    /// Network of the command
    #[arg(long, value_enum, value_name = "NETWORK", default_value = "default")]
    network: NetworkChoice,

    /// When to fetch the image: always, missing or never
    #[arg(
        long,
        value_name = "WHEN",
        default_value = "missing",
        hide_default_value = true
    )]
    pull: String,

    /// User ids of the command; `sandcrab doctor` tells what there is to choose from
    #[arg(long, value_enum, value_name = "ISOLATION", default_value = "auto")]
    isolation: IsolationChoice,

    /// Accepted for docker's sake: what the command wrote is always removed
    #[arg(long)]
    rm: bool,

    #[command(flatten)]
    registry: RegistryArgs,
}

/// What is to be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request {
    /// Name, or beginning of an id.
    pub image: String,
    /// In place of the image's CMD; empty to keep it.
    pub command: Vec<String>,
    /// In place of the image's ENTRYPOINT; an empty program removes it.
    pub entrypoint: Option<String>,
    /// Variables on top of the image's own; a later one wins.
    pub env: Vec<(String, String)>,
    /// In place of the image's WORKDIR.
    pub workdir: Option<String>,
    /// In place of the image's USER.
    pub user: Option<String>,
    /// The command's network.
    pub network: Network,
    /// When the image is looked up in its registry.
    pub pull: PullPolicy,
    /// Whether standard input is passed on.
    pub interactive: bool,
    /// Whether the command gets a terminal of its own.
    pub tty: bool,
}

impl Args {
    /// Returns the chosen isolation.
    pub(super) fn isolation(&self) -> IsolationChoice {
        self.isolation
    }

    /// Returns the registry options.
    pub(super) fn registry(&self) -> &RegistryArgs {
        &self.registry
    }

    /// Works out what is to be run. `stdin_is_terminal` tells about our own standard input.
    ///
    /// # Errors
    /// [`Kind::Usage`], naming what is wrong.
    pub(super) fn request(
        self,
        environment: &Environment,
        stdin_is_terminal: bool,
    ) -> Result<Request> {
        let usage = |text: String| Error::new(text).kind(Kind::Usage);
        if self.tty && self.interactive && !stdin_is_terminal {
            return Err(usage("standard input is not a terminal".into()).hint("leave out -t"));
        }
        if let Some(dir) = &self.workdir
            && !dir.starts_with('/')
        {
            return Err(usage(format!("working directory is not absolute: `{dir}`")));
        }
        let mut env = Vec::new();
        for text in &self.env {
            let (name, value) = match text.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (text.as_str(), from_environment(text, environment)?),
            };
            if name.is_empty() {
                return Err(usage(format!(
                    "environment variable without a name: `{text}`"
                )));
            }
            env.retain(|(known, _): &(String, String)| known != name);
            env.extend(value.map(|value| (name.to_owned(), value)));
        }
        Ok(Request {
            image: self.image,
            command: self.command,
            entrypoint: self.entrypoint,
            env,
            workdir: self.workdir,
            user: self.user,
            network: self.network.network(),
            pull: pull_policy(&self.pull)?,
            interactive: self.interactive,
            tty: self.tty,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::Command;
    use super::super::tests::parse;
    use super::*;

    fn request(args: &[&str], variables: &[(&str, &str)]) -> Result<Request> {
        let line: Vec<&str> = ["sandcrab", "run"].iter().chain(args).copied().collect();
        let Command::Run(args) = parse(&line).expect("a valid command line").command else {
            panic!("not a run");
        };
        args.request(&Environment::of(variables), false)
    }

    #[test]
    fn options_end_at_the_image() {
        let request = request(
            &[
                "--rm", "-i", "-e", "A=1", "-eB", "-e", "C", "img", "ls", "-l", "--rm",
            ],
            &[("B", "")],
        )
        .expect("request");
        assert_eq!(request.image, "img");
        assert_eq!(request.command, ["ls", "-l", "--rm"]);
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(request.env, [pair("A", "1"), pair("B", "")]);
        assert!(request.interactive && !request.tty);
    }

    #[test]
    fn contradictions_are_found() {
        for (args, wanted) in [
            (&["-it", "img"][..], "standard input is not a terminal"),
            (&["-w", "rel", "img"], "working directory is not absolute"),
            (&["-e", "=x", "img"], "environment variable without a name"),
            (&["--pull", "x", "img"], "--pull can't be `x`"),
        ] {
            let error = request(args, &[]).expect_err(wanted);
            assert!(error.to_string().starts_with(wanted), "{error}");
        }
    }
}
