//! Device rules in force on a group of version 2.
//!
//! Responsible for loading a program and putting it in the place of the one before. Must not know
//! how rules are assembled. Invariant: at no time is the group without the old or the new rules.

use rustix::io::{Errno, Result};
use std::os::fd::AsFd;

use super::{Rule, program};
use crate::cgroup::files::Directory;
use crate::sys;

/// Puts the rules in force, instead of those before.
///
/// # Errors
/// Those of bpf(2): `EPERM` without authority over the initial user namespace.
pub(crate) fn install(group: &Directory, rules: &[Rule]) -> Result<()> {
    let code = program::assemble(rules);
    // The licence decides which kernel functions a program may call; ours calls none.
    let new = sys::load_device_program(&code, c"Apache-2.0")?;
    let old: Vec<_> = sys::device_programs(group.as_fd())
        .unwrap_or_default()
        .into_iter()
        .filter_map(|id| sys::program_by_id(id).ok())
        .collect();
    if let [only] = old.as_slice() {
        match sys::attach_device_program(group.as_fd(), new.as_fd(), Some(only.as_fd())) {
            // Before Linux 5.6 there is no replacing, and a program that was attached to be alone
            // can't be replaced by one of several.
            Err(Errno::INVAL | Errno::PERM) => {}
            other => return other,
        }
    }
    sys::attach_device_program(group.as_fd(), new.as_fd(), None)?;
    for program in old {
        sys::detach_device_program(group.as_fd(), program.as_fd())?;
    }
    Ok(())
}

/// Takes all rules off a group.
///
/// # Errors
/// Those of bpf(2).
pub(crate) fn clear(group: &Directory) -> Result<()> {
    for id in sys::device_programs(group.as_fd())? {
        let program = sys::program_by_id(id)?;
        sys::detach_device_program(group.as_fd(), program.as_fd())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::rules;
    use super::*;
    use crate::cgroup::layout::Layout;
    use std::process::{Command, Stdio};

    /// Runs a shell in a group.
    fn shell(group: &Directory, script: &str) -> bool {
        let procs = group.file("cgroup.procs");
        let script = format!("echo $$ >{} && {script}", procs.display());
        Command::new("sh")
            .args(["-c", &script])
            .stderr(Stdio::null())
            .status()
            .expect("a shell")
            .success()
    }

    #[test]
    fn the_kernel_obeys_and_replaces() {
        let layout = Layout::detect().expect("layout");
        let unified = layout.unified.expect("version 2 is mounted");
        let Ok(own) = unified.open_own() else {
            return println!("SKIP: own group is not visible");
        };
        let name = format!("sandcrab-devices-{}", std::process::id());
        let Ok((group, _)) = own.make_child(&name) else {
            return println!("SKIP: no authority over version 2");
        };
        let closed = rules(r#"[{"allow":false}]"#);
        if let Err(e) = install(&group, &closed) {
            own.remove_child(&name).expect("remove");
            return println!("SKIP: device programs: {e}");
        }
        let (kmsg, null) = ("exec 3</dev/kmsg", "exec 3</dev/null");
        let denied = !shell(&group, kmsg) && shell(&group, null);
        let open = rules(r#"[{"allow":false},{"allow":true,"type":"c","major":1,"access":"r"}]"#);
        install(&group, &open).expect("replace");
        let allowed = shell(&group, kmsg) && !shell(&group, "exec 3>/dev/kmsg");
        let count = sys::device_programs(group.as_fd()).expect("query").len();
        for _ in 0..50 {
            if own.remove_child(&name).is_ok() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        assert!(denied, "a device that no rule allows was opened");
        assert!(allowed, "the new rules are not in force");
        assert_eq!(count, 1);
    }
}
