//! Ctrl-C and its relatives.
//!
//! Responsible for turning SIGINT, SIGTERM and SIGHUP into a raised flag, and a second one into
//! an immediate end. Must not clean up anything itself. Invariant: the signals are blocked in the
//! thread that calls [`listen`] and in all that it starts later, so that they reach only the
//! thread that waits for them; a signal that was ignored at the start (nohup) stays ignored.

use std::convert::Infallible;
use std::io::Write;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};

use super::exit;
use crate::cancel::{Cancel, Cause};
use crate::error::{Result, ResultExt};
use crate::progress::Renderer;

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
        .filter(|signal| !is_in(ignored, *signal))
        .collect();
    heard.thread_block().op("block signals")?;
    let reset = std::sync::Arc::new(std::sync::OnceLock::new());
    let known = std::sync::Arc::clone(&reset);
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || wait(heard, &cancel, &known))
        .op("start thread for signals")?;
    Ok(Listener { reset })
}

/// A thread that listens.
#[derive(Debug)]
pub(super) struct Listener {
    reset: std::sync::Arc<std::sync::OnceLock<&'static [u8]>>,
}

impl Listener {
    /// Names the renderer whose terminal is to be restored at an immediate end.
    pub(super) fn restores(&self, renderer: &Renderer) {
        self.reset.get_or_init(|| renderer.reset_sequence());
    }
}

fn wait(
    heard: SigSet,
    cancel: &Cancel,
    reset: &std::sync::OnceLock<&'static [u8]>,
) -> Option<Infallible> {
    let first = heard.wait().ok()?;
    let raised = Instant::now();
    cancel.raise(Cause::Signal(first as i32));
    let mut second = heard.wait().ok()?;
    while raised.elapsed() < ECHO {
        second = heard.wait().ok()?;
    }
    if let Some(reset) = reset.get() {
        drop(std::io::stderr().write_all(reset));
    }
    // The sandboxes die with this process: each was started with a parent-death signal.
    let kind = crate::error::Kind::Interrupted(second as i32);
    std::process::exit(exit::code(kind).into())
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
