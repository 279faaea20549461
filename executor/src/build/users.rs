//! Users and groups as a container's own files define them.
//!
//! Responsible for USER (as runc resolves it) and for `--chown` (as BuildKit does). Must not
//! consult the host's users. Invariant: only regular files of bounded size are read, inside the
//! root, so that a hostile image can neither block us nor fill our memory.

use std::fs::File;
use std::io::Read;

use runtime::path::Root;
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::context::suggest;
use crate::error::{Error, Kind, Result, ResultExt};

/// Largest passwd or group file that is read, in bytes.
const MAX_FILE: u64 = 16 << 20;
/// Largest id that runc and Docker accept.
const MAX_ID: u32 = (1 << 31) - 1;

const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";

/// Who a process runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// User id in the container.
    pub uid: u32,
    /// Primary group id in the container.
    pub gid: u32,
    /// Supplementary groups, in the order of the group file.
    pub groups: Vec<u32>,
    /// Home directory, when passwd has an entry.
    pub home: Option<String>,
}

/// A line of passwd(5).
struct User {
    name: String,
    uid: u32,
    gid: u32,
    home: String,
}

/// A line of group(5).
struct Group {
    name: String,
    gid: u32,
    members: Vec<String>,
}

/// Resolves the argument of USER: `user`, `uid`, `user:group` …; empty means root.
///
/// As runc does: a name is looked up before a number is taken as one; a number without entry has
/// group 0; supplementary groups are added only when no group is given; the first entry wins.
///
/// # Errors
/// When a name has no entry, an id is above 2147483647, or a file is not a readable regular file.
pub fn resolve(root: &Root, spec: &str) -> Result<Credentials> {
    let (user, group) = match spec.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|g| !g.is_empty())),
        None => (spec, None),
    };
    let number = parse_id(user)?;
    let users = users(root)?;
    let entry = users.iter().find(|u| {
        if user.is_empty() {
            u.uid == 0
        } else {
            u.name == user || number == Some(u.uid)
        }
    });
    let mut out = match entry {
        Some(entry) => Credentials {
            uid: entry.uid,
            gid: entry.gid,
            groups: Vec::new(),
            home: Some(entry.home.clone()),
        },
        None => Credentials {
            uid: match number {
                Some(id) => id,
                None if user.is_empty() => 0,
                None => return Err(no_user(user, &users)),
            },
            gid: 0,
            groups: Vec::new(),
            home: None,
        },
    };
    if let Some(group) = group {
        out.gid = group_id(root, group)?;
    } else if let Some(entry) = entry {
        out.groups = groups(root)?
            .into_iter()
            .filter(|g| g.members.contains(&entry.name))
            .map(|g| g.gid)
            .collect();
    }
    Ok(out)
}

/// Resolves the argument of `--chown` to user and group ids.
///
/// As BuildKit does: a number is never looked up, and alone stands for the group too; a name
/// alone has its primary group; a missing user (`:group`) is root.
///
/// # Errors
/// Those of [`resolve`]; BuildKit takes a name without entry for root, which helps nobody.
pub fn resolve_owner(root: &Root, spec: &str) -> Result<(u32, u32)> {
    let (user, group) = match spec.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (spec, None),
    };
    if user.is_empty() && group.is_none() || group == Some("") {
        return Err(Error::new(format!(
            "invalid owner `{spec}`: expected `user`, `user:group` or `:group`"
        )));
    }
    let (uid, gid) = match parse_id(user)? {
        Some(id) => (id, id),
        None if user.is_empty() => (0, 0),
        None => {
            let users = users(root)?;
            let entry = users.iter().find(|u| u.name == user);
            let entry = entry.ok_or_else(|| no_user(user, &users))?;
            (entry.uid, entry.gid)
        }
    };
    match group {
        None => Ok((uid, gid)),
        Some(group) => match parse_id(group)? {
            Some(id) => Ok((uid, id)),
            None => Ok((uid, group_id(root, group)?)),
        },
    }
}

fn group_id(root: &Root, group: &str) -> Result<u32> {
    let number = parse_id(group)?;
    let groups = groups(root)?;
    let entry = groups
        .iter()
        .find(|g| g.name == group || number == Some(g.gid));
    match (entry, number) {
        (Some(entry), _) => Ok(entry.gid),
        (None, Some(id)) => Ok(id),
        (None, None) => Err(unknown(
            format!("unable to find group {group}: no matching entries in {GROUP}"),
            group,
            groups.iter().map(|g| g.name.as_str()),
        )),
    }
}

fn no_user(user: &str, users: &[User]) -> Error {
    unknown(
        format!("unable to find user {user}: no matching entries in {PASSWD}"),
        user,
        users.iter().map(|u| u.name.as_str()),
    )
}

fn unknown<'a>(text: String, name: &str, known: impl Iterator<Item = &'a str>) -> Error {
    let error = Error::new(text).kind(Kind::NotFound);
    match suggest::closest(name, known) {
        Some(near) => error.hint(format!("did you mean `{near}`?")),
        None => error,
    }
}

/// Parses a decimal id; `None` when the text is a name.
fn parse_id(text: &str) -> Result<Option<u32>> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse() {
        Ok(id) if id <= MAX_ID => Ok(Some(id)),
        _ => Err(Error::new(format!(
            "id {text} is out of range: ids go up to {MAX_ID}"
        ))),
    }
}

fn users(root: &Root) -> Result<Vec<User>> {
    let text = read(root, PASSWD)?;
    let entry = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?.to_owned();
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        let home = fields.nth(1).unwrap_or_default().to_owned();
        Some(User {
            name,
            uid,
            gid,
            home,
        })
    };
    Ok(text.lines().map(str::trim).filter_map(entry).collect())
}

fn groups(root: &Root) -> Result<Vec<Group>> {
    let text = read(root, GROUP)?;
    let entry = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?.to_owned();
        let gid = fields.nth(1)?.parse().ok()?;
        let members = fields.next().unwrap_or_default();
        Some(Group {
            name,
            gid,
            members: members.split(',').map(str::to_owned).collect(),
        })
    };
    Ok(text.lines().map(str::trim).filter_map(entry).collect())
}

/// Reads a small file of the container; a missing one is empty.
fn read(root: &Root, path: &'static str) -> Result<String> {
    // Without O_NONBLOCK, a FIFO in the file's place would block for ever.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = match root.open(path, flags, Mode::empty()) {
        Ok(fd) => File::from(fd),
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(String::new()),
        Err(e) => return Err(Error::new("open the container's").path(path).source(e)),
    };
    let stat = rustix::fs::fstat(&file).op_path("stat the container's", path)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Error::new("not a regular file in the container:").path(path));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1)
        .read_to_end(&mut bytes)
        .op_path("read the container's", path)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(
            Error::new(format!("more than {MAX_FILE} bytes in the container's")).path(path),
        );
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn root() -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().expect("temporary directory");
        let etc = dir.path().join("etc");
        std::fs::create_dir(&etc).expect("mkdir");
        std::fs::write(
            etc.join("passwd"),
            "root:x:0:0:root:/root:/bin/sh\n\
             # comment\n\
             broken:x:notanumber:1::/:\n\
             app:x:1000:1001:App:/home/app:/bin/sh\n\
             app:x:2000:2000:second:/:/bin/sh\n\
             1234:x:77:78:a name of digits:/digits:\n\
             short:x:5:6\n",
        )
        .expect("write passwd");
        std::fs::write(
            etc.join("group"),
            "root:x:0:\nwheel:x:10:root,app\napp:x:1001:\nvideo:x:44:app\nbad:x:x:app\n",
        )
        .expect("write group");
        let root = Root::open_host(dir.path()).expect("open root");
        (dir, root)
    }

    #[test]
    fn users_resolve_as_in_runc() {
        let (_dir, root) = root();
        for (spec, uid, gid, groups, home) in [
            ("", 0, 0, vec![10], Some("/root")),
            ("root", 0, 0, vec![10], Some("/root")),
            ("app", 1000, 1001, vec![10, 44], Some("/home/app")),
            ("1000", 1000, 1001, vec![10, 44], Some("/home/app")),
            ("app:", 1000, 1001, vec![10, 44], Some("/home/app")),
            ("app:wheel", 1000, 10, vec![], Some("/home/app")),
            ("app:44", 1000, 44, vec![], Some("/home/app")),
            ("app:4242", 1000, 4242, vec![], Some("/home/app")),
            ("4242", 4242, 0, vec![], None),
            ("4242:wheel", 4242, 10, vec![], None),
            ("1234", 77, 78, vec![], Some("/digits")),
            (":wheel", 0, 10, vec![], Some("/root")),
            ("short", 5, 6, vec![], Some("")),
        ] {
            let expected = Credentials {
                uid,
                gid,
                groups,
                home: home.map(str::to_owned),
            };
            assert_eq!(resolve(&root, spec).expect(spec), expected, "{spec}");
        }
    }

    #[test]
    fn owners_resolve_as_in_buildkit() {
        let (_dir, root) = root();
        for (spec, owner) in [
            ("app", (1000, 1001)),
            ("1000", (1000, 1000)),
            ("1234", (1234, 1234)),
            ("app:wheel", (1000, 10)),
            ("33:wheel", (33, 10)),
            ("app:7", (1000, 7)),
            (":wheel", (0, 10)),
        ] {
            assert_eq!(resolve_owner(&root, spec).expect(spec), owner, "{spec}");
        }
    }

    #[test]
    fn what_is_unknown_is_an_error() {
        let (_dir, root) = root();
        for (spec, text, hints) in [
            (
                "ap",
                "unable to find user ap: no matching entries in /etc/passwd",
                1,
            ),
            (
                "nobody-here",
                "unable to find user nobody-here: no matching entries in /etc/passwd",
                0,
            ),
            (
                "app:whel",
                "unable to find group whel: no matching entries in /etc/group",
                1,
            ),
        ] {
            for error in [
                resolve(&root, spec).expect_err(spec),
                resolve_owner(&root, spec).expect_err(spec),
            ] {
                assert_eq!(error.to_string(), text);
                assert_eq!(error.hints().len(), hints, "{spec}");
            }
        }
        for spec in ["4294967296", "2147483648", "0:2147483648"] {
            assert!(resolve(&root, spec).is_err(), "{spec}");
            assert!(resolve_owner(&root, spec).is_err(), "{spec}");
        }
        for spec in ["", ":", "app:"] {
            assert!(resolve_owner(&root, spec).is_err(), "{spec}");
        }
    }

    #[test]
    fn an_image_without_files_has_only_numbers() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let root = Root::open_host(dir.path()).expect("open root");
        assert_eq!(resolve(&root, "").expect("root").uid, 0);
        assert_eq!(resolve(&root, "12").expect("number").uid, 12);
        assert_eq!(resolve_owner(&root, "12:13").expect("numbers"), (12, 13));
        assert!(resolve(&root, "root").is_err());
    }

    #[test]
    fn hostile_files_neither_block_nor_escape() {
        let (dir, root) = root();
        let passwd = dir.path().join("etc/passwd");
        std::fs::remove_file(&passwd).expect("remove");
        rustix::fs::mkfifoat(rustix::fs::CWD, &passwd, Mode::RUSR).expect("mkfifo");
        let error = resolve(&root, "app").expect_err("a FIFO");
        assert!(error.to_string().contains("not a regular file"));

        std::fs::remove_file(&passwd).expect("remove");
        let outside = tempfile::NamedTempFile::new().expect("temporary file");
        std::fs::write(outside.path(), "evil:x:1:1::/:\n").expect("write");
        std::os::unix::fs::symlink(outside.path(), &passwd).expect("symlink");
        assert!(resolve(&root, "evil").is_err());

        std::fs::remove_file(&passwd).expect("remove");
        let huge = File::create(&passwd).expect("create");
        huge.set_len(MAX_FILE + 1).expect("grow");
        let error = resolve(&root, "app").expect_err("a huge file");
        assert!(error.to_string().contains("more than"));
        assert!(Path::new("/etc").exists());
    }
}
