//! `sandcrab login`: checks a credential and keeps it.
//!
//! Responsible for getting user name and password from where the user gives them, and for the
//! order: a credential is saved after the registry has accepted it. Must not know the files'
//! format. Invariant: the password is never shown and not kept anywhere else.

use std::io::{BufRead, BufReader, IsTerminal, Read, Stdin, Write};
use std::path::PathBuf;

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use super::environment::Environment;
use super::input::Input;
use super::{RegistryArgs, registries};
use crate::cancel::Cancel;
use crate::config::Settings;
use crate::error::{Error, Kind, Result, ResultExt};
use crate::registry::credentials::{Credential, Saved, Secret, save};

/// The longest password that is read, in bytes.
const PASSWORD_LIMIT: u64 = 64 << 10;

/// The command line of `login`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Registry to log in to [default: docker.io]
    #[arg(value_name = "REGISTRY")]
    server: Option<String>,

    /// User name; asked for when it is not given
    #[arg(short, long, value_name = "NAME")]
    username: Option<String>,

    /// Password or access token; other users can see it while the command runs
    #[arg(short, long, value_name = "PASSWORD", value_parser = secret)]
    password: Option<Secret>,

    /// Read the password from standard input
    #[arg(long, conflicts_with = "password")]
    password_stdin: bool,

    #[command(flatten)]
    registry: RegistryArgs,
}

fn secret(text: &str) -> Result<Secret, std::convert::Infallible> {
    Ok(Secret::new(text))
}

impl Args {
    /// Returns the registry options.
    pub(super) fn registry(&self) -> &RegistryArgs {
        &self.registry
    }
}

/// Logs in and returns what to tell the user.
///
/// # Errors
/// [`Kind::Denied`] when the registry does not accept the credential; [`Kind::Usage`] when none
/// is given and there is nobody to ask.
pub(super) fn run(
    args: Args,
    settings: &Settings,
    environment: &Environment,
    cancel: &Cancel,
) -> Result<String> {
    let registry = registries::canonical(args.server.as_deref());
    let sources = registries::sources(settings, environment);
    let target: PathBuf = sources.target.clone().ok_or_else(|| {
        Error::new("no place for credentials: there is no home directory")
            .kind(Kind::Usage)
            .hint("name a file with --authfile FILE")
    })?;
    let warn_about_option = args.password.is_some();
    let (username, password) = credential(args, &registry, cancel)?;
    let client = registries::client(settings, environment, cancel);
    client.check_login(
        &registry,
        Credential::Password {
            username: username.clone(),
            password: password.clone(),
        },
    )?;
    let helper_path = sources.helper_path.as_deref();
    let saved = save(&target, &registry, &username, &password, helper_path)?;
    let place = match saved {
        Saved::File(path) => format!("in `{}`", path.display()),
        Saved::Helper(name) => format!("with `docker-credential-{name}`"),
    };
    let mut told = format!("logged in to {registry} as {username}; credentials kept {place}\n");
    if warn_about_option {
        told.push_str(
            "warning: a password on the command line is visible to others and stays in the \
             shell's history; use --password-stdin\n",
        );
    }
    if sources.inline.is_some() {
        told.push_str(
            "warning: DOCKER_AUTH_CONFIG is set; what it has for a registry is used first\n",
        );
    }
    Ok(told)
}

fn credential(args: Args, registry: &str, cancel: &Cancel) -> Result<(String, Secret)> {
    let stdin = std::io::stdin();
    let mut input = BufReader::new(Input::standard(cancel)?);
    let username = match args.username {
        Some(username) => username,
        None if stdin.is_terminal() && !args.password_stdin => {
            ask(&mut input, &format!("User name for {registry}: "), None)?
        }
        None => {
            return Err(Error::new("no user name")
                .kind(Kind::Usage)
                .hint("give it with -u NAME"));
        }
    };
    if username.is_empty() || username.contains(':') {
        return Err(Error::new("a user name is not empty and has no colon").kind(Kind::Usage));
    }
    let password = match args.password {
        Some(password) => password,
        None if args.password_stdin => {
            let mut text = String::new();
            let mut input = input.take(PASSWORD_LIMIT);
            input.read_to_string(&mut text).op("read password")?;
            Secret::new(text.trim_end_matches(['\r', '\n']))
        }
        None if stdin.is_terminal() => Secret::new(ask(&mut input, "Password: ", Some(&stdin))?),
        None => {
            return Err(Error::new("no password")
                .kind(Kind::Usage)
                .hint("pipe it in with --password-stdin"));
        }
    };
    if password.is_empty() {
        return Err(Error::new("the password is empty").kind(Kind::Usage));
    }
    Ok((username, password))
}

/// Asks on the terminal; on a terminal to `hide`, what is typed is not shown.
fn ask(input: &mut impl BufRead, prompt: &str, hide: Option<&Stdin>) -> Result<String> {
    let mut stderr = std::io::stderr();
    stderr
        .write_all(prompt.as_bytes())
        .and_then(|()| stderr.flush())
        .op("ask on the terminal")?;
    let hidden = hide.map(Hidden::start).transpose()?;
    let mut line = String::new();
    let read = input.read_line(&mut line).op("read from the terminal");
    if hidden.is_some() {
        drop(hidden);
        drop(stderr.write_all(b"\n"));
    }
    if read? == 0 {
        return Err(Error::new("no answer").kind(Kind::Usage));
    }
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// The terminal without echo, until dropped.
struct Hidden<'a> {
    stdin: &'a Stdin,
    before: Termios,
}

impl<'a> Hidden<'a> {
    fn start(stdin: &'a Stdin) -> Result<Self> {
        let before = tcgetattr(stdin).op("read terminal mode")?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        tcsetattr(stdin, OptionalActions::Flush, &quiet).op("set terminal mode")?;
        Ok(Self { stdin, before })
    }
}

impl Drop for Hidden<'_> {
    fn drop(&mut self) {
        // Nothing more can be done for a terminal that is gone.
        let _ = tcsetattr(self.stdin, OptionalActions::Now, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use clap::Parser;

    use super::super::logout;
    use super::*;
    use crate::registry::testing::DockerRegistry;

    #[derive(Debug, Parser)]
    struct Login {
        #[command(flatten)]
        args: Args,
    }

    #[derive(Debug, Parser)]
    struct Logout {
        #[command(flatten)]
        args: logout::Args,
    }

    fn login(line: &[&str]) -> Args {
        let line = std::iter::once(&"login").chain(line);
        Login::try_parse_from(line).expect("arguments").args
    }

    fn settings(dir: &std::path::Path) -> Settings {
        Settings {
            root: dir.into(),
            temp_dir: dir.into(),
            jobs: NonZeroUsize::MIN,
            authfile: None,
            insecure_registries: Vec::new(),
        }
    }

    #[test]
    fn only_what_the_registry_accepts_is_kept() {
        let Some(peer) = DockerRegistry::with_password() else {
            return;
        };
        let home = tempfile::tempdir().expect("temporary directory");
        let settings = settings(home.path());
        let environment = Environment::of(&[("HOME", &home.path().display().to_string())]);
        let log_in = |password: &str| {
            let args = login(&[&peer.address, "-u", "user", "-p", password]);
            run(args, &settings, &environment, &Cancel::new())
        };
        let file = home.path().join(".docker/config.json");
        let error = log_in("wrong").expect_err("wrong password");
        assert_eq!(error.get_kind(), Kind::Denied);
        assert!(!file.exists());
        let told = log_in("secret").expect("right password");
        assert!(told.contains("--password-stdin"), "{told}");
        assert!(!told.contains("secret"), "{told}");
        assert!(file.exists());

        let log_out = || {
            let parsed = Logout::try_parse_from(["logout", &peer.address]).expect("arguments");
            logout::run(&parsed.args, &settings, &environment).expect("log out")
        };
        assert_eq!(log_out(), format!("logged out from {}\n", peer.address));
        assert_eq!(log_out(), format!("not logged in to {}\n", peer.address));
    }

    #[test]
    fn a_credential_from_elsewhere_is_told_at_logout() {
        let home = tempfile::tempdir().expect("temporary directory");
        let settings = settings(home.path());
        let inline = r#"{"auths":{"quay.io":{"auth":"YTpi"}}}"#;
        let home = home.path().display().to_string();
        let environment = Environment::of(&[("HOME", &home), ("DOCKER_AUTH_CONFIG", inline)]);
        let parsed = Logout::try_parse_from(["logout", "quay.io"]).expect("arguments");
        let told = logout::run(&parsed.args, &settings, &environment).expect("log out");
        assert_eq!(
            told,
            "not logged in to quay.io\nwarning: `DOCKER_AUTH_CONFIG` still has credentials for \
             quay.io\n"
        );
    }

    #[test]
    fn arguments_hide_the_password_and_exclude_each_other() {
        let args = login(&["-u", "user", "-p", "hunter2"]);
        assert!(!format!("{args:?}").contains("hunter2"));
        let both = ["login", "-p", "x", "--password-stdin"];
        assert!(Login::try_parse_from(both).is_err());
        let args = login(&["-u", "a:b", "-p", "x"]);
        let error = credential(args, "docker.io", &Cancel::new()).expect_err("colon");
        assert_eq!(error.get_kind(), Kind::Usage);
    }
}
