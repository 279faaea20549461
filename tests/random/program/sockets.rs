//! Sockets with names in the tree.

use crate::call::{self, Call};
use crate::paths::{pick_slot, plain};
use crate::random::Random;
use crate::sequence::Run;

/// A new socket, which waits for nobody.
fn socket() -> i64 {
    let kind = i64::from(libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC);
    call::raw(
        libc::SYS_socket,
        [i64::from(libc::AF_UNIX), kind, 0, 0, 0, 0],
    )
}

/// Adds an address in the tree and its length.
fn address(run: &mut Run<'_>, call: Call, random: &mut Random) -> Call {
    let path = match random.below(50) {
        0 => String::new(),
        1 => "./".repeat(53) + "a",
        _ => plain(random),
    };
    let mut bytes = libc::AF_UNIX.to_ne_bytes()[..2].to_vec();
    bytes.extend(path.as_bytes());
    // With the zero, without it, and with others behind it.
    bytes.extend(vec![0; random.pick(&[0, 1, 1, 4])]);
    let length = bytes.len().min(110);
    let address = run.memory.place(&bytes[..length]);
    call.at(format_args!("\"{path}\""), address)
        .int(i64::try_from(length).unwrap_or_default())
}

/// bind(2) and listen(2).
pub(crate) fn bind(run: &mut Run<'_>, random: &mut Random) {
    let fd = socket();
    let slot = pick_slot(random);
    let call = Call::new("bind", libc::SYS_bind).arg("socket", fd);
    let call = address(run, call, random);
    // An empty name binds to one of the kernel's choice, which differs.
    if call.words().contains("\"\"") {
        call::raw(libc::SYS_close, [fd, 0, 0, 0, 0, 0]);
        return run.say("bind without a name left out");
    }
    if run.make(&call) == 0 {
        run.make(
            &Call::new("listen", libc::SYS_listen)
                .arg("socket", fd)
                .int(5),
        );
        // By the same name, if whoever bound it may.
        let client = socket();
        let call = call.again("connect", libc::SYS_connect, client);
        run.make_and(&call, |run, _| peer(run, client));
        call::raw(libc::SYS_close, [client, 0, 0, 0, 0, 0]);
        if run.job.with("sockets") {
            Run::keep(fd, slot, true);
        } else {
            // Open for those who connect, but not among the descriptors that are asked about.
            let slots = i64::try_from(crate::paths::SLOTS).unwrap_or_default();
            Run::keep(fd, slot + slots, true);
        }
    } else {
        call::raw(libc::SYS_close, [fd, 0, 0, 0, 0, 0]);
    }
}

/// connect(2), and who is at the other end; or a pair, whose other end is this process.
pub(crate) fn connect(run: &mut Run<'_>, random: &mut Random) {
    if random.percent(20) {
        let pair = run.memory.place(&[0; 8]);
        let call = Call::new("socketpair", libc::SYS_socketpair)
            .int(i64::from(libc::AF_UNIX))
            .int(i64::from(libc::SOCK_STREAM | libc::SOCK_CLOEXEC))
            .int(0)
            .at("pair", pair);
        run.make_and(&call, |run, _| {
            let pair = run.memory.read(pair, 8);
            let at = |place: usize| {
                i64::from(i32::from_ne_bytes([
                    pair[place],
                    pair[place + 1],
                    pair[place + 2],
                    pair[place + 3],
                ]))
            };
            let shown = peer(run, at(0));
            for fd in [at(0), at(4)] {
                call::raw(libc::SYS_close, [fd, 0, 0, 0, 0, 0]);
            }
            shown
        });
        return;
    }
    let fd = socket();
    let call = Call::new("connect", libc::SYS_connect).arg("socket", fd);
    let call = address(run, call, random);
    run.make_and(&call, |run, _| peer(run, fd));
    call::raw(libc::SYS_close, [fd, 0, 0, 0, 0, 0]);
}

/// SO_PEERCRED without the process' number.
fn peer(run: &mut Run<'_>, fd: i64) -> String {
    let buffer = run.memory.place(&[0; 12]);
    let length = run.memory.place(&12_u32.to_ne_bytes());
    let arguments = [
        fd,
        i64::from(libc::SOL_SOCKET),
        i64::from(libc::SO_PEERCRED),
        buffer,
        length,
        0,
    ];
    let result = call::raw(libc::SYS_getsockopt, arguments);
    if result < 0 {
        return call::result(result);
    }
    let bytes = run.memory.read(buffer, 12);
    let at = |place: usize| {
        u32::from_ne_bytes([
            bytes[place],
            bytes[place + 1],
            bytes[place + 2],
            bytes[place + 3],
        ])
    };
    format!("peer {}:{}", at(4), at(8))
}
