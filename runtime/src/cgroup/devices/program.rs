//! Device rules as an eBPF program for version 2.
//!
//! Responsible for the machine code. Must not load or attach it. Invariant: the program ends after
//! at most one pass over the rules, last rule first, and returns 1 exactly when every access that
//! was asked for is allowed.
//!
//! The context is `struct bpf_cgroup_dev_ctx` of linux/bpf.h: `access_type` (access in the upper
//! half, type in the lower), `major`, `minor`. Encoding: the kernel's bpf/standardization/
//! instruction-set.rst.

use super::{Kind, Rule};

/// One instruction, as the kernel wants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Instruction {
    pub(crate) code: u8,
    /// Destination in the lower half, source in the upper.
    pub(crate) registers: u8,
    pub(crate) offset: i16,
    pub(crate) value: i32,
}

/// `BPF_DEVCG_DEV_BLOCK`.
const BLOCK: i32 = 1;
/// `BPF_DEVCG_DEV_CHAR`.
const CHAR: i32 = 2;

// Opcodes: class, size or operation, source.
pub(super) const LOAD_WORD: u8 = 0x61;
pub(super) const MOVE: u8 = 0xbf;
pub(super) const MOVE_VALUE: u8 = 0xb7;
pub(super) const AND_VALUE: u8 = 0x54;
pub(super) const SHIFT_RIGHT_VALUE: u8 = 0x74;
pub(super) const JUMP_NOT_EQUAL: u8 = 0x56;
pub(super) const JUMP_EQUAL: u8 = 0x16;
pub(super) const JUMP_SET: u8 = 0x46;
pub(super) const JUMP: u8 = 0x05;
pub(super) const EXIT: u8 = 0x95;

// Registers: 0 is the result, 1 the context.
const RESULT: u8 = 0;
const CONTEXT: u8 = 1;
const TYPE: u8 = 2;
/// The accesses that no rule has allowed yet.
const OPEN: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

const fn instruction(code: u8, to: u8, from: u8, offset: i16, value: i32) -> Instruction {
    Instruction {
        code,
        registers: to | from << 4,
        offset,
        value,
    }
}

/// Assembles the program of a list of rules.
pub(crate) fn assemble(rules: &[Rule]) -> Vec<Instruction> {
    let mut program = vec![
        instruction(LOAD_WORD, TYPE, CONTEXT, 0, 0),
        instruction(MOVE, OPEN, TYPE, 0, 0),
        instruction(AND_VALUE, TYPE, 0, 0, 0xffff),
        instruction(SHIFT_RIGHT_VALUE, OPEN, 0, 0, 16),
        instruction(LOAD_WORD, MAJOR, CONTEXT, 4, 0),
        instruction(LOAD_WORD, MINOR, CONTEXT, 8, 0),
    ];
    for rule in rules.iter().rev() {
        let mut block = Vec::new();
        // A jump with offset 0 is mended below to leave the block.
        let kind = match rule.kind {
            Kind::Any => None,
            Kind::Block => Some(BLOCK),
            Kind::Char => Some(CHAR),
        };
        if let Some(kind) = kind {
            block.push(instruction(JUMP_NOT_EQUAL, TYPE, 0, 0, kind));
        }
        if let Some(major) = rule.major {
            block.push(instruction(
                JUMP_NOT_EQUAL,
                MAJOR,
                0,
                0,
                major.cast_signed(),
            ));
        }
        if let Some(minor) = rule.minor {
            block.push(instruction(
                JUMP_NOT_EQUAL,
                MINOR,
                0,
                0,
                minor.cast_signed(),
            ));
        }
        let access = rule.access.cast_signed();
        if rule.allow {
            block.push(instruction(AND_VALUE, OPEN, 0, 0, !access));
            block.push(instruction(JUMP_NOT_EQUAL, OPEN, 0, 2, 0));
            block.push(instruction(MOVE_VALUE, RESULT, 0, 0, 1));
            block.push(instruction(EXIT, 0, 0, 0, 0));
        } else {
            block.push(instruction(JUMP_SET, OPEN, 0, 1, access));
            block.push(instruction(JUMP, 0, 0, 2, 0));
            block.push(instruction(MOVE_VALUE, RESULT, 0, 0, 0));
            block.push(instruction(EXIT, 0, 0, 0, 0));
        }
        let length = block.len();
        for (at, i) in block.iter_mut().enumerate() {
            if i.code == JUMP_NOT_EQUAL && i.offset == 0 {
                // A block has at most seven instructions.
                i.offset = (length - at - 1) as i16;
            }
        }
        program.extend(block);
    }
    // A request for no access at all is one that nothing refuses; the kernel makes none.
    program.push(instruction(MOVE_VALUE, RESULT, 0, 0, 1));
    program.push(instruction(JUMP_EQUAL, OPEN, 0, 1, 0));
    program.push(instruction(MOVE_VALUE, RESULT, 0, 0, 0));
    program.push(instruction(EXIT, 0, 0, 0, 0));
    program
}

#[cfg(test)]
mod tests {
    use super::super::tests::{decide, rules};
    use super::super::{ALL, MKNOD, READ, WRITE};
    use super::*;
    use proptest::prelude::*;

    /// Runs a program as the kernel would, on the opcodes that we use.
    fn run(program: &[Instruction], kind: Kind, major: u32, minor: u32, access: u32) -> u64 {
        let kind = if kind == Kind::Block { 1 } else { 2 };
        let context = [access << 16 | kind, major, minor];
        let mut registers: [Option<u64>; 11] = [None; 11];
        let mut at = 0;
        for _ in 0..=program.len() {
            let i = program[at];
            at += 1;
            let to = usize::from(i.registers & 15);
            let from = usize::from(i.registers >> 4);
            let read = |r: usize| registers[r].expect("a register that was written");
            let value = i.value.cast_unsigned();
            let jump = match i.code {
                LOAD_WORD => {
                    assert_eq!(from, usize::from(CONTEXT));
                    let word = context[usize::try_from(i.offset / 4).expect("an offset")];
                    registers[to] = Some(u64::from(word));
                    false
                }
                MOVE => {
                    registers[to] = Some(read(from));
                    false
                }
                MOVE_VALUE => {
                    registers[to] = Some(i.value as u64);
                    false
                }
                AND_VALUE => {
                    registers[to] = Some(u64::from(read(to) as u32 & value));
                    false
                }
                SHIFT_RIGHT_VALUE => {
                    registers[to] = Some(u64::from(read(to) as u32 >> value));
                    false
                }
                JUMP_NOT_EQUAL => read(to) as u32 != value,
                JUMP_EQUAL => read(to) as u32 == value,
                JUMP_SET => read(to) as u32 & value != 0,
                JUMP => true,
                EXIT => return read(0),
                other => panic!("opcode {other:#x}"),
            };
            if jump {
                assert!(i.offset > 0, "no loops");
                at += usize::try_from(i.offset).expect("forward");
            }
        }
        panic!("the program does not end");
    }

    #[test]
    fn the_default_container() {
        let program = assemble(&rules(r#"[{"allow":false,"access":"rwm"}]"#));
        assert_eq!(run(&program, Kind::Char, 1, 3, READ | WRITE), 1);
        assert_eq!(run(&program, Kind::Char, 1, 1, READ), 0);
        assert_eq!(run(&program, Kind::Block, 8, 0, MKNOD), 1);
        assert_eq!(run(&program, Kind::Block, 8, 0, MKNOD | READ), 0);
    }

    fn any_rule() -> impl Strategy<Value = Rule> {
        let number = || prop_oneof![Just(None), (0_u32..3).prop_map(Some), Just(Some(u32::MAX))];
        let kind = prop_oneof![Just(Kind::Any), Just(Kind::Block), Just(Kind::Char)];
        (any::<bool>(), kind, number(), number(), 1_u32..=ALL).prop_map(
            |(allow, kind, major, minor, access)| Rule {
                allow,
                kind,
                major,
                minor,
                access,
            },
        )
    }

    proptest! {
        #[test]
        fn the_program_decides_as_the_rules(
            rules in proptest::collection::vec(any_rule(), 0..12),
            block in any::<bool>(),
            major in 0_u32..3,
            minor in prop_oneof![0_u32..3, Just(u32::MAX)],
            access in 1_u32..=ALL,
        ) {
            let kind = if block { Kind::Block } else { Kind::Char };
            let program = assemble(&rules);
            let want = decide(&rules, kind, major, minor, access);
            prop_assert_eq!(run(&program, kind, major, minor, access), u64::from(want));
        }
    }
}
