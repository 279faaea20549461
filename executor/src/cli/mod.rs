//! The command line of `sandcrab`.
//!
//! Responsible for the edge: arguments and environment become requests and settings, errors become
//! text and exit codes. Must not do a command's work. Invariant: standard output carries data
//! only; everything else goes to standard error.

mod ahead;
mod answers;
mod attesting;
mod beside;
mod build;
mod building;
mod caches;
mod choices;
mod courier;
mod dates;
mod desk;
mod df;
mod dispatch;
mod doctor;
mod environment;
mod exit;
mod filters;
mod history;
mod images;
mod input;
mod inputs;
mod inspect;
mod limits;
mod load;
mod login;
mod logout;
mod names;
mod outputs;
mod prune;
mod pull;
mod push;
mod registries;
mod requests;
mod results;
mod rmi;
mod run;
mod running;
mod save;
mod secrets;
mod signals;
mod ssh;
mod steps;
mod streams;
mod table;
mod tag;
mod template;
mod terminal;
mod units;
mod unsupported;
mod warnings;

use std::ffi::OsString;
use std::io::IsTerminal;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::config::Settings;
use crate::error::{Error, Kind, Result};
use choices::IsolationChoice;
use environment::Environment;

const ABOUT: &str = "Build container images from Dockerfiles, without root and without a daemon.";

const EXAMPLES: &str = "\
Examples:
  sandcrab build -t hello .           build the Dockerfile here and name the image
  sandcrab run hello                  try it
  sandcrab push hello REGISTRY/hello  publish it
  sandcrab doctor                     see what this machine allows

`sandcrab COMMAND --help` tells more about a command.";

/// How `--help` lists the commands.
const GROUPS: [(&str, &[&str]); 4] = [
    ("Build and run", &["build", "run"]),
    (
        "Images",
        &["images", "inspect", "history", "tag", "rmi", "load", "save"],
    ),
    ("Registries", &["pull", "push", "login", "logout"]),
    ("This machine", &["df", "prune", "doctor", "version"]),
];

#[derive(Debug, Parser)]
#[command(
    name = "sandcrab",
    version,
    about = ABOUT,
    after_help = EXAMPLES,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    subcommand_value_name = "COMMAND",
    max_term_width = 100,
    args_override_self = true
)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Options of every command.
#[derive(Debug, clap::Args)]
struct Global {
    /// Directory of the store [default: $SANDCRAB_ROOT, else ~/.local/share/sandcrab]
    #[arg(
        long,
        value_name = "DIR",
        global = true,
        help_heading = "Global options"
    )]
    root: Option<PathBuf>,

    /// Show the causes of an error one by one
    #[arg(long, global = true, help_heading = "Global options")]
    debug: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build an image from a Dockerfile
    Build(Box<build::Args>),
    /// Run a command in an image
    Run(Box<run::Args>),
    /// List images
    Images(images::Args),
    /// Show everything about images, as JSON
    Inspect(inspect::Args),
    /// Show the steps that made an image
    History(history::Args),
    /// Give an image another name
    Tag(tag::Args),
    /// Remove names, and images with their last name
    Rmi(rmi::Args),
    /// Load images from an archive
    Load(load::Args),
    /// Save images to an archive
    Save(save::Args),
    /// Fetch images from registries
    Pull(pull::Args),
    /// Publish an image in registries
    Push(push::Args),
    /// Log in to a registry
    Login(login::Args),
    /// Log out from a registry
    Logout(logout::Args),
    /// Show what the store takes up
    Df(df::Args),
    /// Remove what nobody needs
    Prune(prune::Args),
    /// Tell what this machine and user can do, and what to change for more
    Doctor(doctor::Args),
    /// Show version and platform
    Version,
}

/// Options of the commands that talk to registries.
#[derive(Debug, Clone, Default, clap::Args)]
struct RegistryArgs {
    /// File with credentials, in the format of docker's config.json
    #[arg(long, value_name = "FILE", help_heading = "Registries")]
    authfile: Option<PathBuf>,

    /// Accept any certificate, or none, from this registry; can be given several times
    #[arg(
        long = "insecure-registry",
        value_name = "HOST[:PORT]",
        help_heading = "Registries"
    )]
    insecure_registries: Vec<String>,
}

/// Runs the program. It is called first thing in `main`: the process has one thread still.
pub fn main() -> ExitCode {
    let outcome = std::panic::catch_unwind(|| execute(std::env::args_os().collect()));
    outcome.unwrap_or_else(|_| {
        // The panic's message is printed already.
        let error = Error::new("unexpected end").kind(Kind::Internal);
        streams::complain(&exit::describe(&error.into(), false, false));
        ExitCode::from(exit::INTERNAL)
    })
}

fn execute(args: Vec<OsString>) -> ExitCode {
    let environment = Environment::read();
    let colour = environment.colour(std::io::stderr().is_terminal());
    let cli = match parse_args(&args) {
        Ok(cli) => cli,
        Err(Refusal::Clap(error)) => {
            // Help goes to standard output; nobody there to read it is no error.
            drop(error.print());
            return ExitCode::from(if error.use_stderr() { exit::USAGE } else { 0 });
        }
        Err(Refusal::Unsupported(error)) => {
            streams::complain(&exit::describe(&error.into(), colour, false));
            return ExitCode::from(exit::USAGE);
        }
    };
    let debug = cli.global.debug;
    match dispatch::dispatch(cli, &environment) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            streams::complain(&exit::describe(&failure, colour, debug));
            ExitCode::from(exit::code(failure.error.get_kind()))
        }
    }
}

impl Global {
    /// Gathers the settings of a command.
    fn settings(
        &self,
        environment: &Environment,
        registry: Option<&RegistryArgs>,
        jobs: Option<NonZeroUsize>,
    ) -> Result<Settings> {
        let jobs = jobs
            .or_else(|| std::thread::available_parallelism().ok())
            .unwrap_or(NonZeroUsize::MIN);
        Ok(Settings {
            root: environment.store_root(self.root.as_deref())?,
            temp_dir: environment.temp_dir(),
            jobs,
            authfile: registry.and_then(|r| r.authfile.clone()),
            insecure_registries: registry
                .map(|r| r.insecure_registries.clone())
                .unwrap_or_default(),
        })
    }
}

/// Why a command line was not taken.
#[derive(Debug)]
enum Refusal {
    /// Help, version, or clap's own error.
    Clap(clap::Error),
    /// An option that other builders have.
    Unsupported(Error),
}

fn parse_args(args: &[OsString]) -> Result<Cli, Refusal> {
    let parsed = command()
        .try_get_matches_from(args)
        .and_then(|matches| Cli::from_arg_matches(&matches));
    parsed.map_err(|error| {
        if error.kind() == ErrorKind::UnknownArgument
            && let Some(ContextValue::String(flag)) = error.get(ContextKind::InvalidArg)
            && let Some(name) = args.iter().skip(1).find_map(|arg| {
                let name = arg.to_str()?;
                matches!(name, "build" | "run").then_some(name)
            })
            && let Some(better) = unsupported::explain(name, flag)
        {
            return Refusal::Unsupported(better);
        }
        Refusal::Clap(error)
    })
}

/// Returns clap's description of the command line, with the commands listed in groups.
fn command() -> clap::Command {
    let command = Cli::command();
    let mut listing = String::new();
    for (title, names) in GROUPS {
        let mut lines = String::new();
        for name in names {
            if let Some(sub) = command.find_subcommand(name) {
                let about = sub.get_about().map(ToString::to_string).unwrap_or_default();
                lines.push_str(&format!("  {name:<10}{about}\n"));
            }
        }
        if !lines.is_empty() {
            listing.push_str(&format!("{title}:\n{lines}\n"));
        }
    }
    command.help_template(format!(
        "{{about}}\n\n{{usage-heading}} {{usage}}\n\n{listing}Options:\n{{options}}{{after-help}}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn parse(args: &[&str]) -> Result<Cli, Refusal> {
        let args: Vec<OsString> = args.iter().map(OsString::from).collect();
        parse_args(&args)
    }

    #[test]
    fn the_definitions_are_consistent() {
        command().debug_assert();
    }

    #[test]
    fn every_command_is_in_a_group_once() {
        let listed: Vec<&str> = GROUPS
            .iter()
            .flat_map(|(_, names)| names.iter().copied())
            .collect();
        for sub in command().get_subcommands() {
            let times = listed
                .iter()
                .filter(|name| **name == sub.get_name())
                .count();
            assert_eq!(times, 1, "{}", sub.get_name());
        }
    }

    #[test]
    fn help_texts_are_sentences() {
        for sub in command().get_subcommands() {
            for arg in sub.get_arguments() {
                let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
                let first = help.chars().next();
                assert!(
                    first.is_some_and(|c| c.is_uppercase() || c == '`') && !help.ends_with('.'),
                    "{} {}: {help:?}",
                    sub.get_name(),
                    arg.get_id()
                );
            }
        }
    }

    #[test]
    fn habits_of_other_builders_are_answered() {
        for (line, wanted) in [
            (
                &["sandcrab", "build", "--retry=3", "."][..],
                "`--retry` is not supported yet",
            ),
            (
                &["sandcrab", "--debug", "build", "--policy=x", "."],
                "`--policy` is not supported yet",
            ),
            (
                &["sandcrab", "run", "-v", "/a:/b", "img"],
                "`-v` is not supported yet",
            ),
            (
                &["sandcrab", "run", "-p", "80:80", "img"],
                "`-p` is not supported yet",
            ),
            (
                &["sandcrab", "build", "--destination", "x", "."],
                "there is no `--destination`",
            ),
        ] {
            match parse(line) {
                Err(Refusal::Unsupported(error)) => {
                    assert_eq!(error.to_string(), wanted);
                    assert_eq!(error.get_kind(), Kind::Usage);
                    assert_eq!(error.hints().len(), 1);
                }
                other => panic!("{line:?}: {other:?}"),
            }
        }
        for line in [
            &["sandcrab", "build", "--nonsense", "."][..],
            &["sandcrab", "build"],
            &["sandcrab", "frobnicate"],
        ] {
            match parse(line) {
                Err(Refusal::Clap(error)) => assert!(error.use_stderr(), "{line:?}"),
                other => panic!("{line:?}: {other:?}"),
            }
        }
    }
}
