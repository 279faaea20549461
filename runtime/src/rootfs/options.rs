//! The options of a mount, as `config.json` writes them.
//!
//! Responsible for the table of names and for what each does. Must not mount. Invariant: every
//! name of the table has an effect or a warning; what is not in it is left to the file system,
//! which knows whether it is one of its own.
//!
//! The names are those of runtime-spec 1.3 (config.md, "Linux mount options") and of the
//! `features` documents of runc 1.3 and crun 1.20.

use rustix::mount::MountAttrFlags as Attr;

use crate::error::{Error, Result};

/// When access times are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Atime {
    /// Never.
    Never,
    /// When older than the modification, or a day (the kernel's default).
    Relative,
    /// Always.
    Strict,
}

/// Flags of one mount that are set and cleared; the last of contradicting options wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Attributes {
    /// `MOUNT_ATTR_*` to set, without access times.
    pub(crate) set: Attr,
    /// `MOUNT_ATTR_*` that were asked to be off.
    pub(crate) clear: Attr,
    /// Access times, if an option named them.
    pub(crate) atime: Option<Atime>,
}

/// The type of propagation, mount_namespaces(7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Propagation {
    /// `MS_SHARED`, `MS_SLAVE`, `MS_PRIVATE` or `MS_UNBINDABLE`.
    pub(crate) kind: u64,
    /// Whether the mounts below have it as well.
    pub(crate) recursive: bool,
}

/// All options of one mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Options {
    /// Whether this is a bind mount, and whether it takes the mounts below along.
    pub(crate) bind: Option<bool>,
    /// Whether what is mounted already is changed.
    pub(crate) remount: bool,
    /// Flags of the mount itself.
    pub(crate) top: Attributes,
    /// Flags of the mount and of those below.
    pub(crate) all: Attributes,
    /// Changes of propagation, in order.
    pub(crate) propagation: Vec<Propagation>,
    /// Flags of the file system, as fsconfig(2) names them.
    pub(crate) file_system: Vec<&'static str>,
    /// Flags of mount(2) that fsconfig(2) has no name for.
    pub(crate) legacy: u64,
    /// Ids are mapped; whether also in the mounts below.
    pub(crate) id_map: Option<bool>,
    /// Ids of crun's `idmap=`.
    pub(crate) id_map_text: Option<String>,
    /// A tmpfs begins with what is in the directory that it covers (runc).
    pub(crate) copy_up: bool,
    /// A source that is a symbolic link is copied (crun).
    pub(crate) copy_symlink: bool,
    /// The last part of the source is not followed (crun).
    pub(crate) source_nofollow: bool,
    /// The last part of the destination is not followed (crun).
    pub(crate) target_nofollow: bool,
    /// What is left to the file system, in order.
    pub(crate) data: Vec<String>,
}

#[derive(Clone, Copy)]
enum Effect {
    Nothing,
    Set(Attr),
    Clear(Attr),
    SetAll(Attr),
    ClearAll(Attr),
    Times(Atime),
    NotTimes(Atime),
    TimesAll(Atime),
    FileSystem(&'static str),
    Legacy(u64, bool),
    Propagate(u64, bool),
    Bind(bool),
    Remount,
    IdMap(bool),
    CopyUp,
    CopySymlink,
    SourceNofollow,
    TargetNofollow,
}

use Effect::{
    Bind, Clear, ClearAll, FileSystem, IdMap, Legacy, NotTimes, Nothing, Propagate, Set, SetAll,
    Times, TimesAll,
};

const RO: Attr = Attr::MOUNT_ATTR_RDONLY;
const NOSUID: Attr = Attr::MOUNT_ATTR_NOSUID;
const NODEV: Attr = Attr::MOUNT_ATTR_NODEV;
const NOEXEC: Attr = Attr::MOUNT_ATTR_NOEXEC;
const NODIRATIME: Attr = Attr::MOUNT_ATTR_NODIRATIME;
const NOSYMFOLLOW: Attr = Attr::MOUNT_ATTR_NOSYMFOLLOW;

/// The flags with their names, for messages.
const NAMED: [(Attr, &str); 6] = [
    (RO, "ro"),
    (NOSUID, "nosuid"),
    (NODEV, "nodev"),
    (NOEXEC, "noexec"),
    (NODIRATIME, "nodiratime"),
    (NOSYMFOLLOW, "nosymfollow"),
];

const TABLE: [(&str, Effect); 65] = [
    ("async", FileSystem("async")),
    ("atime", NotTimes(Atime::Never)),
    ("bind", Bind(false)),
    ("copy-symlink", Effect::CopySymlink),
    ("defaults", Nothing),
    ("dest-nofollow", Effect::TargetNofollow),
    ("dev", Clear(NODEV)),
    ("diratime", Clear(NODIRATIME)),
    ("dirsync", FileSystem("dirsync")),
    ("exec", Clear(NOEXEC)),
    ("idmap", IdMap(false)),
    ("iversion", Legacy(libc::MS_I_VERSION, true)),
    ("lazytime", FileSystem("lazytime")),
    ("loud", Legacy(libc::MS_SILENT, false)),
    ("mand", FileSystem("mand")),
    ("noatime", Times(Atime::Never)),
    ("nodev", Set(NODEV)),
    ("nodiratime", Set(NODIRATIME)),
    ("noexec", Set(NOEXEC)),
    ("noiversion", Legacy(libc::MS_I_VERSION, false)),
    ("nolazytime", FileSystem("nolazytime")),
    ("nomand", FileSystem("nomand")),
    ("norelatime", NotTimes(Atime::Relative)),
    ("nostrictatime", NotTimes(Atime::Strict)),
    ("nosuid", Set(NOSUID)),
    ("nosymfollow", Set(NOSYMFOLLOW)),
    ("private", Propagate(libc::MS_PRIVATE, false)),
    ("ratime", TimesAll(Atime::Relative)),
    ("rbind", Bind(true)),
    ("rdev", ClearAll(NODEV)),
    ("rdiratime", ClearAll(NODIRATIME)),
    ("relatime", Times(Atime::Relative)),
    ("remount", Effect::Remount),
    ("rexec", ClearAll(NOEXEC)),
    ("ridmap", IdMap(true)),
    ("rnoatime", TimesAll(Atime::Never)),
    ("rnodev", SetAll(NODEV)),
    ("rnodiratime", SetAll(NODIRATIME)),
    ("rnoexec", SetAll(NOEXEC)),
    ("rnorelatime", TimesAll(Atime::Relative)),
    ("rnostrictatime", TimesAll(Atime::Relative)),
    ("rnosuid", SetAll(NOSUID)),
    ("rnosymfollow", SetAll(NOSYMFOLLOW)),
    ("ro", Set(RO)),
    ("rprivate", Propagate(libc::MS_PRIVATE, true)),
    ("rrelatime", TimesAll(Atime::Relative)),
    ("rro", SetAll(RO)),
    ("rrw", ClearAll(RO)),
    ("rshared", Propagate(libc::MS_SHARED, true)),
    ("rslave", Propagate(libc::MS_SLAVE, true)),
    ("rstrictatime", TimesAll(Atime::Strict)),
    ("rsuid", ClearAll(NOSUID)),
    ("rsymfollow", ClearAll(NOSYMFOLLOW)),
    ("runbindable", Propagate(libc::MS_UNBINDABLE, true)),
    ("rw", Clear(RO)),
    ("shared", Propagate(libc::MS_SHARED, false)),
    ("silent", Legacy(libc::MS_SILENT, true)),
    ("slave", Propagate(libc::MS_SLAVE, false)),
    ("src-nofollow", Effect::SourceNofollow),
    ("strictatime", Times(Atime::Strict)),
    ("suid", Clear(NOSUID)),
    ("symfollow", Clear(NOSYMFOLLOW)),
    ("sync", FileSystem("sync")),
    ("tmpcopyup", Effect::CopyUp),
    ("unbindable", Propagate(libc::MS_UNBINDABLE, false)),
];

/// The names that are understood, sorted, for the `features` document.
pub const NAMES: [&str; TABLE.len()] = {
    let mut names = [""; TABLE.len()];
    let mut i = 0;
    while i < names.len() {
        names[i] = TABLE[i].0;
        i += 1;
    }
    names
};

impl Attributes {
    const NONE: Self = Self {
        set: Attr::empty(),
        clear: Attr::empty(),
        atime: None,
    };

    fn set(&mut self, flags: Attr) {
        self.set |= flags;
        self.clear -= flags;
    }

    fn clear(&mut self, flags: Attr) {
        self.clear |= flags;
        self.set -= flags;
    }

    /// Returns the flags that mount_setattr(2) sets.
    pub(crate) fn to_set(self) -> Attr {
        let atime = match self.atime {
            Some(Atime::Never) => Attr::MOUNT_ATTR_NOATIME,
            Some(Atime::Strict) => Attr::MOUNT_ATTR_STRICTATIME,
            // Which is 0.
            Some(Atime::Relative) | None => Attr::MOUNT_ATTR_RELATIME,
        };
        self.set | atime
    }

    /// Returns the flags that mount_setattr(2) clears. Access times are a number and cleared as a
    /// whole when they change.
    pub(crate) fn to_clear(self) -> Attr {
        match self.atime {
            Some(_) => self.clear | Attr::MOUNT_ATTR__ATIME,
            None => self.clear,
        }
    }

    /// Whether there is nothing to change.
    pub(crate) fn is_empty(self) -> bool {
        self == Self::NONE
    }
}

/// Names flags for a message, such as "`nosuid`, `nodev`".
pub(crate) fn describe(flags: Attr) -> String {
    let names: Vec<String> = NAMED
        .iter()
        .filter(|(flag, _)| flags.contains(*flag))
        .map(|(_, name)| format!("`{name}`"))
        .collect();
    if names.is_empty() {
        "access times".to_owned()
    } else {
        names.join(", ")
    }
}

impl Options {
    /// Reads the options of one mount.
    ///
    /// # Errors
    /// An option holds a zero byte, which no file system can be given.
    pub(crate) fn parse(options: &[String]) -> Result<Self> {
        let mut parsed = Self {
            bind: None,
            remount: false,
            top: Attributes::NONE,
            all: Attributes::NONE,
            propagation: Vec::new(),
            file_system: Vec::new(),
            legacy: 0,
            id_map: None,
            id_map_text: None,
            copy_up: false,
            copy_symlink: false,
            source_nofollow: false,
            target_nofollow: false,
            data: Vec::new(),
        };
        for option in options {
            if option.contains('\0') {
                return Err(Error::new(format!("option {option:?} holds a zero byte")));
            }
            match TABLE.iter().find(|(name, _)| name == option) {
                Some((_, effect)) => parsed.apply(*effect),
                None => parsed.take(option),
            }
        }
        Ok(parsed)
    }

    fn apply(&mut self, effect: Effect) {
        match effect {
            Nothing => {}
            Set(flags) => self.top.set(flags),
            Clear(flags) => self.top.clear(flags),
            SetAll(flags) => self.all.set(flags),
            ClearAll(flags) => self.all.clear(flags),
            Times(atime) => self.top.atime = Some(atime),
            NotTimes(atime) => {
                if self.top.atime == Some(atime) {
                    self.top.atime = None;
                }
            }
            TimesAll(atime) => self.all.atime = Some(atime),
            FileSystem(name) => self.file_system.push(name),
            Legacy(flag, true) => self.legacy |= flag,
            Legacy(flag, false) => self.legacy &= !flag,
            Propagate(kind, recursive) => self.propagation.push(Propagation { kind, recursive }),
            Bind(recursive) => self.bind = Some(recursive || self.bind == Some(true)),
            Effect::Remount => self.remount = true,
            IdMap(recursive) => self.id_map = Some(recursive),
            Effect::CopyUp => self.copy_up = true,
            Effect::CopySymlink => self.copy_symlink = true,
            Effect::SourceNofollow => self.source_nofollow = true,
            Effect::TargetNofollow => self.target_nofollow = true,
        }
    }

    fn take(&mut self, option: &str) {
        if let Some(text) = option.strip_prefix("idmap=") {
            self.id_map = Some(false);
            self.id_map_text = Some(text.to_owned());
        } else if !option.is_empty() {
            self.data.push(option.to_owned());
        }
    }

    /// Names the options that belong to a file system and mean nothing to a bind mount.
    pub(crate) fn meaningless_for_bind(&self) -> Vec<&'static str> {
        let mut names = self.file_system.clone();
        if self.legacy & libc::MS_I_VERSION != 0 {
            names.push("iversion");
        }
        if self.legacy & libc::MS_SILENT != 0 {
            names.push("silent");
        }
        // Their absence is every mount's default.
        names.retain(|name| !matches!(*name, "async" | "nomand" | "nolazytime"));
        names
    }
}

/// Reads the value of `rootfsPropagation` (config-linux.md, "Rootfs Mount Propagation").
pub(crate) fn parse_propagation(name: &str) -> Result<Option<Propagation>> {
    if name.is_empty() {
        return Ok(None);
    }
    match TABLE.iter().find(|(known, _)| *known == name) {
        Some((_, Propagate(kind, recursive))) => Ok(Some(Propagation {
            kind: *kind,
            recursive: *recursive,
        })),
        _ => Err(Error::new(format!(
            "linux.rootfsPropagation: `{name}` is no type of propagation"
        ))),
    }
}

/// Splits a list of options at commas that are not in double quotes, which are dropped; mount(8)
/// has them around SELinux contexts.
pub(crate) fn split(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut quoted = false;
    for letter in text.chars() {
        match letter {
            '"' => quoted = !quoted,
            ',' if !quoted => parts.push(String::new()),
            _ => {
                if let Some(last) = parts.last_mut() {
                    last.push(letter);
                }
            }
        }
    }
    parts.retain(|part| !part.is_empty());
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(options: &[&str]) -> Options {
        let options: Vec<String> = options.iter().map(|o| (*o).to_owned()).collect();
        Options::parse(&options).expect("parse")
    }

    #[test]
    fn names_are_sorted_and_single() {
        assert!(NAMES.is_sorted_by(|a, b| a < b), "{NAMES:?}");
    }

    #[test]
    fn the_last_option_wins() {
        let options = parse(&["ro", "nosuid", "rw", "suid", "nosuid"]);
        assert_eq!(options.top.set, NOSUID);
        assert_eq!(options.top.clear, RO);
    }

    #[test]
    fn access_times_are_one_choice() {
        for (names, top) in [
            (&["noatime"][..], Some(Atime::Never)),
            (&["noatime", "atime"], None),
            (&["strictatime", "relatime"], Some(Atime::Relative)),
            (&["strictatime", "nostrictatime"], None),
            (&["noatime", "norelatime"], Some(Atime::Never)),
        ] {
            assert_eq!(parse(names).top.atime, top, "{names:?}");
        }
        let all = parse(&["rstrictatime"]).all;
        assert_eq!(all.to_set(), Attr::MOUNT_ATTR_STRICTATIME);
        assert_eq!(all.to_clear(), Attr::MOUNT_ATTR__ATIME);
    }

    #[test]
    fn recursive_flags_are_apart() {
        let options = parse(&["rbind", "rro", "exec", "rnodev"]);
        assert_eq!(options.bind, Some(true));
        assert_eq!(options.all.set, RO | NODEV);
        assert_eq!(
            (options.top.set, options.top.clear),
            (Attr::empty(), NOEXEC)
        );
    }

    #[test]
    fn the_rest_is_the_file_systems() {
        let options = parse(&["mode=755", "", "defaults", "size=64k", "sync"]);
        assert_eq!(options.data, ["mode=755", "size=64k"]);
        assert_eq!(options.file_system, ["sync"]);
        assert_eq!(
            parse(&["bind", "sync", "async"]).meaningless_for_bind(),
            ["sync"]
        );
    }

    #[test]
    fn lists_are_split_outside_of_quotes() {
        assert_eq!(split("a=1,b"), ["a=1", "b"]);
        assert_eq!(
            split(r#"context="u:r:t:s0:c1,c2",,b"#),
            ["context=u:r:t:s0:c1,c2", "b"]
        );
    }

    #[test]
    fn propagation_keeps_its_order() {
        let kinds: Vec<_> = parse(&["rslave", "shared"])
            .propagation
            .iter()
            .map(|p| (p.kind, p.recursive))
            .collect();
        assert_eq!(kinds, [(libc::MS_SLAVE, true), (libc::MS_SHARED, false)]);
        assert!(parse_propagation("ro").is_err());
        assert_eq!(parse_propagation("").expect("none"), None);
    }
}
