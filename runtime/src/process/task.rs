//! A process of a container, from being inside to being its program.
//!
//! Responsible for what `process` of a configuration asks for, of a container's first process and
//! of one that `exec` adds alike. Must not know how the process came into the container.
//! Invariant: everything that a document can get wrong was read in the parent; what is refused in
//! the child is the kernel's refusal.

use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};
use rustix::stdio::{stderr, stdin, stdout};

use super::payload::{Listener, Payload, Refusal, Stage};
use super::program::{Program, not_executed, refused};
use super::protocol::{Channel, Kind};
use super::start::hide;
use crate::caps::Sets;
use crate::error::{Error, Result, ResultExt};
use crate::labels::Labels;
use crate::path::Root;
use crate::procfs::Proc;
use crate::rlimits::Rlimits;
use crate::scheduling::{Affinity, IoPriority, MemoryPolicy, Personality, Scheduler};
use crate::seccomp::{self, Filter};
use crate::spec::{Linux, Process};
use crate::sys;
use crate::tty::Terminal;
use crate::weaken::{self, Protection};

/// What is prepared in the parent.
#[derive(Debug)]
pub(crate) struct Task<'a> {
    process: &'a Process,
    argv: Vec<CString>,
    env: Vec<CString>,
    cwd: CString,
    capabilities: Sets,
    labels: Labels,
    rlimits: Rlimits,
    scheduler: Option<Scheduler>,
    io_priority: Option<IoPriority>,
    memory_policy: Option<MemoryPolicy>,
    personality: Option<Personality>,
    affinity: Option<Affinity>,
    filter: Option<Filter>,
    keyring: bool,
    descriptors: u32,
}

/// What the command line adds to a process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Inherited {
    /// How many descriptors from 3 on the program gets (`--preserve-fds`).
    pub preserve: u32,
    /// How many after those are sockets of sd_listen_fds(3).
    pub listen: u32,
    /// Whether the process stays in the caller's session keyring.
    pub keep_keyring: bool,
}

impl<'a> Task<'a> {
    /// Reads a process. What the user should know is given to `warn`.
    pub(crate) fn new(
        process: &'a Process,
        linux: &Linux,
        inherited: &Inherited,
        warn: &mut dyn FnMut(String),
    ) -> Result<Self> {
        if process.args.is_empty() {
            return Err(Error::new(
                "process.args is empty: there is no program to run",
            ));
        }
        let strings = |list: &[String]| list.iter().map(|s| c_string(s)).collect::<Result<_>>();
        let mut env: Vec<CString> = strings(&process.env)?;
        if inherited.listen > 0 {
            env.push(c_string(&format!("LISTEN_FDS={}", inherited.listen))?);
            env.push(c"LISTEN_PID=1".to_owned());
        }
        let (capabilities, warnings) = match &process.capabilities {
            Some(sets) => Sets::parse(sets, process.user.uid),
            None => (Sets::EMPTY, Vec::new()),
        };
        let mut rlimits = Rlimits::parse(&process.rlimits)?;
        let warnings = warnings.into_iter().chain(rlimits.prepare());
        warnings.for_each(warn);
        Ok(Self {
            process,
            argv: strings(&process.args)?,
            env,
            cwd: c_string(&process.cwd)?,
            capabilities,
            labels: Labels::parse(process)?,
            rlimits,
            scheduler: process
                .scheduler
                .as_ref()
                .map(Scheduler::parse)
                .transpose()?,
            io_priority: process
                .io_priority
                .as_ref()
                .map(IoPriority::parse)
                .transpose()?,
            memory_policy: linux
                .memory_policy
                .as_ref()
                .map(MemoryPolicy::parse)
                .transpose()?,
            personality: linux
                .personality
                .as_ref()
                .map(Personality::parse)
                .transpose()?,
            affinity: process
                .exec_cpu_affinity
                .as_ref()
                .map(Affinity::parse)
                .transpose()?,
            filter: linux.seccomp.as_ref().map(seccomp::compile).transpose()?,
            keyring: !inherited.keep_keyring,
            descriptors: 3_u32
                .saturating_add(inherited.preserve)
                .saturating_add(inherited.listen),
        })
    }

    /// Becomes the program. `last` is called when all but its execution is done; it must need no
    /// descriptors but those of `keep` and the channel's.
    pub(crate) fn run(
        &self,
        proc: &Proc,
        channel: &Channel,
        keep: &[RawFd],
        last: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Infallible> {
        let user = &self.process.user;
        let env = self.environment();
        let mut program = Program::new(&self.argv, &env)?;
        let groups = self.groups(proc, channel)?;
        if self.keyring {
            self.labels.apply_to_keys(proc)?;
        }
        self.labels.apply(proc)?;
        self.schedule()?;
        self.rlimits.apply().op("set resource limits")?;
        let late_cwd = self.enter_directory()?;
        hide()?;
        self.close_others(channel, keep)?;
        let payload = Payload {
            keyring: self.keyring,
            umask: user.umask.map(Mode::from_raw_mode),
            capabilities: self.capabilities,
            no_new_privileges: self.process.no_new_privileges,
            filter: self.filter.as_ref(),
            listener: Listener::Channel(channel),
            uid: Uid::from_raw(user.uid),
            gid: Gid::from_raw(user.gid),
            groups,
            cwd: late_cwd,
            descriptors: self.descriptors,
        };
        payload.assume().map_err(|refusal| self.explain(&refusal))?;
        if late_cwd.is_some() {
            check_directory()?;
        }
        program
            .find()
            .map_err(|errno| refused(&self.argv[0], errno))?;
        payload.seal().map_err(|refusal| self.explain(&refusal))?;
        last()?;
        Err(not_executed(&self.argv[0], program.execute()))
    }

    /// Sets where the process runs until it is in the container's control group.
    pub(crate) fn run_first_on(&self) -> Result<()> {
        let affinity = self.affinity.as_ref();
        let applied = affinity.map_or(Ok(()), Affinity::apply_initial);
        applied.op("set processors")
    }

    /// Sets where it runs from then on.
    pub(crate) fn run_then_on(&self) -> Result<()> {
        let affinity = self.affinity.as_ref();
        let applied = affinity.map_or(Ok(()), Affinity::apply_final);
        applied.op("set processors")
    }

    /// Sets how the process is scheduled, while it has the capabilities for that.
    fn schedule(&self) -> Result<()> {
        if let Some(scheduler) = &self.scheduler {
            scheduler.apply().op("set scheduler")?;
        }
        if let Some(priority) = &self.io_priority {
            priority.apply().op("set I/O priority")?;
        }
        if let Some(policy) = &self.memory_policy {
            policy.apply().op("set memory policy")?;
        }
        if let Some(personality) = &self.personality {
            personality.apply().op("set personality")?;
        }
        Ok(())
    }

    /// Makes a terminal in the container's devpts, if the process is to have one, and its
    /// standard streams; the other side goes to who set the process up.
    pub(crate) fn take_terminal(&self, root: &Root, channel: &Channel) -> Result<Option<Terminal>> {
        if !self.process.terminal {
            own_streams(self.process.user.uid);
            return Ok(None);
        }
        let terminal = Terminal::open(root)?;
        if let Some(size) = self.process.console_size {
            terminal.resize(size)?;
        }
        let name = terminal.name.as_bytes();
        channel.send_fd(Kind::Terminal, name, terminal.master.as_fd())?;
        let owner = rustix::fs::Uid::from_raw(self.process.user.uid);
        terminal.adopt(owner).op("take terminal")?;
        Ok(Some(terminal))
    }

    /// The environment, with `HOME` from the container's users where there is none, as runc and
    /// crun have it.
    fn environment(&self) -> Vec<CString> {
        let mut env = self.env.clone();
        if !env
            .iter()
            .any(|entry| entry.to_bytes().starts_with(b"HOME="))
        {
            let home = users()
                .and_then(|text| home(&text, self.process.user.uid))
                .unwrap_or_else(|| c"HOME=/".to_owned());
            env.push(home);
        }
        env
    }

    /// Returns the supplementary groups to set; `None` where nobody may set any.
    fn groups(&self, proc: &Proc, channel: &Channel) -> Result<Option<Vec<Gid>>> {
        let wanted = &self.process.user.additional_gids;
        if setgroups_allowed(proc) {
            return Ok(Some(wanted.iter().copied().map(Gid::from_raw).collect()));
        }
        if wanted.iter().any(|gid| *gid != self.process.user.gid) {
            let text = "supplementary groups left out: with a single id they can't be set";
            channel.send(Kind::Warning, text.as_bytes())?;
        }
        Ok(None)
    }

    /// Enters the working directory while it may be entered most easily. Returns it if it has to be
    /// tried again as the user: one may enter what the other may not (runc 1.1 tries both).
    fn enter_directory(&self) -> Result<Option<&CStr>> {
        match rustix::process::chdir(&self.cwd) {
            Ok(()) => check_directory().map(|()| None),
            Err(Errno::ACCESS | Errno::PERM) => Ok(Some(&self.cwd)),
            Err(errno) => Err(errno).op_path("enter working directory", &self.process.cwd),
        }
    }

    /// Closes what the program does not get and the steps to come do not need, so that nothing of
    /// the host is open while the process waits for `start`.
    pub(crate) fn close_others(&self, channel: &Channel, keep: &[RawFd]) -> Result<()> {
        if weaken::off(Protection::Descriptors) {
            return Ok(());
        }
        let mut kept: Vec<u32> = keep
            .iter()
            .copied()
            .chain([channel.as_fd().as_raw_fd()])
            .map(i32::cast_unsigned)
            .filter(|fd| *fd >= self.descriptors)
            .collect();
        kept.sort_unstable();
        let mut first = self.descriptors;
        for fd in kept.into_iter().chain([u32::MAX]) {
            if let Some(before) = fd.checked_sub(1) {
                // SAFETY: this process uses none of them any more and never runs a destructor.
                #[expect(unsafe_code, reason = "part of the clone site")]
                unsafe { sys::close_fds(first, before) }.op("close descriptors")?;
            }
            first = fd.saturating_add(1);
        }
        Ok(())
    }

    fn explain(&self, refusal: &Refusal) -> Error {
        let error = Error::new(refusal.operation()).cause(refusal.errno);
        match (refusal.stage, refusal.errno) {
            (Stage::WorkingDirectory, _) => error.path(&self.process.cwd),
            (Stage::Uid | Stage::Gid | Stage::Groups, Errno::INVAL) => {
                let user = &self.process.user;
                error.hint(format!(
                    "an id of user {}:{} is not mapped in the container's user namespace",
                    user.uid, user.gid
                ))
            }
            (Stage::Bounding | Stage::Capabilities, Errno::PERM) => {
                error.hint("the container can't have more capabilities than its creator")
            }
            _ => error,
        }
    }
}

/// Whether the user namespace lets its processes set groups, user_namespaces(7).
fn setgroups_allowed(proc: &Proc) -> bool {
    let mut state = [0; 8];
    let length = proc
        .file(c"self/setgroups", OFlags::RDONLY)
        .and_then(|file| rustix::io::read(&file, &mut state));
    // A kernel without user namespaces has no such file.
    !length.is_ok_and(|length| state.get(..length).is_some_and(|s| s.starts_with(b"deny")))
}

/// Makes sure that the working directory is inside the root (CVE-2024-21626 of runc): the kernel
/// then gives it an absolute name, and no other, getcwd(2).
fn check_directory() -> Result<()> {
    const OP: &str = "check working directory";
    let path = rustix::process::getcwd(Vec::new()).op(OP)?;
    if path.to_bytes().starts_with(b"/") || weaken::off(Protection::Directory) {
        return Ok(());
    }
    Err(Error::new(OP).cause("it is outside of the container's root file system".to_owned()))
}

/// Gives the standard streams to the container's user, so that `/dev/stdout` can be opened again.
/// Where that is refused, everything else still works (runc 1.1 does the same).
fn own_streams(uid: u32) {
    let null = rustix::fs::stat("/dev/null").map(|s| s.st_rdev).ok();
    let streams: [BorrowedFd<'_>; 3] = [stdin(), stdout(), stderr()];
    for stream in streams {
        let Ok(stat) = rustix::fs::fstat(stream) else {
            continue;
        };
        if stat.st_uid != uid && Some(stat.st_rdev) != null {
            let _: rustix::io::Result<()> =
                rustix::fs::fchown(stream, Some(Uid::from_raw(uid)), None);
        }
    }
}

/// Reads the container's passwd(5), which may be anything: what is no file is not waited for, and
/// what is endless is cut.
fn users() -> Option<Vec<u8>> {
    const LARGEST: u64 = 4 << 20;
    const PATH: &str = "/etc/passwd";
    let regular = |stat: rustix::fs::Stat| {
        FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
            || weaken::off(Protection::Users)
    };
    // Before, because opening some devices is enough to set them off; and after.
    rustix::fs::stat(PATH).ok().filter(|stat| regular(*stat))?;
    let mut flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    flags.set(OFlags::NONBLOCK, !weaken::off(Protection::Users));
    let file = rustix::fs::open(PATH, flags, Mode::empty()).ok()?;
    let stat = rustix::fs::fstat(&file).ok()?;
    if !regular(stat) {
        return None;
    }
    let mut text = Vec::new();
    let file = std::fs::File::from(file);
    file.take(LARGEST).read_to_end(&mut text).ok()?;
    Some(text)
}

/// Finds a user's home in the text of a passwd(5) file, as an entry of an environment.
fn home(text: &[u8], uid: u32) -> Option<CString> {
    let uid = uid.to_string();
    let mut lines = text.split(|byte| *byte == b'\n');
    lines.find_map(|line| {
        let mut fields = line.split(|byte| *byte == b':').skip(2);
        let found = fields.next()? == uid.as_bytes();
        let home = fields.nth(2)?;
        let entry = CString::new([b"HOME=", home].concat()).ok()?;
        (found && !home.is_empty()).then_some(entry)
    })
}

fn c_string(text: &str) -> Result<CString> {
    CString::new(text).map_err(|_| Error::new("read process: a text holds a null character"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn homes_are_found_by_number() {
        let text = b"root:x:0:0:root:/root:/bin/sh\nbroken\nann:x:7:7::/home/ann:\nbob:x:8:8::::\n";
        assert_eq!(home(text, 0).as_deref(), Some(c"HOME=/root"));
        assert_eq!(home(text, 7).as_deref(), Some(c"HOME=/home/ann"));
        assert_eq!(home(text, 8), None);
        assert_eq!(home(text, 9), None);
    }

    #[test]
    fn this_directory_is_inside() {
        check_directory().expect("inside");
    }

    #[test]
    fn sockets_are_announced() {
        let process = Process {
            args: vec!["x".to_owned()],
            ..Process::default()
        };
        let inherited = Inherited {
            preserve: 1,
            listen: 2,
            keep_keyring: true,
        };
        let task = Task::new(&process, &Linux::default(), &inherited, &mut |w| {
            panic!("{w}")
        })
        .expect("task");
        assert_eq!(
            task.env,
            [c"LISTEN_FDS=2".to_owned(), c"LISTEN_PID=1".to_owned()]
        );
        assert_eq!(task.descriptors, 6);
    }
}
