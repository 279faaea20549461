//! Credentials: the kernel's rules for ids, groups and capabilities, and who one is afterwards.

use support::{base, for_users};

use super::context;
use super::table::assert_printed;

/// What `who.sh` prints for `www-data`; a tag is to be put for `T`.
const WHO: &str = "
    ids.T = 33,33,33/33,33,33/33
    status.T = 33,33,33,33/33,33,33,33/33
    shell.T = 33,33,33,33 33,33,33,33 33
    id.T = 33 33 33 33 33
    proc.T = 33:33 33:33 33:33
    caps.T = 0,0,0 0000000000000000 0000000000000000
    back.T = EPERM EPERM EPERM EPERM EPERM 33,33,33/33,33,33/33
    made.T = 33:33:644 33:33:755 33:33:777 33:33:644
    denied.T = EACCES EPERM EPERM EACCES EACCES EPERM
";

/// What it prints besides where there are interpreters.
const WHO_DEBIAN: &str = "
    ps.T = 33 33 33 33 33 33 www-data
    python.T = (33, 33, 33) (33, 33, 33) [33]
    perl.T = 33 33 33 33
";

/// Docker's default capabilities.
const ALL: &str = "a80425fb";

/// Sequences of calls by one process, and what each returns. The real kernel answers the same.
fn rules() -> (String, String) {
    let rules: &[(&str, &str, &str)] = &[
        (
            "initial",
            "ids status caps getuid geteuid getgid getegid",
            "0,0,0/0,0,0/0 0,0,0,0/0,0,0,0/0 ALL,ALL,0 0 0 0 0",
        ),
        (
            "drop",
            "setgid:33 setuid:33 ids setuid:33 setuid:0 setgid:33 setgid:0 caps",
            "ok ok 33,33,33/33,33,33/0 ok EPERM ok EPERM 0,0,0",
        ),
        (
            "effective",
            "setresuid:-1:33:-1 ids caps setuid:0 ids caps",
            "ok 0,33,0/0,0,0/0 0,ALL,0 ok 0,0,0/0,0,0/0 ALL,ALL,0",
        ),
        (
            "effective-gid",
            "setresgid:-1:33:-1 ids create:/tmp/eg stat:/tmp/eg",
            "ok 0,0,0/0,33,0/0 ok 0:33:644",
        ),
        (
            "saved",
            "setresuid:33:33:0 caps setuid:0 ids setresuid:-1:0:-1 ids caps",
            "ok 0,ALL,0 ok 33,0,0/0,0,0/0 ok 33,0,0/0,0,0/0 ALL,ALL,0",
        ),
        (
            "swap",
            "setreuid:33:34 ids setreuid:34:33 ids setreuid:0:-1 setreuid:-1:35",
            "ok 33,34,34/0,0,0/0 ok 34,33,33/0,0,0/0 EPERM EPERM",
        ),
        (
            "swap-gid",
            "setregid:33:34 setuid:1 ids setregid:34:33 ids setregid:0:-1 setregid:-1:35",
            "ok ok 1,1,1/33,34,34/0 ok 1,1,1/34,33,33/0 EPERM EPERM",
        ),
        (
            "three",
            "setresuid:1:2:3 ids setresuid:2:3:1 ids setresuid:-1:-1:4 setresuid:3:3:3 ids setresuid:1:-1:-1",
            "ok 1,2,3/0,0,0/0 ok 2,3,1/0,0,0/0 EPERM ok 3,3,3/0,0,0/0 EPERM",
        ),
        (
            "three-gid",
            "setresgid:1:2:3 setuid:5 setresgid:2:3:1 ids setresgid:-1:-1:4 setgid:2 ids",
            "ok ok ok 5,5,5/2,3,1/0 EPERM ok 5,5,5/2,2,1/0",
        ),
        (
            "setuid-effective",
            "setresuid:1:2:3 setuid:3 ids setuid:1 ids",
            "ok ok 1,3,3/0,0,0/0 ok 1,1,3/0,0,0/0",
        ),
        (
            "invalid",
            "setuid:-1 setgid:-1 setresuid:-1:-1:-1 ids",
            "EINVAL EINVAL ok 0,0,0/0,0,0/0",
        ),
        (
            "groups",
            "setgroups:5,3,4 ids setgroups: ids setgroups:7 setuid:1 setgroups:8 setgroups: ids",
            "ok 0,0,0/0,0,0/3,4,5 ok 0,0,0/0,0,0/ ok ok EPERM EPERM 1,1,1/0,0,0/7",
        ),
        (
            "fsuid",
            "setfsuid:33 setfsuid:33 status caps create:/tmp/fs1 stat:/tmp/fs1 read:/etc/shadow setfsuid:0 status read:/etc/shadow",
            "0 33 0,0,0,33/0,0,0,0/0 FSCAPS,ALL,0 ok 33:0:644 EACCES 33 0,0,0,0/0,0,0,0/0 ok",
        ),
        (
            "fsgid",
            "setfsgid:33 setfsgid:33 status create:/tmp/fs2 stat:/tmp/fs2",
            "0 33 0,0,0,0/0,0,0,33/0 ok 0:33:644",
        ),
        (
            "fsuid-denied",
            "setgid:2 setuid:1 setfsuid:33 setfsuid:33 setfsgid:3 setfsgid:3 setfsuid:-1 setfsuid:1",
            "ok ok 1 1 2 2 1 1",
        ),
        (
            "fsuid-follows",
            "setfsuid:33 setresuid:-1:34:-1 status",
            "0 ok 0,34,0,34/0,0,0,0/0",
        ),
        (
            "keepcaps",
            "keepcaps:1 setuid:33 caps setuid:0 ids",
            "ok ok 0,ALL,0 EPERM 33,33,33/0,0,0/0",
        ),
        (
            "no-keepcaps",
            "keepcaps:1 keepcaps:0 setuid:33 caps",
            "ok ok ok 0,0,0",
        ),
        (
            "capset",
            "capset-none caps setuid:33 setgid:33 setgroups:1 chown:33:33:/etc/passwd ids read:/etc/shadow",
            "ok 0,0,0 EPERM EPERM EPERM EPERM 0,0,0/0,0,0/0 ok",
        ),
        (
            "umask",
            "umask:077 umask:027 create:/tmp/u1 stat:/tmp/u1 mkdir:/tmp/u2 stat:/tmp/u2 fifo:/tmp/u3 stat:/tmp/u3 node:/tmp/u4 stat:/tmp/u4",
            "22 77 ok 0:0:640 ok 0:0:750 ok 0:0:640 ok 0:0:640",
        ),
        (
            "umask-user",
            "umask:007 setgid:33 setuid:33 create:/tmp/v1 stat:/tmp/v1 mkdir:/tmp/v2 stat:/tmp/v2 open2:/tmp/v3 stat:/tmp/v3 fifo:/tmp/v4 stat:/tmp/v4 umask:0 create:/tmp/v5 stat:/tmp/v5",
            "22 ok ok ok 33:33:660 ok 33:33:770 ok 33:33:660 ok 33:33:660 7 ok 33:33:666",
        ),
        (
            "big",
            "setgroups:70001,70002 setgid:70000 setuid:70000 status create:/tmp/big stat:/tmp/big",
            "ok ok ok 70000,70000,70000,70000/70000,70000,70000,70000/70001,70002 ok 70000:70000:644 | EINVAL EINVAL EINVAL 0,0,0,0/0,0,0,0/0 ok 0:0:644",
        ),
    ];
    let mut script = String::new();
    let mut table = String::new();
    for (name, operations, wanted) in rules {
        script.push_str(&format!(
            "echo \"rule.{name}=$(/probe/p do {operations})\"\n"
        ));
        // Without CHOWN, DAC_OVERRIDE, FOWNER, FSETID and MKNOD, as capabilities(7) says of setfsuid.
        let wanted = wanted.replace("FSCAPS", "a00425e0").replace("ALL", ALL);
        table.push_str(&format!("rule.{name} = {wanted}\n"));
    }
    (script, table)
}

for_users! {
    /// The kernel's rules, call by call.
    fn kernel_rules(world) as [root, subids, plain] {
        let base = base!(world, Owners);
        let (script, table) = rules();
        world.write("ctx/probe/rules.sh", script);
        context(world, &base, "RUN sh /probe/rules.sh\n");
        assert_printed(world, &table);
    }

    /// Every way of becoming somebody else ends in the same place: static programs.
    fn become_static(world) as [root, subids, plain] {
        let base = base!(world, Owners);
        context(world, &base, "RUN sh /probe/become.sh static\nUSER www-data\nRUN sh /probe/who.sh user\n");
        let mut table = String::new();
        for tag in ["bbsu", "static", "static-res", "static-re", "user"] {
            table.push_str(&WHO.replace(".T ", &format!(".{tag} ")));
        }
        assert_printed(world, &table);
    }

    /// The same: dynamic programs and interpreters.
    fn become_dynamic(world) as [subids, plain] {
        let base = base!(world, Tools);
        context(world, &base,
            "RUN ln -s /bin/ps /bin/procps-ps; sh /probe/become.sh debian\nUSER www-data\nRUN sh /probe/who.sh user\n");
        let mut table = String::new();
        for tag in ["bbsu", "static", "static-res", "static-re", "su", "runuser", "setpriv", "setpriv-names",
            "chroot", "daemon", "python", "python-run", "perl", "user"] {
            table.push_str(&WHO.replace(".T ", &format!(".{tag} ")));
            table.push_str(&WHO_DEBIAN.replace(".T ", &format!(".{tag} ")));
        }
        assert_printed(world, &table);
    }

    /// USER with groups of its own, numbers without a name, and what a step of theirs leaves.
    fn user_instruction(world) as [root, subids, plain] {
        let base = base!(world, Owners);
        context(world, &base, "USER app\nRUN . /probe/lib.sh; say app $($p do ids) $(id -un) $HOME; : >/home/app/own; \
            mkdir -m 700 /home/app/private; : >/home/app/private/in\n\
            RUN . /probe/lib.sh; say again $($p do list:/home/app/private stat:/home/app/own stat:/home/app/private/in write:/home/app/own)\n\
            USER 33:50\nRUN . /probe/lib.sh; say numbers $($p do ids list:/home/app/private read:/var/www list:/home/app)\n\
            USER 4321\nRUN . /probe/lib.sh; say unnamed $($p do ids)\n\
            USER root\nRUN . /probe/lib.sh; say root $($p do ids list:/home/app/private write:/home/app/own)\n");
        let image = assert_printed(world, "
            app = 1000,1000,1000/1001,1001,1001/33,50,1001 app /home/app
            again = ok 1000:1001:644 1000:1001:644 ok
            numbers = 33,33,33/50,50,50/50 EACCES ok EACCES
            unnamed = 4321,4321,4321/0,0,0/0
            root = 0,0,0/0,0,0/0 ok ok
        ");
        drop(image);
    }
}
