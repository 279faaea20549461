//! `RUN --mount`: from fields to what is mounted.
//!
//! Responsible for what the options of each type mean, with variables expanded. Must not know how
//! anything is mounted. Invariant: targets are absolute and never the root.

use super::copy::Lookup;
use super::path;
use super::step::{
    BindMount, CacheMount, CopyFrom, Mount, MountKind, Permissions, SecretMount, Sharing, SshMount,
};
use super::steps::Lowering;
use crate::diagnostics::Diagnostic;
use crate::dockerfile::mounts::{self, Field, Key};
use crate::dockerfile::suggest;
use crate::dockerfile::text::Text;

/// The build argument that keeps cache mounts of different purposes apart.
pub const CACHE_NAMESPACE: &str = "BUILDKIT_CACHE_MOUNT_NS";

/// Directory of secrets that name no target.
const SECRETS: &str = "/run/secrets";

const TYPES: [&str; 5] = ["bind", "cache", "tmpfs", "secret", "ssh"];

/// The options of one mount, expanded.
struct Options<'a> {
    whole: &'a Text,
    kind: &'static str,
    fields: Vec<(Key, Text, Option<String>)>,
}

/// Returns the variables that hold secrets.
pub(super) fn secret_variables(written: &[Text]) -> Vec<String> {
    let fields = written.iter().filter_map(|text| mounts::parse(text).ok());
    let named = fields.flatten().filter(|field| field.key == Key::Env);
    named
        .filter_map(|field| Some(field.value?.as_str().to_owned()))
        .collect()
}

impl Lowering<'_> {
    /// Makes the mounts of a RUN, in the order in which they are listed.
    pub(super) fn mounts(&mut self, written: &[Text]) -> Lookup<Vec<Mount>> {
        let mut all = Vec::new();
        let mut agents = 0;
        for text in written {
            let fields = mounts::parse(text)?;
            let options = self.options(text, &fields)?;
            let kind = match options.kind {
                "cache" => self.cache_mount(&options, &fields)?,
                "tmpfs" => self.tmpfs_mount(&options)?,
                "secret" => self.secret_mount(&options)?,
                "ssh" => {
                    agents += 1;
                    self.ssh_mount(&options, agents - 1)?
                }
                _ => self.bind_mount(&options, &fields)?,
            };
            all.push(Mount {
                span: text.span(),
                kind,
            });
        }
        Ok(all)
    }

    fn options<'t>(&mut self, whole: &'t Text, fields: &[Field]) -> Lookup<Options<'t>> {
        let mut expanded = Vec::new();
        for field in fields {
            for hidden in &field.hides {
                let message = format!(
                    "mount option `{}` has no effect: `{}` comes later",
                    hidden.as_str(),
                    field.name.as_str()
                );
                self.out
                    .warnings
                    .push(Diagnostic::warning(None, hidden.span(), message));
            }
            let value = match &field.value {
                Some(value) if field.key == Key::From => Some(value.as_str().to_owned()),
                Some(value) => Some(self.expand_raw(value)?),
                None => None,
            };
            let place = field.value.clone().unwrap_or_else(|| field.name.clone());
            expanded.push((field.key, place, value));
        }
        let named = expanded.iter().find(|(key, ..)| *key == Key::Type);
        let kind = match named {
            None => "bind",
            Some((_, place, value)) => {
                let name = value.as_deref().unwrap_or_default().to_ascii_lowercase();
                let known = TYPES.into_iter().find(|kind| *kind == name);
                known.ok_or_else(|| {
                    let message = format!("there is no mount type `{name}`");
                    let error = Diagnostic::error(place.span(), message);
                    match suggest::hint(&name, TYPES) {
                        Some(hint) => error.hint(hint),
                        None => error.hint(format!("it is one of {}", TYPES.join(", "))),
                    }
                })?
            }
        };
        let options = Options {
            whole,
            kind,
            fields: expanded,
        };
        options.check(&mut self.out.warnings)?;
        Ok(options)
    }

    fn bind_mount(&mut self, options: &Options<'_>, fields: &[Field]) -> Lookup<MountKind> {
        Ok(MountKind::Bind(BindMount {
            from: self.mount_source(fields)?.unwrap_or(CopyFrom::Context),
            source: path::join("/", options.get(Key::Source).unwrap_or_default()),
            target: self.target(options)?,
            read_only: options.read_only()?.unwrap_or(true),
        }))
    }

    fn cache_mount(&mut self, options: &Options<'_>, fields: &[Field]) -> Lookup<MountKind> {
        let target = self.target(options)?;
        let written = options.get(Key::Target).unwrap_or_default();
        let id = match options.get(Key::Id) {
            Some(id) => id.to_owned(),
            None => path::clean(written),
        };
        let namespace = self.plan.build_args.get(CACHE_NAMESPACE);
        let sharing = match options.get(Key::Sharing) {
            None => Sharing::Shared,
            Some(text) => match text.to_ascii_lowercase().as_str() {
                "shared" => Sharing::Shared,
                "private" => Sharing::Private,
                "locked" => Sharing::Locked,
                _ => {
                    let all = ["shared", "private", "locked"];
                    let error = options.wrong(Key::Sharing, text);
                    return Err(match suggest::hint(text, all) {
                        Some(hint) => error.hint(hint),
                        None => error.hint("it is one of shared, private and locked"),
                    });
                }
            },
        };
        Ok(MountKind::Cache(CacheMount {
            id: format!("{}/{id}", namespace.map_or("", String::as_str)),
            target,
            from: self.mount_source(fields)?,
            source: path::join("/", options.get(Key::Source).unwrap_or_default()),
            sharing,
            read_only: options.read_only()?.unwrap_or(false),
            permissions: options.permissions(0o755)?,
        }))
    }

    fn tmpfs_mount(&mut self, options: &Options<'_>) -> Lookup<MountKind> {
        let size = match options.get(Key::Size) {
            Some(text) => Some(bytes(text).ok_or_else(|| {
                options
                    .wrong(Key::Size, text)
                    .hint("write a number of bytes, or one with a unit: `64m`, `1g`")
            })?),
            None => None,
        };
        Ok(MountKind::Tmpfs {
            target: self.target(options)?,
            size: size.filter(|size| *size > 0),
        })
    }

    fn secret_mount(&mut self, options: &Options<'_>) -> Lookup<MountKind> {
        let (id, source) = (options.get(Key::Id), options.get(Key::Source));
        let target = options.get(Key::Target);
        let id = match (source, id, target) {
            (Some(_), Some(_), _) => {
                return Err(options.error(
                    "a secret mount can't have both `id` and `source`: they mean the same",
                ));
            }
            (Some(id), ..) | (_, Some(id), _) => id.to_owned(),
            (_, _, Some(target)) => path::base(target).to_owned(),
            _ => {
                return Err(options
                    .error("a secret mount needs an `id` or a `target`")
                    .hint("write `--mount=type=secret,id=NAME`, and build with `--secret id=NAME,src=FILE`"));
            }
        };
        let env = options.get(Key::Env).map(str::to_owned);
        let target = match (target, &env) {
            (Some(_), _) => Some(self.target(options)?),
            (None, Some(_)) => None,
            (None, None) => Some(path::join(SECRETS, path::base(&id))),
        };
        if target.as_deref() == Some(SECRETS) {
            return Err(options.error("a secret needs a name"));
        }
        Ok(MountKind::Secret(SecretMount {
            id,
            target,
            env,
            required: options.switch(Key::Required)?.unwrap_or(false),
            permissions: options.permissions(0o400)?,
        }))
    }

    fn ssh_mount(&mut self, options: &Options<'_>, number: usize) -> Lookup<MountKind> {
        let id = options.get(Key::Id).unwrap_or("default");
        Ok(MountKind::Ssh(SshMount {
            id: id.to_owned(),
            target: match options.get(Key::Target) {
                Some(_) => self.target(options)?,
                None => format!("/run/buildkit/ssh_agent.{number}"),
            },
            required: options.switch(Key::Required)?.unwrap_or(false),
            permissions: options.permissions(0o600)?,
        }))
    }

    fn target(&self, options: &Options<'_>) -> Lookup<String> {
        let written = options.get(Key::Target).unwrap_or_default();
        let target = path::join(&path::join("/", &self.out.config.working_dir), written);
        if target == "/" {
            let message = "nothing can be mounted on the root directory";
            return Err(match options.place(Key::Target) {
                Some(place) => Diagnostic::error(place.span(), message),
                None => options.error(message).hint("name a `target`"),
            });
        }
        Ok(target)
    }

    fn mount_source(&mut self, fields: &[Field]) -> Lookup<Option<CopyFrom>> {
        mounts::from_of(fields)
            .map(|from| self.source(from))
            .transpose()
    }
}

impl Options<'_> {
    fn find(&self, key: Key) -> Option<&(Key, Text, Option<String>)> {
        self.fields.iter().find(|(k, ..)| *k == key)
    }

    /// Returns a value; an empty one counts as not given.
    fn get(&self, key: Key) -> Option<&str> {
        let (_, _, value) = self.find(key)?;
        value.as_deref().filter(|value| !value.is_empty())
    }

    fn place(&self, key: Key) -> Option<&Text> {
        self.find(key).map(|(_, place, _)| place)
    }

    fn error(&self, message: impl Into<String>) -> Diagnostic {
        Diagnostic::error(self.whole.span(), message)
    }

    fn wrong(&self, key: Key, value: &str) -> Diagnostic {
        let span = self
            .place(key)
            .map_or_else(|| self.whole.span(), Text::span);
        Diagnostic::error(
            span,
            format!("mount option `{}` can't be `{value}`", key.name()),
        )
    }

    /// Refuses options that the type does not have; those that BuildKit lets pass are warned about.
    fn check(&self, warnings: &mut Vec<Diagnostic>) -> Lookup<()> {
        let own: &[Key] = match self.kind {
            "cache" => &[
                Key::From,
                Key::Source,
                Key::ReadOnly,
                Key::ReadWrite,
                Key::Id,
                Key::Sharing,
                Key::Mode,
                Key::Uid,
                Key::Gid,
            ],
            "tmpfs" => &[Key::Size],
            "secret" => &[
                Key::Id,
                Key::Source,
                Key::Env,
                Key::Required,
                Key::Mode,
                Key::Uid,
                Key::Gid,
            ],
            "ssh" => &[Key::Id, Key::Required, Key::Mode, Key::Uid, Key::Gid],
            _ => &[Key::From, Key::Source, Key::ReadOnly, Key::ReadWrite],
        };
        for (key, place, value) in &self.fields {
            let is_common = matches!(key, Key::Type | Key::Target);
            // Nothing is said by it.
            let is_empty = value.as_deref() == Some("");
            if is_common || is_empty || own.contains(key) {
                continue;
            }
            let ignored = matches!(
                (self.kind, key),
                (_, Key::Env)
                    | ("bind" | "tmpfs", Key::Id)
                    | ("tmpfs" | "ssh", Key::From | Key::Source)
                    | ("tmpfs" | "ssh" | "secret", Key::ReadOnly | Key::ReadWrite)
            );
            let names: Vec<&str> = own.iter().map(|key| key.name()).collect();
            let hint = format!("besides `target` it has {}", names.join(", "));
            let message = format!("a {} mount has no option `{}`", self.kind, key.name());
            if !ignored {
                return Err(Diagnostic::error(place.span(), message).hint(hint));
            }
            warnings.push(Diagnostic::warning(None, place.span(), message).hint(hint));
        }
        Ok(())
    }

    fn switch(&self, key: Key) -> Lookup<Option<bool>> {
        match self.find(key) {
            None => Ok(None),
            Some((_, _, None)) => Ok(Some(true)),
            // As Go's strconv.ParseBool.
            Some((_, _, Some(value))) => match value.as_str() {
                "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Some(true)),
                "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Some(false)),
                _ => Err(self
                    .wrong(key, value)
                    .hint("write `true` or `false`, or the option alone")),
            },
        }
    }

    fn read_only(&self) -> Lookup<Option<bool>> {
        // One hides the other.
        let read_only = self.switch(Key::ReadWrite)?.map(|rw| !rw);
        Ok(self.switch(Key::ReadOnly)?.or(read_only))
    }

    fn permissions(&self, mode: u32) -> Lookup<Permissions> {
        let id = |key| match self.get(key) {
            None => Ok(None),
            Some(text) => text.parse::<u32>().map(Some).map_err(|_| {
                self.wrong(key, text)
                    .hint("it is a number: names are not known before the step runs")
            }),
        };
        let given = match self.get(Key::Mode) {
            None => None,
            Some(text) => {
                let parsed = u32::from_str_radix(text, 8).ok();
                let mode = parsed.filter(|mode| *mode <= 0o7777 && !text.starts_with('+'));
                let hint = "write it as octal digits: `0600`";
                Some(mode.ok_or_else(|| self.wrong(Key::Mode, text).hint(hint))?)
            }
        };
        Ok(Permissions {
            mode: given.unwrap_or(mode),
            uid: id(Key::Uid)?.unwrap_or(0),
            gid: id(Key::Gid)?.unwrap_or(0),
        })
    }
}

/// Parses a size with a binary unit, as docker does: `64m`, `1.5GiB`, `100`.
fn bytes(text: &str) -> Option<u64> {
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(lower.len());
    let (number, unit) = lower.split_at(digits);
    let shift = match unit.trim_start() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        "p" | "pb" | "pib" => 50,
        _ => return None,
    };
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(1 << shift);
    }
    let (whole, fraction) = number.split_once('.')?;
    let whole: u64 = if whole.is_empty() {
        0
    } else {
        whole.parse().ok()?
    };
    let scale = 10_u64.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let parts: u128 = if fraction.is_empty() {
        0
    } else {
        fraction.parse().ok()?
    };
    let below = (parts << shift) / u128::from(scale);
    whole
        .checked_mul(1 << shift)?
        .checked_add(u64::try_from(below).ok()?)
}

#[cfg(test)]
#[path = "mounts_tests.rs"]
mod tests;
