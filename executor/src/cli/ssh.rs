//! `--ssh`: agents and keys of the caller's that steps may use.
//!
//! Responsible for the option's grammar, which is buildx's, and for having an agent for each id. Must
//! not speak to one. Invariant: what was given is there, or the build does not start.

use std::collections::HashSet;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use super::environment::Environment;
use crate::build::ssh::{Agent, Agents, DEFAULT, KeyAgent};
use crate::error::{Error, Kind, Result};

/// The option.
#[derive(Debug, Default, clap::Args)]
pub(super) struct SshArgs {
    /// Let RUN steps and git use an ssh agent: default|ID[=SOCKET|=KEY[,KEY…]][,raw=true]; without
    /// either, the agent of SSH_AUTH_SOCK
    #[arg(long = "ssh", value_name = "ID[=…]", help_heading = "Steps")]
    agents: Vec<String>,
}

/// One agent.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Given {
    /// As written.
    text: String,
    id: String,
    paths: Vec<PathBuf>,
    raw: bool,
}

/// What a build's steps may use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct SshRequest(Vec<Given>);

/// Agents, and those of them that are ours, as long as this lives.
#[derive(Debug, Default)]
pub(super) struct Started {
    /// All.
    pub agents: Agents,
    _keys: Vec<KeyAgent>,
}

/// What a path is.
enum Found {
    Socket,
    File,
}

impl SshArgs {
    /// Works out which agents are meant.
    ///
    /// # Errors
    /// [`Kind::Usage`] for values that don't say, and where there is no agent.
    pub(super) fn request(&self, environment: &Environment) -> Result<SshRequest> {
        let mut seen = HashSet::new();
        let mut all = Vec::new();
        for text in &self.agents {
            let given = given(text, environment)?;
            if !seen.insert(given.id.clone()) {
                return Err(wrong(text, format!("id `{}` is given twice", given.id))
                    .hint("list the keys of an agent together: `ID=KEY,KEY`"));
            }
            all.push(given);
        }
        Ok(SshRequest(all))
    }
}

impl SshRequest {
    /// Looks for the sockets, and starts an agent for each list of keys, in new directories that
    /// `fresh` names.
    ///
    /// # Errors
    /// Those of [`KeyAgent::start`]; and paths that are missing, or something else.
    pub(super) fn start(&self, mut fresh: impl FnMut() -> PathBuf) -> Result<Started> {
        let mut started = Started::default();
        for given in &self.0 {
            let socket = match given.find()? {
                Some(socket) => socket,
                None => {
                    let agent = KeyAgent::start(&given.paths, &fresh())
                        .map_err(|e| e.during(format!("`--ssh {}`", given.text)))?;
                    let socket = agent.socket().to_path_buf();
                    started._keys.push(agent);
                    socket
                }
            };
            let raw = given.raw;
            started.agents.add(given.id.clone(), Agent { socket, raw });
        }
        Ok(started)
    }
}

impl Given {
    /// Returns the socket, unless there are keys.
    fn find(&self) -> Result<Option<PathBuf>> {
        let found = self.paths.iter().map(|path| self.look(path));
        let found = found.collect::<Result<Vec<Found>>>()?;
        match (&found[..], &self.paths[..]) {
            ([Found::Socket], [path]) => Ok(Some(path.clone())),
            _ if self.raw => Err(wrong(
                &self.text,
                "only a socket can be passed on with `raw=true`",
            )),
            (found, _) if found.iter().all(|f| matches!(f, Found::File)) => Ok(None),
            _ => Err(
                wrong(&self.text, "an id stands for one socket, or else for keys")
                    .hint("give each socket an id of its own"),
            ),
        }
    }

    fn look(&self, path: &Path) -> Result<Found> {
        let meta = std::fs::metadata(path).map_err(|e| {
            let error = Error::new(format!("`--ssh {}`: open", self.text));
            let error = error.path(path).source(e).kind(Kind::Usage);
            error.hint("name an agent's socket or private keys")
        })?;
        match meta.file_type() {
            kind if kind.is_socket() => Ok(Found::Socket),
            kind if kind.is_file() || kind.is_fifo() => Ok(Found::File),
            _ => Err(wrong(
                &self.text,
                format!("`{}` is neither a socket nor a key", path.display()),
            )),
        }
    }
}

fn wrong(text: &str, why: impl std::fmt::Display) -> Error {
    Error::new(format!("`--ssh {text}`: {why}")).kind(Kind::Usage)
}

fn given(text: &str, environment: &Environment) -> Result<Given> {
    let (id, rest) = text.split_once('=').unwrap_or((text, ""));
    // Without a value there are paths or options only: `default,raw=true` has none.
    let (id, rest) = match id.split_once(',') {
        Some(_) => {
            return Err(wrong(text, "an id has no comma")
                .hint("write `ID=SOCKET,raw=true` or `ID=KEY,KEY`"));
        }
        None => (if id.is_empty() { DEFAULT } else { id }, rest),
    };
    let mut paths = Vec::new();
    let mut raw = false;
    for field in rest.split(',').filter(|_| !rest.is_empty()) {
        match field.split_once('=') {
            // As Go's strconv.ParseBool.
            Some(("raw", value)) => match value {
                "1" | "t" | "T" | "true" | "TRUE" | "True" => raw = true,
                "0" | "f" | "F" | "false" | "FALSE" | "False" => raw = false,
                _ => {
                    let why = format!("`raw` is `true` or `false`, not `{value}`");
                    return Err(wrong(text, why));
                }
            },
            _ if field.is_empty() => return Err(wrong(text, "there is an empty path")),
            _ => paths.push(PathBuf::from(field)),
        }
    }
    if raw && paths.len() != 1 {
        return Err(wrong(text, "`raw=true` needs exactly one socket")
            .hint(format!("write `{id}=SOCKET,raw=true`")));
    }
    if paths.is_empty() {
        let socket = environment.get("SSH_AUTH_SOCK").ok_or_else(|| {
            wrong(text, "there is no ssh agent: SSH_AUTH_SOCK is not set").hint(format!(
                "start one (`eval $(ssh-agent)`, then `ssh-add`), or name keys: `--ssh {id}=FILE`"
            ))
        })?;
        paths.push(socket.into());
    }
    Ok(Given {
        text: text.to_owned(),
        id: id.to_owned(),
        paths,
        raw,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(texts: &[&str], variables: &[(&str, &str)]) -> Result<SshRequest> {
        let agents = texts.iter().map(|&t| t.to_owned()).collect();
        SshArgs { agents }.request(&Environment::of(variables))
    }

    #[test]
    fn values() {
        for (text, id, paths, raw) in [
            ("default", "default", &["/run/agent"][..], false),
            ("", "default", &["/run/agent"], false),
            ("other", "other", &["/run/agent"], false),
            ("x=", "x", &["/run/agent"], false),
            ("x=a", "x", &["a"], false),
            ("=a,b", "default", &["a", "b"], false),
            ("x=a,raw=true", "x", &["a"], true),
            ("x=raw=1,a", "x", &["a"], true),
            ("x=a,b,raw=false", "x", &["a", "b"], false),
            ("x=a=b", "x", &["a=b"], false),
        ] {
            let SshRequest(all) = request(&[text], &[("SSH_AUTH_SOCK", "/run/agent")]).expect(text);
            let expected = Given {
                text: text.to_owned(),
                id: id.to_owned(),
                paths: paths.iter().map(PathBuf::from).collect(),
                raw,
            };
            assert_eq!(all, [expected], "{text}");
        }
    }

    #[test]
    fn wrong_values() {
        for (texts, message) in [
            (
                &["default"][..],
                "`--ssh default`: there is no ssh agent: SSH_AUTH_SOCK is not set",
            ),
            (
                &["x=raw=true"],
                "`--ssh x=raw=true`: `raw=true` needs exactly one socket",
            ),
            (
                &["x=a,b,raw=true"],
                "`--ssh x=a,b,raw=true`: `raw=true` needs exactly one socket",
            ),
            (
                &["x=a,raw=maybe"],
                "`--ssh x=a,raw=maybe`: `raw` is `true` or `false`, not `maybe`",
            ),
            (&["x=a,"], "`--ssh x=a,`: there is an empty path"),
            (&["x,raw=true"], "`--ssh x,raw=true`: an id has no comma"),
            (&["x=a", "x=b"], "`--ssh x=b`: id `x` is given twice"),
        ] {
            let error = request(texts, &[]).expect_err(message);
            assert_eq!(error.to_string(), message);
            assert_eq!(error.get_kind(), Kind::Usage, "{message}");
        }
    }

    #[test]
    fn what_is_there() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let at = |name: &str| dir.path().join(name).display().to_string();
        for name in ["socket", "other"] {
            drop(std::os::unix::net::UnixListener::bind(at(name)).expect("bind"));
        }
        std::fs::write(at("key"), "no key").expect("write");
        let start = |value: String| {
            let request = request(&[&format!("x={value}")], &[]).expect("valid");
            request.start(|| dir.path().join("fresh"))
        };
        let started = start(at("socket")).expect("a socket");
        let agent = started.agents.get("x").expect("an agent");
        assert_eq!(
            (agent.socket.clone(), agent.raw),
            (at("socket").into(), false)
        );
        let started = start(at("socket") + ",raw=true").expect("a socket");
        assert!(started.agents.get("x").expect("an agent").raw);
        for (value, message) in [
            (at("none"), "No such file or directory"),
            (at(""), "is neither a socket nor a key"),
            (
                at("key") + ",raw=true",
                "only a socket can be passed on with `raw=true`",
            ),
            (
                format!("{},{}", at("socket"), at("other")),
                "an id stands for one socket, or else for keys",
            ),
            (
                format!("{},{}", at("socket"), at("key")),
                "an id stands for one socket, or else for keys",
            ),
        ] {
            let error = start(value.clone()).expect_err(message).chain();
            assert!(
                error.to_lowercase().contains(&message.to_lowercase()),
                "{error}"
            );
            assert!(error.contains(&format!("`--ssh x={value}`")), "{error}");
        }
    }
}
