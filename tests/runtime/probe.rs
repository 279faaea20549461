//! A payload for containers under test: it makes one system call, or says one fact.
//!
//! Responsible for what busybox can't be asked. Must not judge. Invariant: one line on standard
//! output, which is the result or the number of the error as `errno N`.
//!
//! ```text
//! probe call NUMBER [ARGUMENT…]     a system call of this architecture
//! probe call32 NUMBER [ARGUMENT…]   the same by the i386 entry (x86-64 only)
//! probe sched                       sched_getattr(2): policy flags nice priority runtime deadline period
//! probe memory-policy               get_mempolicy(2): mode and the first 64 nodes
//! probe threads COUNT               starts threads, then prints one's `Seccomp` mode for each
//! probe notify SOCKET TEXT          a datagram for a socket
//! ```
#![expect(clippy::print_stdout, reason = "its purpose")]

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let numbers: Vec<i64> = arguments.iter().skip(1).filter_map(|a| number(a)).collect();
    match arguments.first().map(String::as_str) {
        Some("call") => show(call(&numbers)),
        Some("call32") => show32(call32(&numbers)),
        Some("sched") => sched(),
        Some("memory-policy") => memory_policy(),
        Some("threads") => threads(numbers.first().copied().unwrap_or(1)),
        Some("notify") => notify(&arguments),
        _ => return ExitCode::from(2),
    }
    ExitCode::SUCCESS
}

/// Decimal, or hexadecimal with `0x`.
fn number(text: &str) -> Option<i64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok().map(u64::cast_signed),
        None => text.parse().ok(),
    }
}

fn show(result: i64) {
    if result == -1 {
        let error = std::io::Error::last_os_error().raw_os_error();
        println!("errno {}", error.unwrap_or(0));
    } else {
        println!("{result}");
    }
}

/// The raw convention: errors are small negative numbers.
fn show32(result: i32) {
    if (-4095..0).contains(&result) {
        println!("errno {}", -result);
    } else {
        println!("{result}");
    }
}

fn call(numbers: &[i64]) -> i64 {
    let at = |index: usize| numbers.get(index).copied().unwrap_or(0);
    // SAFETY: the tests pass calls and arguments that don't touch this process's memory.
    unsafe { libc::syscall(at(0), at(1), at(2), at(3), at(4), at(5), at(6)) }
}

#[cfg(target_arch = "x86_64")]
fn call32(numbers: &[i64]) -> i32 {
    let at = |index: usize| numbers.get(index).copied().unwrap_or(0);
    let result: i64;
    // SAFETY: as in `call`. The entry saves all registers that the compiler could care for but
    // r8 to r11, which older kernels clear; rbx can't be an operand and is put back.
    unsafe {
        std::arch::asm!(
            "xchg {first}, rbx",
            "int 0x80",
            "xchg {first}, rbx",
            first = inout(reg) at(1) => _,
            inlateout("rax") at(0) => result,
            in("rcx") at(2),
            in("rdx") at(3),
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
        );
    }
    i32::try_from(result & 0xffff_ffff).unwrap_or((result & 0xffff_ffff) as u32 as i32)
}

#[cfg(not(target_arch = "x86_64"))]
fn call32(_: &[i64]) -> i32 {
    -libc::ENOSYS
}

/// `struct sched_attr` of its first version, sched_setattr(2).
#[repr(C)]
#[derive(Default)]
struct SchedAttr {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

fn sched() {
    let mut attr = SchedAttr::default();
    let size = size_of::<SchedAttr>();
    // SAFETY: the kernel writes at most `size` bytes into the structure.
    let result = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attr, size, 0) };
    if result != 0 {
        return show(result);
    }
    println!(
        "{} {} {} {} {} {} {}",
        attr.policy, attr.flags, attr.nice, attr.priority, attr.runtime, attr.deadline, attr.period
    );
}

fn memory_policy() {
    let mut mode = 0_i32;
    let mut nodes = [0_u64; 16];
    // SAFETY: the kernel writes one integer and at most 1024 bits.
    let result = unsafe {
        libc::syscall(
            libc::SYS_get_mempolicy,
            &raw mut mode,
            nodes.as_mut_ptr(),
            1024,
            0,
            0,
        )
    };
    if result != 0 {
        return show(result);
    }
    println!("{mode} {}", nodes[0]);
}

fn threads(count: i64) {
    let started: Vec<_> = (0..count)
        .map(|_| {
            std::thread::spawn(|| {
                let status =
                    std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
                let line = status.lines().find(|line| line.starts_with("Seccomp:"));
                line.unwrap_or_default()
                    .replace("Seccomp:", "")
                    .trim()
                    .to_owned()
            })
        })
        .collect();
    let modes: Vec<String> = started
        .into_iter()
        .map(|thread| thread.join().unwrap_or_default())
        .collect();
    println!("{}", modes.join(" "));
}

fn notify(arguments: &[String]) {
    let [_, socket, text] = arguments else {
        return println!("errno {}", libc::EINVAL);
    };
    let sent = std::os::unix::net::UnixDatagram::unbound()
        .and_then(|from| from.send_to(text.as_bytes(), socket));
    match sent {
        Ok(_) => println!("sent"),
        Err(error) => println!("errno {}", error.raw_os_error().unwrap_or(0)),
    }
}
