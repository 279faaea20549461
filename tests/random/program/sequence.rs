//! A sequence of calls, from its tree to what is left of it.
//!
//! Responsible for the processes in which calls are made, for their labels, and for what is
//! printed of them. Must not know single calls.

use std::fmt::Write;
use std::io::{Error, Result};

use crate::call::{self, Call, must, print};
use crate::job::{self, Job};
use crate::memory::Memory;
use crate::paths::NAMES;
use crate::random::Random;
use crate::{attributes, credentials, files, listing, look, names, processes, sockets, tree};

/// What makes a call of a family.
type Family = fn(&mut Run<'_>, &mut Random);

/// How often each family has its turn.
const FAMILIES: &[(usize, Family)] = &[
    (20, files::open),
    (4, files::create),
    (5, files::descriptor),
    (6, names::mkdir),
    (4, names::mknod),
    (4, names::symlink),
    (6, names::link),
    (6, names::unlink),
    (8, names::rename),
    (9, attributes::chown),
    (8, attributes::chmod),
    (3, attributes::truncate),
    (3, attributes::times),
    (5, attributes::xattr),
    (9, look::stat),
    (5, look::access),
    (2, look::readlink),
    (2, look::statfs),
    (3, look::list),
    (4, processes::change_directory),
    (1, processes::umask),
    (8, credentials::set_ids),
    (3, credentials::groups),
    (3, credentials::get_ids),
    (3, credentials::capabilities),
    (3, credentials::settings),
    (1, credentials::status),
    (3, processes::fork),
    (3, processes::execute),
    (2, processes::signal),
    (1, processes::refused),
    (3, sockets::bind),
    (3, sockets::connect),
];

/// A process of a sequence.
#[derive(Debug)]
pub(crate) struct Run<'j> {
    pub(crate) job: &'j Job,
    pub(crate) memory: Memory,
    /// Numbers of the calls above this one.
    pub(crate) above: Vec<u64>,
    /// The number of the next call.
    pub(crate) next: u64,
    /// The number after the last.
    pub(crate) end: u64,
    output: String,
}

/// Runs a job's sequence in a process of its own and lists what it left.
pub(crate) fn run(job: &Job) -> Result<()> {
    tree::restore(job)?;
    if !job.kept {
        tree::prepare(job)?;
    }
    print(&format!("# {} {}\n", job.index, job.sequence));
    let child = processes::fork_process()?;
    if child == 0 {
        let length = 6 + Random::new(job.seed, &[job.sequence]).below(26);
        let length = u64::try_from(length).unwrap_or(6);
        let done = begin(job, Vec::new(), 0, length).map(|mut run| {
            // Only here, so that it is the same process after execve(2).
            processes::deadline();
            run.start();
            run.all();
        });
        processes::end(if done.is_ok() { 0 } else { 1 });
    }
    let status = processes::wait(child)?;
    let mut text = String::new();
    if status != 0 {
        let _ = writeln!(text, "ended with {status:#x}");
    }
    text.push_str(&listing::of(&job.place()));
    print(&text);
    tree::clean(job)
}

/// What a sequence executes: the rest of itself.
pub(crate) fn carry_on(words: &[&str]) -> Result<()> {
    let [
        index,
        seed,
        sequence,
        kept,
        without,
        skipped,
        above,
        next,
        end,
    ] = words
    else {
        return Err(Error::other("not the arguments of a sequence"));
    };
    let job = Job {
        index: usize::try_from(job::number(index)?).map_err(Error::other)?,
        seed: job::number(seed)?,
        sequence: job::number(sequence)?,
        without: (*without).to_owned(),
        skipped: job::labels(skipped),
        kept: *kept == "true",
    };
    let above = above
        .split('.')
        .filter(|part| !part.is_empty())
        .map(job::number)
        .collect::<Result<_>>()?;
    let mut run = begin(&job, above, job::number(next)?, job::number(end)?)?;
    processes::deadline();
    processes::executed(&mut run);
    run.all();
    Ok(())
}

/// Begins a process' calls.
pub(crate) fn begin(job: &Job, above: Vec<u64>, next: u64, end: u64) -> Result<Run<'_>> {
    Ok(Run {
        job,
        memory: Memory::new()?,
        above,
        next,
        end,
        output: String::new(),
    })
}

impl Run<'_> {
    /// The tree's directory, and for two sequences in three another user than root.
    fn start(&mut self) {
        let mut random = Random::new(self.job.seed, &[self.job.sequence, u64::MAX]);
        let tree = self.tree();
        let enter = self.text(Call::new("chdir", libc::SYS_chdir), &tree);
        self.make(&enter);
        for (slot, path) in [".", random.pick(&NAMES)].iter().enumerate() {
            let call = Call::new("open", libc::SYS_open);
            // The directory to read, the other, if it is a file, to write.
            let write = if slot == 0 {
                libc::O_RDONLY
            } else {
                libc::O_RDWR
            };
            let flags = i64::from(write | libc::O_NONBLOCK);
            let call = self.text(call, path).octal(flags);
            let slot = i64::try_from(slot).unwrap_or_default();
            self.make_and(&call, |run, fd| {
                Run::keep(fd, slot, false);
                look::of_slot(run, slot)
            });
        }
        if self.skipped("start") || random.percent(35) {
            return;
        }
        let groups: Vec<u8> = [
            random.pick(&[1_u32, 33, 1000]),
            random.pick(&[0_u32, 1, 33]),
        ]
        .iter()
        .flat_map(|id| id.to_ne_bytes())
        .collect();
        let count = random.below(3);
        let address = self.memory.place(&groups);
        let id = random.pick(&[1, 33, 1000]);
        let (group, saved) = (random.pick(&[1, 33, 1000]), random.pick(&[id, id, id, 0]));
        for call in [
            Call::new("setgroups", libc::SYS_setgroups)
                .int(i64::try_from(count).unwrap_or_default())
                .at(format_args!("{groups:?}"), address),
            Call::new("setresgid", libc::SYS_setresgid)
                .int(group)
                .int(group)
                .int(group),
            Call::new("setresuid", libc::SYS_setresuid)
                .int(saved)
                .int(id)
                .int(saved),
        ] {
            self.make(&call);
        }
    }

    /// Makes all calls that are left.
    pub(crate) fn all(&mut self) {
        while self.next < self.end {
            let number = self.next;
            self.next += 1;
            if self.skipped(&self.label(number)) {
                continue;
            }
            let mut path = vec![self.job.sequence];
            path.extend(&self.above);
            path.push(number);
            let mut random = Random::new(self.job.seed, &path);
            let total: usize = FAMILIES.iter().map(|(weight, _)| weight).sum();
            let mut place = random.below(total);
            for (weight, family) in FAMILIES {
                if place < *weight {
                    family(self, &mut random);
                    break;
                }
                place -= weight;
            }
        }
        self.flush();
    }

    fn skipped(&self, label: &str) -> bool {
        self.job.skipped.contains(label)
    }

    fn label(&self, number: u64) -> String {
        let mut label = String::new();
        for part in &self.above {
            let _ = write!(label, "{part}.");
        }
        let _ = write!(label, "{number}");
        label
    }

    /// Prints a line under the label of the current call.
    pub(crate) fn say(&mut self, text: &str) {
        let label = if self.next == 0 {
            "start".to_owned()
        } else {
            self.label(self.next - 1)
        };
        let _ = writeln!(self.output, "{label} {text}");
    }

    /// Makes a call and prints it with its result, and what `shown` adds where it succeeded.
    pub(crate) fn make_and(
        &mut self,
        call: &Call,
        shown: impl FnOnce(&mut Self, i64) -> String,
    ) -> i64 {
        let result = call.make();
        let mut line = format!("{} = {}", call.words(), call::result(result));
        if result >= 0 {
            let more = shown(self, result);
            if !more.is_empty() {
                let _ = write!(line, " [{more}]");
            }
        }
        self.say(&line);
        result
    }

    /// Makes a call and prints it with its result.
    pub(crate) fn make(&mut self, call: &Call) -> i64 {
        self.make_and(call, |_, _| String::new())
    }

    /// Writes what was printed; before anything that may end or double this process.
    pub(crate) fn flush(&mut self) {
        print(&self.output);
        self.output.clear();
    }

    /// Puts a new descriptor into one of the sequence's places.
    pub(crate) fn keep(fd: i64, slot: i64, close_on_exec: bool) {
        let flags = if close_on_exec { libc::O_CLOEXEC } else { 0 };
        let place = crate::paths::SLOT + slot;
        drop(must(libc::SYS_dup3, [fd, place, i64::from(flags), 0, 0, 0]));
        drop(must(libc::SYS_close, [fd, 0, 0, 0, 0, 0]));
    }
}
