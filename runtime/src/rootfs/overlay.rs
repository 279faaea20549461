//! Overlay mounts of layers.
//!
//! Responsible for one detached overlay of any number of layers that the kernel takes (500,
//! `OVL_MAX_STACK`). Must not know what a layer holds. Invariant: paths may be of any length and
//! hold any byte; none is interpreted by the kernel's option parser.
//!
//! Every mount uses `userxattr` (Linux 5.11), so layers are the same whoever mounts them.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, unshare};
use rustix::fs::{FsWord, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::mount;
use crate::error::{Cause, Error, Result, ResultExt};

/// The most layers that the kernel stacks.
pub const MAX_LOWERS: usize = 500;

/// Where an overlay keeps what is written.
#[derive(Debug, Clone, Copy)]
pub struct Upper<'a> {
    /// Directory that receives changes.
    pub dir: &'a Path,
    /// Empty directory on the same file system, for the kernel's own use.
    pub work: &'a Path,
    /// Whether fsync(2) and unmounting write through to the disk. Without it a crash of the
    /// machine may lose or tear what was written, and the pair can't be mounted again.
    pub durable: bool,
}

/// Mounts layers, topmost first, and returns the detached mount.
///
/// With an upper directory the mount is writable and not durable (`volatile`): what a build step
/// writes is worth nothing after a crash. Without one it is read-only; one layer then needs no
/// overlay and is a bind mount.
///
/// # Errors
/// Those of the mount API; more than [`MAX_LOWERS`] layers.
pub fn mount(lowers: &[impl AsRef<Path>], upper: Option<(&Path, &Path)>) -> Result<OwnedFd> {
    let upper = upper.map(|(dir, work)| Upper {
        dir,
        work,
        durable: false,
    });
    mount_with(lowers, upper)
}

/// Like [`mount()`], with a choice of durability.
pub fn mount_with(lowers: &[impl AsRef<Path>], upper: Option<Upper<'_>>) -> Result<OwnedFd> {
    let lowers: Vec<&Path> = lowers.iter().map(AsRef::as_ref).collect();
    if lowers.len() > MAX_LOWERS {
        return Err(Error::new(format!(
            "mount overlay: {} layers, and the kernel takes {MAX_LOWERS}",
            lowers.len()
        )));
    }
    let Some(first) = lowers.first() else {
        return Err(Error::new("mount overlay: no layers"));
    };
    if lowers.len() == 1 && upper.is_none() {
        let fd = mount::copy(first, false).op_path("mount layer", first)?;
        let flags = MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NODEV;
        mount::restrict(fd.as_fd(), false, flags).op_path("mount layer", first)?;
        return Ok(fd);
    }
    match Parts::open(&lowers, upper)?.mount() {
        // Before Linux 6.7 `lowerdir+` is unknown; some kernels notice only when they create.
        Err(Errno::INVAL | Errno::NOSYS) => mount_by_one_string(&lowers, upper),
        other => other.map_err(|errno| refused(errno, upper)),
    }
}

/// Tries a writable overlay. Inside, says whether the kernel takes one option per layer.
pub(crate) fn try_mount(lowers: &[&PathBuf], upper: &Path, work: &Path) -> Result<Result<()>> {
    let lowers: Vec<&Path> = lowers.iter().map(|p| p.as_path()).collect();
    let upper = Upper {
        dir: upper,
        work,
        durable: false,
    };
    match Parts::open(&lowers, Some(upper))?.mount() {
        Ok(_) => Ok(Ok(())),
        Err(errno @ (Errno::INVAL | Errno::NOSYS)) => {
            mount_by_one_string(&lowers, Some(upper))?;
            Ok(Err(Error::new("mount overlay").cause(errno)))
        }
        Err(errno) => Err(refused(errno, Some(upper))),
    }
}

/// The directories of an overlay, open, so that their names are short whatever the paths are.
struct Parts {
    lowers: Vec<OwnedFd>,
    upper: Option<(OwnedFd, OwnedFd)>,
    volatile: bool,
    _room: Room,
}

impl Parts {
    fn open(lowers: &[&Path], upper: Option<Upper<'_>>) -> Result<Self> {
        let open = |path: &Path| {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            rustix::fs::open(path, flags, Mode::empty()).op_path("open layer", path)
        };
        let room = Room::make(lowers.len());
        Ok(Self {
            _room: room,
            lowers: lowers.iter().map(|p| open(p)).collect::<Result<_>>()?,
            upper: match upper {
                Some(upper) => Some((open(upper.dir)?, open(upper.work)?)),
                None => None,
            },
            volatile: upper.is_some_and(|upper| !upper.durable),
        })
    }

    /// One option per layer, by the new mount API.
    fn mount(&self) -> rustix::io::Result<OwnedFd> {
        let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_set_string(&context, "source", "sandcrab")?;
        for lower in &self.lowers {
            fsconfig_set_string(&context, "lowerdir+", name(lower.as_fd()))?;
        }
        if let Some((dir, work)) = &self.upper {
            fsconfig_set_string(&context, "upperdir", name(dir.as_fd()))?;
            fsconfig_set_string(&context, "workdir", name(work.as_fd()))?;
        }
        fsconfig_set_flag(&context, "userxattr")?;
        if self.volatile {
            fsconfig_set_flag(&context, "volatile")?;
        }
        fsconfig_create(&context)?;
        let mut attributes = MountAttrFlags::MOUNT_ATTR_NODEV;
        if self.upper.is_none() {
            attributes |= MountAttrFlags::MOUNT_ATTR_RDONLY;
        }
        fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
    }

    /// All options in one string. The names are relative to the directory of descriptors, so that
    /// [`MAX_LOWERS`] layers fit the limit of mount(2), which is a page.
    fn one_string(&self) -> String {
        let number = |fd: &OwnedFd| fd.as_raw_fd().to_string();
        let lowers: Vec<String> = self.lowers.iter().map(number).collect();
        let mut options = format!("userxattr,lowerdir={}", lowers.join(":"));
        if let Some((dir, work)) = &self.upper {
            options += &format!(",upperdir={},workdir={}", number(dir), number(work));
        }
        if self.volatile {
            options += ",volatile";
        }
        options
    }
}

/// Mounts by mount(2), which needs a place that nobody else sees and a working directory of its
/// own: both can belong to a thread.
fn mount_by_one_string(lowers: &[&Path], upper: Option<Upper<'_>>) -> Result<OwnedFd> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .spawn_scoped(scope, || mount_in_own_namespace(lowers, upper))
            .op("start thread")?;
        thread
            .join()
            .unwrap_or_else(|_| Err(Error::new("mount overlay: the thread died")))
    })
}

fn mount_in_own_namespace(lowers: &[&Path], upper: Option<Upper<'_>>) -> Result<OwnedFd> {
    unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS).op("enter mount namespace")?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private).op("make mounts private")?;
    // Opened here: the kernel takes layers from the calling thread's mount namespace only.
    let parts = Parts::open(lowers, upper)?;
    let options = CString::new(parts.one_string())
        .map_err(|e| Error::new("mount overlay").cause(e.to_string()))?;
    rustix::process::chdir("/proc/thread-self/fd").op("enter descriptor directory")?;
    // Hides /proc from this thread, which is in the directory that it needs.
    let place = Path::new("/proc");
    let mut flags = MountFlags::NODEV;
    if upper.is_none() {
        flags |= MountFlags::RDONLY;
    }
    rustix::mount::mount("sandcrab", place, "overlay", flags, options.as_c_str())
        .map_err(|errno| refused(errno, upper))?;
    mount::copy(place, false).op("mount overlay")
}

/// A name for a directory that fits in an option (256 bytes) and holds nothing to escape.
fn name(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// Room for more descriptors than the soft limit allows, while it lives. The limit is put back
/// because what the job starts inherits it.
struct Room(Option<Rlimit>);

impl Room {
    /// Raises the limit as far as needed and the hard limit allows. When that is not far enough,
    /// opening says so.
    fn make(more: usize) -> Self {
        let open = std::fs::read_dir("/proc/self/fd").map_or(64, Iterator::count);
        let wanted = u64::try_from(open + more + 32).unwrap_or(u64::MAX);
        let old = getrlimit(Resource::Nofile);
        if old.current.is_none_or(|current| current >= wanted) {
            return Self(None);
        }
        let raised = Rlimit {
            current: Some(old.maximum.map_or(wanted, |hard| hard.min(wanted))),
            maximum: old.maximum,
        };
        Self(setrlimit(Resource::Nofile, raised).is_ok().then_some(old))
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if let Some(old) = self.0.take() {
            // Lowering is always allowed.
            let _: rustix::io::Result<()> = setrlimit(Resource::Nofile, old);
        }
    }
}

/// Says what the kernel did not like, from its own log of the attempt where there is one.
fn refused(errno: Errno, upper: Option<Upper<'_>>) -> Error {
    let error = Error::new("mount overlay").cause(Cause::from(errno));
    let Some(upper) = upper else {
        return error;
    };
    let kind = File::open(upper.dir)
        .ok()
        .and_then(|dir| rustix::fs::fstatfs(dir).ok())
        .map(|s| s.f_type);
    const OVERLAYFS: FsWord = 0x794c_7630;
    const NFS: FsWord = 0x6969;
    match kind {
        Some(OVERLAYFS) => error.path(upper.dir).hint(
            "the store is on an overlay file system, on which none can be stacked; put it on a volume",
        ),
        Some(NFS) => error.path(upper.dir).hint(
            "the store is on NFS, which cannot hold the upper directory of an overlay; put it on a local disk",
        ),
        _ if errno == Errno::PERM || errno == Errno::NODEV => error.hint(
            "overlay mounts in a user namespace need Linux 5.11 or later with CONFIG_OVERLAY_FS",
        ),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::Root;
    use std::fs;

    /// Makes layers, each with a file of its own and one that all have; topmost first. Paths are
    /// long and hold what option parsers stumble over.
    fn layers(dir: &Path, count: usize) -> Vec<PathBuf> {
        let odd = dir.join("a:b,c\\d e").join("x".repeat(200));
        (0..count)
            .map(|n| {
                let layer = odd.join(format!("layer{n}"));
                fs::create_dir_all(&layer).expect("mkdir");
                fs::write(layer.join(format!("own{n}")), "").expect("write");
                fs::write(layer.join("same"), n.to_string()).expect("write");
                layer
            })
            .collect()
    }

    fn may_mount() -> bool {
        let admin = caps::Capability::CAP_SYS_ADMIN;
        let may = caps::has_cap(None, caps::CapSet::Effective, admin).unwrap_or(false);
        if !may {
            println!("SKIP: mounting needs CAP_SYS_ADMIN");
        }
        may
    }

    fn check(fd: OwnedFd, count: usize) {
        let root = Root::new(fd);
        for n in [0, count / 2, count - 1] {
            root.stat(format!("own{n}"), false)
                .expect("a file of a layer");
        }
        let same = root
            .open("same", OFlags::RDONLY, Mode::empty())
            .expect("open");
        let text = std::io::read_to_string(File::from(same)).expect("read");
        assert_eq!(text, "0", "the topmost layer wins");
    }

    #[test]
    fn any_number_of_layers() {
        if !may_mount() {
            return;
        }
        let dir = tempfile::tempdir().expect("temporary directory");
        for count in [1, 2, 130, 300, MAX_LOWERS] {
            let lowers = layers(&dir.path().join(count.to_string()), count);
            check(mount(&lowers, None).expect("mount"), count);
            let (upper, work) = (dir.path().join("u"), dir.path().join("w"));
            fs::create_dir(&upper).expect("mkdir");
            fs::create_dir(&work).expect("mkdir");
            check(mount(&lowers, Some((&upper, &work))).expect("mount"), count);
            fs::remove_dir_all(&upper).expect("remove");
            fs::remove_dir_all(&work).expect("remove");
        }
        let lowers = vec![dir.path(); MAX_LOWERS + 1];
        assert!(mount(&lowers, None).is_err());
    }

    #[test]
    fn one_string_does_for_older_kernels() {
        if !may_mount() {
            return;
        }
        let dir = tempfile::tempdir().expect("temporary directory");
        for count in [2, 300, MAX_LOWERS] {
            let lowers = layers(&dir.path().join(count.to_string()), count);
            let paths: Vec<&Path> = lowers.iter().map(PathBuf::as_path).collect();
            check(mount_by_one_string(&paths, None).expect("mount"), count);
        }
    }

    #[test]
    fn writing_needs_an_upper_directory() {
        if !may_mount() {
            return;
        }
        let dir = tempfile::tempdir().expect("temporary directory");
        let create = |fd: OwnedFd| {
            let flags = OFlags::CREATE | OFlags::WRONLY;
            Root::new(fd).open("new", flags, Mode::from_raw_mode(0o644))
        };
        for count in [1, 2] {
            let lowers = layers(&dir.path().join(count.to_string()), count);
            let fd = mount(&lowers, None).expect("mount");
            assert_eq!(create(fd).expect_err("read-only"), Errno::ROFS);
            let (upper, work) = (lowers[0].join("../u"), lowers[0].join("../w"));
            fs::create_dir(&upper).expect("mkdir");
            fs::create_dir(&work).expect("mkdir");
            let fd = mount(&lowers, Some((&upper, &work))).expect("mount");
            create(fd).expect("writable");
            assert!(upper.join("new").exists());
        }
    }
}
