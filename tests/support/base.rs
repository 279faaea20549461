//! Base images that tests build on.
//!
//! Responsible for making them from what the system has: its static busybox, and Debian packages
//! from its mirror. Must not serve them; [`crate::Registry`] does.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::layer::{
    Layer, PlatformLayers, architecture, by_root, owned, write_layout, write_layout_of,
};
use crate::scratch;

/// A base image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Base {
    /// Busybox; every file belongs to 0:0.
    Busybox,
    /// Busybox with files of several owners, set-id bits and a file capability.
    Owners,
    /// Several layers on [`Base::Owners`]: whiteouts, opaque directories, replaced kinds, links.
    Layered,
    /// Busybox with ONBUILD triggers; in Docker's format, which alone has them for every tool.
    Triggers,
    /// Debian, by mmdebstrap.
    Debian,
    /// Debian with what asks for owners in many ways: interpreters, rsync, capabilities' tools.
    Tools,
    /// Busybox, and a shell with its libraries, as an index for this machine's platform and for
    /// [`FOREIGN`].
    Platforms,
}

/// The other platform's architecture.
pub const FOREIGN: &str = "arm64";

/// What [`Base::Tools`] has and [`Base::Debian`] has not.
const TOOLS: [&str; 7] = [
    "acl",
    "busybox-static",
    "libcap2-bin",
    "procps",
    "python3",
    "rsync",
    "strace",
];

/// The capability `cap_net_bind_service=ep` as the kernel stores it, version 2.
pub const NET_BIND_SERVICE: [u8; 20] = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

impl Base {
    /// Returns the repository name under which a registry has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Busybox => "busybox",
            Self::Owners => "owners",
            Self::Layered => "layered",
            Self::Triggers => "triggers",
            Self::Debian => "debian",
            Self::Tools => "tools",
            Self::Platforms => "platforms",
        }
    }

    /// Makes it where it isn't there yet, and returns it as `skopeo` names it.
    ///
    /// # Errors
    /// The reason why it can't be had, for a skipped test.
    pub fn make(self) -> Result<String, String> {
        if let Self::Debian | Self::Tools = self {
            return debian(self).map(|path| format!("docker-archive:{}", path.display()));
        }
        let directory = scratch::directory().join("base").join(self.name());
        if self == Self::Platforms && !directory.join("index.json").exists() {
            write_layout_of(&directory, &platforms()?, &config());
        }
        if !directory.join("index.json").exists() {
            let config = self.config();
            write_layout(&directory, &self.layers()?, &config);
        }
        Ok(format!("oci:{}:fixture", directory.display()))
    }

    /// Returns the layers of a base on busybox, bottom first, as tar archives.
    ///
    /// # Errors
    /// The reason why they can't be had.
    pub fn layers(self) -> Result<Vec<Vec<u8>>, String> {
        Ok(match self {
            Self::Busybox | Self::Triggers => vec![busybox(false)?.finish()],
            Self::Owners => vec![busybox(true)?.finish()],
            Self::Layered => vec![busybox(true)?.finish(), second_layer(), third_layer()],
            Self::Debian | Self::Tools | Self::Platforms => unreachable!("made elsewhere"),
        })
    }

    fn config(self) -> Value {
        let mut config = config();
        if self == Self::Triggers {
            config["OnBuild"] = json!(["ENV TRIGGERED=yes", "RUN echo triggered >/triggered"]);
        }
        config
    }
}

/// Returns the `config` object that all images have that are made here.
pub(crate) fn config() -> Value {
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    json!({"Env": [path], "Cmd": ["sh"]})
}

/// One layer for each platform.
fn platforms() -> Result<Vec<PlatformLayers>, String> {
    [architecture(), FOREIGN]
        .into_iter()
        .map(|architecture| {
            let files = foreign(architecture)?;
            let (_, program) = files
                .iter()
                .find(|(path, _)| path == "bin/busybox")
                .ok_or("no busybox in the package")?;
            let mut layer = busybox_with(false, program)?;
            for directory in [
                "lib",
                "lib64",
                "lib/aarch64-linux-gnu",
                "lib/x86_64-linux-gnu",
            ] {
                layer = layer.dir(directory, by_root(0o755));
            }
            for (path, bytes) in &files {
                if path != "bin/busybox" {
                    layer = layer.file(path, by_root(0o755), bytes);
                }
            }
            Ok((architecture, vec![layer.finish()]))
        })
        .collect()
}

/// Returns what [`Base::Platforms`] has of Debian's packages for an architecture: a static program,
/// and one with the libraries it needs.
fn foreign(architecture: &str) -> Result<Vec<(String, Vec<u8>)>, String> {
    let path = scratch::fixtures().join(format!("foreign-{architecture}.tar"));
    if !path.exists() {
        let script = crate::user::repository().join("tests/support/foreign-files");
        let output = Command::new(script)
            .arg(&path)
            .args([architecture, "busybox-static", "dash"])
            .output()
            .map_err(|error| error.to_string())?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            let last = text.lines().last().unwrap_or("no message");
            return Err(format!("no packages for {architecture}: {last}"));
        }
    }
    let file = std::fs::File::open(&path).map_err(|error| error.to_string())?;
    let mut archive = tar::Archive::new(std::io::BufReader::new(file));
    let mut found = Vec::new();
    for entry in archive.entries().map_err(|error| error.to_string())? {
        let mut entry = entry.map_err(|error| error.to_string())?;
        let name = entry.path().map_err(|error| error.to_string())?;
        let name = name.to_string_lossy().trim_start_matches("./").to_owned();
        let last = name.rsplit('/').next().unwrap_or_default();
        let wanted = matches!(name.as_str(), "bin/busybox" | "bin/dash")
            || (name.starts_with("lib/") && (last == "libc.so.6" || last.starts_with("ld-linux")));
        if !wanted || !entry.header().entry_type().is_file() {
            continue;
        }
        let mut bytes = Vec::new();
        entry
            .read_to_end(&mut bytes)
            .map_err(|error| error.to_string())?;
        // The name that programs ask for is a link to the one in the directory of the architecture.
        let name = match last {
            "ld-linux-aarch64.so.1" => "lib/ld-linux-aarch64.so.1".to_owned(),
            "ld-linux-x86-64.so.2" => "lib64/ld-linux-x86-64.so.2".to_owned(),
            _ => name,
        };
        found.push((name, bytes));
    }
    Ok(found)
}

/// The first layer of all small images. With `owners`, as several users would leave it.
fn busybox(owners: bool) -> Result<Layer, String> {
    let program = ["/bin/busybox", "/usr/bin/busybox"]
        .into_iter()
        .find(|path| Path::new(path).exists())
        .ok_or("no busybox")?;
    let bytes = std::fs::read(program).map_err(|error| format!("{program}: {error}"))?;
    busybox_with(owners, &bytes)
}

/// As [`busybox`], with a program that may be for another processor.
fn busybox_with(owners: bool, bytes: &[u8]) -> Result<Layer, String> {
    let applets = Command::new("busybox")
        .arg("--list")
        .output()
        .map_err(|e| e.to_string())?;

    let mut layer =
        Layer::empty()
            .dir("bin", by_root(0o755))
            .file("bin/busybox", by_root(0o755), bytes);
    for applet in String::from_utf8_lossy(&applets.stdout).lines() {
        if applet != "busybox" {
            layer = layer.symlink(&format!("bin/{applet}"), "busybox");
        }
    }
    layer = layer
        .dir("dev", by_root(0o755))
        .dir("etc", by_root(0o755))
        .file(
            "etc/passwd",
            by_root(0o644),
            b"root:x:0:0:root:/root:/bin/sh\nmail:x:8:8:mail:/var/mail:/bin/false\n\
              www-data:x:33:33:www-data:/var/www:/bin/false\napp:x:1000:1001:App:/home/app:/bin/sh\n\
              nobody:x:65534:65534:nobody:/:/bin/false\n",
        )
        .file(
            "etc/group",
            by_root(0o644),
            b"root:x:0:\nmail:x:8:\nwww-data:x:33:app\nshadow:x:42:\nstaff:x:50:app\n\
              app:x:1001:\nnogroup:x:65534:\n",
        )
        .dir("home", by_root(0o755))
        .dir("proc", by_root(0o555))
        .dir("root", by_root(0o700))
        .dir("run", by_root(0o755))
        .dir("sys", by_root(0o555))
        .dir("tmp", by_root(0o1777))
        .dir("usr", by_root(0o755))
        .dir("usr/bin", by_root(0o755))
        .dir("var", by_root(0o755))
        // Files that the container engines put here during RUN, so that an engine which makes
        // them itself leaves no trace of having done so.
        .file("etc/hostname", by_root(0o644), b"")
        .file("etc/hosts", by_root(0o644), b"")
        .file("etc/resolv.conf", by_root(0o644), b"");
    if owners {
        layer = layer
            .file(
                "etc/shadow",
                owned(0o640, 0, 42),
                b"root:*:19000:0:99999:7:::\n",
            )
            .dir("home/app", owned(0o750, 1000, 1001))
            .file(
                "home/app/.profile",
                owned(0o644, 1000, 1001),
                b"umask 022\n",
            )
            .dir("var/mail", owned(0o2775, 0, 8))
            .dir("var/www", owned(0o755, 33, 33))
            .file("usr/bin/setuid", owned(0o4755, 0, 0), b"#!/bin/sh\n")
            .file("usr/bin/setgid", owned(0o2755, 0, 42), b"#!/bin/sh\n")
            .file("var/nobody", owned(0o600, 65534, 65534), b"")
            .file_with(
                "usr/bin/server",
                by_root(0o755),
                b"#!/bin/sh\n",
                &[("security.capability", &NET_BIND_SERVICE)],
            );
    }
    Ok(layer)
}

fn second_layer() -> Vec<u8> {
    Layer::empty()
        .dir("data", by_root(0o755))
        .file("data/gone", by_root(0o644), b"hidden by a whiteout")
        .file("data/kept", by_root(0o644), b"kept")
        .file("data/original", owned(0o640, 33, 33), b"two names")
        .hard_link("data/linked", "data/original", owned(0o640, 33, 33))
        .fifo("data/pipe", owned(0o620, 0, 8))
        .dir("data/opaque", by_root(0o755))
        .file(
            "data/opaque/old",
            by_root(0o644),
            b"hidden by an opaque directory",
        )
        .dir("data/opaque/deep", by_root(0o755))
        .file("data/opaque/deep/old", by_root(0o644), b"hidden")
        .file("data/becomes-dir", by_root(0o644), b"a file")
        .dir("data/becomes-file", by_root(0o755))
        .file(
            "data/becomes-file/inner",
            by_root(0o644),
            b"hidden by a file",
        )
        .symlink("data/becomes-real", "kept")
        .dir("data/gone-dir", by_root(0o755))
        .file("data/gone-dir/inner", by_root(0o644), b"hidden")
        .file_with(
            "data/attr",
            by_root(0o644),
            b"x",
            &[("user.note", b"from the base \x00\xff")],
        )
        .finish()
}

fn third_layer() -> Vec<u8> {
    Layer::empty()
        .dir("data", owned(0o755, 0, 50))
        .whiteout("data/gone")
        .whiteout("data/gone-dir")
        .dir("data/opaque", by_root(0o700))
        // A file of this layer, before the mark that hides those of lower layers.
        .file("data/opaque/new", by_root(0o644), b"new")
        .opaque("data/opaque")
        .dir("data/becomes-dir", by_root(0o755))
        .file("data/becomes-dir/inner", by_root(0o644), b"inner")
        .file("data/becomes-file", by_root(0o644), b"a file now")
        .file("data/becomes-real", by_root(0o644), b"no link any more")
        .file(
            "data/.whale",
            by_root(0o644),
            b"begins like a whiteout, but is none",
        )
        .finish()
}

/// Makes a Debian base, once for all runs.
fn debian(base: Base) -> Result<PathBuf, String> {
    static MADE: [OnceLock<Result<PathBuf, String>>; 2] = [OnceLock::new(), OnceLock::new()];
    let (made, packages): (_, &[&str]) = match base {
        Base::Tools => (&MADE[1], &TOOLS),
        _ => (&MADE[0], &[]),
    };
    made.get_or_init(|| {
        let path = scratch::fixtures().join(format!("{}.tar", base.name()));
        // Older than a fortnight, its packages are no longer those of the mirror.
        let fresh = std::fs::metadata(&path)
            .and_then(|meta| meta.modified())
            .is_ok_and(|made| made.elapsed().is_ok_and(|age| age.as_secs() < 14 * 86400));
        if fresh {
            return Ok(path);
        }
        let script = crate::user::repository().join("tests/support/debian-base");
        let output = Command::new(script)
            .arg(&path)
            .arg(format!("docker.io/library/{}:12-slim", base.name()))
            .args(packages)
            .output()
            .map_err(|error| error.to_string())?;
        if output.status.success() {
            Ok(path)
        } else {
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            let last = text.lines().last().unwrap_or("no message");
            Err(format!("no Debian base image: {last}"))
        }
    })
    .clone()
}
