//! What the machine is booted with: busybox, the programs under test, kernel modules, and accounts.
//!
//! Responsible for an archive that needs nothing else. Must not start the machine. Invariant: it
//! is the same whoever makes it, as all owners and modes are set here.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use support::process::find;

use crate::archive::Archive;

/// The modules that Debian's cloud kernel doesn't have built in, each after those it needs.
const MODULES: &[&str] = &[
    "fs/overlayfs/overlay",
    "drivers/virtio/virtio_ring",
    "drivers/virtio/virtio",
    "drivers/virtio/virtio_pci_legacy_dev",
    "drivers/virtio/virtio_pci_modern_dev",
    "drivers/virtio/virtio_pci",
    "drivers/block/virtio_blk",
];

/// The directories that are copied when the machine changes its root.
const COPIED: &str = "/bin\n/etc\n/lib\n/lib64\n/usr\n";

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh
subids:x:1000:1000::/disk/subids:/bin/sh
plain:x:1001:1001::/disk/plain:/bin/sh
";

const GROUP: &str = "root:x:0:
tty:x:5:
subids:x:1000:
plain:x:1001:
";

/// Makes the archive for a kernel's directory and a runtime.
pub(crate) fn make(kernel: &Path, runtime: &str) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    archive.device("/dev/console", (5, 1));
    // busybox's switch_root only leaves a root that looks like an initial one.
    archive.file("/init", 0o755, b"");
    archive.file("/copied", 0o644, COPIED.as_bytes());

    let busybox = find("busybox").context("find busybox")?;
    archive.file("/bin/busybox", 0o755, &fs::read(&busybox)?);
    archive.link("/bin/sh", "busybox");
    let applets = Command::new(&busybox).arg("--list").output()?;
    archive.file("/etc/applets", 0o644, &applets.stdout);

    for program in [
        "/bin/vm-guest=vm-guest",
        "/usr/bin/sandcrab-oci=sandcrab-oci",
        "/usr/bin/sandcrab=sandcrab",
    ] {
        let (path, name) = program.split_once('=').expect("both are there");
        archive.file(path, 0o755, &stripped(&built(name)?)?);
    }
    add_dynamic(&mut archive, "newuidmap")?;
    add_dynamic(&mut archive, "newgidmap")?;
    if runtime != "sandcrab-oci" {
        add_dynamic(&mut archive, runtime)?;
    }
    archive.file("/etc/runtime", 0o644, runtime.as_bytes());
    archive.file("/etc/passwd", 0o644, PASSWD.as_bytes());
    archive.file("/etc/group", 0o644, GROUP.as_bytes());
    archive.file("/etc/subuid", 0o644, b"subids:100000:65536\n");
    archive.file("/etc/subgid", 0o644, b"subids:100000:65536\n");

    let version = fs::read_to_string(kernel.join("version"))?;
    let directory = kernel.join("lib/modules").join(version.trim_end());
    let mut order = String::new();
    for module in MODULES {
        let path = directory.join(format!("kernel/{module}.ko"));
        let contents = fs::read(&path).with_context(|| format!("read `{}`", path.display()))?;
        let name = path.file_name().expect("it has a name").to_string_lossy();
        archive.file(&format!("/modules/{name}"), 0o644, &contents);
        order.push_str(&name);
        order.push('\n');
    }
    archive.file("/modules/order", 0o644, order.as_bytes());
    Ok(archive.finish())
}

/// Finds a program that cargo built beside this one.
pub(crate) fn built(name: &str) -> Result<PathBuf> {
    let tests = std::env::current_exe()?;
    tests
        .ancestors()
        .map(|directory| directory.join(name))
        .find(|path| path.is_file())
        .with_context(|| format!("{name} isn't built; `make test-vm` does it"))
}

/// Returns a program without what only a debugger needs, where strip(1) is there.
fn stripped(program: &Path) -> Result<Vec<u8>> {
    let copy = support::scratch::directory().join("stripped");
    let done = Command::new("strip")
        .arg("-o")
        .arg(&copy)
        .arg(program)
        .status()
        .is_ok_and(|status| status.success());
    let from = if done { copy.as_path() } else { program };
    fs::read(from).with_context(|| format!("read `{}`", from.display()))
}

/// Adds a program of this system with the libraries that it is linked to.
fn add_dynamic(archive: &mut Archive, name: &str) -> Result<()> {
    let program = find(name).with_context(|| format!("find {name}"))?;
    // A setuid program is only that in the machine.
    let mode = fs::metadata(&program)?.permissions().mode() & 0o7777;
    archive.file(&format!("/usr/bin/{name}"), mode, &fs::read(&program)?);
    let listed = Command::new("ldd").arg(&program).output()?;
    if !listed.status.success() {
        bail!("ldd {}", program.display());
    }
    for word in String::from_utf8_lossy(&listed.stdout).split_whitespace() {
        if word.starts_with('/') {
            let contents = fs::read(word).with_context(|| format!("read `{word}`"))?;
            archive.file(word, 0o755, &contents);
        }
    }
    Ok(())
}
