//! The operations that a line of `identity-probe do` can name.
//!
//! Responsible for one word as the outcome of each: `ok`, a value, or the name of an error. Must
//! not judge.

use std::io::Read;
use std::os::fd::{FromRawFd, OwnedFd};

use super::call::{Answer, HERE, call, name, path};
use super::views;

/// Carries out one operation, `NAME[:ARGUMENT…]`.
pub(crate) fn run(text: &str) -> String {
    let mut parts = text.split(':');
    let verb = parts.next().unwrap_or_default();
    let arguments: Vec<&str> = parts.collect();
    let word = |index: usize| arguments.get(index).copied().unwrap_or_default();
    let number = |index: usize| word(index).parse::<i64>().unwrap_or(0).cast_unsigned() as usize;
    let octal = |index: usize| usize::from_str_radix(word(index), 8).unwrap_or(0);
    match verb {
        "setuid" => ok(call(libc::SYS_setuid, &[number(0)])),
        "setgid" => ok(call(libc::SYS_setgid, &[number(0)])),
        "setreuid" => ok(call(libc::SYS_setreuid, &[number(0), number(1)])),
        "setregid" => ok(call(libc::SYS_setregid, &[number(0), number(1)])),
        "setresuid" => ok(call(
            libc::SYS_setresuid,
            &[number(0), number(1), number(2)],
        )),
        "setresgid" => ok(call(
            libc::SYS_setresgid,
            &[number(0), number(1), number(2)],
        )),
        "setfsuid" => value(call(libc::SYS_setfsuid, &[number(0)])),
        "setfsgid" => value(call(libc::SYS_setfsgid, &[number(0)])),
        "setgroups" => ok(set_groups(word(0))),
        "groups-flood" => flood_groups(number(0)),
        "getuid" => value(call(libc::SYS_getuid, &[])),
        "geteuid" => value(call(libc::SYS_geteuid, &[])),
        "getgid" => value(call(libc::SYS_getgid, &[])),
        "getegid" => value(call(libc::SYS_getegid, &[])),
        "ids" => ids(),
        "status" => status(),
        "caps" => capabilities(),
        "capset-none" => ok(drop_capabilities()),
        "keepcaps" => ok(call(
            libc::SYS_prctl,
            &[libc::PR_SET_KEEPCAPS as usize, number(0)],
        )),
        "no-new-privs" => ok(call(
            libc::SYS_prctl,
            &[libc::PR_SET_NO_NEW_PRIVS as usize, 1],
        )),
        "umask" => call(libc::SYS_umask, &[octal(0)]).map_or_else(|e| e, |was| format!("{was:o}")),
        "kill" => ok(call(libc::SYS_kill, &[number(0), 0])),
        "uring" => ok(uring()),
        "filter" => ok(own_filter()),
        "priority" => ok(call(libc::SYS_getpriority, &[0, 0])),
        "rttime" => ok(change_rttime()),
        "long" => ok(call(
            libc::SYS_openat,
            &[HERE, path(&"x/".repeat(number(0))).as_ptr() as usize],
        )),
        _ => on_file(verb, &word, &number, &octal),
    }
}

/// Operations on files: the last argument is the path.
fn on_file<'a>(
    verb: &str,
    word: &dyn Fn(usize) -> &'a str,
    number: &dyn Fn(usize) -> usize,
    octal: &dyn Fn(usize) -> usize,
) -> String {
    let names = [0, 1, 2, 3].map(|index| path(word(index)));
    let name = |index: usize| names[index].as_ptr() as usize;
    let open = |index: usize, flags: i32| {
        let arguments = [HERE, name(index), (flags | libc::O_CLOEXEC) as usize, 0o666];
        call(libc::SYS_openat, &arguments).map(owned)
    };
    let with = |index: usize, flags: i32, then: &dyn Fn(usize) -> Answer| {
        let handle = open(index, flags)?;
        then(std::os::fd::AsRawFd::as_raw_fd(&handle).cast_unsigned() as usize)
    };
    let nofollow = libc::AT_SYMLINK_NOFOLLOW as usize;
    let empty = path("");
    let empty_path = [empty.as_ptr() as usize, libc::AT_EMPTY_PATH as usize];
    match verb {
        "stat" => views::all(word(0)),
        "read" => ok(open(0, libc::O_RDONLY)),
        "write" => ok(open(0, libc::O_WRONLY)),
        "create" => ok(open(0, libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL)),
        "opath" => ok(open(0, libc::O_PATH)),
        "open2" => {
            let how = [(libc::O_RDWR | libc::O_CREAT) as u64, 0o666, 0];
            let arguments = [HERE, name(0), how.as_ptr() as usize, size_of_val(&how)];
            ok(call(libc::SYS_openat2, &arguments).map(owned))
        }
        "bytes" => bytes(word(0)),
        "list" => ok(with(0, libc::O_RDONLY | libc::O_DIRECTORY, &|handle| {
            let mut buffer = [0_u64; 128];
            let arguments = [handle, buffer.as_mut_ptr() as usize, size_of_val(&buffer)];
            call(libc::SYS_getdents64, &arguments)
        })),
        "chdir" => ok(call(libc::SYS_chdir, &[name(0)])),
        "mkdir" => ok(call(libc::SYS_mkdirat, &[HERE, name(0), 0o777])),
        "rmdir" => ok(call(
            libc::SYS_unlinkat,
            &[HERE, name(0), libc::AT_REMOVEDIR as usize],
        )),
        "unlink" => ok(call(libc::SYS_unlinkat, &[HERE, name(0), 0])),
        "rename" => ok(call(
            libc::SYS_renameat2,
            &[HERE, name(0), HERE, name(1), 0],
        )),
        "exchange" => ok(call(
            libc::SYS_renameat2,
            &[HERE, name(0), HERE, name(1), 2],
        )),
        "link" => ok(call(libc::SYS_linkat, &[HERE, name(0), HERE, name(1), 0])),
        "symlink" => ok(call(libc::SYS_symlinkat, &[name(0), HERE, name(1)])),
        "chmod" => ok(call(libc::SYS_fchmodat, &[HERE, name(1), octal(0)])),
        "fchmod" => ok(with(1, libc::O_RDONLY, &|handle| {
            call(libc::SYS_fchmod, &[handle, octal(0)])
        })),
        "chown" => ok(call(
            libc::SYS_fchownat,
            &[HERE, name(2), number(0), number(1), 0],
        )),
        "lchown" => ok(call(
            libc::SYS_fchownat,
            &[HERE, name(2), number(0), number(1), nofollow],
        )),
        #[cfg(target_arch = "x86_64")]
        "old-chown" => ok(call(libc::SYS_chown, &[name(2), number(0), number(1)])),
        #[cfg(target_arch = "x86_64")]
        "old-lchown" => ok(call(libc::SYS_lchown, &[name(2), number(0), number(1)])),
        "fchown" => ok(with(2, libc::O_RDONLY | libc::O_NONBLOCK, &|handle| {
            call(libc::SYS_fchown, &[handle, number(0), number(1)])
        })),
        "chown-empty" => ok(with(2, libc::O_PATH | libc::O_NOFOLLOW, &|handle| {
            let arguments = [handle, empty_path[0], number(0), number(1), empty_path[1]];
            call(libc::SYS_fchownat, &arguments)
        })),
        "access" => ok(call(libc::SYS_faccessat, &[HERE, name(1), number(0)])),
        "eaccess" => {
            let flags = libc::AT_EACCESS as usize;
            ok(call(
                libc::SYS_faccessat2,
                &[HERE, name(1), number(0), flags],
            ))
        }
        "truncate" => ok(call(libc::SYS_truncate, &[name(0), 0])),
        "touch" => ok(call(libc::SYS_utimensat, &[HERE, name(0), 0, 0])),
        "date" => {
            let times = [1_600_000_000_i64, 0, 1_600_000_000, 0];
            ok(call(
                libc::SYS_utimensat,
                &[HERE, name(0), times.as_ptr() as usize, 0],
            ))
        }
        "setxattr" => {
            let attribute = path("user.probe");
            let arguments = [name(0), attribute.as_ptr() as usize, name(0), 1, 0];
            ok(call(libc::SYS_setxattr, &arguments))
        }
        "fifo" => ok(node(name(0), libc::S_IFIFO, 0)),
        "node" => ok(node(name(0), libc::S_IFREG, 0)),
        "character" => ok(node(name(2), libc::S_IFCHR, device(number(0), number(1)))),
        "block" => ok(node(name(2), libc::S_IFBLK, device(number(0), number(1)))),
        "tmpfile" => ok(tmpfile(name(0), name(1), &empty_path)),
        "bind" => std::os::unix::net::UnixListener::bind(word(0))
            .map_or_else(|e| self::name(&e), |_| "ok".into()),
        "connect" => std::os::unix::net::UnixStream::connect(word(0))
            .map_or_else(|e| self::name(&e), |_| "ok".into()),
        "exec" => match std::process::Command::new(word(0)).status() {
            Ok(_) => "ok".into(),
            Err(error) => self::name(&error),
        },
        _ => format!("unknown-{verb}"),
    }
}

fn ok<T>(answer: Result<T, String>) -> String {
    answer.map_or_else(|error| error, |_| "ok".into())
}

fn value(answer: Answer) -> String {
    answer.map_or_else(|error| error, |value| (value & 0xffff_ffff).to_string())
}

fn owned(handle: i64) -> OwnedFd {
    let handle = i32::try_from(handle).expect("a descriptor is an int");
    // SAFETY: the kernel has just returned it to us, and nobody else knows it.
    unsafe { OwnedFd::from_raw_fd(handle) }
}

fn node(name: usize, kind: u32, device: usize) -> Answer {
    call(
        libc::SYS_mknodat,
        &[HERE, name, (kind | 0o666) as usize, device],
    )
}

fn device(major: usize, minor: usize) -> usize {
    // makedev(3) for numbers below 256, as the kernel takes them.
    major << 8 | minor
}

/// Makes a file without a name and gives it one.
fn tmpfile(directory: usize, name: usize, empty_path: &[usize; 2]) -> Answer {
    let flags = (libc::O_TMPFILE | libc::O_RDWR | libc::O_CLOEXEC) as usize;
    let handle = call(libc::SYS_openat, &[HERE, directory, flags, 0o640])?;
    let handle = owned(handle);
    let number = std::os::fd::AsRawFd::as_raw_fd(&handle);
    let handle_number = number.cast_unsigned() as usize;
    call(libc::SYS_fchown, &[handle_number, 33, 34])?;
    // By the descriptor where the kernel lets it, otherwise the way that open(2) shows.
    let link = [handle_number, empty_path[0], HERE, name, empty_path[1]];
    call(libc::SYS_linkat, &link).or_else(|_| {
        let magic = path(&format!("/proc/self/fd/{number}"));
        let follow = libc::AT_SYMLINK_FOLLOW as usize;
        call(
            libc::SYS_linkat,
            &[HERE, magic.as_ptr() as usize, HERE, name, follow],
        )
    })
}

fn set_groups(list: &str) -> Answer {
    let groups: Vec<u32> = list
        .split(',')
        .filter_map(|word| word.parse().ok())
        .collect();
    call(
        libc::SYS_setgroups,
        &[groups.len(), groups.as_ptr() as usize],
    )
}

/// Sets as many different lists of 65536 groups; says which was refused, and how.
fn flood_groups(count: usize) -> String {
    let mut groups: Vec<u32> = (0..65536).collect();
    for round in 0..count {
        groups[0] = 100_000 + u32::try_from(round).unwrap_or(0);
        let set = call(
            libc::SYS_setgroups,
            &[groups.len(), groups.as_ptr() as usize],
        );
        if let Err(error) = set {
            return format!("{error} {}", if round >= 32 { "late" } else { "early" });
        }
    }
    "ok".to_owned()
}

fn three(number: i64) -> Result<String, String> {
    let mut ids = [0_u32; 3];
    let place = ids.as_mut_ptr() as usize;
    call(number, &[place, place + 4, place + 8])?;
    Ok(ids.map(|id| id.to_string()).join(","))
}

/// `real,effective,saved/real,effective,saved/groups` by the calls.
fn ids() -> String {
    let users = three(libc::SYS_getresuid).unwrap_or_else(|error| error);
    let groups = three(libc::SYS_getresgid).unwrap_or_else(|error| error);
    let mut list = [0_u32; 64];
    let count = call(
        libc::SYS_getgroups,
        &[list.len(), list.as_mut_ptr() as usize],
    );
    let others = match count {
        Ok(count) => {
            let mut others = list[..count.cast_unsigned() as usize].to_vec();
            others.sort_unstable();
            others
                .iter()
                .map(u32::to_string)
                .collect::<Vec<_>>()
                .join(",")
        }
        Err(error) => error,
    };
    format!("{users}/{groups}/{others}")
}

/// The same with file system ids, by `/proc/self/status`.
fn status() -> String {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap_or("none");
        line.split_whitespace().collect::<Vec<_>>().join(",")
    };
    format!("{}/{}/{}", field("Uid:"), field("Gid:"), field("Groups:"))
}

const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

/// `effective,permitted,inheritable` of the lower 32 capabilities.
fn capabilities() -> String {
    let header = [CAPABILITY_VERSION_3, 0];
    let mut data = [0_u32; 6];
    let arguments = [header.as_ptr() as usize, data.as_mut_ptr() as usize];
    match call(libc::SYS_capget, &arguments) {
        Ok(_) => format!("{:x},{:x},{:x}", data[0], data[1], data[2]),
        Err(error) => error,
    }
}

fn drop_capabilities() -> Answer {
    let header = [CAPABILITY_VERSION_3, 0];
    let data = [0_u32; 6];
    call(
        libc::SYS_capset,
        &[header.as_ptr() as usize, data.as_ptr() as usize],
    )
}

fn uring() -> Answer {
    let parameters = [0_u64; 15];
    call(libc::SYS_io_uring_setup, &[1, parameters.as_ptr() as usize])
}

/// Asks for another soft limit of real-time processor time, and for a record of another process.
fn change_rttime() -> Answer {
    let limits = [(1_u64 << 62) + 1, u64::MAX];
    let resource = libc::RLIMIT_RTTIME as usize;
    call(
        libc::SYS_prlimit64,
        &[0, resource, limits.as_ptr() as usize, 0],
    )
}

/// Installs a filter by which getpriority(2) ends with EXDEV, which it never does by itself.
fn own_filter() -> Answer {
    let filter = [
        libc::sock_filter {
            code: 0x20,
            jt: 0,
            jf: 0,
            k: 0,
        },
        libc::sock_filter {
            code: 0x15,
            jt: 0,
            jf: 1,
            k: u32::try_from(libc::SYS_getpriority).expect("numbers of calls are small"),
        },
        libc::sock_filter {
            code: 0x06,
            jt: 0,
            jf: 0,
            k: libc::SECCOMP_RET_ERRNO | libc::EXDEV.cast_unsigned(),
        },
        libc::sock_filter {
            code: 0x06,
            jt: 0,
            jf: 0,
            k: libc::SECCOMP_RET_ALLOW,
        },
    ];
    let program = libc::sock_fprog {
        len: 4,
        filter: filter.as_ptr().cast_mut(),
    };
    call(libc::SYS_prctl, &[libc::PR_SET_NO_NEW_PRIVS as usize, 1])?;
    call(
        libc::SYS_seccomp,
        &[
            libc::SECCOMP_SET_MODE_FILTER as usize,
            0,
            &raw const program as usize,
        ],
    )
}

/// Opens a file and returns how many bytes of its first three can be read, and written.
fn bytes(file: &str) -> String {
    let mut buffer = [0; 3];
    let read = std::fs::File::open(file).and_then(|mut file| file.read(&mut buffer));
    let write = std::fs::OpenOptions::new()
        .write(true)
        .open(file)
        .and_then(|mut file| std::io::Write::write(&mut file, b"abc"));
    let word = |answer: std::io::Result<usize>| answer.map_or_else(|e| name(&e), |n| n.to_string());
    format!("{},{}", word(read), word(write))
}
