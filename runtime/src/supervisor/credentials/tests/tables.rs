//! What programs rely on, in tables: these hold wherever the tests run.

use rustix::io::Errno;
use rustix::thread::CapabilitySet;

use super::NONE;
use crate::caps;
use crate::identity::Owner;
use crate::supervisor::credentials::{
    Access, Credentials, Executable, FileCapabilities, INITIAL, Table,
};

fn root() -> Credentials {
    Credentials::user(0, 0, &[0])
}

#[test]
fn groups_are_checked() {
    assert_eq!(root().setgroups(&[1, NONE]), Err(Errno::INVAL));
    assert_eq!(root().may_set_groups(65537), Err(Errno::INVAL));
    assert_eq!(dropped().may_set_groups(65537), Err(Errno::PERM));
    assert_eq!(root().may_set_groups(65536), Ok(()));
}

fn dropped() -> Credentials {
    let mut credentials = root();
    credentials.setgroups(&[100, 33, 33]).expect("setgroups");
    credentials.setresgid(33, 33, 33).expect("setresgid");
    credentials.setresuid(33, 33, 33).expect("setresuid");
    credentials
}

fn file(uid: u32, gid: u32, mode: u32) -> Executable {
    Executable {
        owner: Owner { uid, gid },
        mode,
        capabilities: None,
        no_new_privileges: false,
        nosuid: false,
        readable: true,
    }
}

#[test]
fn who_gave_up_root_does_not_get_it_back() {
    // What apt and gosu check.
    let mut credentials = dropped();
    assert_eq!(credentials.groups[..], [33, 33, 100]);
    assert!(credentials.effective.is_empty() && credentials.permitted.is_empty());
    assert_eq!(credentials.bounding, caps::DEFAULT);
    let before = credentials.clone();
    assert_eq!(credentials.setuid(0), Err(Errno::PERM));
    assert_eq!(credentials.setreuid(NONE, 0), Err(Errno::PERM));
    assert_eq!(credentials.setresuid(NONE, NONE, 0), Err(Errno::PERM));
    assert_eq!(credentials.setfsuid(0), 33);
    assert_eq!(credentials.setgid(0), Err(Errno::PERM));
    assert_eq!(credentials.setgroups(&[]), Err(Errno::PERM));
    assert_eq!(credentials, before);
    assert_eq!(credentials.setuid(NONE), Err(Errno::INVAL));
}

#[test]
fn a_saved_id_is_a_way_back() {
    let mut credentials = root();
    credentials.setreuid(NONE, 1000).expect("setreuid");
    assert_eq!(credentials.user_ids().saved, 1000);
    assert!(credentials.effective.is_empty());
    assert_eq!(credentials.permitted, caps::DEFAULT);
    credentials
        .setreuid(NONE, 0)
        .expect("the real id is root's");
    assert_eq!(credentials.effective, caps::DEFAULT);
    credentials.setresuid(1000, 1000, 0).expect("setresuid");
    assert_eq!(credentials.setuid(0), Ok(()));
    assert_eq!((credentials.ruid, credentials.euid), (1000, 0));
}

#[test]
fn capabilities_kept_over_a_change_can_be_made_effective() {
    // setpriv and capsh do this.
    let mut credentials = root();
    credentials.set_keep_capabilities(1).expect("prctl");
    credentials.setresuid(1000, 1000, 1000).expect("setresuid");
    assert_eq!(credentials.permitted, caps::DEFAULT);
    assert!(credentials.effective.is_empty());
    let bind = CapabilitySet::NET_BIND_SERVICE;
    credentials.capset(bind, bind, bind).expect("capset");
    credentials.raise_ambient(10).expect("prctl");
    assert_eq!(credentials.raise_ambient(0), Err(Errno::PERM));
    let after = credentials.after_exec(&file(0, 0, 0o755)).expect("exec");
    assert_eq!((after.permitted, after.effective), (bind, bind));
    assert!(!after.keeps_capabilities());
}

#[test]
fn set_id_bits_count_at_exec() {
    let user = dropped();
    for (program, expected) in [
        (file(0, 0, 0o4755), (33, 0, 33, caps::DEFAULT)),
        (file(0, 0, 0o755), (33, 33, 33, CapabilitySet::empty())),
        (
            file(1000, 42, 0o6755),
            (33, 1000, 42, CapabilitySet::empty()),
        ),
        (
            file(1000, 42, 0o6745),
            (33, 1000, 33, CapabilitySet::empty()),
        ),
    ] {
        let after = user.after_exec(&program).expect("exec");
        let found = (after.ruid, after.euid, after.egid, after.effective);
        assert_eq!(found, expected, "{program:?}");
        assert_eq!((after.suid, after.fsuid), (after.euid, after.euid));
        for held_back in [
            Executable {
                nosuid: true,
                ..program
            },
            Executable {
                no_new_privileges: true,
                ..program
            },
        ] {
            assert_eq!(
                user.after_exec(&held_back),
                Ok(user.clone()),
                "{held_back:?}"
            );
        }
    }
}

#[test]
fn file_capabilities_count_at_exec() {
    let raw = CapabilitySet::NET_RAW;
    let mut program = file(0, 0, 0o755);
    program.capabilities = Some(FileCapabilities {
        permitted: raw,
        inheritable: CapabilitySet::empty(),
        effective: true,
    });
    let after = dropped().after_exec(&program).expect("exec");
    assert_eq!(
        (after.euid, after.permitted, after.effective),
        (33, raw, raw)
    );
    // A container's bounding set has no CAP_SYS_ADMIN.
    program.capabilities = Some(FileCapabilities {
        permitted: raw | CapabilitySet::SYS_ADMIN,
        inheritable: CapabilitySet::empty(),
        effective: true,
    });
    assert_eq!(dropped().after_exec(&program), Err(Errno::PERM));
}

#[test]
fn attributes_of_capabilities_are_read() {
    // `setcap cap_net_raw+ep`, second and third revision.
    let second = [
        1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ];
    let mut third = second.to_vec();
    third[3] = 3;
    third.extend([0xe8, 3, 0, 0]);
    for value in [&second[..], &third] {
        let read = FileCapabilities::decode(value).expect("valid");
        assert_eq!(read.permitted, CapabilitySet::NET_RAW);
        assert!(read.effective && read.inheritable.is_empty());
    }
    assert_eq!(FileCapabilities::decode(&second[..19]), None);
    assert_eq!(FileCapabilities::decode(&third[..23]), None);
    assert_eq!(FileCapabilities::decode(&[]), None);
}

#[test]
fn files_of_others_are_closed() {
    let user = dropped();
    let shadow = Owner { uid: 0, gid: 42 };
    assert!(!user.access(shadow, 0o640, false, Access::READ));
    assert!(root().access(shadow, 0, false, Access::READ.and(Access::WRITE)));
    assert!(!root().access(shadow, 0o666, false, Access::EXECUTE));
    assert!(root().access(shadow, 0o001, false, Access::EXECUTE));
    let own = Owner { uid: 33, gid: 0 };
    assert!(user.access(own, 0o700, true, Access::EXECUTE));
    // The owner's bits count for the owner, even when others have more.
    assert!(!user.access(own, 0o077, false, Access::READ));
    let by_group = Owner { uid: 0, gid: 100 };
    assert!(user.access(by_group, 0o050, true, Access::READ.and(Access::EXECUTE)));
    assert!(!user.access(by_group, 0o707, true, Access::READ));
}

#[test]
fn signals_go_to_processes_of_the_same_user() {
    let user = dropped();
    assert!(root().may_signal(&user));
    assert!(!user.may_signal(&root()));
    assert!(user.may_signal(&dropped()));
    assert!(!Credentials::user(1, 1, &[]).may_signal(&user));
    // A set-user-id program can be signalled by who started it.
    let program = user.after_exec(&file(0, 0, 0o4755)).expect("exec");
    assert!(user.may_signal(&program));
}

#[test]
fn equal_credentials_have_one_number() {
    let mut table = Table::new(root());
    assert_eq!(table.number(root()), Ok(INITIAL));
    let first = table.number(dropped()).expect("room");
    assert_eq!(table.number(dropped()), Ok(first));
    assert_eq!(table.get(first).map(|c| c.euid), Some(33));
    assert_eq!(table.get(first + 1), None);
    let mut other = root();
    for uid in 1..65535 {
        other.fsuid = uid;
        table.number(other.clone()).expect("room");
    }
    other.fsuid = 65535;
    assert_eq!(table.number(other), Err(Errno::AGAIN));
    assert_eq!(table.number(dropped()), Ok(first));
}

#[test]
fn lists_of_groups_are_shared_and_limited() {
    let mut table = Table::new(root());
    let long = |first: u32| (first..first + 65536).collect::<Vec<u32>>();
    let with = |uid: u32, groups: &[u32]| {
        let mut credentials = root();
        credentials.fsuid = uid;
        credentials.setgroups(groups).expect("setgroups");
        credentials
    };
    // Equal ones take no more than one.
    for uid in 0..8 {
        table.number(with(uid, &long(0))).expect("room");
    }
    let (first, last) = (table.get(1).expect("known"), table.get(8).expect("known"));
    assert!(std::sync::Arc::ptr_eq(&first.groups, &last.groups));
    // Different ones fill it up.
    let refused = (1..80).find(|n| table.number(with(0, &long(*n))).is_err());
    assert_eq!(refused, Some(63));
    assert_eq!(table.number(with(0, &long(63))), Err(Errno::AGAIN));
    // What is known, or as good as nothing, still has room.
    table.number(with(9, &long(1))).expect("room");
    table.number(with(1, &[])).expect("room");
    table.number(with(1, &[1, 2, 3])).expect("room");
}
