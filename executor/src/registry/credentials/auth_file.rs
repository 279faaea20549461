//! Docker's `config.json` and the containers tools' `auth.json`: one format.
//!
//! Responsible for reading the parts that concern credentials, for the keys under which they are
//! filed, and for changing a file without losing what else is in it. Invariant: a file is
//! replaced as a whole and is readable by its owner only; an error never quotes its content.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Credential, Secret, helper};
use crate::error::{Error, Kind, Result, ResultExt};

/// The largest file that is read.
const LIMIT: u64 = 4 << 20;

/// The key of Docker Hub in Docker's own files.
const HUB_KEY: &str = "https://index.docker.io/v1/";

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The parts of a file that concern credentials.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct AuthDocument {
    auths: Option<BTreeMap<String, Option<Entry>>>,
    #[serde(rename = "credHelpers")]
    helpers: Option<BTreeMap<String, String>>,
    #[serde(rename = "credsStore")]
    store: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

impl AuthDocument {
    /// Parses a document; the error tells the place but not what stands there.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self> {
        serde_json::from_slice(bytes).map_err(|e| unreadable(&e))
    }

    /// Returns the helper that is responsible for this registry alone.
    pub(super) fn helper_for(&self, registry: &str) -> Option<&str> {
        let helpers = self.helpers.as_ref()?;
        let fits = |(key, _): &(&String, &String)| normalise(key) == registry;
        let (_, name) = helpers.iter().find(fits)?;
        Some(name).filter(|n| !n.is_empty()).map(String::as_str)
    }

    /// Returns the helper that is responsible for all registries.
    pub(super) fn default_helper(&self) -> Option<&str> {
        self.store.as_deref().filter(|s| !s.is_empty())
    }

    /// Returns the credential filed for the longest of `host/ns/repo`, `host/ns`, …, `host`.
    pub(super) fn credential(
        &self,
        registry: &str,
        repository: &str,
    ) -> Result<Option<Credential>> {
        let Some(auths) = &self.auths else {
            return Ok(None);
        };
        let full = format!("{registry}/{repository}");
        let mut wanted = full.trim_end_matches('/');
        loop {
            let filed = auths.iter().filter(|(key, _)| normalise(key) == wanted);
            for (key, entry) in filed {
                if let Some(entry) = entry
                    && let Some(credential) = entry.credential(key)?
                {
                    return Ok(Some(credential));
                }
            }
            if wanted.len() <= registry.len() {
                return Ok(None);
            }
            wanted = match wanted.rfind('/') {
                Some(at) => &wanted[..at],
                None => return Ok(None),
            };
        }
    }
}

impl Entry {
    fn credential(&self, key: &str) -> Result<Option<Credential>> {
        let given = |text: &Option<String>| text.clone().filter(|t| !t.is_empty());
        if let Some(token) = given(&self.identitytoken) {
            return Ok(Some(Credential::IdentityToken(Secret::new(token))));
        }
        if let Some(token) = given(&self.registrytoken) {
            return Ok(Some(Credential::RegistryToken(Secret::new(token))));
        }
        let malformed = || {
            Error::new(format!(
                "the `auth` of `{key}` is not base64 of `user:password`"
            ))
            .hint("log in again")
        };
        let (username, password) = match given(&self.auth) {
            Some(auth) => {
                let decoded = BASE64.decode(auth.trim()).map_err(|_| malformed())?;
                let text = String::from_utf8(decoded).map_err(|_| malformed())?;
                let (username, password) = text.split_once(':').ok_or_else(malformed)?;
                // Docker's files of old pad the password with NUL bytes.
                let password = password.trim_end_matches('\0');
                (username.to_owned(), password.to_owned())
            }
            None => match (given(&self.username), given(&self.password)) {
                (Some(username), Some(password)) => (username, password),
                _ => return Ok(None),
            },
        };
        Ok(Some(Credential::Password {
            username,
            password: Secret::new(password),
        }))
    }
}

/// Describes a JSON error without the value that caused it, which may be a secret.
pub(super) fn unreadable(error: &serde_json::Error) -> Error {
    Error::new(format!(
        "not a valid credentials document (line {}, column {})",
        error.line(),
        error.column()
    ))
}

/// Reads a file, or `None` when it does not exist.
pub(super) fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e)
            if matches!(
                e.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(None);
        }
        Err(e) => return Err(e),
    };
    let mut bytes = Vec::new();
    file.take(LIMIT + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LIMIT {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            "larger than 4 MiB",
        ));
    }
    Ok(Some(bytes))
}

/// Reduces a key as various tools write it to `host[/path]`.
fn normalise(key: &str) -> String {
    let (bare, schemed) = match key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"))
    {
        Some(bare) => (bare, true),
        None => (key, false),
    };
    let mut bare = bare.trim_end_matches('/');
    // An address of the API, not a repository named v1.
    if schemed || key.ends_with('/') {
        bare = bare
            .strip_suffix("/v1")
            .or_else(|| bare.strip_suffix("/v2"))
            .unwrap_or(bare);
    }
    let (host, path) = match bare.split_once('/') {
        Some((host, path)) => (host, Some(path)),
        None => (bare, None),
    };
    let host = match host {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        other => other,
    };
    match path {
        Some(path) => format!("{host}/{path}"),
        None => host.to_owned(),
    }
}

/// Returns the key under which Docker files a registry, which is also what helpers expect.
pub(super) fn key_of(registry: &str) -> &str {
    match registry {
        "docker.io" => HUB_KEY,
        other => other,
    }
}

/// Where a credential was saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Saved {
    /// In the file itself.
    File(PathBuf),
    /// With `docker-credential-NAME`.
    Helper(String),
}

/// What was erased.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Erased {
    /// The registry's credential.
    Credential,
    /// There was none.
    Nothing,
}

/// Saves a user's password for a registry: through the helper that the file names, else in the
/// file, whose other content stays.
///
/// # Errors
/// When the file is not a JSON object or can't be replaced, or the helper does not take it.
pub fn save(
    path: &Path,
    registry: &str,
    username: &str,
    password: &Secret,
    helper_path: Option<&OsStr>,
) -> Result<Saved> {
    let (mut document, known) = load(path)?;
    let helper = known
        .helper_for(registry)
        .or_else(|| known.default_helper())
        .map(ToOwned::to_owned);
    let auths = object(&mut document, "auths", path)?;
    let key = key_of(registry);
    // Another spelling of the same registry would be found as well, with the old password.
    auths.retain(|other, _| other == key || normalise(other) != registry);
    let entry = auths
        .entry(key)
        .and_modify(|e| {
            if !e.is_object() {
                *e = json!({});
            }
        })
        .or_insert_with(|| json!({}));
    for stale in [
        "auth",
        "username",
        "password",
        "identitytoken",
        "registrytoken",
    ] {
        entry.as_object_mut().map(|e| e.remove(stale));
    }
    if let Some(name) = helper {
        helper::store(&name, key, username, password, helper_path)?;
        replace(path, &document)?;
        return Ok(Saved::Helper(name));
    }
    entry["auth"] = Value::String(BASE64.encode(format!("{username}:{}", password.expose())));
    replace(path, &document)?;
    Ok(Saved::File(path.to_path_buf()))
}

/// Erases a registry's credential, from the file and from the helper that it names.
///
/// # Errors
/// As [`save`].
pub fn erase(path: &Path, registry: &str, helper_path: Option<&OsStr>) -> Result<Erased> {
    let (mut document, known) = load(path)?;
    let mut erased = Erased::Nothing;
    if let Some(name) = known
        .helper_for(registry)
        .or_else(|| known.default_helper())
        && helper::erase(name, key_of(registry), helper_path)?
    {
        erased = Erased::Credential;
    }
    if document.contains_key("auths") {
        let auths = object(&mut document, "auths", path)?;
        let before = auths.len();
        auths.retain(|key, _| normalise(key) != registry);
        if auths.len() != before {
            erased = Erased::Credential;
            replace(path, &document)?;
        }
    }
    Ok(erased)
}

fn load(path: &Path) -> Result<(Map<String, Value>, AuthDocument)> {
    let bytes = read(path).op_path("read", path)?;
    let Some(bytes) = bytes.filter(|b| !b.trim_ascii().is_empty()) else {
        return Ok((Map::new(), AuthDocument::default()));
    };
    let parse = || -> Result<_> {
        let document = serde_json::from_slice(&bytes).map_err(|e| unreadable(&e))?;
        Ok((document, AuthDocument::parse(&bytes)?))
    };
    parse().op_path("read", path)
}

fn object<'a>(
    document: &'a mut Map<String, Value>,
    name: &str,
    path: &Path,
) -> Result<&'a mut Map<String, Value>> {
    let value = document.entry(name).or_insert_with(|| json!({}));
    if value.is_null() {
        *value = json!({});
    }
    value
        .as_object_mut()
        .ok_or_else(|| Error::new(format!("`{name}` is not an object in")).path(path))
}

/// Replaces the file, through a symbolic link if it is one.
fn replace(path: &Path, document: &Map<String, Value>) -> Result<()> {
    let path = &path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        Some(_) => Path::new("."),
        None => {
            return Err(Error::new("no file name in").path(path).kind(Kind::Usage));
        }
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .op_path("create directory", dir)?;
    // Created with mode 0600, which the rename keeps.
    let mut file = tempfile::Builder::new()
        .prefix(".auth-")
        .tempfile_in(dir)
        .op_path("create file in", dir)?;
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    let mut bytes = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    serde::Serialize::serialize(document, &mut serializer)
        .expect("a JSON object can be written to memory");
    bytes.push(b'\n');
    file.write_all(&bytes).op_path("write", path)?;
    file.as_file().sync_all().op_path("write", path)?;
    file.persist(path)
        .map_err(|e| e.error)
        .op_path("replace", path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn password(credential: Option<Credential>) -> String {
        match credential {
            Some(Credential::Password { username, password }) => {
                format!("{username}:{}", password.expose())
            }
            Some(Credential::IdentityToken(t)) => format!("identity:{}", t.expose()),
            Some(Credential::RegistryToken(t)) => format!("bearer:{}", t.expose()),
            None => "none".to_owned(),
        }
    }

    fn find(document: &str, registry: &str, repository: &str) -> String {
        let document = AuthDocument::parse(document.as_bytes()).expect("document");
        password(document.credential(registry, repository).expect("entry"))
    }

    #[test]
    fn the_longest_key_wins() {
        let encode = |t: &str| BASE64.encode(t);
        let document = format!(
            r#"{{"auths":{{"quay.io":{{"auth":"{}"}},"quay.io/org":{{"auth":"{}"}},
            "quay.io/org/app":{{"auth":"{}"}},"quay.io/organ":{{}}}}}}"#,
            encode("host:1"),
            encode("org:2"),
            encode("app:3:4"),
        );
        for (repository, wanted) in [
            ("org/app", "app:3:4"),
            ("org/app/sub", "app:3:4"),
            ("org/other", "org:2"),
            ("organ/app", "host:1"),
            ("", "host:1"),
        ] {
            assert_eq!(find(&document, "quay.io", repository), wanted);
        }
        assert_eq!(find(&document, "quay.io.evil", "org/app"), "none");
    }

    #[test]
    fn knows_every_spelling_of_a_registry() {
        for key in [
            "https://index.docker.io/v1/",
            "index.docker.io",
            "docker.io",
            "https://registry-1.docker.io/v2/",
            "http://docker.io",
        ] {
            let document = format!(r#"{{"auths":{{"{key}":{{"username":"a","password":"b"}}}}}}"#);
            assert_eq!(
                find(&document, "docker.io", "library/debian"),
                "a:b",
                "{key}"
            );
        }
        let port = r#"{"auths":{"https://h:5000/v2":{"auth":"YTpi"}}}"#;
        assert_eq!(find(port, "h:5000", "x"), "a:b");
        assert_eq!(find(port, "h", "x"), "none");
    }

    #[test]
    fn reads_tokens_padding_and_nulls() {
        for (entry, wanted) in [
            (r#"{"auth":"YTpi","identitytoken":"t"}"#, "identity:t"),
            (r#"{"registrytoken":"t"}"#, "bearer:t"),
            (r#"{"auth":"YTpiAAA="}"#, "a:b"),
            (r#"{"auth":"YTpiYg"}"#, "a:bb"),
            ("null", "none"),
            (r#"{"auth":""}"#, "none"),
        ] {
            let document = format!(r#"{{"auths":{{"h":{entry}}},"credHelpers":null}}"#);
            assert_eq!(find(&document, "h", "x"), wanted, "{entry}");
        }
    }

    #[test]
    fn errors_do_not_quote() {
        let document =
            AuthDocument::parse(br#"{"auths":{"h":{"auth":"hunter2!"}}}"#).expect("json");
        let error = document.credential("h", "x").expect_err("not base64");
        assert!(!error.chain().contains("hunter2"), "{}", error.chain());
        let error = AuthDocument::parse(br#"{"auths":"hunter2"}"#)
            .err()
            .expect("not an object");
        assert!(!error.chain().contains("hunter2"), "{}", error.chain());
    }

    #[test]
    fn saving_keeps_what_is_unknown_and_hides_the_file() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("new/config.json");
        save(&path, "docker.io", "me", &Secret::new("pw"), None).expect("save");
        let text = std::fs::read_to_string(&path).expect("read");
        assert!(text.contains("https://index.docker.io/v1/"), "{text}");

        let old = r#"{"HttpHeaders":{"x":"y"},"auths":{"index.docker.io":{"auth":"b2xkOm9sZA=="},
            "https://index.docker.io/v1/":{"identitytoken":"stale","email":"e"},"q":{"auth":"eA=="}}}"#;
        std::fs::write(&path, old).expect("write");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("chmod");
        save(&path, "docker.io", "me", &Secret::new("pw"), None).expect("save");
        let bytes = std::fs::read(&path).expect("read");
        let value: Value = serde_json::from_slice(&bytes).expect("json");
        assert_eq!(
            value,
            json!({"HttpHeaders":{"x":"y"},"auths":{"q":{"auth":"eA=="},
                "https://index.docker.io/v1/":{"email":"e","auth":BASE64.encode("me:pw")}}})
        );
        let mode = path.metadata().expect("stat").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        assert_eq!(
            erase(&path, "docker.io", None).expect("erase"),
            Erased::Credential
        );
        assert_eq!(
            erase(&path, "docker.io", None).expect("erase"),
            Erased::Nothing
        );
        let text = std::fs::read_to_string(&path).expect("read");
        assert!(
            text.contains("HttpHeaders") && text.contains("\"q\""),
            "{text}"
        );
    }

    #[test]
    fn a_link_to_the_file_stays() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let (link, real) = (dir.path().join("link"), dir.path().join("real"));
        std::fs::write(&real, "{}").expect("write");
        std::os::unix::fs::symlink(&real, &link).expect("symlink");
        save(&link, "h", "me", &Secret::new("pw"), None).expect("save");
        assert!(link.is_symlink());
        assert!(
            std::fs::read_to_string(&real)
                .expect("read")
                .contains("auth")
        );
    }

    #[test]
    fn a_damaged_file_is_left_alone() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("config.json");
        std::fs::write(&path, "{\"auths\":").expect("write");
        assert!(save(&path, "h", "me", &Secret::new("pw"), None).is_err());
        assert_eq!(std::fs::read(&path).expect("read"), b"{\"auths\":");
    }
}
