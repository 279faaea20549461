//! One mount of a container: what is mounted, where, and how.
//!
//! Responsible for reading it from the configuration and for putting it in place. Must not know the
//! other mounts. Invariant: the destination is opened beneath the root and checked before
//! anything is attached to it, and what is attached has its flags already.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::mount::MountAttrFlags as Attr;

use super::bind::{self, Source};
use super::filesystem::{self, Request};
use super::idmap::{self, Ids, Maps};
use super::layout::{Built, Layout};
use super::options::{self, Options};
use super::target::{self, Kind, Links, What};
use super::{cgroup_mount, copyup, mount};
use crate::error::{Cause, Error, Result, ResultExt};
use crate::path::{Root, normalize};
use crate::spec;

/// One mount, in its place.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) index: usize,
    pub(super) target: PathBuf,
    pub(super) kind: String,
    pub(super) source: String,
    pub(super) options: Options,
    pub(super) ids: Option<Ids>,
    pub(super) opened: Option<Source>,
}

impl Entry {
    /// Opens the source of a bind mount. `false` where the caller may not.
    pub(super) fn open(&mut self, follow_only: bool, maps: &mut Maps) -> Result<bool> {
        let Some(source) = bind::open(Path::new(&self.source), &self.options)? else {
            return Ok(false);
        };
        if let Source::Tree(fd) = &source {
            if follow_only {
                bind::follow_only(fd.as_fd()).op("cut off source")?;
            }
            if let Some(ids) = &self.ids {
                let recursive = self.options.id_map == Some(true);
                idmap::apply(fd.as_fd(), maps.get(ids)?, recursive)?;
            }
        }
        self.opened = Some(source);
        Ok(true)
    }

    pub(super) fn put(
        &mut self,
        layout: &Layout,
        follow_only: bool,
        built: &mut Built,
    ) -> Result<()> {
        if self.options.remount {
            return self.change(built);
        }
        // What is covered can't be found by its path any more.
        built.kernel.retain(|(at, _)| !at.starts_with(&self.target));
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
        let is_kernels = ["/proc", "/sys"]
            .iter()
            .any(|top| self.target.starts_with(top));
        if is_kernels && target::is_dir(tree.as_fd()).op("look at mount")? {
            let copy = tree
                .try_clone()
                .map_err(|e| Error::new("keep mount").cause(Cause::from(e)))?;
            built.kernel.push((self.target.clone(), Root::new(copy)));
        }
        if !delayed.is_empty() {
            built.later.push(tree);
        }
        Ok(())
    }

    fn put_bind(&mut self, follow_only: bool, built: &mut Built) -> Result<()> {
        if self.opened.is_none() && !self.open(follow_only, &mut Maps::default())? {
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

pub(super) fn read(
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
        // runc and crun take them without a word, and callers pass what they do not know.
        for option in &options.data {
            warnings.push(format!(
                "mounts[{index}]: `{option}` left out: it means nothing to a bind mount"
            ));
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

pub(super) fn no_right(path: &Path) -> Error {
    Error::new("open source")
        .path(path)
        .cause(Errno::PERM)
        .hint("without root a container needs a user namespace to mount")
}

/// Says which mount an error is about.
pub(super) fn about(index: usize, target: &Path, error: &Error) -> Error {
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
