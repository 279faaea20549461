//! File modes as `--chmod` takes them: octal, or symbolic as chmod(1) knows it.
//!
//! Responsible for parsing and for applying them to a file's permissions. Must not touch files.
//! Invariant: what comes out has permission bits only, at most 07777.
//!
//! As in BuildKit, whose process has no umask: `+x` without whom means everybody.

use serde::{Deserialize, Serialize};

/// Permissions to give, or changes to make to those a file has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileMode {
    /// These, whatever the file has.
    Octal(u32),
    /// Changes, in order.
    Symbolic(Vec<Change>),
}

/// One change of a symbolic mode: `u+x`, or a part of `u+x-w`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Permission bits of those that are named.
    who: u32,
    operator: Operator,
    bits: u32,
    /// `X`: also execution, of directories and of what somebody can execute.
    executable: bool,
    /// The class whose permissions are copied, by its shift.
    copy: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Operator {
    Add,
    Remove,
    Set,
}

const USER: u32 = 0o4700;
const GROUP: u32 = 0o2070;
const OTHERS: u32 = 0o0007;
const STICKY: u32 = 0o1000;
const SET_IDS: u32 = 0o6000;
const EVERYBODY: u32 = USER | GROUP | OTHERS;

impl FileMode {
    /// Parses a mode.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.starts_with(|c: char| c.is_ascii_digit()) {
            let octal = text.bytes().all(|b| matches!(b, b'0'..=b'7'));
            return match u32::from_str_radix(text, 8) {
                Ok(mode) if octal && mode <= 0o7777 => Ok(Self::Octal(mode)),
                _ => Err(format!(
                    "invalid mode `{text}`: it must be octal, from 0 to 07777"
                )),
            };
        }
        let mut changes = Vec::new();
        for clause in text.split(',') {
            parse_clause(clause, &mut changes).map_err(|why| {
                format!("invalid mode `{text}`: {why}; modes are as in `755` or `u=rwX,go=rX`")
            })?;
        }
        Ok(Self::Symbolic(changes))
    }

    /// Returns what stands for the mode in a key.
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Octal(mode) => mode.to_be_bytes().to_vec(),
            Self::Symbolic(changes) => format!("{changes:?}").into_bytes(),
        }
    }

    /// Returns the permissions that a file with `mode` gets.
    pub fn apply(&self, mode: u32, is_dir: bool) -> u32 {
        let old = mode & 0o7777;
        let changes = match self {
            Self::Octal(mode) => return *mode,
            Self::Symbolic(changes) => changes,
        };
        changes.iter().fold(old, |mode, change| {
            let mut bits = change.bits;
            if change.executable && (is_dir || old & 0o111 != 0) {
                bits |= 0o111;
            }
            if let Some(shift) = change.copy {
                bits |= (mode >> shift & 0o7) * 0o111;
            }
            bits &= change.who | (change.bits & STICKY);
            match change.operator {
                Operator::Add => mode | bits,
                Operator::Remove => mode & !bits,
                // Copied permissions replace permissions only.
                Operator::Set if change.copy.is_some() => mode & !(change.who & 0o777) | bits,
                Operator::Set => mode & !change.who | bits,
            }
        })
    }
}

fn parse_clause(clause: &str, changes: &mut Vec<Change>) -> Result<(), String> {
    let mut who = 0;
    let mut rest = clause.chars().peekable();
    while let Some(c) = rest.peek() {
        who |= match c {
            'u' => USER,
            'g' => GROUP,
            'o' => OTHERS,
            'a' => EVERYBODY,
            _ => break,
        };
        rest.next();
    }
    // Others have neither set-id bits nor the sticky bit.
    let special = who == 0 || who & !OTHERS != 0;
    let who = if who == 0 { EVERYBODY } else { who };
    loop {
        let operator = match rest.next() {
            Some('+') => Operator::Add,
            Some('-') => Operator::Remove,
            Some('=') => Operator::Set,
            Some(c) => return Err(format!("expected `+`, `-` or `=` instead of `{c}`")),
            None => return Err("expected `+`, `-` or `=`".into()),
        };
        let mut change = Change {
            who,
            operator,
            bits: 0,
            executable: false,
            copy: None,
        };
        while let Some(c) = rest.peek() {
            match c {
                'r' => change.bits |= 0o444,
                'w' => change.bits |= 0o222,
                'x' => change.bits |= 0o111,
                'X' => change.executable = true,
                's' if special => change.bits |= SET_IDS,
                't' if special => change.bits |= STICKY,
                's' | 't' => {}
                'u' => change.copy = Some(6),
                'g' => change.copy = Some(3),
                'o' => change.copy = Some(0),
                '+' | '-' | '=' => break,
                c => return Err(format!("unknown permission `{c}`")),
            }
            rest.next();
        }
        changes.push(change);
        if rest.peek().is_none() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octal_modes() {
        for (text, mode) in [
            ("755", 0o755),
            ("04755", 0o4755),
            ("0", 0),
            ("7777", 0o7777),
        ] {
            let parsed = FileMode::parse(text).expect(text);
            assert_eq!(parsed, FileMode::Octal(mode));
            assert_eq!(parsed.apply(0o100_600, false), mode);
        }
        for text in ["", "8", "10000", "0x1", "0o755", "7x"] {
            let error = FileMode::parse(text).expect_err(text);
            assert!(error.contains("from 0 to 07777"), "{error}");
        }
    }

    #[test]
    fn symbolic_modes() {
        const FILE: bool = false;
        const DIR: bool = true;
        for (text, old, is_dir, new) in [
            ("u=rwX,go=rX", 0o600, FILE, 0o644),
            ("u=rwX,go=rX", 0o700, FILE, 0o755),
            ("u=rwX,go=rX", 0o600, DIR, 0o755),
            ("+x", 0o644, FILE, 0o755),
            ("-x", 0o755, FILE, 0o644),
            ("+X", 0o644, FILE, 0o644),
            ("+X", 0o654, FILE, 0o755),
            ("a-rwx,u+r", 0o777, FILE, 0o400),
            ("g=u", 0o740, FILE, 0o770),
            ("go=u-w", 0o700, FILE, 0o755),
            ("o=g,g=o", 0o750, FILE, 0o755),
            ("u+s,g+s", 0o755, FILE, 0o6755),
            ("+s", 0o755, FILE, 0o6755),
            ("u=rx", 0o4755, FILE, 0o555),
            ("g=u", 0o2755, FILE, 0o2775),
            ("o+s", 0o755, FILE, 0o755),
            ("+t", 0o777, DIR, 0o1777),
            ("=rx", 0o1777, DIR, 0o1555),
            ("u+x-w", 0o644, FILE, 0o544),
            ("go=", 0o4777, FILE, 0o4700),
            ("ug+rw,o-r", 0o404, FILE, 0o660),
        ] {
            let mode = FileMode::parse(text).expect(text);
            assert_eq!(
                mode.apply(old | 0o100_000, is_dir),
                new,
                "{text} of {old:o}"
            );
        }
    }

    #[test]
    fn malformed_modes() {
        for (text, why) in [
            ("u", "expected `+`, `-` or `=`"),
            ("x+r", "instead of `x`"),
            ("u+q", "unknown permission `q`"),
            ("u=r,", "expected `+`"),
            ("rw", "instead of `r`"),
        ] {
            let error = FileMode::parse(text).expect_err(text);
            assert!(error.contains(why), "{error}");
        }
    }
}
