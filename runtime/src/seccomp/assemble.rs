//! From sections to programs of the kernel's filter machine (linux/filter.h, seccomp(2)).
//!
//! Responsible for instructions and their layout. Must not know names of calls. Invariant: every
//! path ends in a return, jumps only go forward, and no program is longer than the kernel takes.
//!
//! A search tree over the numbers leads to each decision in about eight steps. The kernel walks
//! it once for every number when a filter is installed, and remembers which ones it always allows
//! (`seccomp_cache_prepare`, Linux 5.11): those cost nothing afterwards.

use libc::sock_filter as Instruction;

use super::action::Action;
use super::profile::{Condition, Test};
use super::resolve::{Decision, Interval, Section};
use crate::error::{Error, Result};

/// The kernel's limit (`BPF_MAXINSNS`).
const MAX_INSTRUCTIONS: usize = 4096;

// linux/bpf_common.h
const LOAD_WORD: u16 = 0x20;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER: u16 = 0x25;
const JUMP_GREATER_EQUAL: u16 = 0x35;
const AND: u16 = 0x54;
const RETURN: u16 = 0x06;

// struct seccomp_data. The architectures here are all little-endian.
const OFFSET_NUMBER: u32 = 0;
const OFFSET_ARCHITECTURE: u32 = 4;
const OFFSET_ARGUMENTS: u32 = 16;

/// One program and what it is about.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) instructions: Vec<Instruction>,
    /// Whether it may ask for a supervisor's decision.
    pub(super) notifies: bool,
    /// Whether it leaves a given call of the native architecture alone.
    pub(super) harmless: bool,
}

/// Makes the programs of a filter: one, or where that is too long several, of which each leaves
/// the others' calls alone. Their order is that of installation: the one that decides on
/// `installing`, the native number of seccomp(2), is last.
pub(super) fn assemble(
    sections: &[Section],
    foreign: Action,
    installing: u32,
) -> Result<Vec<Part>> {
    let mut parts = Vec::new();
    let whole = program(sections, foreign);
    if whole.len() <= MAX_INSTRUCTIONS {
        parts.push(part(sections, whole, installing));
        return Ok(parts);
    }
    let known = sections.iter().map(|section| Section {
        audit: section.audit,
        intervals: vec![from(0, &Decision::always(Action::ALLOW))],
    });
    let known: Vec<Section> = known.collect();
    parts.push(part(&known, program(&known, foreign), installing));
    for (at, section) in sections.iter().enumerate() {
        let first = parts.len();
        split(section, installing, &mut parts)?;
        for part in &mut parts[first..] {
            part.harmless |= at > 0;
        }
    }
    parts.sort_by_key(|part| !part.harmless);
    if parts.iter().filter(|part| part.notifies).count() > 1 {
        // A task can't have two listeners.
        return Err(too_long().hint("ask for notification of fewer calls"));
    }
    Ok(parts)
}

/// Halves a section until every piece fits.
fn split(section: &Section, installing: u32, parts: &mut Vec<Part>) -> Result<()> {
    let sections = std::slice::from_ref(section);
    let whole = program(sections, Action::ALLOW);
    if whole.len() <= MAX_INSTRUCTIONS {
        parts.push(part(sections, whole, installing));
        return Ok(());
    }
    let idle = Decision::always(Action::ALLOW);
    let starts = section.intervals.iter().enumerate();
    let busy: Vec<usize> = starts
        .filter(|(_, interval)| interval.decision != idle)
        .map(|(at, _)| at)
        .collect();
    if busy.len() < 2 {
        return Err(too_long());
    }
    let (low, high) = section.intervals.split_at(busy[busy.len() / 2]);
    let middle = high.first().map_or(0, |interval| interval.start);
    for intervals in [
        [low, &[from(middle, &idle)]].concat(),
        [&[from(0, &idle)], high].concat(),
    ] {
        let audit = section.audit;
        split(&Section { audit, intervals }, installing, parts)?;
    }
    Ok(())
}

fn too_long() -> Error {
    Error::new("compile seccomp profile").cause("too many conditions".to_owned())
}

fn from(start: u32, decision: &Decision) -> Interval {
    Interval {
        start,
        decision: decision.clone(),
    }
}

fn part(sections: &[Section], instructions: Vec<Instruction>, installing: u32) -> Part {
    let decision = |section: &Section| {
        let after = section
            .intervals
            .partition_point(|interval| interval.start <= installing);
        let interval = section.intervals.get(after.checked_sub(1)?)?;
        Some(interval.decision == Decision::always(Action::ALLOW))
    };
    let mut intervals = sections.iter().flat_map(|section| &section.intervals);
    Part {
        instructions,
        notifies: intervals.any(|i| i.decision.actions().any(|a| a == Action::NOTIFY)),
        harmless: sections.first().and_then(decision).unwrap_or(true),
    }
}

fn program(sections: &[Section], foreign: Action) -> Vec<Instruction> {
    let mut out = vec![statement(LOAD_WORD, OFFSET_ARCHITECTURE)];
    for section in sections {
        let mut body = vec![statement(LOAD_WORD, OFFSET_NUMBER)];
        tree(&section.intervals, &mut body);
        unless(JUMP_EQUAL, section.audit, body.len(), &mut out);
        out.append(&mut body);
    }
    out.push(statement(RETURN, foreign.value()));
    out
}

/// Emits a search for the interval that the accumulator is in.
fn tree(intervals: &[Interval], out: &mut Vec<Instruction>) {
    if let [interval] = intervals {
        decide(&interval.decision, out);
        return;
    }
    let (low, high) = intervals.split_at(intervals.len() / 2);
    let Some(first) = high.first() else {
        return;
    };
    let mut upper = Vec::new();
    tree(high, &mut upper);
    unless(JUMP_GREATER_EQUAL, first.start, upper.len(), out);
    out.append(&mut upper);
    tree(low, out);
}

/// Jumps over `length` instructions unless the comparison holds.
fn unless(comparison: u16, value: u32, length: usize, out: &mut Vec<Instruction>) {
    // The distance of a conditional jump is a byte; the one of a plain jump is not.
    if let Ok(short) = u8::try_from(length) {
        out.push(jump(comparison, value, 0, short));
    } else {
        out.push(jump(comparison, value, 1, 0));
        out.push(statement(JUMP, u32::try_from(length).unwrap_or(u32::MAX)));
    }
}

fn decide(decision: &Decision, out: &mut Vec<Instruction>) {
    for (conditions, action) in &decision.tests {
        let mut steps: Vec<Step> = Vec::new();
        for condition in conditions {
            condition_steps(*condition, &mut steps);
        }
        // After the last step comes the return; a test that does not hold goes past it.
        let end = steps.len();
        for (at, step) in steps.into_iter().enumerate() {
            let distance = |to: To| match to {
                To::Skip(n) => n,
                To::Fail => u8::try_from(end - at).unwrap_or(u8::MAX),
            };
            let (jt, jf) = (distance(step.yes), distance(step.no));
            out.push(jump(step.code, step.value, jt, jf));
        }
        out.push(statement(RETURN, action.value()));
    }
    out.push(statement(RETURN, decision.otherwise.value()));
}

/// Where a step goes on.
#[derive(Debug, Clone, Copy)]
enum To {
    /// Over so many steps.
    Skip(u8),
    /// The rule does not apply.
    Fail,
}

#[derive(Debug)]
struct Step {
    code: u16,
    value: u32,
    yes: To,
    no: To,
}

/// Emits steps that end after the last one when the condition holds. At most seven.
fn condition_steps(condition: Condition, steps: &mut Vec<Step>) {
    let low_word = OFFSET_ARGUMENTS + 8 * u32::from(condition.argument);
    let high_word = low_word + 4;
    let load = |offset| Step {
        code: LOAD_WORD,
        value: offset,
        yes: To::Skip(0),
        no: To::Skip(0),
    };
    let step = |code, value, yes, no| Step {
        code,
        value,
        yes,
        no,
    };
    let (next, fail) = (To::Skip(0), To::Fail);
    match condition.test {
        Test::Equal(value) => {
            let mask = u64::MAX;
            let test = Test::Masked { mask, value };
            condition_steps(Condition { test, ..condition }, steps);
        }
        Test::NotEqual(value) => {
            let mask = u64::MAX;
            let test = Test::NotMasked { mask, value };
            condition_steps(Condition { test, ..condition }, steps);
        }
        Test::Masked { mask, value } => {
            for (offset, mask, value) in halves(high_word, low_word, mask, value) {
                steps.push(load(offset));
                if mask != u32::MAX {
                    steps.push(step(AND, mask, next, next));
                }
                steps.push(step(JUMP_EQUAL, value, next, fail));
            }
        }
        Test::NotMasked { mask, value } => {
            let halves = halves(high_word, low_word, mask, value);
            let Some(((offset, mask, value), first)) = halves.split_last() else {
                // No bit can differ.
                steps.push(step(JUMP_EQUAL, 0, fail, fail));
                return;
            };
            let mut last = vec![load(*offset)];
            if *mask != u32::MAX {
                last.push(step(AND, *mask, next, next));
            }
            last.push(step(JUMP_EQUAL, *value, fail, next));
            for (offset, mask, value) in first {
                steps.push(load(*offset));
                if *mask != u32::MAX {
                    steps.push(step(AND, *mask, next, next));
                }
                let passed = To::Skip(u8::try_from(last.len()).unwrap_or(u8::MAX));
                steps.push(step(JUMP_EQUAL, *value, next, passed));
            }
            steps.append(&mut last);
        }
        Test::Greater(value) | Test::LessOrEqual(value) => {
            bound(JUMP_GREATER, condition.test, high_word, value, steps);
        }
        Test::GreaterOrEqual(value) | Test::Less(value) => {
            bound(JUMP_GREATER_EQUAL, condition.test, high_word, value, steps);
        }
    }
}

/// The words that a mask covers: offset, mask, value.
fn halves(high_word: u32, low_word: u32, mask: u64, value: u64) -> Vec<(u32, u32, u32)> {
    let value = value & mask;
    [
        (high_word, high(mask), high(value)),
        (low_word, low(mask), low(value)),
    ]
    .into_iter()
    .filter(|(_, mask, _)| *mask != 0)
    .collect()
}

/// Compares two words, of which the lower one by `comparison`.
fn bound(comparison: u16, test: Test, high_word: u32, value: u64, steps: &mut Vec<Step>) {
    let wants_above = matches!(test, Test::Greater(_) | Test::GreaterOrEqual(_));
    // Three more steps follow the first comparison, two the second.
    let (above, below) = if wants_above {
        (To::Skip(3), To::Fail)
    } else {
        (To::Fail, To::Skip(2))
    };
    let (yes, no) = if wants_above {
        (To::Skip(0), To::Fail)
    } else {
        (To::Fail, To::Skip(0))
    };
    let next = To::Skip(0);
    for (code, value, yes, no) in [
        (LOAD_WORD, high_word, next, next),
        (JUMP_GREATER, high(value), above, next),
        (JUMP_EQUAL, high(value), next, below),
        (LOAD_WORD, high_word - 4, next, next),
        (comparison, low(value), yes, no),
    ] {
        steps.push(Step {
            code,
            value,
            yes,
            no,
        });
    }
}

const fn high(value: u64) -> u32 {
    (value >> 32) as u32
}

const fn low(value: u64) -> u32 {
    (value & 0xffff_ffff) as u32
}

fn statement(code: u16, k: u32) -> Instruction {
    jump(code, k, 0, 0)
}

fn jump(code: u16, k: u32, jt: u8, jf: u8) -> Instruction {
    Instruction { code, jt, jf, k }
}
