//! One virtual machine, by qemu's software emulation.
//!
//! Responsible for its start, for the lines of its report, and for its end by a deadline. Must not
//! know what the lines say. Invariant: qemu ends with this program, however that ends.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use support::process::find;
use support::scratch;

/// A machine that runs.
#[derive(Debug)]
pub(crate) struct Machine {
    qemu: Child,
    lines: Receiver<String>,
    console: PathBuf,
    deadline: Instant,
}

impl Machine {
    /// Boots a kernel with an initial file system, whose first process is `/bin/vm-guest`.
    pub(crate) fn boot(
        kernel: &Path,
        archive: &[u8],
        filters: &[String],
        limit: Duration,
    ) -> Result<Self> {
        let directory = scratch::directory();
        let [initrd, disk, console] =
            ["initrd", "disk", "console"].map(|name| directory.join(name));
        fs::write(&initrd, archive)?;
        make_disk(&disk)?;
        let mut qemu = Command::new(find("qemu-system-x86_64").context("find qemu")?)
            .args(["-nodefaults", "-no-user-config", "-no-reboot"])
            .args(["-display", "none"])
            .args(["-machine", "pc,accel=tcg", "-cpu", "Nehalem"])
            .args(["-smp", "2", "-m", "1024"])
            .arg("-kernel")
            .arg(kernel.join("vmlinuz"))
            .arg("-initrd")
            .arg(&initrd)
            .arg("-append")
            .arg(format!(
                "console=ttyS0 quiet panic=-1 mitigations=off rdinit=/bin/vm-guest vm.filter={}",
                filters.join(",")
            ))
            .arg("-drive")
            .arg(format!(
                "if=virtio,format=raw,cache=unsafe,file={}",
                disk.display()
            ))
            .args(["-serial", &format!("file:{}", console.display())])
            .args(["-serial", "stdio"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("start qemu")?;
        scratch::end_with_us(qemu.id());
        let report = qemu.stdout.take().context("qemu's output")?;
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(report).split(b'\n') {
                let Ok(line) = line else { break };
                let line = String::from_utf8_lossy(&line).into_owned();
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self {
            qemu,
            lines,
            console,
            deadline: Instant::now() + limit,
        })
    }

    /// Returns the next line of the report; `None` when the machine has ended.
    pub(crate) fn line(&self) -> Result<Option<String>> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        match self.lines.recv_timeout(left) {
            Ok(line) => Ok(Some(line)),
            Err(RecvTimeoutError::Disconnected) => Ok(None),
            Err(RecvTimeoutError::Timeout) => bail!("the machine took too long"),
        }
    }

    /// Returns what the kernel said.
    pub(crate) fn console(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.console).unwrap_or_default()).into_owned()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.qemu.kill().ok();
        drop(self.qemu.wait());
    }
}

/// Makes an empty disk of 2 GiB, which takes no room here until it is written.
fn make_disk(path: &Path) -> Result<()> {
    let made = Command::new(find("mke2fs").context("find mke2fs")?)
        .args(["-q", "-F", "-t", "ext4", "-E", "lazy_itable_init=1"])
        .arg(path)
        .arg("2g")
        .output()?;
    ensure!(
        made.status.success(),
        "mke2fs: {}",
        String::from_utf8_lossy(&made.stderr)
    );
    Ok(())
}
