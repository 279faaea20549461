//! Layers against the kernel's overlay: what is seen through a mount is what the layer says.
//!
//! The outer tests start this test program again in namespaces of its own, made by unshare(1):
//! as root with all ids, with one id, and with container root as the namespace's id 1, where
//! these can be had.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use runtime::identity::{IdMap, Identity, Ownership};
use runtime::path::Root;
use rustix::fs::{OFlags, XattrFlags};
use rustix::mount::{MountFlags, UnmountFlags};

use super::diff::{DiffOptions, write_diff};
use super::tar_apply::{ApplyOptions, apply};
use super::testing::{Node, tree};

const IDS: &str = "SANDCRAB_TEST_IDS";

/// Runs [`inside`] under unshare(1) with these options.
fn run_inside(options: &[&str], ids: &str) {
    let usable = Command::new("unshare").args(options).arg("true").output();
    if !usable.is_ok_and(|output| output.status.success()) {
        println!("SKIP: `unshare {}` is not possible here", options.join(" "));
        return;
    }
    let output = Command::new("unshare")
        .args(options)
        .arg(std::env::current_exe().expect("this program"))
        .env("RUST_BACKTRACE", "0")
        .args([
            "--ignored",
            "--exact",
            "layer::overlay_tests::inside",
            "--nocapture",
        ])
        .env(IDS, ids)
        .output()
        .expect("run unshare");
    let text = String::from_utf8_lossy(&output.stdout);
    for line in text.lines().filter(|l| l.starts_with("SKIP")) {
        println!("{line}");
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}{errors}");
    assert!(text.contains("1 passed"), "{text}");
}

#[test]
fn as_root() {
    if !rustix::process::geteuid().is_root() {
        println!("SKIP: not root");
        return;
    }
    run_inside(&["--mount"], "0,65536");
}

#[test]
fn with_one_id() {
    run_inside(&["--user", "--map-root-user", "--mount"], "0,1");
}

#[test]
fn with_container_root_below_the_caller() {
    let options = ["--user", "--map-root-user", "--map-auto", "--mount"];
    run_inside(&options, "1,60000");
}

/// A small generator, so that a failing round can be run again by its number.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }

    /// A path at most three levels deep; names are few, so that they meet.
    fn path(&mut self, base: &Path) -> PathBuf {
        let mut path = base.to_path_buf();
        for _ in 0..=self.below(3) {
            path.push(["a", "b", "c", "d"][self.below(4) as usize]);
        }
        path
    }
}

/// Writes a file, but does not wait for a reader where there is a pipe.
fn write(path: &Path, text: &str) -> std::io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    let mut file = options
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(path)?;
    file.write_all(text.as_bytes())
}

fn mount(at: &Path, options: &str) {
    let options = std::ffi::CString::new(options).expect("no NUL");
    rustix::mount::mount("overlay", at, "overlay", MountFlags::empty(), &*options)
        .expect("mount an overlay");
}

struct Sandbox {
    dir: tempfile::TempDir,
    ids: IdMap,
    ownership: Ownership,
    mounts: Vec<PathBuf>,
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        for mount in &self.mounts {
            rustix::mount::unmount(mount, UnmountFlags::DETACH).expect("unmount");
        }
    }
}

impl Sandbox {
    fn make(&self, name: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::create_dir(&path).expect("mkdir");
        let root = Some(self.ids.first);
        std::os::unix::fs::chown(&path, root, root).expect("chown");
        path
    }

    /// Mounts an overlay on `lower`; returns the merged and the upper directory.
    fn mount(&mut self, lower: &Path, name: &str) -> (PathBuf, PathBuf) {
        let [merged, upper, work] =
            ["merged", "upper", "work"].map(|part| self.make(&format!("{name}-{part}")));
        let options = format!(
            "userxattr,lowerdir={},upperdir={},workdir={}",
            lower.display(),
            upper.display(),
            work.display()
        );
        mount(&merged, &options);
        self.mounts.push(merged.clone());
        (merged, upper)
    }

    /// Unmounts the last overlay and reads what a later step would see of it. (In the mount itself,
    /// a file that was linked after its copy-up keeps the inode number that it had.)
    fn look(&mut self, lower: &Path, upper: &Path) -> BTreeMap<String, Node> {
        let merged = self.mounts.pop().expect("a mount");
        rustix::mount::unmount(&merged, UnmountFlags::empty()).expect("unmount");
        let options = format!("userxattr,lowerdir={}:{}", upper.display(), lower.display());
        mount(&merged, &options);
        let seen = tree(&merged);
        rustix::mount::unmount(&merged, UnmountFlags::empty()).expect("unmount");
        seen
    }

    fn diff(&self, upper: &Path) -> Vec<u8> {
        let mut out = Vec::new();
        let upper = Root::open_host(upper).expect("open");
        let options = DiffOptions {
            ownership: &self.ownership,
            latest: None,
            without_user: false,
        };
        write_diff(&upper, options, &mut out).expect("diff");
        out
    }

    fn unpack(&self, archive: &[u8], dir: &Path) {
        let root = Root::open_host(dir).expect("open");
        let options = ApplyOptions::layer(&self.ownership);
        apply(archive, &root, &options).expect("unpack");
    }

    /// Does something at random to a tree; what cannot be done there is passed over.
    fn change(&self, random: &mut Random, base: &Path) -> std::io::Result<()> {
        let path = random.path(base);
        let other = random.path(base);
        let mut value = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec();
        if self.ids.first != 0 {
            value[3] = 3;
            value.extend_from_slice(&self.ids.first.to_le_bytes());
        }
        match random.below(16) {
            0..=2 => write(&path, &random.below(9999).to_string())?,
            3 => fs::create_dir(&path)?,
            4 => fs::remove_file(&path)?,
            5 => fs::remove_dir_all(&path)?,
            6 => {
                fs::remove_dir_all(&path)?;
                fs::create_dir(&path)?;
                symlink("not/here", path.join("b"))?;
                let root = Some(self.ids.first);
                std::os::unix::fs::lchown(path.join("b"), root, root)?;
            }
            7 => {
                fs::remove_dir_all(&path)?;
                write(&path, "in place of a directory")?;
            }
            8 => fs::hard_link(&path, &other)?,
            9 => fs::rename(&path, &other)?,
            10 => symlink("../some/where", &path)?,
            11 => {
                // Set-id bits too, but searchable for an owner who is not root.
                let mode = random.below(0o10000) as u32 | 0o700;
                fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
            }
            12 => rustix::fs::lsetxattr(&path, "user.x", b"value", XattrFlags::empty())?,
            13 => {
                let uid = self.ids.first + random.below(self.ids.count.into()) as u32;
                std::os::unix::fs::lchown(&path, Some(uid), Some(self.ids.first))?;
            }
            14 => rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RUSR)?,
            _ => write(&path, "program")?,
        }
        // New files are the caller's, whom the container does not know.
        if let Ok(meta) = path.symlink_metadata() {
            use std::os::unix::fs::MetadataExt;
            if self.ids.to_container(meta.uid()).is_none() {
                let root = Some(self.ids.first);
                std::os::unix::fs::lchown(&path, root, root)?;
            }
        }
        // After the owner, whose change takes capabilities away.
        if random.below(10) == 0 && path.symlink_metadata()?.is_file() {
            rustix::fs::lsetxattr(&path, "security.capability", &value, XattrFlags::empty())?;
        }
        Ok(())
    }
}

#[test]
#[ignore = "started by the other tests, in namespaces"]
fn inside() {
    let ids = std::env::var(IDS).expect("set by the outer test");
    let (first, count) = ids.split_once(',').expect("two numbers");
    let ids = IdMap {
        first: first.parse().expect("a number"),
        count: count.parse().expect("a number"),
    };
    let mut layers = Vec::new();
    for round in 0..25 {
        let mut random = Random(round);
        let dir = tempfile::tempdir().expect("temporary directory");
        let mut sandbox = Sandbox {
            dir,
            ids,
            ownership: Ownership::new(Identity::Subids, ids),
            mounts: Vec::new(),
        };
        let lower = sandbox.make("lower");
        for _ in 0..60 {
            drop(sandbox.change(&mut random, &lower));
        }
        let lower_layer = sandbox.diff(&lower);
        let (merged, upper) = sandbox.mount(&lower, "step");
        for _ in 0..30 {
            drop(sandbox.change(&mut random, &merged));
        }
        let seen = sandbox.look(&lower, &upper);
        let layer = sandbox.diff(&upper);
        layers.extend_from_slice(&layer);

        let flat = sandbox.make("flat");
        sandbox.unpack(&lower_layer, &flat);
        assert_eq!(tree(&flat), tree(&lower), "round {round}: the lower tree");
        sandbox.unpack(&layer, &flat);
        assert_eq!(tree(&flat), seen, "round {round}: unpacked over a copy");

        let (merged, upper) = sandbox.mount(&lower, "pull");
        sandbox.unpack(&layer, &merged);
        assert_eq!(
            tree(&merged),
            seen,
            "round {round}: unpacked over the mount"
        );

        let again = sandbox.diff(&upper);
        let flat = sandbox.make("flat-again");
        sandbox.unpack(&lower_layer, &flat);
        sandbox.unpack(&again, &flat);
        assert_eq!(tree(&flat), seen, "round {round}: packed again");
    } // That the rounds have tried something.
    for part in ["/.wh.", ".wh..wh..opq", "user.x", "security.capability"] {
        let found = layers.windows(part.len()).any(|w| w == part.as_bytes());
        assert!(found, "no layer has {part}");
    }
}
