//! The namespaces of a container.
//!
//! Responsible for telling which are made and which are joined, and for joining. Must not know
//! what happens inside. Invariant: what is joined was opened, and checked to be of its kind,
//! before any process of the container existed.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::thread::{LinkNameSpaceType, ThreadNameSpaceType};

use crate::error::{Error, Result, ResultExt};
use crate::{spec, sys};

/// A kind of namespace, namespaces(7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Users and capabilities.
    User,
    /// Mounts.
    Mount,
    /// Processes.
    Pid,
    /// Network.
    Network,
    /// System V IPC and POSIX message queues.
    Ipc,
    /// Host name and domain name.
    Uts,
    /// Control groups.
    Cgroup,
    /// Monotonic and boot clocks.
    Time,
}

impl Kind {
    /// All kinds; the user namespace first, as it decides about the others.
    pub const ALL: [Self; 8] = [
        Self::User,
        Self::Mount,
        Self::Pid,
        Self::Network,
        Self::Ipc,
        Self::Uts,
        Self::Cgroup,
        Self::Time,
    ];

    /// Finds a kind by the specification's name (config-linux.md, "Namespaces").
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The specification's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Mount => "mount",
            Self::Pid => "pid",
            Self::Network => "network",
            Self::Ipc => "ipc",
            Self::Uts => "uts",
            Self::Cgroup => "cgroup",
            Self::Time => "time",
        }
    }

    /// The name in `/proc/PID/ns`.
    pub fn file(self) -> &'static str {
        match self {
            Self::Mount => "mnt",
            Self::Network => "net",
            other => other.name(),
        }
    }

    fn flag(self) -> i32 {
        match self {
            Self::User => libc::CLONE_NEWUSER,
            Self::Mount => libc::CLONE_NEWNS,
            Self::Pid => libc::CLONE_NEWPID,
            Self::Network => libc::CLONE_NEWNET,
            Self::Ipc => libc::CLONE_NEWIPC,
            Self::Uts => libc::CLONE_NEWUTS,
            Self::Cgroup => libc::CLONE_NEWCGROUP,
            Self::Time => CLONE_NEWTIME,
        }
    }

    fn link(self) -> LinkNameSpaceType {
        match self {
            Self::User => LinkNameSpaceType::User,
            Self::Mount => LinkNameSpaceType::Mount,
            Self::Pid => LinkNameSpaceType::ProcessID,
            Self::Network => LinkNameSpaceType::Network,
            Self::Ipc => LinkNameSpaceType::InterProcessCommunication,
            Self::Uts => LinkNameSpaceType::HostNameAndNISDomainName,
            Self::Cgroup => LinkNameSpaceType::ControlGroup,
            Self::Time => LinkNameSpaceType::Time,
        }
    }
}

/// Not in libc for every target; clone(2), Linux 5.6.
const CLONE_NEWTIME: i32 = 0x80;

/// What a container has instead of its creator's namespaces.
#[derive(Debug, Default)]
pub struct Namespaces {
    new: Vec<Kind>,
    joined: Vec<Joined>,
}

/// A namespace that exists.
#[derive(Debug)]
struct Joined {
    kind: Kind,
    path: PathBuf,
    fd: OwnedFd,
}

impl Namespaces {
    /// Opens what is joined. A path that leads to the caller's own namespace is left out: the
    /// kernel refuses to join one's own user namespace (setns(2)), and the others change nothing.
    ///
    /// # Errors
    /// A path can't be opened or is no namespace of the kind; a kind is unknown.
    pub fn open(list: &[spec::Namespace]) -> Result<Self> {
        let mut found = Self::default();
        for entry in list {
            let kind = Kind::by_name(&entry.kind)
                .ok_or_else(|| Error::new(format!("unknown namespace `{}`", entry.kind)))?;
            match entry.path.as_deref().filter(|path| !path.is_empty()) {
                None => found.new.push(kind),
                Some(path) => found.joined.extend(open(kind, Path::new(path))?),
            }
        }
        Ok(found)
    }

    /// Whether a new one of the kind is made.
    pub fn makes(&self, kind: Kind) -> bool {
        self.new.contains(&kind)
    }

    /// Whether an existing one of the kind, which is not the caller's own, is joined.
    pub fn joins(&self, kind: Kind) -> bool {
        self.joined.iter().any(|joined| joined.kind == kind)
    }

    /// Whether the container has one of the kind that is not the caller's.
    pub fn differs(&self, kind: Kind) -> bool {
        self.makes(kind) || self.joins(kind)
    }

    /// Whether any is joined.
    pub fn joins_any(&self) -> bool {
        !self.joined.is_empty()
    }

    /// The flags of clone(2) for what is new at once. The control group namespace is not: its root
    /// is where the process is when it is made, and it must be in the container's group by then.
    /// Nor is that of time, whose offsets must be written before it is entered.
    pub(crate) fn clone_flags(&self) -> u64 {
        let at_once = |kind: &&Kind| !matches!(kind, Kind::Cgroup | Kind::Time);
        let flags = self.new.iter().filter(at_once);
        let flags = flags.fold(0, |all, kind| all | kind.flag());
        u64::from(flags.cast_unsigned())
    }

    /// Joins. The user namespace decides what may be joined, and may itself be needed for it: all
    /// that the caller may join goes first, then the user namespace, then the rest.
    pub(crate) fn join(&self) -> Result<()> {
        let mut late = Vec::new();
        let user = self.joined.iter().find(|j| j.kind == Kind::User);
        for joined in self.joined.iter().filter(|j| j.kind != Kind::User) {
            match joined.enter() {
                Err(Errno::PERM) if user.is_some() => late.push(joined),
                other => other.op_path("join namespace", &joined.path)?,
            }
        }
        for joined in user.into_iter().chain(late) {
            joined.enter().op_path("join namespace", &joined.path)?;
        }
        Ok(())
    }

    /// Enters a new control group namespace, if there is to be one.
    pub(crate) fn enter_cgroup(&self) -> Result<()> {
        if self.makes(Kind::Cgroup) {
            sys::unshare(libc::CLONE_NEWCGROUP).op("enter control group namespace")?;
        }
        Ok(())
    }

    /// Enters a new time namespace with these offsets, if there is to be one.
    ///
    /// unshare(2) makes one for children, time_namespaces(7); the offsets can be written until the
    /// first process is in it, which may be this one.
    pub(crate) fn enter_time(&self, offsets: &[u8]) -> Result<()> {
        const OFFSETS: &str = "/proc/self/timens_offsets";
        const CHILDREN: &str = "/proc/self/ns/time_for_children";
        if !self.makes(Kind::Time) {
            return Ok(());
        }
        sys::unshare(CLONE_NEWTIME).op("make time namespace")?;
        if !offsets.is_empty() {
            std::fs::write(OFFSETS, offsets).op_path("set time offsets", OFFSETS)?;
        }
        let made = File::open(CHILDREN).op_path("open namespace", CHILDREN)?;
        rustix::thread::move_into_link_name_space(made.as_fd(), Some(LinkNameSpaceType::Time))
            .op("enter time namespace")
    }
}

impl Joined {
    fn enter(&self) -> rustix::io::Result<()> {
        rustix::thread::move_into_link_name_space(self.fd.as_fd(), Some(self.kind.link()))
    }
}

fn open(kind: Kind, path: &Path) -> Result<Option<Joined>> {
    const OP: &str = "open namespace";
    let fd = OwnedFd::from(File::open(path).op_path(OP, path)?);
    match sys::namespace_kind(fd.as_fd()) {
        Ok(flag) if flag == kind.flag() => {}
        Ok(_) | Err(Errno::NOTTY) => {
            return Err(Error::new(OP)
                .path(path)
                .cause(format!("it is no {} namespace", kind.name())));
        }
        Err(errno) => return Err(errno).op_path(OP, path),
    }
    let there = rustix::fs::fstat(&fd).op_path(OP, path)?;
    let own = rustix::fs::stat(format!("/proc/self/ns/{}", kind.file()));
    let own = own.is_ok_and(|own| (own.st_dev, own.st_ino) == (there.st_dev, there.st_ino));
    Ok((!own).then(|| Joined {
        kind,
        path: path.to_path_buf(),
        fd,
    }))
}

/// Writes offsets as `/proc/PID/timens_offsets` takes them.
pub(crate) fn render_offsets<'a>(
    offsets: impl IntoIterator<Item = (&'a String, &'a spec::TimeOffset)>,
) -> Vec<u8> {
    let lines = offsets.into_iter().map(|(clock, offset)| {
        let (seconds, nanoseconds) = (offset.secs, offset.nanosecs);
        format!("{clock} {seconds} {nanoseconds}\n")
    });
    lines.collect::<String>().into_bytes()
}

/// Finds in which namespaces a process is that the caller is not in.
///
/// # Errors
/// The process is gone, or its namespaces may not be looked at.
pub(crate) fn of_process(pid: i32) -> Result<ThreadNameSpaceType> {
    let mut found = ThreadNameSpaceType::empty();
    for kind in Kind::ALL {
        let file = kind.file();
        let path = format!("/proc/{pid}/ns/{file}");
        let there = match rustix::fs::stat(&path) {
            Ok(there) => there,
            // A kernel that is built without this kind.
            Err(Errno::NOENT) if rustix::fs::stat(format!("/proc/{pid}/ns")).is_ok() => continue,
            Err(errno) => return Err(errno).op_path("look at namespace", path),
        };
        let own = format!("/proc/self/ns/{file}");
        let own = rustix::fs::stat(&own).op_path("look at namespace", own)?;
        if there.st_ino != own.st_ino {
            found |= ThreadNameSpaceType::from_bits_retain(kind.flag().cast_unsigned());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(kind: &str, path: Option<&str>) -> spec::Namespace {
        spec::Namespace {
            kind: kind.to_owned(),
            path: path.map(str::to_owned),
        }
    }

    #[test]
    fn new_ones_are_flags_except_those_that_must_wait() {
        let list = ["pid", "cgroup", "time", "mount"].map(|kind| entry(kind, None));
        let found = Namespaces::open(&list).expect("open");
        let flags = libc::CLONE_NEWPID | libc::CLONE_NEWNS;
        assert_eq!(found.clone_flags(), flags as u64);
        assert!(found.makes(Kind::Time) && !found.joins_any());
    }

    #[test]
    fn ones_own_are_not_joined() {
        let list = [entry("user", Some("/proc/self/ns/user"))];
        let found = Namespaces::open(&list).expect("open");
        assert!(!found.differs(Kind::User));
    }

    #[test]
    fn what_is_no_such_namespace_is_refused() {
        for path in ["/proc/self/ns/net", "/proc/self/status", "/nowhere"] {
            assert!(Namespaces::open(&[entry("uts", Some(path))]).is_err());
        }
        assert!(Namespaces::open(&[entry("net", None)]).is_err());
    }

    #[test]
    fn offsets_are_lines() {
        let offset = spec::TimeOffset {
            secs: -3,
            nanosecs: 5,
        };
        let text = render_offsets([(&"boottime".to_owned(), &offset)]);
        assert_eq!(text, b"boottime -3 5\n");
    }
}
