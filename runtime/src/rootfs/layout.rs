//! The root file system of an OCI container: what is mounted where, in which order.
//!
//! Responsible for the order of things, from the configuration to the changed root. Must not know
//! processes or who calls it. Invariant: nothing of the container's tree is touched before the
//! mount namespace is cut off from the host's, and every destination is mounted on by descriptor.
//!
//! [`Layout::new`] and [`Layout::open_sources`] run in the runtime's namespaces, before the
//! container's process exists; that process inherits what was opened. [`Layout::build`] and the
//! methods of [`Built`] run in it, in its namespaces, single-threaded.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags as Attr;

use super::entry::{self, Entry, about, no_right};
use super::idmap::Maps;
use super::nodes::{self, Node, Origin};
use super::options::{self, Propagation};
use super::pivot::{self, Way};
use super::protect::{self, Masks};
use super::target::{self, Kind, Links};
use super::{bind, mount};
use crate::error::{Error, Result, ResultExt};
use crate::path::{Root, normalize};
use crate::spec::{self, Spec};
use crate::weaken::{self, Protection};

const PRIVATE: Propagation = Propagation {
    kind: libc::MS_PRIVATE,
    recursive: false,
};

/// What the caller decides besides the configuration.
#[derive(Debug, Clone, Copy, Default)]
pub struct Settings {
    /// Move the root instead of pivoting, for hosts whose root is an initramfs.
    pub no_pivot: bool,
}

/// The root before anything is mounted in it.
#[derive(Debug)]
pub enum RootSource {
    /// A directory of the host.
    Directory(PathBuf),
    /// A detached mount, such as an overlay.
    Mount(OwnedFd),
}

/// What is in a container's root, read from its configuration.
#[derive(Debug)]
pub struct Layout {
    source: RootSource,
    /// The copy of the directory, once it is open.
    tree: Option<OwnedFd>,
    read_only: bool,
    way: Way,
    propagation: Option<Propagation>,
    mounts: Vec<Entry>,
    nodes: Vec<Node>,
    masked: Vec<String>,
    protected: Vec<String>,
    cwd: Option<PathBuf>,
    /// SELinux context of new file systems, where SELinux is on.
    pub(super) label: Option<String>,
    /// The container has a user namespace that the runtime is not in.
    pub(super) new_users: bool,
    pub(super) own_cgroups: bool,
    pub(super) own_pids: bool,
    warnings: Vec<String>,
}

/// A root with everything in it, in the container's mount namespace.
#[derive(Debug)]
pub struct Built {
    pub(super) root: Root,
    way: Way,
    read_only: bool,
    propagation: Option<Propagation>,
    /// Mounts that become read-only when everything is in them.
    pub(super) later: Vec<OwnedFd>,
    /// What was mounted on `/proc` and `/sys` and in them, in that order.
    pub(super) kernel: Vec<(PathBuf, Root)>,
    masked: Vec<String>,
    protected: Vec<String>,
    masks: Option<Masks>,
    pub(super) warnings: Vec<String>,
}

impl Layout {
    /// Reads the configuration of the bundle in a directory.
    ///
    /// # Errors
    /// The configuration asks for what can't be; the root is not there.
    pub fn new(spec: &Spec, bundle: &Path, settings: Settings) -> Result<Self> {
        let root = spec.root.as_ref().map_or("", |root| root.path.as_str());
        if root.is_empty() {
            return Err(Error::new("root.path is missing"));
        }
        let path = target::beneath(bundle, root);
        // Links on the way are the host's own; what is mounted on has one name.
        let path = std::fs::canonicalize(&path).op_path("find root", &path)?;
        Self::with_root(spec, bundle, RootSource::Directory(path), settings)
    }

    /// Like [`Layout::new`], with a root of the caller's.
    ///
    /// # Errors
    /// As [`Layout::new`].
    pub fn with_root(
        spec: &Spec,
        bundle: &Path,
        source: RootSource,
        settings: Settings,
    ) -> Result<Self> {
        let none = spec::Linux::default();
        let linux = spec.linux.as_ref().unwrap_or(&none);
        let has = |kind: &str| linux.namespaces.iter().any(|n| n.kind == kind);
        let mut warnings = Vec::new();
        let mounts = spec
            .mounts
            .iter()
            .enumerate()
            .map(|(index, mount)| {
                entry::read(index, mount, bundle, linux, &mut warnings)
                    .map_err(|e| about(index, Path::new(&mount.destination), &e))
            })
            .collect::<Result<Vec<Entry>>>()?;
        let read_only = spec.root.as_ref().is_some_and(|root| root.readonly);
        let mut layout = Self {
            source,
            tree: None,
            read_only,
            way: match (has("mount"), settings.no_pivot) {
                (false, _) => Way::Chroot,
                (true, true) => Way::Move,
                (true, false) => Way::Pivot,
            },
            propagation: options::parse_propagation(&linux.rootfs_propagation)?,
            mounts,
            nodes: nodes::list(&linux.devices)?,
            masked: linux.masked_paths.clone(),
            protected: linux.readonly_paths.clone(),
            cwd: spec
                .process
                .as_ref()
                .map(|process| normalize(Path::new(&process.cwd))),
            label: label(&linux.mount_label, &mut warnings),
            new_users: has("user"),
            own_cgroups: has("cgroup"),
            own_pids: has("pid"),
            warnings,
        };
        if layout.way == Way::Chroot {
            layout.refuse_mounts()?;
        }
        layout.forget_nodes_of_bound_dev();
        Ok(layout)
    }

    /// Without a mount namespace everything that is mounted would be so on the host.
    fn refuse_mounts(&self) -> Result<()> {
        let asked = [
            ("mounts", !self.mounts.is_empty()),
            ("linux.maskedPaths", !self.masked.is_empty()),
            ("linux.readonlyPaths", !self.protected.is_empty()),
            ("linux.rootfsPropagation", self.propagation.is_some()),
            ("root.readonly", self.read_only),
        ];
        match asked.iter().find(|(_, asked)| *asked) {
            None => Ok(()),
            Some((name, _)) => Err(Error::new(format!("{name} needs a mount namespace"))
                .hint("add `mount` to linux.namespaces")),
        }
    }

    /// A `/dev` that is bound is complete, as with runc.
    fn forget_nodes_of_bound_dev(&mut self) {
        let is_bound =
            |entry: &Entry| entry.options.bind.is_some() && entry.target == Path::new("/dev");
        if self.mounts.iter().any(is_bound) {
            self.nodes.clear();
        }
    }

    /// Opens what is bound from the host, as far as the caller may copy mounts; the rest is opened
    /// by [`Layout::build`]. To be called before the container's process is made, and once more in
    /// it before it takes on other ids, with which the bundle might be out of reach.
    ///
    /// # Errors
    /// A source is not there; ids of a source can't be mapped.
    pub fn open_sources(&mut self) -> Result<()> {
        if self.way == Way::Chroot {
            return Ok(());
        }
        if let RootSource::Directory(path) = &self.source
            && self.tree.is_none()
            && let Some(tree) = open_root(path)?
        {
            self.tree = Some(tree);
        }
        let shares = self.shares_with_host();
        let mut maps = Maps::default();
        for entry in &mut self.mounts {
            let is_bind = entry.options.bind.is_some() && !entry.options.remount;
            if is_bind && entry.opened.is_none() {
                let (index, target) = (entry.index, entry.target.clone());
                entry
                    .open(!shares, &mut maps)
                    .map_err(|e| about(index, &target, &e))?;
            }
        }
        Ok(())
    }

    /// Whether mounts that are made in the container are to be seen on the host, where both share
    /// a peer group.
    fn shares_with_host(&self) -> bool {
        let shared = self
            .propagation
            .is_some_and(|propagation| propagation.kind == libc::MS_SHARED);
        shared && !self.new_users
    }

    /// Puts everything in place, in the container's namespaces.
    ///
    /// # Errors
    /// The mount, device or path that was refused is named.
    pub fn build(mut self) -> Result<Built> {
        // Whoever calls with another one does not decide about mount points.
        let umask = rustix::process::umask(Mode::from_raw_mode(0o022));
        let built = self.put_in_place();
        rustix::process::umask(umask);
        built
    }

    fn put_in_place(&mut self) -> Result<Built> {
        let root = self.place_root()?;
        let mut built = Built {
            root,
            way: self.way,
            read_only: self.read_only,
            propagation: self.propagation,
            later: Vec::new(),
            kernel: Vec::new(),
            masked: std::mem::take(&mut self.masked),
            protected: std::mem::take(&mut self.protected),
            masks: None,
            warnings: std::mem::take(&mut self.warnings),
        };
        let shares = self.shares_with_host();
        for mut entry in std::mem::take(&mut self.mounts) {
            entry
                .put(self, !shares, &mut built)
                .map_err(|e| about(entry.index, &entry.target, &e))?;
        }
        self.put_nodes(&mut built)?;
        self.make_cwd(&built.root)?;
        if !built.masked.is_empty() && !weaken::off(Protection::Masks) {
            built.masks = Some(Masks::new()?);
        }
        Ok(built)
    }

    /// Cuts the mount namespace off from the host's and attaches the root in it.
    fn place_root(&mut self) -> Result<Root> {
        if self.way == Way::Chroot {
            let RootSource::Directory(path) = &self.source else {
                return Err(Error::new("a root that is a mount needs a mount namespace"));
            };
            return Root::open_host(path).op_path("open root", path);
        }
        self.cut_off()?;
        let fd = match &self.source {
            RootSource::Mount(fd) => rustix::io::fcntl_dupfd_cloexec(fd, 3).op("open root")?,
            RootSource::Directory(path) => match self.tree.take() {
                Some(tree) => tree,
                None => open_root(path)?.ok_or_else(|| no_right(path))?,
            },
        };
        // What is mounted in the root stays in it. Whatever it is to be for the container is set
        // when it is the root.
        bind::follow_only(fd.as_fd()).op("cut off root")?;
        bind::set_propagation(fd.as_fd(), PRIVATE).op("cut off root")?;
        self.attach(fd.as_fd())?;
        Ok(Root::new(fd))
    }

    fn cut_off(&self) -> Result<()> {
        let wanted = self.propagation.unwrap_or(Propagation {
            kind: libc::MS_SLAVE,
            recursive: true,
        });
        // `private` alone would leave what is below `/` shared with the host.
        let kind = match wanted.kind {
            libc::MS_SHARED => return Ok(()),
            libc::MS_PRIVATE | libc::MS_UNBINDABLE => libc::MS_PRIVATE,
            _ => libc::MS_SLAVE,
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let host = rustix::fs::open("/", flags, Mode::empty()).op("open root of the host")?;
        // The process may be in a chroot, whose root is no mount's.
        let top = target::mount_root(host.as_fd()).op("find mount of the host's root")?;
        let wanted = Propagation {
            kind,
            recursive: true,
        };
        bind::set_propagation(top.as_fd(), wanted).op("cut off mount namespace")
    }

    /// Attaches the root at its own path, where hooks expect it, or over the host's root where
    /// that path can't be reached by the container's ids.
    fn attach(&self, root: BorrowedFd<'_>) -> Result<()> {
        let over = || mount::attach_at(root, Path::new("/")).op("attach root");
        let RootSource::Directory(path) = &self.source else {
            return over();
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = match rustix::fs::open(path, flags, Mode::empty()) {
            Err(Errno::ACCESS | Errno::NOENT) => return over(),
            other => other.op_path("open root", path)?,
        };
        // A root that is mounted below a shared mount would appear on the host, and could not be
        // pivoted to (pivot_root(2)).
        let around = target::mount_root(dir.as_fd()).op_path("find mount of", path)?;
        bind::set_propagation(around.as_fd(), PRIVATE).op_path("cut off mount of", path)?;
        mount::attach(root, &dir).op_path("attach root", path)
    }

    fn put_nodes(&self, built: &mut Built) -> Result<()> {
        if self.nodes.is_empty() {
            return Ok(());
        }
        // The kernel lets nobody make devices in a user namespace, which is noticed when trying.
        let origin = if self.new_users {
            Origin::Host
        } else {
            Origin::Made
        };
        for node in &self.nodes {
            nodes::create(&built.root, node, origin, &mut built.warnings)?;
        }
        nodes::link(&built.root)
    }

    /// Makes the working directory if it is missing, as all runtimes do.
    fn make_cwd(&self, root: &Root) -> Result<()> {
        let Some(cwd) = &self.cwd else {
            return Ok(());
        };
        match target::open(root, cwd, Links::Follow) {
            Err(Errno::NOENT) => {
                target::open_or_make(root, cwd, Kind::Directory, Links::Follow).map(drop)
            }
            // Whether the process may enter it is its own matter.
            _ => Ok(()),
        }
    }
}

impl Built {
    /// The container's root, in which paths of the container can be opened.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// What could not be done exactly as asked, for the log.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Makes this the root of the calling process and lets the host's go. Afterwards no mount of
    /// the host can be reached by a path.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn enter(&self) -> Result<()> {
        pivot::enter(self.root.as_fd(), self.way)?;
        match self.propagation {
            // The mounts below have what their own options say, as with runc.
            Some(propagation) => {
                let alone = Propagation {
                    recursive: false,
                    ..propagation
                };
                bind::propagate(self.root.as_fd(), &[alone])
            }
            None => Ok(()),
        }
    }

    /// Opens a path that is to be hidden or protected; `None` if it is not there. Where something
    /// was mounted for it, that is where it is looked for: whoever shares the root could move the
    /// mount point away meanwhile, and the path would seem not to be there.
    fn find(&self, path: &str) -> Result<Option<OwnedFd>> {
        let plain = normalize(Path::new(path));
        let mut mounted = self.kernel.iter().rev();
        let found = mounted.find_map(|(at, root)| Some((root, plain.strip_prefix(at).ok()?)));
        match found {
            Some((root, rest)) if !weaken::off(Protection::Place) => protect::open(root, rest),
            _ => protect::open(&self.root, Path::new(path)),
        }
    }

    /// Makes read-only what is to be so and hides what is to be hidden. After [`Built::enter`],
    /// and after everything that is written to `/proc/sys`.
    ///
    /// # Errors
    /// The path is named.
    pub fn protect(&self) -> Result<()> {
        for mount in &self.later {
            mount::restrict(mount.as_fd(), false, Attr::MOUNT_ATTR_RDONLY)
                .op("make mount read-only")?;
        }
        for path in &self.protected {
            if let Some(target) = self.find(path)? {
                protect::make_read_only(target.as_fd(), Attr::empty())
                    .op_path("make read-only", path)?;
            }
        }
        let late = weaken::off(Protection::Masks)
            .then(Masks::new)
            .transpose()?;
        if let Some(masks) = self.masks.as_ref().or(late.as_ref()) {
            for path in &self.masked {
                if let Some(target) = self.find(path)? {
                    masks.put(target.as_fd()).op_path("hide", path)?;
                }
            }
        }
        if self.read_only {
            mount::restrict(self.root.as_fd(), false, Attr::MOUNT_ATTR_RDONLY)
                .op("make root read-only")?;
        }
        Ok(())
    }
}

fn label(label: &str, warnings: &mut Vec<String>) -> Option<String> {
    if label.is_empty() {
        return None;
    }
    // Only mounted where SELinux is on (selinux(8)).
    if Path::new("/sys/fs/selinux/enforce").exists() {
        return Some(label.to_owned());
    }
    warnings
        .push("linux.mountLabel has no effect: this kernel has SELinux switched off".to_owned());
    None
}

/// Opens the root of a bundle as a detached copy. `None` where the caller may not copy mounts.
fn open_root(path: &Path) -> Result<Option<OwnedFd>> {
    match mount::copy(path, true) {
        Ok(fd) if target::is_dir(fd.as_fd()).op_path("look at root", path)? => Ok(Some(fd)),
        Ok(_) => Err(Error::new("root is not a directory").path(path)),
        Err(Errno::PERM) => Ok(None),
        Err(errno) => Err(Error::new("open root").path(path).cause(errno)),
    }
}
