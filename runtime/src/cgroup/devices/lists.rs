//! Device rules as the exception lists of version 1.
//!
//! Responsible for the lines of `devices.allow` and `devices.deny`
//! (admin-guide/cgroup-v1/devices.rst). Must not write them. Invariant: what the kernel then decides
//! is what the rules say, or there is an error: a list can't make an exception to its exceptions.

use std::collections::BTreeMap;

use super::{ALL, Kind, MKNOD, READ, Rule, WRITE};
use crate::error::{Error, Result};

/// A line and the file it goes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) file: &'static str,
    pub(crate) text: String,
}

type Key = (Kind, Option<u32>, Option<u32>);

/// Turns rules into lines to be written in order, beginning with the one that clears the lists.
///
/// # Errors
/// A rule takes back a part of what a broader one gave.
pub(crate) fn lines(rules: &[Rule]) -> Result<Vec<Line>> {
    let mut allow = false;
    let mut exceptions: BTreeMap<Key, u32> = BTreeMap::new();
    for rule in rules {
        let numberless = rule.major.is_none() && rule.minor.is_none();
        if rule.kind == Kind::Any && numberless && rule.access == ALL {
            allow = rule.allow;
            exceptions.clear();
            continue;
        }
        let kinds: &[Kind] = match rule.kind {
            Kind::Any => &[Kind::Block, Kind::Char],
            Kind::Block => &[Kind::Block],
            Kind::Char => &[Kind::Char],
        };
        for kind in kinds {
            let key = (*kind, rule.major, rule.minor);
            if rule.allow == allow {
                take_back(&mut exceptions, key, rule.access)?;
            } else {
                *exceptions.entry(key).or_default() |= rule.access;
            }
        }
    }
    let (first, file) = if allow {
        ("devices.allow", "devices.deny")
    } else {
        ("devices.deny", "devices.allow")
    };
    let mut out = vec![Line {
        file: first,
        text: "a *:* rwm".to_owned(),
    }];
    out.extend(exceptions.into_iter().map(|(key, access)| Line {
        file,
        text: text(key, access),
    }));
    Ok(out)
}

/// Says which lines lead from what `devices.list` says to what is wanted.
///
/// A list that stays a list of permissions is changed one entry at a time, what is new first, so
/// that running processes keep what they may have before and after.
pub(crate) fn steps(old: &str, wanted: &[Line]) -> Vec<Line> {
    let old: Vec<&str> = old
        .lines()
        .map(str::trim)
        .filter(|l| !l.is_empty())
        .collect();
    let open = old.iter().any(|l| l.starts_with("a "));
    let closed = wanted.first().is_some_and(|l| l.file == "devices.deny");
    if open || !closed {
        return wanted.to_vec();
    }
    let wanted = &wanted[1..];
    let mut steps: Vec<Line> = wanted
        .iter()
        .filter(|l| !old.contains(&l.text.as_str()))
        .cloned()
        .collect();
    for entry in old {
        if wanted.iter().any(|l| l.text == entry) {
            continue;
        }
        // The kernel merges the accesses of equal numbers, and takes back only those it is given.
        let Some((device, letters)) = entry.rsplit_once(' ') else {
            continue;
        };
        let keep = wanted.iter().find_map(|l| {
            let (d, letters) = l.text.rsplit_once(' ')?;
            (d == device).then_some(letters)
        });
        let gone: String = letters
            .chars()
            .filter(|c| !keep.unwrap_or_default().contains(*c))
            .collect();
        if !gone.is_empty() {
            steps.push(Line {
                file: "devices.deny",
                text: format!("{device} {gone}"),
            });
        }
    }
    steps
}

/// Withdraws exceptions that lie wholly under a rule; a broader one can't be cut.
fn take_back(exceptions: &mut BTreeMap<Key, u32>, rule: Key, access: u32) -> Result<()> {
    let covers = |a: Option<u32>, b: Option<u32>| a.is_none() || a == b;
    let meets = |a: Option<u32>, b: Option<u32>| a.is_none() || b.is_none() || a == b;
    for (key, left) in exceptions.iter_mut() {
        if key.0 != rule.0 || *left & access == 0 {
            continue;
        }
        if covers(rule.1, key.1) && covers(rule.2, key.2) {
            *left &= !access;
        } else if meets(rule.1, key.1) && meets(rule.2, key.2) {
            return Err(Error::new(format!(
                "device rule {:?} is an exception to the rule {:?}, which version 1 of control groups can't express",
                text(rule, access),
                text(*key, *left),
            ))
            .hint("list the devices one by one instead of the broader rule"));
        }
    }
    exceptions.retain(|_, left| *left != 0);
    Ok(())
}

fn text((kind, major, minor): Key, access: u32) -> String {
    let kind = match kind {
        Kind::Any => 'a',
        Kind::Block => 'b',
        Kind::Char => 'c',
    };
    let number = |n: Option<u32>| n.map_or_else(|| "*".to_owned(), |n| n.to_string());
    let letters: String = [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')]
        .into_iter()
        .filter(|(bit, _)| access & bit != 0)
        .map(|(_, letter)| letter)
        .collect();
    format!("{kind} {}:{} {letters}", number(major), number(minor))
}

#[cfg(test)]
mod tests {
    use super::super::tests::rules;
    use super::*;

    fn written(json: &str) -> Vec<String> {
        let lines = lines(&rules(json)).expect("lines");
        lines
            .into_iter()
            .map(|l| format!("{} {}", &l.file[8..], l.text))
            .collect()
    }

    #[test]
    fn the_default_container() {
        let lines = written(r#"[{"allow":false}]"#);
        assert_eq!(lines[0], "deny a *:* rwm");
        assert!(lines.contains(&"allow c *:* m".to_owned()));
        assert!(lines.contains(&"allow c 136:* rwm".to_owned()));
        assert_eq!(lines.len(), 11);
    }

    #[test]
    fn a_privileged_one() {
        assert_eq!(written(r#"[{"allow":true}]"#), ["allow a *:* rwm"]);
        assert_eq!(
            written(r#"[{"allow":true},{"allow":false,"type":"b","major":8,"access":"w"}]"#),
            ["allow a *:* rwm", "deny b 8:* w"]
        );
        // The defaults take it back.
        assert_eq!(
            written(r#"[{"allow":true},{"allow":false,"type":"c","major":1,"minor":3}]"#),
            ["allow a *:* rwm"]
        );
    }

    #[test]
    fn a_list_is_changed_entry_by_entry() {
        let line = |file, text: &str| Line {
            file,
            text: text.to_owned(),
        };
        let wanted = [
            line("devices.deny", "a *:* rwm"),
            line("devices.allow", "c 1:3 rwm"),
            line("devices.allow", "c 1:5 r"),
        ];
        assert_eq!(steps("a *:* rwm\n", &wanted), wanted);
        assert_eq!(steps("c 1:3 rwm\nc 1:5 r\n", &wanted), []);
        assert_eq!(
            steps("c 1:5 rw\nb 8:0 r\n", &wanted),
            [
                line("devices.allow", "c 1:3 rwm"),
                line("devices.allow", "c 1:5 r"),
                line("devices.deny", "c 1:5 w"),
                line("devices.deny", "b 8:0 r"),
            ]
        );
        let open = [line("devices.allow", "a *:* rwm")];
        assert_eq!(steps("c 1:3 rwm", &open), open);
    }

    #[test]
    fn a_hole_is_an_error() {
        let rules = rules(
            r#"[{"allow":false},{"allow":true,"type":"c","major":10},
                {"allow":false,"type":"c","major":10,"minor":3,"access":"w"}]"#,
        );
        assert!(lines(&rules).is_err());
    }
}
