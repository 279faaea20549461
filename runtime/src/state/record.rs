//! What is kept about a container, and what it says of the container's state.
//!
//! Responsible for the format of `state.json` and for turning a record into a [`Status`]. Must not
//! read the container's configuration. Invariant: a record of a later version is refused, never
//! misread; fields that are added later have a default, so that older records stay readable.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::{Dir, Id, ProcessId, timestamp};
use crate::cgroup::Group;
use crate::error::{Error, Result};

/// The format's version; the next one is for a change that this code can't read.
const VERSION: u32 = 1;

/// `state.json` of a container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    version: u32,
    /// The container's name.
    pub id: Id,
    /// The bundle, absolute.
    pub bundle: PathBuf,
    /// The root file system, absolute.
    pub rootfs: PathBuf,
    /// When it was made, RFC 3339.
    pub created: String,
    /// Who made it: an effective user id in the runtime's user namespace.
    pub owner: u32,
    /// The configuration's annotations.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// Who makes it; tells a container that is being made from one whose maker was killed.
    pub creator: ProcessId,
    /// The container's first process, once there is one.
    #[serde(default)]
    pub init: Option<ProcessId>,
    /// Whether the first process is set up and waits for `start`, or was started.
    #[serde(default)]
    pub ready: bool,
    /// The container's control group.
    #[serde(default)]
    pub cgroup: Group,
}

/// State of a container (runtime.md, "State"), with runc's `paused`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It is being made.
    Creating,
    /// It waits for `start`.
    Created,
    /// The program was executed and has not ended.
    Running,
    /// It is frozen.
    Paused,
    /// Its first process has ended, or its maker died before there was one.
    Stopped,
}

impl Status {
    /// The word of the state document.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }
}

impl Record {
    /// Begins the record of a container that this process is about to make.
    ///
    /// # Errors
    /// `/proc` doesn't show this process.
    pub fn new(id: Id, bundle: PathBuf, rootfs: PathBuf) -> Result<Self> {
        Ok(Self {
            version: VERSION,
            id,
            bundle,
            rootfs,
            created: timestamp(SystemTime::now()),
            owner: rustix::process::geteuid().as_raw(),
            annotations: BTreeMap::new(),
            creator: ProcessId::of(rustix::process::getpid().as_raw_pid())?,
            init: None,
            ready: false,
            cgroup: Group::default(),
        })
    }

    pub(super) fn parse(bytes: &[u8]) -> Result<Self> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let error = |e: serde_json::Error| Error::new("parse state.json").cause(e.to_string());
        let Version { version } = serde_json::from_slice(bytes).map_err(error)?;
        if version > VERSION {
            return Err(Error::new("parse state.json").cause(format!(
                "it was written by a later version: its format is {version}, not {VERSION}"
            )));
        }
        serde_json::from_slice(bytes).map_err(error)
    }

    /// Says what state the container in this directory is in.
    ///
    /// # Errors
    /// `/proc`, the directory or the control group can't be read.
    pub fn status(&self, dir: &Dir) -> Result<Status> {
        self.status_if(|| dir.awaits_start(), || self.cgroup.is_frozen())
    }

    fn status_if(
        &self,
        waits: impl FnOnce() -> Result<bool>,
        frozen: impl FnOnce() -> Result<bool>,
    ) -> Result<Status> {
        let alive = match &self.init {
            Some(init) => init.is_alive()?,
            None => false,
        };
        if !self.ready {
            // A first process without its maker ends by itself; until then it is one to kill.
            return Ok(if alive || self.creator.is_alive()? {
                Status::Creating
            } else {
                Status::Stopped
            });
        }
        Ok(if !alive {
            Status::Stopped
        } else if frozen()? {
            Status::Paused
        } else if waits()? {
            Status::Created
        } else {
            Status::Running
        })
    }

    /// The first process while it may still exist.
    pub fn pid(&self, status: Status) -> Option<i32> {
        match status {
            Status::Stopped => None,
            _ => self.init.map(|init| init.pid),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::state) fn record(id: &str) -> Record {
        let id = Id::new(id).expect("id");
        Record::new(id, "/b".into(), "/b/rootfs".into()).expect("record")
    }

    fn status(record: &Record, waits: bool, frozen: bool) -> Status {
        record
            .status_if(|| Ok(waits), || Ok(frozen))
            .expect("status")
    }

    #[test]
    fn statuses() {
        let mut record = record("x");
        let me = record.creator;
        let nobody = ProcessId {
            start_time: me.start_time + 1,
            ..me
        };
        assert_eq!(status(&record, true, false), Status::Creating);
        record.creator = nobody;
        assert_eq!(status(&record, true, false), Status::Stopped);
        record.init = Some(me);
        assert_eq!(status(&record, true, false), Status::Creating);
        record.ready = true;
        assert_eq!(status(&record, true, false), Status::Created);
        assert_eq!(status(&record, false, false), Status::Running);
        assert_eq!(status(&record, false, true), Status::Paused);
        record.init = Some(nobody);
        assert_eq!(status(&record, false, true), Status::Stopped);
        assert_eq!(record.pid(Status::Stopped), None);
    }

    #[test]
    fn a_later_format_is_refused() {
        let bytes = serde_json::to_vec(&record("x")).expect("write");
        let back = Record::parse(&bytes).expect("read");
        assert_eq!(back, record("x").with_created(&back));
        let error = Record::parse(br#"{"version":2,"other":"shape"}"#).expect_err("refused");
        let cause = std::error::Error::source(&error).expect("a cause");
        assert!(cause.to_string().contains("later version"), "{cause}");
    }

    impl Record {
        fn with_created(mut self, other: &Self) -> Self {
            self.created.clone_from(&other.created);
            self
        }
    }
}
