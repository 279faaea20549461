//! Who runs a check, and where: an account, a control group, and a directory.
//!
//! Responsible for running a program as an account with a deadline, and for what it printed. Must
//! not know what the programs are. Invariant: output goes to files, so that a program which lives
//! on in the background holds nobody up.

use std::cell::Cell;
use std::fs::{self, File};
use std::os::unix::fs::chown;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// Where the control groups are.
pub(crate) const CGROUPS: &str = "/sys/fs/cgroup";

/// An account of the machine; its group has the same number.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Account {
    /// Its name in `/etc/passwd`.
    pub(crate) name: &'static str,
    /// Its number.
    pub(crate) uid: u32,
    /// Whether `/etc/subuid` and `/etc/subgid` give it ids from [`FIRST_SUBID`] on.
    pub(crate) subids: bool,
}

/// The first of 65,536 subordinate ids.
pub(crate) const FIRST_SUBID: u32 = 100_000;

/// Every account.
pub(crate) const ACCOUNTS: &[Account] = &[
    Account {
        name: "root",
        uid: 0,
        subids: false,
    },
    Account {
        name: "subids",
        uid: 1000,
        subids: true,
    },
    Account {
        name: "plain",
        uid: 1001,
        subids: false,
    },
];

impl Account {
    /// Returns the group that systemd would have delegated to this user.
    pub(crate) fn service(&self) -> String {
        format!("/user.slice/user-{0}.slice/user@{0}.service", self.uid)
    }
}

/// In which account and group a check runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Setting {
    /// Root, who may do everything.
    Root,
    /// A user with subordinate ids, in a group of its own.
    Subids,
    /// A user without subordinate ids, in a group of its own.
    Plain,
    /// The user without subordinate ids in a session's scope, which root owns.
    Session,
}

impl Setting {
    /// Returns the name, which is the last part of a check's.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Subids => "subids",
            Self::Plain => "plain",
            Self::Session => "session",
        }
    }

    /// Returns the account.
    pub(crate) fn account(self) -> &'static Account {
        match self {
            Self::Root => &ACCOUNTS[0],
            Self::Subids => &ACCOUNTS[1],
            Self::Plain | Self::Session => &ACCOUNTS[2],
        }
    }

    /// Returns the group in which the check's programs run.
    pub(crate) fn group(self) -> String {
        match self {
            Self::Root => "/system.slice/check.service".to_owned(),
            Self::Subids | Self::Plain => {
                format!("{}/app.slice/check.scope", self.account().service())
            }
            Self::Session => {
                let uid = self.account().uid;
                format!("/user.slice/user-{uid}.slice/session-1.scope")
            }
        }
    }

    /// Returns where a container's group can be made; `None` where nowhere.
    pub(crate) fn group_for(self, id: &str) -> Option<String> {
        match self {
            Self::Root => Some(format!("/checks/{id}")),
            Self::Subids | Self::Plain => {
                Some(format!("{}/app.slice/{id}", self.account().service()))
            }
            Self::Session => None,
        }
    }
}

/// The surroundings of one check.
#[derive(Debug)]
pub(crate) struct Place {
    /// In which account and group it runs.
    pub(crate) setting: Setting,
    /// The check's name without the setting; container ids begin with it.
    pub(crate) name: &'static str,
    /// A directory of its own, which belongs to the account.
    pub(crate) directory: PathBuf,
    runs: Cell<u32>,
}

/// What came of a program.
#[derive(Debug)]
pub(crate) struct Ran {
    /// The exit code, or 128 and the number of the signal that ended it.
    pub(crate) code: i32,
    /// Standard output.
    pub(crate) out: String,
    /// Standard error.
    pub(crate) err: String,
    file: PathBuf,
    shown: String,
}

impl Place {
    /// Makes the directory below `/tmp`.
    pub(crate) fn new(name: &'static str, setting: Setting) -> Result<Self> {
        let directory = PathBuf::from(format!("/tmp/{name}.{}", setting.name()));
        fs::create_dir_all(&directory)?;
        let place = Self {
            setting,
            name,
            directory,
            runs: Cell::new(0),
        };
        place.give(&place.directory)?;
        Ok(place)
    }

    /// Gives a file or directory to the account.
    pub(crate) fn give(&self, path: &Path) -> Result<()> {
        let uid = self.setting.account().uid;
        chown(path, Some(uid), Some(uid)).with_context(|| format!("give `{}`", path.display()))
    }

    /// Writes a file that belongs to the account.
    pub(crate) fn write(&self, path: &Path, text: &str) -> Result<()> {
        fs::write(path, text).with_context(|| format!("write `{}`", path.display()))?;
        self.give(path)
    }

    /// Runs a program as the account, in its group, for at most 90 seconds.
    pub(crate) fn run(&self, words: &[&str]) -> Result<Ran> {
        self.run_for(words, Duration::from_secs(90))
    }

    /// Runs a program as the account, in its group, for a limited time.
    pub(crate) fn run_for(&self, words: &[&str], limit: Duration) -> Result<Ran> {
        let account = self.setting.account();
        let shown = words.join(" ");
        let run = self.runs.replace(self.runs.get() + 1);
        let [out, err] = ["out", "err"].map(|name| self.directory.join(format!("{name}.{run}")));
        let uid = account.uid.to_string();
        let mut child = Command::new("/bin/vm-guest")
            .args(["as", &uid, &uid, &self.setting.group()])
            .args(words)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", format!("/disk/{}", account.name))
            .env("USER", account.name)
            .env("XDG_RUNTIME_DIR", format!("/run/user/{uid}"))
            .current_dir(&self.directory)
            .stdin(Stdio::null())
            .stdout(File::create(&out)?)
            .stderr(File::create(&err)?)
            .spawn()?;
        let started = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if started.elapsed() > limit {
                child.kill()?;
                child.wait()?;
                bail!(
                    "`{shown}` took too long; it printed:\n{}{}",
                    read(&out),
                    read(&err)
                );
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        Ok(Ran {
            code: status
                .code()
                .or_else(|| status.signal().map(|signal| 128 + signal))
                .unwrap_or(-1),
            out: read(&out),
            err: read(&err),
            file: out,
            shown,
        })
    }
}

impl Ran {
    /// Expects exit code 0.
    pub(crate) fn ok(self) -> Result<Self> {
        self.exits(0)
    }

    /// Expects this exit code.
    pub(crate) fn exits(self, code: i32) -> Result<Self> {
        ensure!(
            self.code == code,
            "`{}` ended with {}, not {code}; it printed:\n{}{}",
            self.shown,
            self.code,
            self.out,
            self.err
        );
        Ok(self)
    }

    /// Expects another exit code than 0.
    pub(crate) fn fails(self) -> Result<Self> {
        ensure!(
            self.code != 0,
            "`{}` succeeded; it printed:\n{}{}",
            self.shown,
            self.out,
            self.err
        );
        Ok(self)
    }

    /// Expects a text on standard output or standard error, in whatever case.
    pub(crate) fn says(self, text: &str) -> Result<Self> {
        let printed = format!("{}{}", self.out, self.err);
        ensure!(
            printed.to_lowercase().contains(&text.to_lowercase()),
            "`{}` doesn't say `{text}`; it printed:\n{printed}",
            self.shown
        );
        Ok(self)
    }

    /// Expects that standard output, without the last line's end, is this.
    pub(crate) fn prints(self, text: &str) -> Result<Self> {
        ensure!(
            self.out.trim_end() == text,
            "`{}` should print `{text}`; it printed:\n{}{}",
            self.shown,
            self.out,
            self.err
        );
        Ok(self)
    }
}

impl Ran {
    /// Returns what is on standard output by now, when the program left others with it.
    pub(crate) fn out_by_now(&self) -> String {
        read(&self.file)
    }

    /// Waits until standard output, without the last line's end, is this.
    pub(crate) fn comes_to_print(&self, text: &str) -> Result<()> {
        eventually("output", || Ok(self.out_by_now().trim_end() == text)).with_context(|| {
            format!(
                "`{}` left a process that should print {text:?}; it printed {:?}",
                self.shown,
                self.out_by_now()
            )
        })
    }
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

/// Waits until something holds, for at most 30 seconds.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(30) {
        if holds()? {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    bail!("{what}: not within 30 seconds")
}
