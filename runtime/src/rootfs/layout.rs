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

use super::bind::{self, Source};
use super::filesystem::{self, Request};
use super::idmap::{self, Ids};
use super::nodes::{self, Node, Origin};
use super::options::{self, Options, Propagation};
use super::pivot::{self, Way};
use super::protect::{self, Masks};
use super::target::{self, Kind, Links, What};
use super::{cgroup_mount, copyup, mount};
use crate::error::{Cause, Error, Result, ResultExt};
use crate::path::{Root, normalize};
use crate::spec::{self, Spec};

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
    label: Option<String>,
    /// The container has a user namespace that the runtime is not in.
    new_users: bool,
    own_cgroups: bool,
    own_pids: bool,
    warnings: Vec<String>,
}

/// One mount, in its place.
#[derive(Debug)]
struct Entry {
    index: usize,
    target: PathBuf,
    kind: String,
    source: String,
    options: Options,
    ids: Option<Ids>,
    opened: Option<Source>,
}

/// A root with everything in it, in the container's mount namespace.
#[derive(Debug)]
pub struct Built {
    root: Root,
    way: Way,
    read_only: bool,
    propagation: Option<Propagation>,
    /// Mounts that become read-only when everything is in them.
    later: Vec<OwnedFd>,
    masked: Vec<String>,
    protected: Vec<String>,
    masks: Option<Masks>,
    warnings: Vec<String>,
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
                read_mount(index, mount, bundle, linux, &mut warnings)
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
        for entry in &mut self.mounts {
            let is_bind = entry.options.bind.is_some() && !entry.options.remount;
            if is_bind && entry.opened.is_none() {
                let (index, target) = (entry.index, entry.target.clone());
                entry.open(!shares).map_err(|e| about(index, &target, &e))?;
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
        if !built.masked.is_empty() {
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
            Some(propagation) => bind::propagate(self.root.as_fd(), &[propagation]),
            None => Ok(()),
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
            if let Some(target) = protect::open(&self.root, path)? {
                protect::make_read_only(target.as_fd(), Attr::empty())
                    .op_path("make read-only", path)?;
            }
        }
        if let Some(masks) = &self.masks {
            for path in &self.masked {
                if let Some(target) = protect::open(&self.root, path)? {
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

impl Entry {
    /// Opens the source of a bind mount. `false` where the caller may not.
    fn open(&mut self, follow_only: bool) -> Result<bool> {
        let Some(source) = bind::open(Path::new(&self.source), &self.options)? else {
            return Ok(false);
        };
        if let Source::Tree(fd) = &source {
            if follow_only {
                bind::follow_only(fd.as_fd()).op("cut off source")?;
            }
            if let Some(ids) = &self.ids {
                let recursive = self.options.id_map == Some(true);
                idmap::apply(fd.as_fd(), ids.open()?.as_fd(), recursive)?;
            }
        }
        self.opened = Some(source);
        Ok(true)
    }

    fn put(&mut self, layout: &Layout, follow_only: bool, built: &mut Built) -> Result<()> {
        if self.options.remount {
            return self.change(built);
        }
        if self.options.bind.is_some() {
            return self.put_bind(follow_only, built);
        }
        let links = match self.kind.as_str() {
            "proc" | "sysfs" => Links::Refuse,
            _ if self.target == Path::new("/proc") => Links::Refuse,
            _ if self.options.target_nofollow => Links::KeepLast,
            _ => Links::Follow,
        };
        let found = target::open(&built.root, &self.target, links);
        let existed = found.is_ok();
        let target = match found {
            Ok(target) => target,
            Err(_) => target::open_or_make(&built.root, &self.target, Kind::Directory, links)?,
        };
        let what = if self.kind == "proc" {
            What::Proc
        } else {
            What::Other
        };
        target::check(&self.target, target.as_fd(), what)?;
        if self.kind == "cgroup" {
            let own = layout.own_cgroups;
            return cgroup_mount::mount(&target, &self.options, own, &mut built.warnings);
        }
        let data = self.data(layout, target.as_fd(), existed)?;
        let request = Request {
            kind: &self.kind,
            source: &self.source,
            data: &data,
            options: &self.options,
        };
        if request.is_legacy() {
            return self.put_legacy(&request, target.as_fd(), built);
        }
        let delayed = self.delayed();
        let tree = self.create(&request, delayed, layout, &mut built.warnings)?;
        if self.options.copy_up && existed {
            copyup::copy(target.as_fd(), tree.as_fd()).op("copy directory into tmpfs")?;
        }
        self.attach(tree, target, delayed, built)
    }

    /// Flags that are set when everything is in place: destinations of later mounts and devices
    /// may have to be made in it.
    fn delayed(&self) -> Attr {
        if self.kind == "tmpfs" || self.target == Path::new("/dev") {
            self.options.top.set & Attr::MOUNT_ATTR_RDONLY
        } else {
            Attr::empty()
        }
    }

    fn attach(
        &self,
        tree: OwnedFd,
        target: OwnedFd,
        delayed: Attr,
        built: &mut Built,
    ) -> Result<()> {
        bind::propagate(tree.as_fd(), &self.options.propagation)?;
        mount::attach(&tree, target).op("attach mount")?;
        if !delayed.is_empty() {
            built.later.push(tree);
        }
        Ok(())
    }

    fn put_bind(&mut self, follow_only: bool, built: &mut Built) -> Result<()> {
        if self.opened.is_none() && !self.open(follow_only)? {
            return Err(no_right(Path::new(&self.source)));
        }
        let source = self
            .opened
            .take()
            .ok_or_else(|| Error::new("source is not open"))?;
        let tree = match &source {
            Source::Tree(tree) => tree,
            Source::Link(text) => return self.put_link(text, built),
        };
        let links = if self.target == Path::new("/proc") {
            Links::Refuse
        } else if self.options.target_nofollow {
            Links::KeepLast
        } else {
            Links::Follow
        };
        let kind = source.kind()?;
        let target = target::open_or_make(&built.root, &self.target, kind, links)?;
        target::check(&self.target, target.as_fd(), What::Bind(tree.as_fd()))?;
        let is_dir = target::is_dir(target.as_fd()).op("look at destination")?;
        match (kind, is_dir) {
            (Kind::Directory, false) => {
                return Err(Error::new("source is a directory and destination is none"));
            }
            (Kind::File, true) => {
                return Err(Error::new(
                    "source is a file and destination is a directory",
                ));
            }
            _ => {}
        }
        let delayed = self.delayed();
        bind::dress(tree.as_fd(), &self.options, delayed, &mut built.warnings)?;
        let Source::Tree(tree) = source else {
            return Ok(());
        };
        self.attach(tree, target, delayed, built)
    }

    fn put_link(&self, text: &Path, built: &Built) -> Result<()> {
        let parent = self.target.parent().unwrap_or_else(|| Path::new("/"));
        let name = self
            .target
            .file_name()
            .ok_or_else(|| Error::new("destination has no name"))?;
        let dir = target::open_or_make(&built.root, parent, Kind::Directory, Links::Follow)?;
        match rustix::fs::symlinkat(text, &dir, name) {
            Err(Errno::EXIST) => {
                let same = rustix::fs::readlinkat(&dir, name, Vec::new())
                    .is_ok_and(|found| found.to_bytes() == text.as_os_str().as_encoded_bytes());
                if same {
                    Ok(())
                } else {
                    Err(Error::new("destination of the link is taken"))
                }
            }
            other => other.op("create link"),
        }
    }

    /// Options of the file system, completed.
    fn data(&self, layout: &Layout, target: BorrowedFd<'_>, existed: bool) -> Result<Vec<String>> {
        let mut data = self.split_data();
        if self.kind == "tmpfs" && existed && !data.iter().any(|o| o.starts_with("mode=")) {
            data.push(target::mode_text(target).op("look at destination")?);
        }
        let unlabelled = ["proc", "sysfs", "mqueue", "cgroup2"];
        if let Some(label) = &layout.label
            && !unlabelled.contains(&self.kind.as_str())
            && !data.iter().any(|o| o.starts_with("context="))
        {
            data.push(format!("context={label}"));
        }
        Ok(data)
    }

    /// mount(8) and mount(2) take a list as one string, so several options may be in one. Paths of
    /// an overlay may hold commas, which only its own parser understands.
    fn split_data(&self) -> Vec<String> {
        if self.kind == "overlay" {
            return self.options.data.clone();
        }
        self.options
            .data
            .iter()
            .flat_map(|text| options::split(text))
            .collect()
    }

    fn create(
        &self,
        request: &Request<'_>,
        delayed: Attr,
        layout: &Layout,
        warnings: &mut Vec<String>,
    ) -> Result<OwnedFd> {
        let refusal = match filesystem::create(request, delayed, warnings)? {
            Ok(tree) => return Ok(tree),
            Err(refusal) => refusal,
        };
        match (self.kind.as_str(), refusal.errno) {
            ("devpts", Errno::INVAL) => self.create_devpts(request, refusal, warnings),
            // The kernel wants the caller's own to be wholly visible. In its place the container may
            // see the processes outside if it shares them anyway, or if they are out of its reach
            // by belonging to an outer user namespace (ptrace(2), "access mode checking").
            ("proc", Errno::PERM) if layout.new_users || !layout.own_pids => {
                warnings.push(
                    "`/proc` is the outer one: the kernel makes no new one where the outer is \
                     partly hidden"
                        .to_owned(),
                );
                filesystem::stand_in(Path::new("/proc"), &self.options, Attr::empty(), warnings)
            }
            ("sysfs", Errno::PERM) => {
                warnings.push(
                    "`/sys` is the outer one, read-only: the kernel makes no new one without a \
                     network namespace of its own"
                        .to_owned(),
                );
                let forced = Attr::MOUNT_ATTR_RDONLY;
                filesystem::stand_in(Path::new("/sys"), &self.options, forced, warnings)
            }
            ("proc", Errno::PERM) => Err(refusal.into_error(&self.kind).hint(
                "the `/proc` outside must not be masked (Kubernetes: `procMount: Unmasked`, \
                 podman and docker: `--security-opt unmask=/proc/*` or `systempaths=unconfined`)",
            )),
            _ => Err(refusal.into_error(&self.kind)),
        }
    }

    /// Terminals belong to the group 5 by custom, which has no id in a small user namespace.
    fn create_devpts(
        &self,
        request: &Request<'_>,
        refusal: filesystem::Refusal,
        warnings: &mut Vec<String>,
    ) -> Result<OwnedFd> {
        let is_owner = |option: &String| option.starts_with("gid=") || option.starts_with("uid=");
        let (owners, data): (Vec<String>, Vec<String>) =
            request.data.iter().cloned().partition(is_owner);
        if owners.is_empty() {
            return Err(refusal.into_error(&self.kind));
        }
        let request = Request {
            data: &data,
            ..*request
        };
        match filesystem::create(&request, Attr::empty(), warnings)? {
            Err(_) => Err(refusal.into_error(&self.kind)),
            Ok(tree) => {
                warnings.push(format!(
                    "`{}` has no `{}`: no such id in the user namespace",
                    self.target.display(),
                    owners.join(",")
                ));
                Ok(tree)
            }
        }
    }

    fn put_legacy(
        &self,
        request: &Request<'_>,
        target: BorrowedFd<'_>,
        built: &Built,
    ) -> Result<()> {
        if self.options.copy_up {
            return Err(Error::new(
                "`tmpcopyup` can't be combined with `silent` or `iversion`",
            ));
        }
        filesystem::mount_legacy(request, target)?;
        if self.options.propagation.is_empty() {
            return Ok(());
        }
        let mounted = target::open(&built.root, &self.target, Links::Follow)
            .op_path("open mount", &self.target)?;
        bind::propagate(mounted.as_fd(), &self.options.propagation)
    }

    /// Changes what is mounted at the destination already.
    fn change(&self, built: &mut Built) -> Result<()> {
        let mounted = target::open(&built.root, &self.target, Links::Follow)
            .op_path("open mount", &self.target)?;
        let data = self.split_data();
        if self.options.bind.is_none() && !data.is_empty() {
            let request = Request {
                kind: &self.kind,
                source: &self.source,
                data: &data,
                options: &self.options,
            };
            filesystem::reconfigure(&request, mounted.as_fd())?;
        }
        bind::dress(
            mounted.as_fd(),
            &self.options,
            Attr::empty(),
            &mut built.warnings,
        )?;
        bind::propagate(mounted.as_fd(), &self.options.propagation)
    }
}

fn read_mount(
    index: usize,
    mount: &spec::Mount,
    bundle: &Path,
    linux: &spec::Linux,
    warnings: &mut Vec<String>,
) -> Result<Entry> {
    let mut options = Options::parse(&mount.options)?;
    if mount.kind == "bind" && options.bind.is_none() {
        options.bind = Some(false);
    }
    let target = normalize(Path::new(&mount.destination));
    if mount.destination.is_empty() {
        return Err(Error::new("no destination"));
    }
    if target == Path::new("/") && !options.remount {
        return Err(Error::new("the root itself can't be mounted over"));
    }
    if !mount.destination.starts_with('/') {
        warnings.push(format!(
            "mounts[{index}]: `{}` is taken to begin at the root",
            mount.destination
        ));
    }
    let is_bind = options.bind.is_some();
    if options.copy_up && mount.kind != "tmpfs" {
        return Err(Error::new("`tmpcopyup` is for tmpfs only"));
    }
    let ids = read_ids(mount, &options, linux)?;
    let mut source = mount.source.clone();
    if is_bind {
        if let Some(option) = options.data.first() {
            return Err(Error::new(format!("option `{option}` is unknown"))
                .hint("a bind mount takes no options of a file system"));
        }
        for name in options.meaningless_for_bind() {
            warnings.push(format!(
                "mounts[{index}]: `{name}` belongs to the file system and is not changed by a \
                 bind mount"
            ));
        }
        if !options.remount {
            if source.is_empty() {
                return Err(Error::new("a bind mount needs a source"));
            }
            source = target::beneath(bundle, &source)
                .to_string_lossy()
                .into_owned();
        }
    } else if mount.kind.is_empty() && !options.remount {
        return Err(Error::new("neither a type nor `bind`"));
    }
    if !is_bind && (options.copy_symlink || options.source_nofollow) {
        return Err(Error::new(
            "`copy-symlink` and `src-nofollow` are for bind mounts only",
        ));
    }
    Ok(Entry {
        index,
        target,
        kind: mount.kind.clone(),
        source,
        options,
        ids,
        opened: None,
    })
}

fn read_ids(mount: &spec::Mount, options: &Options, linux: &spec::Linux) -> Result<Option<Ids>> {
    let own = (&mount.uid_mappings, &mount.gid_mappings);
    if own.0.is_empty() != own.1.is_empty() {
        return Err(Error::new("uidMappings and gidMappings belong together"));
    }
    let ids = if let Some(text) = &options.id_map_text {
        Ids::parse(text)?
    } else if !own.0.is_empty() {
        lines(own.0, own.1)
    } else if options.id_map.is_some() {
        let users = linux.namespaces.iter().find(|n| n.kind == "user");
        match users.map(|n| n.path.as_deref()) {
            None => return Err(Error::new("`idmap` needs mappings or a user namespace")),
            Some(Some(path)) => Ids::Namespace(path.to_owned()),
            Some(None) => lines(&linux.uid_mappings, &linux.gid_mappings),
        }
    } else {
        return Ok(None);
    };
    if options.bind.is_none() {
        return Err(Error::new("ids can be mapped in bind mounts only"));
    }
    Ok(Some(ids))
}

fn lines(users: &[spec::IdMapping], groups: &[spec::IdMapping]) -> Ids {
    Ids::Lines {
        users: users.to_vec(),
        groups: groups.to_vec(),
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

fn no_right(path: &Path) -> Error {
    Error::new("open source")
        .path(path)
        .cause(Errno::PERM)
        .hint("without root a container needs a user namespace to mount")
}

/// Says which mount an error is about.
fn about(index: usize, target: &Path, error: &Error) -> Error {
    let text = format!("mounts[{index}] on `{}`: {error}", target.display());
    let mut named = Error::new(text);
    if let Some(cause) = std::error::Error::source(error)
        && let Some(cause) = cause.downcast_ref::<Cause>()
    {
        named = named.cause(cause.clone());
    }
    for hint in error.hints() {
        named = named.hint(hint.clone());
    }
    named
}
