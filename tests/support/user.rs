//! The accounts that tests run as.
//!
//! Responsible for finding, and as root creating, one account with subordinate ids and one with
//! none. Must not start programs in them. Invariant: an [`Account`] is what its [`User`] promises.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Which kind of caller a test is run by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum User {
    /// The superuser.
    Root,
    /// An ordinary user with a range in `/etc/subuid` and `/etc/subgid`.
    Subids,
    /// An ordinary user with no range.
    Plain,
}

/// An account of this system.
#[derive(Debug, Clone)]
pub struct Account {
    /// Login name.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

impl User {
    /// Returns the kind of that name.
    ///
    /// # Panics
    /// For another name than `root`, `subids` and `plain`.
    pub fn named(name: &str) -> Self {
        match name {
            "root" => Self::Root,
            "subids" => Self::Subids,
            "plain" => Self::Plain,
            _ => panic!("no kind of user is called {name}"),
        }
    }

    /// Returns the kind's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Subids => "subids",
            Self::Plain => "plain",
        }
    }

    /// Returns the account for this kind of user, or why there is none. Root has all three; anybody
    /// else only has the own one.
    ///
    /// # Errors
    /// The reason, for a skipped test.
    pub fn account(self) -> Result<Account, String> {
        let current = current();
        if current.uid == 0 {
            return Ok(match self {
                Self::Root => current,
                Self::Subids => {
                    static ACCOUNT: OnceLock<Account> = OnceLock::new();
                    ACCOUNT
                        .get_or_init(|| create("sandcrab-subids", "subids"))
                        .clone()
                }
                Self::Plain => {
                    static ACCOUNT: OnceLock<Account> = OnceLock::new();
                    ACCOUNT
                        .get_or_init(|| create("sandcrab-plain", "plain"))
                        .clone()
                }
            });
        }
        let own = if has_range(&current) {
            Self::Subids
        } else {
            Self::Plain
        };
        if self == own {
            Ok(current)
        } else {
            Err(format!(
                "needs to be {}, but the caller is {}",
                self.name(),
                own.name()
            ))
        }
    }
}

/// Returns whether the caller of the tests is the superuser.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn current() -> Account {
    let uid = rustix::process::geteuid().as_raw();
    let output = Command::new("id").arg("-un").output().expect("run id");
    Account {
        name: String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        uid,
        gid: rustix::process::getegid().as_raw(),
    }
}

fn has_range(account: &Account) -> bool {
    let uid = account.uid.to_string();
    ["/etc/subuid", "/etc/subgid"].iter().all(|file| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        text.lines().any(|line| {
            let owner = line.split(':').next().unwrap_or_default();
            owner == account.name || owner == uid
        })
    })
}

fn create(name: &str, kind: &str) -> Account {
    let output = Command::new(repository().join("tests/support/add-user"))
        .args([name, kind])
        .output()
        .expect("run add-user");
    let text = String::from_utf8_lossy(&output.stdout);
    let ids: Vec<u32> = text
        .split_whitespace()
        .take(2)
        .filter_map(|id| id.parse().ok())
        .collect();
    assert!(
        output.status.success() && ids.len() == 2,
        "add-user {name}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Account {
        name: name.to_owned(),
        uid: ids[0],
        gid: ids[1],
    }
}

/// Returns the repository's directory.
pub fn repository() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests
        .parent()
        .expect("the tests are a directory of the repository")
        .to_owned()
}
