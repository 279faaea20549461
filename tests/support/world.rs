//! One test's world: an account, a home, a store, and files.
//!
//! Responsible for a directory that belongs to the account and starts out empty. Must not know
//! what the test is about. Invariant: two worlds share nothing but the registry.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use crate::image::{Image, Tree, flatten};
use crate::process::Command;
use crate::scratch;
use crate::user::{Account, User};

/// An account with a directory of its own.
#[derive(Debug)]
pub struct World {
    /// Which kind of user this is.
    pub user: User,
    /// The account.
    pub account: Account,
    /// The test's full name.
    pub test: String,
    directory: PathBuf,
}

impl World {
    /// Makes the world of one test, or says why this kind of user can't be had and returns `None`.
    pub fn new(user: User, test: &str) -> Option<Self> {
        match user.account() {
            Ok(account) => {
                // Short: a path of a socket has 108 bytes.
                let name = test.rsplit("::").take(3).collect::<Vec<_>>().join(".");
                let parent = scratch::directory().join(user.name());
                scratch::open_to_all(&parent);
                let world = Self {
                    user,
                    account,
                    test: test.to_owned(),
                    directory: parent.join(name),
                };
                world.own(&world.directory, 0o755);
                world.own(&world.home(), 0o700);
                world.own(&world.path("run"), 0o700);
                Some(world)
            }
            Err(why) => {
                crate::skip(test, &why);
                None
            }
        }
    }

    /// Makes a world with the same account and another home: somebody else's machine.
    ///
    /// # Panics
    /// When the directories can't be made.
    pub fn second(&self) -> Self {
        let test = format!("{}-2", self.test);
        Self::new(self.user, &test).expect("the account was there a moment ago")
    }

    /// Makes a world with the same account and context, and another home.
    ///
    /// # Panics
    /// When the context can't be copied.
    pub fn second_with_context(&self) -> Self {
        let second = self.second();
        second
            .command("cp")
            .arg("-a")
            .args([self.path("ctx"), second.path("ctx")])
            .ok();
        second
    }

    fn own(&self, path: &Path, mode: u32) {
        std::fs::create_dir_all(path).expect("make a directory");
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("set a mode");
        self.give(path);
    }

    fn give(&self, path: &Path) {
        if crate::user::is_root() {
            lchown(path, Some(self.account.uid), Some(self.account.gid)).expect("give a file away");
        }
    }

    /// Returns a path in this world.
    pub fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.directory.join(relative)
    }

    /// Returns the home directory.
    pub fn home(&self) -> PathBuf {
        self.path("home")
    }

    /// Returns a directory of the account with a path of at most 50 bytes, which is as much as
    /// podman takes for its sockets.
    pub fn short_directory(&self) -> PathBuf {
        let parent = self
            .directory
            .parent()
            .expect("it is below the run's directory");
        let names = self.directory.as_os_str().as_bytes();
        let sum = names
            .iter()
            .fold(0_u16, |sum, byte| sum.rotate_left(3) ^ u16::from(*byte));
        let path = parent.join(format!("{sum:x}"));
        self.own(&path, 0o700);
        path
    }

    /// Returns the store's directory.
    pub fn store(&self) -> PathBuf {
        self.home().join(".local/share/sandcrab")
    }

    /// Makes a directory with its parents.
    pub fn make_dir(&self, relative: &str) -> PathBuf {
        let mut path = self.directory.clone();
        for part in Path::new(relative) {
            path.push(part);
            if !path.exists() {
                std::fs::create_dir(&path).expect("make a directory");
                self.give(&path);
            }
        }
        path
    }

    /// Writes a file of mode 0644, with its parents.
    pub fn write(&self, relative: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        if let Some(parent) = Path::new(relative).parent() {
            self.make_dir(parent.to_str().expect("tests use plain names"));
        }
        let path = self.path(relative);
        std::fs::write(&path, contents).expect("write a file");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("set mode");
        self.give(&path);
        path
    }

    /// Changes the mode of a file.
    pub fn set_mode(&self, relative: &str, mode: u32) {
        let path = self.path(relative);
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("set mode");
    }

    /// Makes a symbolic link.
    pub fn link(&self, relative: &str, target: &str) {
        let path = self.path(relative);
        symlink(target, &path).expect("make a symbolic link");
        self.give(&path);
    }

    /// Makes a command that runs as the account, in this world's directory.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        Command::new(program, &self.account)
            .env("HOME", self.home())
            .env("USER", &self.account.name)
            .env("LOGNAME", &self.account.name)
            .env("XDG_RUNTIME_DIR", self.path("run"))
            .cwd(&self.directory)
    }

    /// Makes a `sandcrab` command.
    pub fn sandcrab<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Command {
        self.command(scratch::sandcrab()).args(arguments)
    }

    /// Makes a `sandcrab build` with plain progress, of the context in `ctx`.
    pub fn build<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Command {
        self.sandcrab(["build", "--progress=plain"])
            .args(arguments)
            .arg("ctx")
    }

    /// Writes `ctx/Dockerfile`.
    pub fn dockerfile(&self, text: &str) {
        self.write("ctx/Dockerfile", text);
    }

    /// Builds `ctx` with these arguments into an OCI archive, and opens it.
    ///
    /// # Panics
    /// When the build doesn't succeed.
    pub fn built<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Image {
        let output = ["--output=type=oci,dest=built.oci"];
        self.build(output.into_iter().chain(arguments)).ok();
        self.image("built.oci")
    }

    /// Builds `ctx` with these arguments and returns the resulting file system.
    ///
    /// # Panics
    /// When the build doesn't succeed.
    pub fn tree<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Tree {
        flatten(&self.built(arguments)).unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// Opens an image that was written into this world.
    ///
    /// # Panics
    /// When it can't be read.
    pub fn image(&self, relative: &str) -> Image {
        let path = self.path(relative);
        Image::open(path.to_str().expect("tests use plain names"))
            .unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// Returns all processes whose command line has `marker` in it, or their environment, as far as that
    /// may be read.
    pub fn processes_with(&self, marker: &str) -> Vec<String> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc")
            .expect("list processes")
            .flatten()
        {
            let pid = entry.file_name().to_string_lossy().into_owned();
            if !pid.bytes().all(|byte| byte.is_ascii_digit()) {
                continue;
            }
            let read = |name: &str| {
                let bytes = std::fs::read(entry.path().join(name)).unwrap_or_default();
                String::from_utf8_lossy(&bytes).replace('\0', " ")
            };
            let line = read("cmdline");
            if line.contains(marker) || read("environ").contains(marker) {
                found.push(format!("{pid}: {line}"));
            }
        }
        found
    }

    /// Expects that no process of this world's builds and no mount below its directory is left.
    ///
    /// # Panics
    /// When there still is one after fifteen seconds.
    #[track_caller]
    pub fn assert_nothing_left(&self, marker: &str) {
        // The kernel ends a tree after its first process has been waited for, not before.
        let mut left = Vec::new();
        for _ in 0..300 {
            left = self.processes_with(marker);
            if left.is_empty() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        assert!(left.is_empty(), "processes left behind: {left:#?}");
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("list mounts");
        let below = self.directory.to_str().expect("tests use plain names");
        let left: Vec<&str> = mounts.lines().filter(|line| line.contains(below)).collect();
        assert!(left.is_empty(), "mounts left behind: {left:#?}");
    }
}

/// A file system of a few MiB in a world, unmounted when dropped.
#[derive(Debug)]
pub struct SmallDisk {
    place: PathBuf,
}

impl SmallDisk {
    /// Mounts one of `mebibytes` at `relative`; `None` where the tests don't run as root.
    ///
    /// # Panics
    /// When it can't be mounted.
    pub fn mount(world: &World, relative: &str, mebibytes: u32) -> Option<Self> {
        Self::mount_as(world, relative, "tmpfs", &format!("size={mebibytes}m"))
    }

    /// Mounts a file system of this type with these options; it belongs to the account.
    ///
    /// # Panics
    /// When it can't be mounted.
    pub fn mount_as(world: &World, relative: &str, kind: &str, options: &str) -> Option<Self> {
        if !crate::user::is_root() {
            return None;
        }
        let place = world.make_dir(relative);
        mount(&["-t", kind, "-o", options, kind], &place);
        world.own(&place, 0o755);
        Some(Self { place })
    }

    /// Mounts it once more with other options.
    ///
    /// # Panics
    /// When it can't be mounted.
    pub fn remount(&self, options: &str) {
        mount(&["-o", &format!("remount,{options}")], &self.place);
    }
}

fn mount(arguments: &[&str], place: &Path) {
    let status = std::process::Command::new("mount")
        .args(arguments)
        .arg(place)
        .status()
        .expect("run mount");
    assert!(status.success(), "mount {arguments:?}");
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Whatever still uses it must not keep the tests from going on.
        std::process::Command::new("umount")
            .arg("--lazy")
            .arg(&self.place)
            .status()
            .ok();
    }
}
