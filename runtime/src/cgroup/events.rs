//! Waiting for the out-of-memory killer.
//!
//! Responsible for noticing that it has killed in a group, and that the group is gone. Must not
//! know who is told. Invariant: no kill after [`Group::watch`] goes unnoticed.
//!
//! Sources: cgroup-v2.rst "memory.events" (which changes are poll(2)ed or watched by inotify(7)),
//! admin-guide/cgroup-v1/memory.rst section 9 and cgroups.rst section 2.4.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec};
use rustix::fs::{OFlags, inotify};
use rustix::io::Errno;

use super::Group;
use super::files::Directory;
use super::stats::table;
use crate::error::{Error, Result, ResultExt};

/// Something that happened to a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A process was killed for want of memory.
    OutOfMemory,
    /// The group was removed, or (version 2) its last process has ended.
    Gone,
    /// Nothing, in the time that was given.
    Nothing,
}

/// A watch on a group.
#[derive(Debug)]
pub struct Watch {
    group: Directory,
    source: Source,
}

#[derive(Debug)]
enum Source {
    Unified { inotify: OwnedFd, kills: u64 },
    Legacy { eventfd: OwnedFd, _control: OwnedFd },
}

impl Group {
    /// Returns how many of its processes were killed for want of memory; 0 where that isn't counted.
    pub fn memory_kills(&self) -> u64 {
        let (place, file) = match (self.legacy_place("memory"), &self.unified) {
            (Some(place), _) => (place, "memory.oom_control"),
            (None, Some(place)) => (place, "memory.events"),
            (None, None) => return 0,
        };
        let events = place.open().map(|group| table(&group, file));
        events.map_or(0, |events| events.get("oom_kill").copied().unwrap_or(0))
    }

    /// Begins to watch the group's memory.
    ///
    /// # Errors
    /// There is no memory controller.
    pub fn watch(&self) -> Result<Watch> {
        if let Some(place) = self.legacy_place("memory") {
            return watch_legacy(place.open()?);
        }
        if let Some(place) = &self.unified {
            let group = place.open()?;
            if group.has("memory.events") {
                return watch_unified(group);
            }
        }
        Err(Error::new("watch memory of the container")
            .cause("it has no control group with a memory controller".to_owned()))
    }
}

fn watch_unified(group: Directory) -> Result<Watch> {
    let fd = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)
        .op("make inotify descriptor")?;
    for file in ["memory.events", "cgroup.events"] {
        // By descriptor, since the path may be another group's by the time it is resolved.
        let opened = group
            .open_file(file, OFlags::PATH)
            .op_path("open", group.file(file))?;
        let path = format!("/proc/self/fd/{}", opened.as_raw_fd());
        inotify::add_watch(&fd, path, inotify::WatchFlags::MODIFY)
            .op_path("watch", group.file(file))?;
    }
    let kills = kills(&group);
    Ok(Watch {
        group,
        source: Source::Unified { inotify: fd, kills },
    })
}

fn watch_legacy(group: Directory) -> Result<Watch> {
    let eventfd = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
        .op("make event descriptor")?;
    let file = "memory.oom_control";
    let control = group
        .open_file(file, OFlags::RDONLY)
        .op_path("open", group.file(file))?;
    let file = "cgroup.event_control";
    group
        .write(
            file,
            &format!("{} {}", eventfd.as_raw_fd(), control.as_raw_fd()),
        )
        .op_path("write", group.file(file))?;
    Ok(Watch {
        group,
        source: Source::Legacy {
            eventfd,
            _control: control,
        },
    })
}

fn kills(group: &Directory) -> u64 {
    let events = table(group, "memory.events");
    events.get("oom_kill").copied().unwrap_or(0)
}

impl Watch {
    /// The descriptor to poll(2) for input, beside others; then call [`Watch::wait`].
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.source {
            Source::Unified { inotify, .. } => inotify.as_fd(),
            Source::Legacy { eventfd, .. } => eventfd.as_fd(),
        }
    }

    /// Waits for the next event.
    ///
    /// # Errors
    /// Those of poll(2).
    pub fn wait(&mut self, time: Duration) -> Result<Event> {
        let end = Instant::now() + time;
        loop {
            if let Some(event) = self.next()? {
                return Ok(event);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Event::Nothing);
            }
            let timeout = Timespec::try_from(left).ok();
            let mut fds = [PollFd::from_borrowed_fd(self.as_fd(), PollFlags::IN)];
            match rustix::event::poll(&mut fds, timeout.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(e) => return Err(e).op("wait for events of the control group"),
            }
        }
    }

    /// Looks what has happened since the last time.
    fn next(&mut self) -> Result<Option<Event>> {
        match &mut self.source {
            Source::Unified {
                inotify,
                kills: old,
            } => {
                // What is said there is only that it is worth to look.
                drain(inotify)?;
                let new = kills(&self.group);
                if new > *old {
                    *old = new;
                    return Ok(Some(Event::OutOfMemory));
                }
                let events = table(&self.group, "cgroup.events");
                // Without the file the group is gone; processes below it count as its own.
                let gone = events.get("populated").is_none_or(|n| *n == 0);
                Ok(gone.then_some(Event::Gone))
            }
            Source::Legacy { eventfd, .. } => {
                if !drain(eventfd)? {
                    return Ok(None);
                }
                // The removal of a group is told in the same way.
                let gone = self.group.read("memory.oom_control").is_err();
                Ok(Some(if gone {
                    Event::Gone
                } else {
                    Event::OutOfMemory
                }))
            }
        }
    }
}

/// Reads all that there is; says whether there was anything.
fn drain(fd: &OwnedFd) -> Result<bool> {
    let mut any = false;
    let mut buffer = [0_u8; 4096];
    loop {
        match rustix::io::read(fd, &mut buffer) {
            Ok(0) | Err(Errno::AGAIN) => return Ok(any),
            Ok(_) => any = true,
            Err(Errno::INTR) => {}
            Err(e) => return Err(e).op("read events of the control group"),
        }
    }
}
