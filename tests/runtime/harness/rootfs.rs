//! Root file systems of bundles.
//!
//! Responsible for a small tree with busybox, and with the probe where a test asks for it. Must
//! not know about configuration.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use support::World;

/// Fills a directory of the world. The programs in it are links to one copy.
pub(crate) fn make(world: &World, relative: &str) {
    for directory in [
        "bin", "dev", "etc", "proc", "root", "run", "sbin", "sys", "tmp", "usr/bin", "var",
    ] {
        world.make_dir(&format!("{relative}/{directory}"));
    }
    let root = world.path(relative);
    place(busybox(), &root.join("bin/busybox"));
    for applet in applets() {
        symlink("busybox", root.join("bin").join(applet)).expect("link an applet");
    }
    world.write(
        &format!("{relative}/etc/passwd"),
        "root:x:0:0:root:/root:/bin/sh\nmail:x:8:8:mail:/var/mail:/bin/sh\n\
         app:x:1000:1001:App:/tmp:/bin/sh\n",
    );
    world.write(
        &format!("{relative}/etc/group"),
        "root:x:0:\ntty:x:5:\nmail:x:8:\nstaff:x:50:app\napp:x:1001:\n",
    );
    world.set_mode(&format!("{relative}/tmp"), 0o1777);
}

/// Adds `/bin/probe` with the libraries that it needs.
pub(crate) fn add_probe(world: &World, relative: &str) {
    let probe = Path::new(env!("CARGO_BIN_EXE_probe"));
    let listed = Command::new("ldd").arg(probe).output().expect("run ldd");
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let root = world.path(relative);
    for library in listed
        .split_whitespace()
        .filter(|word| word.starts_with('/'))
    {
        let inside = library.trim_start_matches('/');
        let parent = Path::new(inside)
            .parent()
            .expect("a library has a directory");
        world.make_dir(&format!("{relative}/{}", parent.display()));
        copy(Path::new(library), &root.join(inside));
    }
    copy(probe, &root.join("bin/probe"));
}

fn busybox() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let found = support::process::find("busybox").expect("busybox-static is installed");
        support::scratch::install(&found)
    })
}

fn applets() -> &'static [String] {
    static NAMES: OnceLock<Vec<String>> = OnceLock::new();
    NAMES.get_or_init(|| {
        // Not the copy: it may be open for writing still in a child of another test.
        let found = support::process::find("busybox").expect("busybox-static is installed");
        let output = Command::new(found).arg("--list").output();
        let text = String::from_utf8(output.expect("run busybox").stdout).expect("names");
        let names = text.lines().filter(|name| *name != "busybox");
        names.map(str::to_owned).collect()
    })
}

/// Links a file, or copies it where it can't be linked.
fn place(from: &Path, to: &Path) {
    if std::fs::hard_link(from, to).is_err() {
        copy(from, to);
    }
}

fn copy(from: &Path, to: &Path) {
    if !to.exists() {
        std::fs::copy(from, to)
            .unwrap_or_else(|error| panic!("copy `{}`: {error}", from.display()));
    }
}
