//! Finding the credential for a repository.
//!
//! Responsible for the order of sources, within one file: the registry's own helper, the default
//! helper, then the entries. A source without an answer passes the question on. Invariant: nothing
//! is read before the first question, and each file once.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::auth_file::{self, AuthDocument, key_of};
use super::{Credential, CredentialSources, helper};
use crate::error::{Error, Kind, Result, ResultExt};

/// The answer to one question.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// The credential, if any source has one.
    pub(crate) credential: Option<Credential>,
    /// Where it is from, for messages: a path, a program or a variable in backticks.
    pub(crate) origin: String,
    /// Sources that could not be asked; worth a hint when access is denied.
    pub(crate) notes: Vec<String>,
}

/// All sources, read when first needed.
pub(crate) struct Keychain {
    sources: CredentialSources,
    documents: OnceLock<Documents>,
    answers: Mutex<HashMap<(String, String), Arc<Found>>>,
}

#[derive(Default)]
struct Documents {
    /// With their names for messages.
    parsed: Vec<(String, AuthDocument)>,
    notes: Vec<String>,
}

impl Keychain {
    pub(crate) fn new(sources: CredentialSources) -> Self {
        Self {
            sources,
            documents: OnceLock::new(),
            answers: Mutex::default(),
        }
    }

    /// Looks a credential up; may run a helper program, so it must not be called on a thread that
    /// drives the network.
    pub(crate) fn lookup(&self, registry: &str, repository: &str) -> Result<Arc<Found>> {
        let question = (registry.to_owned(), repository.to_owned());
        let answers = || self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = answers().get(&question) {
            return Ok(Arc::clone(found));
        }
        let found = Arc::new(self.ask(registry, repository)?);
        answers().insert(question, Arc::clone(&found));
        Ok(found)
    }

    fn documents(&self) -> Result<&Documents> {
        if let Some(documents) = self.documents.get() {
            return Ok(documents);
        }
        let documents = self.read()?;
        Ok(self.documents.get_or_init(|| documents))
    }

    fn read(&self) -> Result<Documents> {
        let mut documents = Documents::default();
        if let Some(inline) = &self.sources.inline {
            let name = "`DOCKER_AUTH_CONFIG`";
            let document = AuthDocument::parse(inline.expose().as_bytes())
                .map_err(|e| e.during(format!("read {name}")))?;
            documents.parsed.push((name.to_owned(), document));
        }
        for file in &self.sources.files {
            let name = format!("`{}`", file.path.display());
            let bytes = match auth_file::read(&file.path) {
                Ok(Some(bytes)) => bytes,
                Ok(None) if file.required => {
                    return Err(Error::new("no credentials file")
                        .path(&file.path)
                        .kind(Kind::NotFound));
                }
                Ok(None) => continue,
                // A home directory that is another user's, as under sudo.
                Err(e) if e.kind() == io::ErrorKind::PermissionDenied && !file.required => {
                    documents
                        .notes
                        .push(format!("{name} could not be read: permission denied"));
                    continue;
                }
                Err(e) => return Err(e).op_path("read", &file.path),
            };
            if bytes.trim_ascii().is_empty() {
                continue;
            }
            let document = AuthDocument::parse(&bytes).op_path("read", &file.path)?;
            documents.parsed.push((name, document));
        }
        Ok(documents)
    }

    fn ask(&self, registry: &str, repository: &str) -> Result<Found> {
        let documents = self.documents()?;
        let mut notes = documents.notes.clone();
        let path = self.sources.helper_path.as_deref();
        let key = key_of(registry);
        let found = |credential, origin: String, notes| Found {
            credential: Some(credential),
            origin,
            notes,
        };
        for (name, document) in &documents.parsed {
            if let Some(helper) = document.helper_for(registry) {
                let answer = helper::get(helper, key, path)
                    .map_err(|e| e.hint(format!("{name} names it for {registry}")))?;
                if let Some(credential) = answer {
                    let origin = format!("`docker-credential-{helper}`");
                    return Ok(found(credential, origin, notes));
                }
            } else if let Some(helper) = document.default_helper() {
                // A file copied from a desktop names a program that is not here; what it would
                // have known can't be told, but most pulls need no credential.
                match helper::get(helper, key, path) {
                    Ok(Some(credential)) => {
                        let origin = format!("`docker-credential-{helper}`");
                        return Ok(found(credential, origin, notes));
                    }
                    Ok(None) => {}
                    Err(e) if e.get_kind() == Kind::NotFound => notes.push(format!(
                        "`docker-credential-{helper}`, which {name} names, is not installed"
                    )),
                    Err(e) => return Err(e.hint(format!("{name} names it"))),
                }
            }
            let entry = document.credential(registry, repository);
            if let Some(credential) = entry.map_err(|e| e.during(format!("read {name}")))? {
                return Ok(found(credential, name.clone(), notes));
            }
        }
        Ok(Found {
            credential: None,
            origin: String::new(),
            notes,
        })
    }
}

/// Tells which source has a credential for a registry, if any: a path, a program or a variable in
/// backticks.
///
/// # Errors
/// When a source is damaged or a helper does not work.
pub fn find_origin(sources: &CredentialSources, registry: &str) -> Result<Option<String>> {
    let mut sources = sources.clone();
    // A file that was never written has nothing.
    for file in &mut sources.files {
        file.required = false;
    }
    let found = Keychain::new(sources).lookup(registry, "")?;
    Ok(found.credential.as_ref().map(|_| found.origin.clone()))
}

impl std::fmt::Debug for Keychain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keychain")
            .field("sources", &self.sources)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::{Path, PathBuf};

    use super::super::{AuthFile, Erased, Saved, Secret, erase, save};
    use super::*;

    /// A helper that keeps one credential in a file beside it.
    const HELPER: &str = r#"#!/bin/sh
state="${0%/*}/state"
read -r line
case "$1" in
get)
    [ "$line" = slow.example ] && exit 3
    [ -s "$state" ] || { echo 'credentials not found in native keychain'; exit 1; }
    cat "$state" ;;
store) printf '%s' "$line" > "$state" ;;
erase) rm "$state" 2>/dev/null || { echo 'credentials not found in native keychain'; exit 1; } ;;
esac
"#;

    fn helper_dir() -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("docker-credential-test");
        std::fs::write(&path, HELPER).expect("write");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("chmod");
        dir
    }

    fn keychain(dir: &Path, documents: &[&str]) -> Keychain {
        let files = documents.iter().enumerate().map(|(i, text)| {
            let path = dir.join(format!("{i}.json"));
            std::fs::write(&path, text).expect("write");
            AuthFile {
                path,
                required: false,
            }
        });
        let mut path = dir.as_os_str().to_owned();
        path.push(":/usr/bin:/bin");
        Keychain::new(CredentialSources {
            inline: None,
            files: files.collect(),
            target: None,
            helper_path: Some(path),
        })
    }

    fn shown(found: &Found) -> (String, &str) {
        let text = match &found.credential {
            Some(Credential::Password { username, password }) => {
                format!("{username}:{}", password.expose())
            }
            Some(Credential::IdentityToken(token)) => format!("token:{}", token.expose()),
            _ => "none".to_owned(),
        };
        (text, found.origin.rsplit('/').next().unwrap_or_default())
    }

    #[test]
    fn a_source_without_an_answer_passes_the_question_on() {
        let dir = helper_dir();
        let chain = keychain(
            dir.path(),
            &[
                r#"{"auths":{"other":{"auth":"eDp5"}},"credHelpers":{"h":"test"}}"#,
                "",
                r#"{"auths":{"h/a":{"auth":"YTpi"}},"credsStore":"absent"}"#,
            ],
        );
        let found = chain.lookup("h", "a/b").expect("lookup");
        assert_eq!(shown(&found), ("a:b".into(), "2.json`"));
        assert!(found.notes[0].contains("docker-credential-absent"));
        let found = chain.lookup("h", "c").expect("lookup");
        assert_eq!(shown(&found).0, "none");
    }

    #[test]
    fn a_helper_answers_before_the_entries_of_its_file() {
        let dir = helper_dir();
        let state = dir.path().join("state");
        let document = r#"{"auths":{"h":{"auth":"YTpi"}},"credsStore":"test"}"#;
        std::fs::write(&state, r#"{"ServerURL":"h","Username":"u","Secret":"s"}"#).expect("write");
        let found = keychain(dir.path(), &[document])
            .lookup("h", "x")
            .expect("lookup");
        assert_eq!(shown(&found), ("u:s".into(), "`docker-credential-test`"));
        std::fs::write(&state, r#"{"Username":"<token>","Secret":"t"}"#).expect("write");
        let found = keychain(dir.path(), &[document])
            .lookup("h", "x")
            .expect("lookup");
        assert_eq!(shown(&found).0, "token:t");
    }

    #[test]
    fn a_helper_for_this_registry_that_does_not_work_is_an_error() {
        let dir = helper_dir();
        for helper in ["absent", "test", "../evil"] {
            let document = format!(r#"{{"credHelpers":{{"slow.example":"{helper}"}}}}"#);
            let error = keychain(dir.path(), &[&document])
                .lookup("slow.example", "x")
                .expect_err(helper);
            assert!(error.chain().contains(helper), "{}", error.chain());
        }
    }

    #[test]
    fn login_and_logout_go_through_the_helper() {
        let dir = helper_dir();
        let path: PathBuf = dir.path().join("config.json");
        std::fs::write(&path, r#"{"credsStore":"test"}"#).expect("write");
        let mut search = dir.path().as_os_str().to_owned();
        search.push(":/usr/bin:/bin");
        let saved = save(&path, "h", "me", &Secret::new("pw"), Some(&search)).expect("save");
        assert_eq!(saved, Saved::Helper("test".into()));
        let text = std::fs::read_to_string(&path).expect("read");
        assert!(text.contains("\"h\"") && !text.contains("auth\""), "{text}");
        let state = std::fs::read_to_string(dir.path().join("state")).expect("read");
        assert_eq!(state, r#"{"ServerURL":"h","Username":"me","Secret":"pw"}"#);
        let erased = erase(&path, "h", Some(&search)).expect("erase");
        assert_eq!(erased, Erased::Credential);
        let erased = erase(&path, "h", Some(&search)).expect("erase");
        assert_eq!(erased, Erased::Nothing);
    }

    #[test]
    fn a_required_file_must_exist() {
        let chain = Keychain::new(CredentialSources {
            files: vec![AuthFile {
                path: "/nonexistent/auth.json".into(),
                required: true,
            }],
            ..CredentialSources::default()
        });
        let error = chain.lookup("h", "x").expect_err("missing");
        assert_eq!(error.get_kind(), Kind::NotFound);
    }
}
