//! Ctrl-C and its relatives.
//!
//! Responsible for turning SIGINT, SIGTERM and SIGHUP into a raised flag, and a second one into
//! an immediate end; and for leaving the terminal as it was when SIGTSTP (Ctrl-Z) stops the process. Must not
//! clean up anything itself. Invariant: the signals are blocked in the thread that calls [`listen`] and in
//! all that it starts later, so that they reach only the thread that waits for them; a signal that was
//! ignored at the start (nohup) stays ignored.

use std::convert::Infallible;
use std::io::Write;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal, raise};

use super::exit;
use crate::cancel::{Cancel, Cause};
use crate::error::{Result, ResultExt};
use crate::progress::{Place, Renderer};

/// The signals that end a build.
const ENDING: [Signal; 3] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];

/// How long further signals count as the first one: timeout(1), for example, sends its signal to
/// the process and then to its group.
const ECHO: Duration = Duration::from_millis(500);

/// Starts to listen; call it in the main thread before any other is started, and after the
/// spawner was forked, whose children would inherit the blocked signals.
///
/// # Errors
/// When the signals can't be blocked or no thread can be started.
pub(super) fn listen(cancel: Cancel) -> Result<Listener> {
    let ignored = std::fs::read_to_string("/proc/self/status")
        .map(|status| ignored_signals(&status))
        .unwrap_or_default();
    let heard: SigSet = ENDING
        .into_iter()
        .chain([Signal::SIGTSTP])
        .filter(|signal| !is_in(ignored, *signal))
        .collect();
    heard.thread_block().op("block signals")?;
    let place = Arc::new(OnceLock::new());
    let known = Arc::clone(&place);
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || wait(heard, &cancel, &known))
        .op("start thread for signals")?;
    Ok(Listener { place })
}

/// A thread that listens.
#[derive(Debug)]
pub(super) struct Listener {
    place: Arc<OnceLock<Place>>,
}

impl Listener {
    /// Names the renderer whose terminal is to be restored at an immediate end, or a stop.
    pub(super) fn restores(&self, renderer: &Renderer) {
        self.place.get_or_init(|| renderer.place());
    }
}

fn wait(heard: SigSet, cancel: &Cancel, place: &OnceLock<Place>) -> Option<Infallible> {
    let first = next(heard, place)?;
    let raised = Instant::now();
    cancel.raise(Cause::Signal(first as i32));
    let mut second = next(heard, place)?;
    while raised.elapsed() < ECHO {
        second = next(heard, place)?;
    }
    restore(place.get());
    // The sandboxes die with this process: each was started with a parent-death signal.
    let kind = crate::error::Kind::Interrupted(second as i32);
    std::process::exit(exit::code(kind).into())
}

/// Waits for a signal that ends the process.
fn next(heard: SigSet, place: &OnceLock<Place>) -> Option<Signal> {
    loop {
        match heard.wait().ok()? {
            Signal::SIGTSTP => stop(place.get()).ok()?,
            signal => return Some(signal),
        }
    }
}

/// Does what SIGTSTP does by itself, and what comes before and after it; returns when the process goes on.
fn stop(place: Option<&Place>) -> nix::Result<()> {
    let only = SigSet::from(Signal::SIGTSTP);
    place.iter().for_each(|place| place.leave());
    restore(place);
    only.thread_unblock()?;
    raise(Signal::SIGTSTP)?;
    only.thread_block()?;
    place.iter().for_each(|place| place.resume());
    Ok(())
}

/// Brings the terminal back to its usual state.
fn restore(place: Option<&Place>) {
    if let Some(place) = place {
        drop(std::io::stderr().write_all(place.reset_sequence()));
    }
}

/// Returns the `SigIgn` mask of proc_pid_status(5).
fn ignored_signals(status: &str) -> u64 {
    status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}

fn is_in(mask: u64, signal: Signal) -> bool {
    mask & (1 << (signal as i32 - 1)) != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_read() {
        let mask =
            ignored_signals("Name:\tx\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\n");
        assert!(is_in(mask, Signal::SIGHUP));
        assert!(is_in(mask, Signal::SIGPIPE));
        assert!(!is_in(mask, Signal::SIGINT));
        assert_eq!(ignored_signals(""), 0);
    }
}
