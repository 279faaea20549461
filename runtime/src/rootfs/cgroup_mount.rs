//! Mounts of type `cgroup`: what a container sees of the control groups.
//!
//! Responsible for version 2, version 1 and hosts that have both. Must not make or choose control
//! groups: the calling process is in the container's already. Invariant: without a control group
//! namespace a container sees its own part of a version 1 tree only.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FsWord, Mode, OFlags, mkdirat, openat, statfs, symlinkat};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags as Attr;

use super::filesystem::{self, Request};
use super::mountinfo::{self, Mounted};
use super::options::Options;
use super::{bind, mount};
use crate::error::{Error, Result, ResultExt};

/// Where control groups are mounted by custom (cgroups(7)).
const HOST: &str = "/sys/fs/cgroup";

/// `CGROUP2_SUPER_MAGIC`, statfs(2).
const CGROUP2: FsWord = 0x6367_7270;

/// A line of proc_pid_cgroup(5).
struct Membership {
    /// Such as `cpu,cpuacct` or `name=systemd`; empty is version 2.
    controllers: String,
    path: PathBuf,
}

/// Mounts the control groups on `target`. `own` says that the process is in a control group
/// namespace of the container's.
pub(super) fn mount(
    target: &OwnedFd,
    options: &Options,
    own: bool,
    warnings: &mut Vec<String>,
) -> Result<()> {
    let host = statfs(HOST).map(|s| s.f_type);
    let members = memberships()?;
    if host == Ok(CGROUP2) {
        let tree = unified(options, own, &members, warnings)?;
        bind::propagate(tree.as_fd(), &options.propagation)?;
        return mount::attach(tree, target).op("mount control groups");
    }
    let hierarchies = hierarchies()?;
    if hierarchies.is_empty() {
        return Err(Error::new("no control groups are mounted").path(HOST));
    }
    let dir = directory(options)?;
    mount::attach(&dir, target).op("mount control groups")?;
    for hierarchy in &hierarchies {
        // A hierarchy that this process is not in has been mounted since the list was read.
        if let Some(member) = members.iter().find(|m| is_of(m, hierarchy)) {
            add(&dir, hierarchy, member, options, own, warnings)?;
        }
    }
    bind::dress(dir.as_fd(), options, Attr::empty(), warnings)?;
    bind::propagate(dir.as_fd(), &options.propagation)
}

/// Makes the version 2 tree. The kernel refuses in a user namespace that has no control group
/// namespace of its own; then the container's part of the host's is bound.
fn unified(
    options: &Options,
    own: bool,
    members: &[Membership],
    warnings: &mut Vec<String>,
) -> Result<OwnedFd> {
    let request = Request {
        kind: "cgroup2",
        source: "cgroup",
        data: &options.data,
        options,
    };
    let refusal = match filesystem::create(&request, Attr::empty(), warnings)? {
        Ok(tree) => return Ok(tree),
        Err(refusal) => refusal,
    };
    if own || !matches!(refusal.errno, Errno::PERM | Errno::BUSY) {
        return Err(refusal.into_error("cgroup2"));
    }
    let path = members
        .iter()
        .find(|m| m.controllers.is_empty())
        .map_or_else(|| PathBuf::from(HOST), |m| below(Path::new(HOST), &m.path));
    filesystem::stand_in(&path, options, Attr::empty(), warnings)
}

/// Makes the directory that holds the hierarchies. It is writable until it is filled.
fn directory(options: &Options) -> Result<OwnedFd> {
    let flags = options.top.set - Attr::MOUNT_ATTR_RDONLY;
    mount::new("tmpfs", &["mode=755"], flags).op("create directory of control groups")
}

fn add(
    dir: &OwnedFd,
    hierarchy: &Mounted,
    member: &Membership,
    options: &Options,
    own: bool,
    warnings: &mut Vec<String>,
) -> Result<()> {
    let Some(name) = hierarchy.point.file_name() else {
        return Ok(());
    };
    let tree = if own {
        made(hierarchy, member, options, warnings)?
    } else {
        None
    };
    let tree = match tree {
        Some(tree) => tree,
        None => {
            let inside = member.path.strip_prefix(&hierarchy.root);
            let path = match inside {
                Ok(part) => below(&hierarchy.point, part),
                Err(_) => hierarchy.point.clone(),
            };
            filesystem::stand_in(&path, options, Attr::empty(), warnings)?
        }
    };
    mkdirat(dir, name, Mode::from_raw_mode(0o755)).op_path("create directory", name)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let point = openat(dir, name, flags, Mode::empty()).op_path("open directory", name)?;
    mount::attach(tree, point).op_path("mount control groups", &hierarchy.point)?;
    // `cpu,cpuacct` is found under either name.
    let alone = !member.controllers.contains(',');
    for controller in member.controllers.split(',').filter(|_| !alone) {
        match symlinkat(name, dir, controller) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(Error::new("create link").path(controller).cause(errno)),
        }
    }
    Ok(())
}

/// Makes a mount that begins at the root of the control group namespace. `None` where the kernel
/// does not let this user.
fn made(
    hierarchy: &Mounted,
    member: &Membership,
    options: &Options,
    warnings: &mut Vec<String>,
) -> Result<Option<OwnedFd>> {
    let data: Vec<String> = member
        .controllers
        .split(',')
        .filter(|c| !c.is_empty())
        .map(str::to_owned)
        .collect();
    let request = Request {
        kind: &hierarchy.kind,
        source: "cgroup",
        data: &data,
        options,
    };
    match filesystem::create(&request, Attr::empty(), warnings)? {
        Ok(tree) => Ok(Some(tree)),
        Err(refusal) if matches!(refusal.errno, Errno::PERM | Errno::BUSY | Errno::INVAL) => {
            Ok(None)
        }
        Err(refusal) => Err(refusal.into_error(&hierarchy.kind)),
    }
}

/// Joins two paths of the host, the second of which looks absolute.
fn below(base: &Path, path: &Path) -> PathBuf {
    base.join(path.strip_prefix("/").unwrap_or(path))
}

fn is_of(member: &Membership, hierarchy: &Mounted) -> bool {
    if member.controllers.is_empty() {
        return hierarchy.kind == "cgroup2";
    }
    hierarchy.kind == "cgroup"
        && member
            .controllers
            .split(',')
            .all(|c| hierarchy.options.iter().any(|o| o == c))
}

/// Finds the mounted trees, each once.
fn hierarchies() -> Result<Vec<Mounted>> {
    let mut found: Vec<Mounted> = Vec::new();
    for mounted in mountinfo::read()? {
        let is_one = mounted.kind == "cgroup" || mounted.kind == "cgroup2";
        let again = |other: &Mounted| other.point.file_name() == mounted.point.file_name();
        if is_one && mounted.point.starts_with(HOST) && !found.iter().any(again) {
            found.push(mounted);
        }
    }
    Ok(found)
}

fn memberships() -> Result<Vec<Membership>> {
    let path = "/proc/self/cgroup";
    let text = std::fs::read_to_string(path).op_path("read control groups", path)?;
    Ok(text.lines().filter_map(parse).collect())
}

fn parse(line: &str) -> Option<Membership> {
    let mut fields = line.splitn(3, ':').skip(1);
    Some(Membership {
        controllers: fields.next()?.to_owned(),
        path: fields.next()?.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_find_their_trees() {
        let tree = |kind: &str, options: &[&str]| Mounted {
            id: 2,
            parent: 1,
            root: "/".into(),
            point: "/sys/fs/cgroup/x".into(),
            kind: kind.to_owned(),
            options: options.iter().map(|o| (*o).to_owned()).collect(),
        };
        let line = parse("4:cpu,cpuacct:/a:b").expect("a line");
        assert_eq!(line.path, Path::new("/a:b"));
        assert!(is_of(&line, &tree("cgroup", &["rw", "cpu", "cpuacct"])));
        assert!(!is_of(&line, &tree("cgroup", &["rw", "cpuacct"])));
        let named = parse("1:name=systemd:/").expect("a line");
        assert!(is_of(
            &named,
            &tree("cgroup", &["rw", "xattr", "name=systemd"])
        ));
        let unified = parse("0::/x").expect("a line");
        assert!(is_of(&unified, &tree("cgroup2", &["rw"])));
        assert!(!is_of(&unified, &tree("cgroup", &["rw"])));
    }
}
