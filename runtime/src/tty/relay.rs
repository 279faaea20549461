//! Between the caller's terminal and a container's, while a command runs in the foreground.
//!
//! Responsible for copying both ways, for the raw mode of the caller's terminal and for its size.
//! Must not wait for the process, which is its owner's. Invariant: the caller's terminal is as it
//! was when this ends, and everything that the process wrote before it ended has been shown.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sys::signal::Signal;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetwinsize, tcsetattr,
    tcsetwinsize,
};

use crate::error::{Result, ResultExt};
use crate::signals::Forwarder;

/// How much input may wait for a process that does not read.
const WAITING: usize = 64 * 1024;

/// More than a pseudoterminal can hold (drivers/tty/tty_buffer.c: 64 KiB): what an ended process
/// has written is within this.
const LAST: usize = 256 * 1024;

/// How long to wait before looking again whether a terminal that nobody has open was opened.
const RETRY: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 50_000_000,
};

/// A connection of two terminals. Dropping it restores the caller's.
#[derive(Debug)]
pub struct Relay {
    master: OwnedFd,
    input: OwnedFd,
    output: OwnedFd,
    /// The caller's terminal as it was.
    before: Option<Termios>,
    waiting: Vec<u8>,
    /// The last byte of the input so far ended no line.
    mid_line: bool,
    input_open: bool,
    output_open: bool,
}

impl Relay {
    /// Connects `master` to the caller's input and output. An input that is a terminal is made
    /// raw, so that its keys reach the container's, and the container's gets its size.
    ///
    /// # Errors
    /// The modes of a terminal can't be changed.
    pub fn new(master: OwnedFd, input: OwnedFd, output: OwnedFd) -> Result<Self> {
        let flags = rustix::fs::fcntl_getfl(&master).op("read flags of terminal")?;
        rustix::fs::fcntl_setfl(&master, flags | OFlags::NONBLOCK).op("set flags of terminal")?;
        let mut relay = Self {
            master,
            input,
            output,
            before: None,
            waiting: Vec::new(),
            mid_line: false,
            input_open: true,
            output_open: true,
        };
        if let Ok(before) = tcgetattr(&relay.input) {
            let mut raw = before.clone();
            raw.make_raw();
            tcsetattr(&relay.input, OptionalActions::Now, &raw).op("make terminal raw")?;
            relay.before = Some(before);
        }
        relay.copy_size();
        Ok(relay)
    }

    /// Gives the container's terminal the size of the caller's, if that is one.
    fn copy_size(&self) {
        let size = tcgetwinsize(&self.input).or_else(|_| tcgetwinsize(&self.output));
        // A window without a size (a serial line) leaves what the specification said.
        if let Ok(size) = size
            && (size.ws_row, size.ws_col) != (0, 0)
        {
            let _: rustix::io::Result<()> = tcsetwinsize(&self.master, size);
        }
    }

    /// Copies until `process`, a descriptor that becomes readable at its end, has ended. A change
    /// of the window's size is passed on; other signals are given to `forward`. `also` is another
    /// descriptor to look after meanwhile, and what to do when something has come.
    ///
    /// # Errors
    /// Waiting is not possible.
    pub fn run(
        mut self,
        process: impl AsFd,
        signals: &Forwarder,
        forward: &mut dyn FnMut(i32),
        also: Option<(BorrowedFd<'_>, &dyn Fn())>,
    ) -> Result<()> {
        let mut peer_open = true;
        loop {
            let wish = |yes, flag| if yes { flag } else { PollFlags::empty() };
            let room = self.input_open && self.waiting.len() < WAITING;
            let to_master = wish(!self.waiting.is_empty(), PollFlags::OUT);
            let mut fds = vec![
                PollFd::new(&process, PollFlags::IN),
                PollFd::new(signals, PollFlags::IN),
            ];
            // What is not wished for still reports its hang-up, without end.
            let master = peer_open.then(|| {
                fds.push(PollFd::new(&self.master, PollFlags::IN | to_master));
                fds.len() - 1
            });
            let input = room.then(|| {
                fds.push(PollFd::new(&self.input, PollFlags::IN));
                fds.len() - 1
            });
            fds.extend(also.map(|(fd, _)| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
            match poll(&mut fds, (!peer_open).then_some(&RETRY)) {
                Err(Errno::INTR) => continue,
                other => other.op("wait for terminal")?,
            };
            let events: Vec<PollFlags> = fds.iter().map(PollFd::revents).collect();
            let ready = |index: Option<usize>| {
                index.is_some_and(|i| events.get(i).is_some_and(|e| !e.is_empty()))
            };
            if ready(Some(1)) {
                while let Some(signal) = signals.next() {
                    if signal == Signal::SIGWINCH as i32 {
                        self.copy_size();
                    } else {
                        forward(signal);
                    }
                }
            }
            if let Some((_, take)) = also {
                take();
            }
            if ready(input) {
                self.read_input();
            }
            if ready(master) || !peer_open {
                self.write_waiting();
                peer_open = self.show().is_some();
            }
            if ready(Some(0)) {
                // A read takes what is still on its way inside the kernel (drivers/tty/n_tty.c,
                // `n_tty_read`), so nothing more comes after "again".
                let mut shown = 0;
                while let Some(more) = self.show()
                    && more > 0
                    && shown < LAST
                {
                    shown += more;
                }
                return Ok(());
            }
        }
    }

    /// Shows a piece of the container's output; how much it was, or nothing when nobody has the
    /// container's side open.
    fn show(&mut self) -> Option<usize> {
        let mut buffer = [0; 16 * 1024];
        let read = match rustix::io::read(&self.master, &mut buffer) {
            Ok(0) | Err(Errno::IO) => return None,
            Ok(read) => read,
            Err(_) => return Some(0),
        };
        let mut rest = buffer.get(..read).unwrap_or_default();
        while self.output_open && !rest.is_empty() {
            match rustix::io::write(&self.output, rest) {
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(Errno::INTR) => {}
                // The caller's descriptor may be in that mode; it is not ours to change.
                Err(Errno::AGAIN) => {
                    let mut fds = [PollFd::new(&self.output, PollFlags::OUT)];
                    let _: rustix::io::Result<usize> = poll(&mut fds, None);
                }
                // Nobody looks any more; the process must not be stopped by that.
                Err(_) => self.output_open = false,
            }
        }
        Some(read)
    }

    fn read_input(&mut self) {
        let mut buffer = [0; 4096];
        match rustix::io::read(&self.input, &mut buffer) {
            Err(Errno::INTR | Errno::AGAIN) => {}
            Ok(0) | Err(_) => {
                self.input_open = false;
                self.end_input();
            }
            Ok(read) => {
                let read = buffer.get(..read).unwrap_or_default();
                self.mid_line = read.last().is_some_and(|last| *last != b'\n');
                self.waiting.extend_from_slice(read);
            }
        }
        self.write_waiting();
    }

    /// Tells the process that its input has ended, as a person at a terminal would: by the key for
    /// that, twice within a line (termios(3), `VEOF`).
    fn end_input(&mut self) {
        let Ok(modes) = tcgetattr(&self.master) else {
            return;
        };
        if modes.local_modes.contains(LocalModes::ICANON) {
            let key = modes.special_codes[SpecialCodeIndex::VEOF];
            let times = if self.mid_line { 2 } else { 1 };
            self.waiting.extend(std::iter::repeat_n(key, times));
        }
    }

    fn write_waiting(&mut self) {
        while !self.waiting.is_empty() {
            match rustix::io::write(&self.master, &self.waiting) {
                Ok(written) => drop(self.waiting.drain(..written)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Err(_) => self.waiting.clear(),
            }
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // A terminal that is gone needs nothing.
            let _: rustix::io::Result<()> = tcsetattr(&self.input, OptionalActions::Drain, before);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tty::Terminal;
    use crate::tty::tests::any_terminal;
    use rustix::pipe::pipe;
    use std::io::{Read, Write};
    use std::process::{Command, Stdio};

    /// Runs a shell script in a terminal of its own; what it shows, given an input.
    fn show(script: &str, input: &[u8]) -> String {
        let terminal = any_terminal();
        let side = || Stdio::from(terminal.peer.try_clone().expect("clone"));
        let mut child = Command::new("/bin/sh")
            .args(["-c", script])
            .stdin(side())
            .stdout(side())
            .stderr(side())
            .spawn()
            .expect("spawn");
        let pid = i32::try_from(child.id()).expect("pid");
        let pid = rustix::process::Pid::from_raw(pid).expect("pid");
        let pidfd =
            rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).expect("pidfd");
        let Terminal { master, peer, .. } = terminal;
        drop(peer);
        let (ours, give) = pipe().expect("pipe");
        let (take, theirs) = pipe().expect("pipe");
        let reader = std::thread::spawn(move || {
            let mut text = String::new();
            std::fs::File::from(take)
                .read_to_string(&mut text)
                .expect("read");
            text
        });
        std::fs::File::from(give).write_all(input).expect("write");
        let signals = Forwarder::new().expect("signals");
        let relay = Relay::new(master, ours, theirs).expect("relay");
        relay.run(pidfd, &signals, &mut |_| {}, None).expect("run");
        child.wait().expect("wait");
        reader.join().expect("reader")
    }

    #[test]
    fn nothing_written_at_the_end_is_lost() {
        for _ in 0..20 {
            let text = show(
                "i=0; while [ $i -lt 300 ]; do i=$((i+1)); echo $i; done",
                b"",
            );
            assert!(
                text.ends_with("\r\n300\r\n"),
                "{:?}",
                text.get(text.len() - 20..)
            );
            assert_eq!(text.lines().filter(|l| !l.is_empty()).count(), 300);
        }
    }

    #[test]
    fn the_end_of_the_input_arrives() {
        assert!(show("stty -echo; cat; echo done", b"line\n").contains("done"));
        assert!(show("stty -echo; cat; echo done", b"no line").ends_with("done\r\n"));
    }

    #[test]
    fn a_callers_terminal_is_raw_meanwhile_and_restored() {
        let terminal = any_terminal();
        let caller = any_terminal();
        caller
            .resize(crate::spec::ConsoleSize {
                height: 11,
                width: 22,
            })
            .expect("resize");
        let modes = || tcgetattr(&caller.peer).expect("modes").local_modes;
        let before = modes();
        let clone = |fd: &OwnedFd| fd.try_clone().expect("clone");
        let relay = Relay::new(
            clone(&terminal.master),
            clone(&caller.peer),
            clone(&caller.peer),
        )
        .expect("relay");
        assert!(before.contains(LocalModes::ICANON) && !modes().contains(LocalModes::ICANON));
        let size = tcgetwinsize(&terminal.peer).expect("size");
        assert_eq!((size.ws_row, size.ws_col), (11, 22));
        drop(relay);
        assert_eq!(modes(), before);
    }
}
