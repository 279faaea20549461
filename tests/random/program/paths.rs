//! Paths, directory descriptors, modes and ids.
//!
//! Responsible for choosing arguments that collide with each other, and some that are broken. Must
//! not make calls.

use crate::call::Call;
use crate::memory::Memory;
use crate::random::Random;
use crate::sequence::Run;

/// The names of a tree: few, so that calls meet.
pub(crate) const NAMES: [&str; 4] = ["a", "b", "c", "d"];
/// The first of the descriptors that a sequence opens.
pub(crate) const SLOT: i64 = 50;
/// How many it has.
pub(crate) const SLOTS: usize = 2;

/// Modes of files and directories.
pub(crate) const MODES: [i64; 20] = [
    0o644, 0o600, 0o666, 0o755, 0o700, 0o777, 0, 0o4755, 0o2755, 0o1777, 0o2770, 0o640, 0o444,
    0o6777, 0o111, 0o070, 0o007, 0o2644, 0o750, 0o2777,
];

/// Returns a path below the tree as text, without broken ones.
pub(crate) fn plain(random: &mut Random) -> String {
    let count = random.pick(&[1, 1, 1, 1, 1, 1, 1, 2, 2, 3]);
    let parts: Vec<&str> = (0..count)
        .map(|_| match random.below(100) {
            0..8 => "..",
            8..14 => ".",
            14..16 => "none",
            16..18 => "x",
            // Two names are more often met than four.
            18..45 => random.pick(&NAMES[..2]),
            _ => random.pick(&NAMES),
        })
        .collect();
    parts.join("/")
}

impl Run<'_> {
    /// Adds a path: mostly one of the tree, sometimes a broken one.
    pub(crate) fn path(&mut self, call: Call, random: &mut Random) -> Call {
        match random.below(200) {
            0 => return call.at("NULL", 0),
            1 => return call.at("(char *)1", 1),
            2 => return call.at("(char *)-4096", -4096),
            3 => {
                let address = self.memory.place(&[b'a'; 5000]);
                return call.at("\"aaa…", address);
            }
            _ => {}
        }
        let mut path = match random.below(100) {
            0..2 => String::new(),
            2 => "n".repeat(256),
            3 => "n".repeat(255),
            4 => "./".repeat(2046) + "aaa",
            5 => "./".repeat(2047) + "aa",
            6..15 => format!("{}/{}", self.tree(), plain(random)),
            15 if self.job.with("magic") => format!("/proc/self/cwd/{}", plain(random)),
            16 if self.job.with("magic") => {
                format!("/proc/self/fd/{}", SLOT + pick_slot(random))
            }
            17 if self.job.with("magic") => {
                format!(
                    "/proc/self/fd/{}/{}",
                    SLOT + pick_slot(random),
                    plain(random)
                )
            }
            18 => "..".to_owned(),
            _ => plain(random),
        };
        match random.below(40) {
            0 | 1 => path.push('/'),
            2 => path.push_str("/."),
            _ => {}
        }
        self.text(call, &path)
    }

    /// Adds a string.
    pub(crate) fn text(&mut self, call: Call, text: &str) -> Call {
        let address = self.memory.place(&[text.as_bytes(), &[0]].concat());
        let shown = text.replace(&self.tree(), "$W");
        match shown.len() {
            ..100 => call.at(format_args!("\"{shown}\""), address),
            length => call.at(format_args!("\"{}…\" [{length}]", &shown[..8]), address),
        }
    }

    /// Adds a directory descriptor.
    pub(crate) fn dirfd(&self, call: Call, random: &mut Random) -> Call {
        match random.below(100) {
            0..78 => call.arg("AT_FDCWD", i64::from(libc::AT_FDCWD)),
            78..97 => self.fd(call, random),
            97 | 98 => call.int(999),
            _ => call.int(-5),
        }
    }

    /// Adds a descriptor that the sequence may have opened.
    #[expect(clippy::unused_self, reason = "as its neighbours")]
    pub(crate) fn fd(&self, call: Call, random: &mut Random) -> Call {
        match random.below(50) {
            0 => call.int(999),
            1 => call.int(-1),
            _ => {
                let slot = pick_slot(random);
                call.arg(format_args!("fd{slot}"), SLOT + slot)
            }
        }
    }

    /// Adds a user or group id.
    pub(crate) fn id(&self, call: Call, random: &mut Random) -> Call {
        let id = self.any_id(random);
        call.int(id)
    }

    /// Chooses an id; -1 among them.
    pub(crate) fn any_id(&self, random: &mut Random) -> i64 {
        const NARROW: [i64; 10] = [0, 0, 1, 1, 33, 33, 1000, 65534, 65535, -1];
        const WIDE: [i64; 3] = [70_000, 1_000_000_000, 4_294_967_294];
        if self.job.with("wide") && random.percent(5) {
            random.pick(&WIDE)
        } else {
            random.pick(&NARROW)
        }
    }

    /// Chooses a mode.
    ///
    /// A write takes set-id bits away from everybody but root of the first user namespace (`CAP_FSETID` in
    /// capabilities(7)), so there are none where that one is compared with.
    pub(crate) fn mode(&self, random: &mut Random) -> i64 {
        let mask = if self.job.with("wide") {
            0o1777
        } else {
            0o7777
        };
        random.pick(&MODES) & mask
    }

    /// Returns the tree's path.
    pub(crate) fn tree(&self) -> String {
        format!("{}/w", self.job.place())
    }
}

/// Chooses one of the sequence's descriptors.
pub(crate) fn pick_slot(random: &mut Random) -> i64 {
    i64::try_from(random.below(SLOTS)).unwrap_or_default()
}

/// Chooses some flags of a list, each so many times in a hundred.
pub(crate) fn some_flags<'f>(
    random: &mut Random,
    list: &[(&'f str, i64, usize)],
) -> Vec<(&'f str, i64)> {
    list.iter()
        .filter(|(_, _, times)| random.percent(*times))
        .map(|(name, bits, _)| (*name, *bits))
        .collect()
}

/// Places a structure that the kernel fills, or now and then an address that it can't.
pub(crate) fn space(memory: &mut Memory, random: &mut Random, length: usize) -> (i64, bool) {
    if random.below(150) == 0 {
        return (random.pick(&[0, 1, -8192]), false);
    }
    (memory.place(&vec![0; length]), true)
}
