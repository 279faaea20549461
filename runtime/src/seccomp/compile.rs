//! From a profile to a program of the kernel's filter machine.
//!
//! Responsible for the frame of the program; the rules themselves are compiled by `seccompiler`.
//! Must not know which calls a profile allows. Invariant: every path ends in allow, `EPERM` or
//! `ENOSYS`; foreign architectures and x32 numbers end in `ENOSYS`.
//!
//! `seccompiler` lays all calls out in one chain, which the kernel walks once per call number
//! when a filter is installed. So calls are compiled in small groups, and a search tree in front
//! jumps to the right one: installing costs a fraction, allowed calls cost the same (the kernel
//! caches them).

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use super::profile::{Compare, Profile, Rule};
use crate::error::{Error, Result};
use crate::sys;

/// A compiled filter.
#[derive(Debug, Clone)]
pub struct Program {
    instructions: Vec<libc::sock_filter>,
}

impl Program {
    /// Installs the filter for the calling thread, which needs `CAP_SYS_ADMIN` in its user
    /// namespace or no-new-privs. Neither allocates nor locks.
    pub fn install(&self) -> rustix::io::Result<()> {
        sys::install_filter(&self.instructions)
    }
}

/// How many calls make a group.
const GROUP: usize = 16;

/// The kernel's limit (`BPF_MAXINSNS`).
const MAX_INSTRUCTIONS: usize = 4096;

/// Bit that marks numbers of the x32 entry points (`__X32_SYSCALL_BIT`).
const X32: u32 = 0x4000_0000;

// linux/bpf_common.h
const LOAD_WORD: u16 = 0x20;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER_EQUAL: u16 = 0x35;
const JUMP_GREATER: u16 = 0x25;
const RETURN: u16 = 0x06;

// struct seccomp_data
const OFFSET_NUMBER: u32 = 0;
const OFFSET_ARCHITECTURE: u32 = 4;

const fn errno(errno: i32) -> u32 {
    libc::SECCOMP_RET_ERRNO | errno.cast_unsigned()
}

/// Compiles a profile for the architecture that this program runs on.
pub(super) fn compile(profile: &Profile) -> Result<Program> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for call in &profile.allowed {
        rules.insert(*call, Vec::new());
    }
    for (call, ways) in &profile.conditional {
        let ways = ways.iter().map(rule).collect::<Result<_>>()?;
        rules.insert(*call, ways);
    }
    let all: Vec<_> = rules.into_iter().collect();
    let groups = all
        .chunks(GROUP)
        .map(|group| Ok((number(group[0].0)?, compile_group(group)?)))
        .collect::<Result<Vec<_>>>()?;

    let mut out = prologue(profile)?;
    tree(&groups, &mut out);
    if out.len() > MAX_INSTRUCTIONS {
        return Err(Error::new("compile seccomp profile: too many rules"));
    }
    Ok(Program { instructions: out })
}

/// Answers what needs no rule: foreign entry points, unknown numbers, absent calls.
fn prologue(profile: &Profile) -> Result<Vec<libc::sock_filter>> {
    let absent = errno(libc::ENOSYS);
    let mut out = vec![
        statement(LOAD_WORD, OFFSET_ARCHITECTURE),
        jump(JUMP_EQUAL, audit_architecture(), 1, 0),
        statement(RETURN, absent),
        statement(LOAD_WORD, OFFSET_NUMBER),
        jump(JUMP_GREATER_EQUAL, X32, 1, 0),
        jump(JUMP_GREATER, profile.newest, 0, 1),
        statement(RETURN, absent),
    ];
    for call in &profile.absent {
        out.push(jump(JUMP_EQUAL, number(*call)?, 0, 1));
        out.push(statement(RETURN, absent));
    }
    Ok(out)
}

/// Emits a search over the groups' first numbers, with the groups as leaves.
fn tree(groups: &[(u32, Vec<libc::sock_filter>)], out: &mut Vec<libc::sock_filter>) {
    if let [(_, program)] = groups {
        out.extend_from_slice(program);
        return;
    }
    let (low, high) = groups.split_at(groups.len() / 2);
    let Some((first, _)) = high.first() else {
        return;
    };
    let mut lower = Vec::new();
    tree(low, &mut lower);
    // The distance of a conditional jump is a byte; the one of a plain jump is not.
    out.push(jump(JUMP_GREATER_EQUAL, *first, 0, 1));
    let distance = u32::try_from(lower.len()).unwrap_or(u32::MAX);
    out.push(statement(JUMP, distance));
    out.append(&mut lower);
    tree(high, out);
}

fn compile_group(group: &[(i64, Vec<SeccompRule>)]) -> Result<Vec<libc::sock_filter>> {
    let refused =
        |e: &dyn std::fmt::Display| Error::new("compile seccomp profile").cause(e.to_string());
    let filter = SeccompFilter::new(
        group.iter().cloned().collect(),
        SeccompAction::Errno(libc::EPERM.cast_unsigned()),
        SeccompAction::Allow,
        architecture(),
    )
    .map_err(|e| refused(&e))?;
    let program: BpfProgram = filter.try_into().map_err(|e| refused(&e))?;
    Ok(program
        .into_iter()
        .map(|i| libc::sock_filter {
            code: i.code,
            jt: i.jt,
            jf: i.jf,
            k: i.k,
        })
        .collect())
}

fn rule(rule: &Rule) -> Result<SeccompRule> {
    let refused =
        |e: seccompiler::BackendError| Error::new("compile seccomp profile").cause(e.to_string());
    let conditions = rule
        .iter()
        .map(|(argument, compare)| {
            let (width, op, value) = match *compare {
                Compare::Is(value) => (SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, u64::from(value)),
                Compare::IsNot(value) => {
                    (SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, u64::from(value))
                }
                Compare::Lacks(bits) => (SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(bits), 0),
            };
            SeccompCondition::new(*argument, width, op, value).map_err(refused)
        })
        .collect::<Result<_>>()?;
    SeccompRule::new(conditions).map_err(refused)
}

fn number(call: i64) -> Result<u32> {
    u32::try_from(call).map_err(|_| Error::new("compile seccomp profile: bad call number"))
}

fn statement(code: u16, k: u32) -> libc::sock_filter {
    jump(code, k, 0, 0)
}

fn jump(code: u16, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter { code, jt, jf, k }
}

#[cfg(target_arch = "x86_64")]
fn architecture() -> TargetArch {
    TargetArch::x86_64
}

#[cfg(target_arch = "aarch64")]
fn architecture() -> TargetArch {
    TargetArch::aarch64
}

// linux/audit.h: the ELF machine, with bits for 64-bit and little-endian.
fn audit_architecture() -> u32 {
    const ELF_64_LITTLE: u32 = 0xc000_0000;
    #[cfg(target_arch = "x86_64")]
    const MACHINE: u32 = libc::EM_X86_64 as u32;
    #[cfg(target_arch = "aarch64")]
    const MACHINE: u32 = libc::EM_AARCH64 as u32;
    ELF_64_LITTLE | MACHINE
}

#[cfg(test)]
mod tests {
    use super::super::profile;
    use super::*;

    /// Runs a program as the kernel does; returns its verdict and the steps that it took.
    fn run(program: &Program, arch: u32, nr: u32, args: [u64; 6]) -> (u32, usize) {
        let mut data = Vec::new();
        data.extend(nr.to_ne_bytes());
        data.extend(arch.to_ne_bytes());
        data.extend([0; 8]);
        for arg in args {
            data.extend(arg.to_ne_bytes());
        }
        let (mut pc, mut acc, mut steps) = (0, 0_u32, 0);
        loop {
            let i = program.instructions[pc];
            steps += 1;
            pc += 1;
            let branch = |taken: bool| usize::from(if taken { i.jt } else { i.jf });
            match i.code {
                LOAD_WORD => {
                    let at = i.k as usize;
                    acc = u32::from_ne_bytes(data[at..at + 4].try_into().expect("four bytes"));
                }
                JUMP => pc += i.k as usize,
                JUMP_EQUAL => pc += branch(acc == i.k),
                JUMP_GREATER_EQUAL => pc += branch(acc >= i.k),
                JUMP_GREATER => pc += branch(acc > i.k),
                0x54 => acc &= i.k,
                RETURN => return (i.k, steps),
                other => panic!("instruction {other:#x}"),
            }
        }
    }

    fn compiled() -> Program {
        compile(&profile::default()).expect("compile")
    }

    const NONE: [u64; 6] = [0; 6];

    #[test]
    fn every_number_gets_its_verdict() {
        let (program, profile) = (compiled(), profile::default());
        for nr in 0..1000_u32 {
            let (verdict, _) = run(&program, audit_architecture(), nr, NONE);
            let n = i64::from(nr);
            let conditional = profile.conditional.iter().any(|(c, _)| *c == n);
            let expected = if profile.absent.contains(&n) || nr > profile.newest {
                errno(libc::ENOSYS)
            } else if profile.allowed.contains(&n) || conditional {
                libc::SECCOMP_RET_ALLOW
            } else {
                errno(libc::EPERM)
            };
            assert_eq!(verdict, expected, "call {nr}");
        }
    }

    #[test]
    fn foreign_entry_points_do_not_exist() {
        let program = compiled();
        let i386 = 0x4000_0003;
        for (arch, nr) in [
            (i386, 1),
            (audit_architecture(), X32 | 1),
            (audit_architecture(), u32::MAX),
        ] {
            assert_eq!(run(&program, arch, nr, NONE).0, errno(libc::ENOSYS));
        }
    }

    #[test]
    fn arguments_decide() {
        let program = compiled();
        let verdict = |call: i64, arg: u64| {
            let nr = u32::try_from(call).expect("a number");
            run(&program, audit_architecture(), nr, [arg, 0, 0, 0, 0, 0]).0
        };
        let (yes, no) = (libc::SECCOMP_RET_ALLOW, errno(libc::EPERM));
        for (call, arg, expected) in [
            (libc::SYS_clone, libc::CLONE_VM as u64 | 17, yes),
            (libc::SYS_clone, libc::CLONE_NEWUSER as u64, no),
            (libc::SYS_clone, libc::CLONE_NEWNS as u64 | 17, no),
            (libc::SYS_clone, libc::CLONE_NEWCGROUP as u64, no),
            (libc::SYS_personality, 0, yes),
            (libc::SYS_personality, 0xffff_ffff, yes),
            (libc::SYS_personality, 0x0040_0000, no),
            (libc::SYS_socket, libc::AF_INET as u64, yes),
            (libc::SYS_socket, libc::AF_UNIX as u64, yes),
            (libc::SYS_socket, libc::AF_VSOCK as u64, no),
            (libc::SYS_socket, libc::AF_VSOCK as u64 | 1 << 32, no),
            (libc::SYS_socket, libc::AF_ALG as u64, no),
        ] {
            assert_eq!(verdict(call, arg), expected, "call {call} with {arg:#x}");
        }
    }

    #[test]
    fn the_program_is_short_to_walk() {
        let program = compiled();
        assert!(program.instructions.len() < MAX_INSTRUCTIONS);
        let longest = (0..500)
            .map(|nr| run(&program, audit_architecture(), nr, NONE).1)
            .max();
        assert!(longest < Some(120), "{longest:?} steps");
    }
}
