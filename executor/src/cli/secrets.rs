//! `--secret`: what of the caller's a step may know.
//!
//! Responsible for the option's grammar and for reading secrets. Must not print one. Invariant: a
//! secret that was given can be read, or the build does not start.

use std::io::Read;
use std::path::PathBuf;

use super::build::from_environment;
use super::environment::Environment;
use crate::build::mounts::secrets::{MAX_SECRET, Secrets};
use crate::error::{Error, Kind, Result};

/// The options.
#[derive(Debug, Default, clap::Args)]
pub(super) struct SecretArgs {
    /// Give RUN steps a secret: id=NAME[,src=FILE|,env=VARIABLE]; without either, the variable or
    /// file that has the name
    #[arg(long = "secret", value_name = "id=NAME[,…]", help_heading = "Steps")]
    secrets: Vec<String>,
}

/// A secret and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Given {
    id: String,
    from: From,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum From {
    File(PathBuf),
    Variable(String),
}

/// What a build's steps may use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct SecretRequest {
    secrets: Vec<Given>,
}

impl SecretArgs {
    /// Works out where everything comes from.
    ///
    /// # Errors
    /// [`Kind::Usage`] for values that don't say.
    pub(super) fn request(&self, environment: &Environment) -> Result<SecretRequest> {
        let secrets = self.secrets.iter();
        Ok(SecretRequest {
            secrets: secrets
                .map(|text| secret(text, environment))
                .collect::<Result<_>>()?,
        })
    }
}

impl SecretRequest {
    /// Reads the secrets.
    ///
    /// # Errors
    /// One is missing, too large, or can't be read.
    pub(super) fn read(&self, environment: &Environment) -> Result<Secrets> {
        let mut secrets = Secrets::default();
        for Given { id, from } in &self.secrets {
            let value = match from {
                From::Variable(name) => environment
                    .verbatim(name)
                    .map(std::os::unix::ffi::OsStringExt::into_vec)
                    .ok_or_else(|| {
                        usage(format!(
                            "secret `{id}`: environment variable `{name}` is not set"
                        ))
                    })?,
                From::File(path) => {
                    let mut value = Vec::new();
                    std::fs::File::open(path)
                        .and_then(|file| file.take(MAX_SECRET as u64 + 1).read_to_end(&mut value))
                        .map_err(|e| {
                            Error::new(format!("read secret `{id}` from"))
                                .path(path)
                                .source(e)
                        })?;
                    value
                }
            };
            if value.len() > MAX_SECRET {
                return Err(usage(format!(
                    "secret `{id}` is larger than {} KiB",
                    MAX_SECRET / 1024
                )));
            }
            secrets.add(id.clone(), value);
        }
        Ok(secrets)
    }
}

fn usage(text: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(text).kind(Kind::Usage)
}

fn secret(text: &str, environment: &Environment) -> Result<Given> {
    let (mut id, mut path, mut variable, mut kind) = (None, None, None, None);
    for field in text.split(',') {
        let Some((key, value)) = field.split_once('=') else {
            if !text.contains(['=', ',']) && !text.is_empty() {
                id = Some(text);
                continue;
            }
            return Err(
                usage(format!("--secret has a field without a value: `{field}`"))
                    .hint("write id=NAME,src=FILE or id=NAME,env=VARIABLE"),
            );
        };
        match key.to_ascii_lowercase().as_str() {
            "id" => id = Some(value),
            "src" | "source" => path = Some(value),
            "env" => variable = Some(value),
            "type" if matches!(value, "file" | "env") => kind = Some(value),
            "type" => {
                return Err(usage(format!("there is no type of secrets `{value}`"))
                    .hint("it is one of file and env"));
            }
            _ => {
                let error = usage(format!("--secret has no field `{key}`"));
                let known = ["id", "src", "source", "env", "type"];
                return Err(match crate::dockerfile::suggest::hint(key, known) {
                    Some(hint) => error.hint(hint),
                    None => error.hint("write id=NAME,src=FILE or id=NAME,env=VARIABLE"),
                });
            }
        }
    }
    let Some(id) = id.filter(|id| !id.is_empty()) else {
        return Err(usage(format!("a secret without an id: `--secret {text}`"))
            .hint("write id=NAME,src=FILE or id=NAME,env=VARIABLE"));
    };
    // `type=env,src=NAME` is docker's older way.
    if kind == Some("env") && variable.is_none() {
        variable = path.take();
    }
    let from = match (path, variable) {
        (Some(_), Some(_)) => {
            return Err(usage(format!(
                "secret `{id}` comes either from a file or from a variable"
            )));
        }
        (Some(path), None) => From::File(path.into()),
        (None, Some(name)) => From::Variable(name.to_owned()),
        (None, None) if kind == Some("env") => From::Variable(id.to_owned()),
        (None, None) if kind.is_none() && from_environment(id, environment)?.is_some() => {
            From::Variable(id.to_owned())
        }
        (None, None) => From::File(id.into()),
    };
    Ok(Given {
        id: id.to_owned(),
        from,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_secrets_come_from() {
        let environment = Environment::of(&[("TOKEN", "t"), ("SET", "s")]);
        let file = |p: &str| From::File(p.into());
        let variable = |n: &str| From::Variable(n.into());
        for (text, id, from) in [
            ("id=a,src=f", "a", file("f")),
            ("id=a,source=f,type=file", "a", file("f")),
            ("id=a,env=SET", "a", variable("SET")),
            ("id=a,type=env,src=SET", "a", variable("SET")),
            ("id=SET,type=env", "SET", variable("SET")),
            ("id=TOKEN", "TOKEN", variable("TOKEN")),
            ("TOKEN", "TOKEN", variable("TOKEN")),
            ("id=TOKEN,type=file", "TOKEN", file("TOKEN")),
            ("id=other", "other", file("other")),
        ] {
            let given = secret(text, &environment).expect(text);
            assert_eq!((given.id.as_str(), given.from), (id, from), "{text}");
        }
        for (text, message) in [
            ("src=f", "a secret without an id: `--secret src=f`"),
            ("", "--secret has a field without a value: ``"),
            ("id=a,f", "--secret has a field without a value: `f`"),
            ("id=a,scr=f", "--secret has no field `scr`"),
            ("id=a,type=x", "there is no type of secrets `x`"),
            (
                "id=a,src=f,env=E",
                "secret `a` comes either from a file or from a variable",
            ),
        ] {
            let error = secret(text, &environment).expect_err(text);
            assert_eq!(
                (error.to_string().as_str(), error.get_kind()),
                (message, Kind::Usage)
            );
        }
    }

    #[test]
    fn values_are_read_and_limited() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("secret");
        std::fs::write(&path, vec![b'x'; MAX_SECRET]).expect("write");
        let environment = Environment::of(&[("TOKEN", "hunter2")]);
        let args = SecretArgs {
            secrets: vec![format!("id=big,src={}", path.display()), "id=TOKEN".into()],
        };
        let request = args.request(&environment).expect("request");
        let secrets = request.read(&environment).expect("read");
        assert_eq!(secrets.get("TOKEN"), Some(&b"hunter2"[..]));
        assert_eq!(secrets.get("big").map(<[u8]>::len), Some(MAX_SECRET));
        assert_eq!(secrets.get("none"), None);
        std::fs::write(&path, vec![b'x'; MAX_SECRET + 1]).expect("write");
        let error = request.read(&environment).expect_err("too large");
        assert_eq!(error.to_string(), "secret `big` is larger than 500 KiB");
        std::fs::remove_file(&path).expect("remove");
        let error = request.read(&environment).expect_err("missing");
        assert!(
            error.chain().contains("read secret `big` from"),
            "{}",
            error.chain()
        );
    }
}
