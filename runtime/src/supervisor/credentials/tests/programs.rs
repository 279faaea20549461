//! Programs with set-id bits and capabilities, here and in the kernel.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use proptest::prelude::*;
use rustix::fs::XattrFlags;
use rustix::thread::{CapabilitySet, set_no_new_privs};

use super::{change_both, changes, config, equal, id, in_thread, is_root, parse, set};
use crate::identity::Owner;
use crate::supervisor::credentials::{Access, Executable, FileCapabilities, KNOWN};

fn encode(capabilities: &FileCapabilities) -> Vec<u8> {
    let mut value = Vec::new();
    let magic = 0x0200_0000 | u32::from(capabilities.effective);
    value.extend(magic.to_le_bytes());
    for half in [0, 32] {
        for set in [capabilities.permitted, capabilities.inheritable] {
            value.extend(((set.bits() >> half) as u32).to_le_bytes());
        }
    }
    value
}

fn capabilities() -> impl Strategy<Value = Option<FileCapabilities>> {
    let some = (set(), set(), any::<bool>()).prop_map(|(permitted, inheritable, effective)| {
        FileCapabilities {
            permitted: CapabilitySet::from_bits_retain(permitted) & KNOWN,
            inheritable: CapabilitySet::from_bits_retain(inheritable) & KNOWN,
            effective,
        }
    });
    prop::option::of(some)
}

fn prepare(path: &Path, file: &Executable) {
    let _ = rustix::fs::removexattr(path, "security.capability");
    let owner = Some(file.owner);
    std::os::unix::fs::chown(path, owner.map(|o| o.uid), owner.map(|o| o.gid)).expect("chown");
    fs::set_permissions(path, fs::Permissions::from_mode(file.mode)).expect("chmod");
    if let Some(capabilities) = &file.capabilities {
        let value = encode(capabilities);
        assert_eq!(
            FileCapabilities::decode(&value).as_ref(),
            Some(capabilities)
        );
        rustix::fs::setxattr(path, "security.capability", &value, XattrFlags::empty())
            .expect("setxattr");
    }
}

fn run(path: &Path) -> std::io::Result<String> {
    loop {
        match Command::new(path).arg("/proc/self/status").output() {
            // Another test forks while the file is open for writing.
            Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => {}
            other => return Ok(String::from_utf8(other?.stdout).expect("text")),
        }
    }
}

#[test]
fn programs_get_what_the_kernel_gives() {
    if !is_root() {
        return;
    }
    let directory = tempfile::tempdir().expect("directory");
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
    let program = directory.path().join("cat");
    fs::copy("/bin/cat", &program).expect("copy");
    let file = (
        (id(), id()),
        prop::sample::select(vec![
            0o755u32, 0o4755, 0o6755, 0o2755, 0o2745, 0o4711, 0o6777,
        ]),
        capabilities(),
        prop::bool::weighted(0.2),
    );
    proptest!(config(400), |(changes in changes(10), file in file)| {
        let ((uid, gid), mode, capabilities, no_new_privileges) = file;
        let file = Executable {
            owner: Owner { uid, gid },
            mode,
            capabilities,
            no_new_privileges,
            nosuid: false,
            readable: true,
        };
        prepare(&program, &file);
        let path = program.clone();
        in_thread(move || {
            let before = change_both(&changes)?;
            if no_new_privileges {
                set_no_new_privs(true).expect("prctl");
            }
            if !before.access(file.owner, mode, false, Access::EXECUTE) {
                return Ok(());
            }
            match (before.after_exec(&file), run(&path)) {
                (Ok(after), Ok(status)) => {
                    let kernel = parse(&status, after.securebits);
                    equal(&after, &kernel, &(before, file))
                }
                (Err(ours), Err(kernel)) => {
                    equal(&Some(ours.raw_os_error()), &kernel.raw_os_error(), &(before, file))
                }
                other => Err(TestCaseError::fail(format!("{file:?} {before:?} {other:?}"))),
            }
        })?;
    });
}
