//! The root file system and what is mounted in it.

use std::os::unix::fs::{PermissionsExt, symlink};

use serde_json::json;
use support::for_users;

use crate::harness::under_test::kind;
use crate::harness::{Bundle, Crun, Runc, Sandcrab, assert_error, differs};

const SLEEP: &str = "trap 'exit 3' TERM; echo ready; while :; do sleep 0.05; done";

/// The mount options of a path: of the mount, and of the file system.
fn options(lines: &[String], path: &str) -> (String, String, String) {
    let line = lines
        .iter()
        .rfind(|line| line.split(' ').nth(4) == Some(path));
    let line = line.unwrap_or_else(|| panic!("{path} is no mount: {lines:#?}"));
    let fields: Vec<&str> = line.split(' ').collect();
    let rest = line.split_once(" - ").expect("a separator").1;
    let rest: Vec<&str> = rest.split(' ').collect();
    (
        fields[5].to_owned(),
        rest[0].to_owned(),
        rest.get(2).unwrap_or(&"").to_string(),
    )
}

fn has(options: &str, option: &str) -> bool {
    options.split(',').any(|found| found == option)
}

for_users! {
    /// The root is the bundle's, and nothing of the host is seen.
    fn root(world) as [root, subids, plain] {
        let mut bundle = Bundle::new(world);
        bundle.write("rootfs/marker", "here\n");
        let lines = bundle.prints("cat /marker; touch /new; ls -a /.. | grep -c marker; cat /proc/self/mountinfo");
        assert_eq!(lines[..2], ["here", "1"]);
        assert!(bundle.inside("new").exists());
        let host = world.path("").display().to_string();
        let seen: Vec<&String> = lines[2..].iter().filter(|line| line.split(' ').nth(4).is_some_and(|p| p.contains(&host))).collect();
        assert!(seen.is_empty(), "{seen:?}");
    }

    /// A root by absolute path, and by a path with links.
    fn root_path(world) as [root, subids, plain] {
        let mut bundle = Bundle::new(world);
        let path = bundle.path("rootfs");
        bundle.set("/root/path", json!(path));
        bundle.run().success();
        world.link(&format!("{}/link", bundle.id()), "rootfs");
        bundle.set("/root/path", json!("link"));
        if kind() != Runc {
            // runc 1.1.5 refuses it.
            bundle.run().success();
        }
        bundle.set("/root/path", json!("config.json"));
        assert_error(bundle.run(), &[]);
        bundle.config.as_object_mut().unwrap().remove("root");
        assert_error(bundle.run(), &["root"]);
    }

    /// A read-only root, with mounts that are not.
    fn root_readonly(world) as [root, subids, plain] {
        let mut bundle = Bundle::new(world);
        bundle.set("/root/readonly", json!(true));
        bundle.mount("tmpfs", "tmpfs", "/tmp", &["nosuid"]);
        let lines = bundle.prints("touch /file 2>&1; touch /tmp/file && echo written; touch /dev/file && echo device");
        assert!(lines[0].contains("Read-only file system"), "{lines:?}");
        assert!(lines.contains(&"written".to_owned()), "{lines:?}");
        assert!(!bundle.inside("file").exists());
        let container = bundle.script(SLEEP).start();
        assert!(container.exec(&[], &["touch", "/file"]).run().stderr.contains("Read-only"));
    }

    /// `--no-pivot`.
    fn no_pivot(world) as [root, subids, plain] {
        let mut bundle = Bundle::new(world);
        bundle.write("rootfs/marker", "here\n");
        let output = bundle.script("cat /marker; ls -a /.. | grep -c marker").run_with(&["--no-pivot"]).ok();
        assert_eq!(output.text(), "here\n1\n");
    }

    /// The default mounts are as the document has them.
    fn default_mounts(world) as [root, subids, plain] {
        let mut bundle = Bundle::new(world);
        let lines = bundle.prints("cat /proc/self/mountinfo");
        let (mount, kind, _) = options(&lines, "/dev");
        assert_eq!(kind, "tmpfs");
        assert!(has(&mount, "nosuid"), "{mount}");
        let (_, kind, _) = options(&lines, "/dev/pts");
        assert_eq!(kind, "devpts");
        let (mount, kind, data) = options(&lines, "/dev/shm");
        assert_eq!(kind, "tmpfs");
        assert!(has(&mount, "noexec") && has(&mount, "nodev") && has(&data, "size=65536k"), "{mount} {data}");
        let (mount, kind, _) = options(&lines, "/dev/mqueue");
        assert_eq!(kind, "mqueue");
        assert!(has(&mount, "nodev"));
        let (mount, kind, _) = options(&lines, "/sys");
        assert_eq!(kind, "sysfs");
        assert!(has(&mount, "ro"));
        assert_eq!(options(&lines, "/proc").1, "proc");
        let lines = bundle.prints("stat -c %a /dev/shm; touch /sys/x 2>&1");
        assert_eq!(lines[0], "1777");
    }

    /// A directory bound in, read-write and read-only.
    fn bind_directory(world) as [root, subids, plain] {
        let mut bundle = Bundle::new(world);
        bundle.write("data/file", "bound\n");
        let source = bundle.path("data");
        let source = source.to_str().unwrap();
        bundle.mount("bind", source, "/data", &["rbind"]);
        bundle.mount("", source, "/read-only", &["bind", "ro"]);
        let lines = bundle.prints("cat /data/file; echo new >/data/new; cat /read-only/new; touch /read-only/x 2>&1");
        assert_eq!(lines[..2], ["bound", "new"]);
        assert!(lines[2].contains("Read-only"), "{lines:?}");
        assert!(bundle.path("data/new").exists());
    }

    /// Relative sources are relative to the bundle.
    fn bind_relative(world) as [root, subids, plain] {
        let mut bundle = Bundle::new(world);
        bundle.write("data/file", "bound\n");
        bundle.mount("bind", "data", "/data", &["bind"]);
        assert_eq!(bundle.prints("cat /data/file"), ["bound"]);
    }

    /// A file bound over a file, and where there was nothing.
    fn bind_file(world) as [root, subids, plain] {
        let mut bundle = Bundle::new(world);
        let file = bundle.write("hosts", "bound\n");
        let file = file.to_str().unwrap();
        bundle.mount("bind", file, "/etc/group", &["rbind", "ro"]);
        bundle.mount("bind", file, "/made/for/it", &["bind"]);
        let lines = bundle.prints("cat /etc/group /made/for/it; echo x >/etc/group; echo y >/made/for/it");
        assert_eq!(lines, ["bound", "bound"]);
        assert_eq!(std::fs::read_to_string(file).unwrap(), "y\n");
    }

    /// Special files can be bound.
    fn bind_special(world) as [root, subids, plain] {
        let mut bundle = Bundle::new(world);
        let socket = world.short_directory().join("s");
        std::fs::remove_file(&socket).ok();
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        bundle.mount("bind", socket.to_str().unwrap(), "/run/socket", &["bind"]);
        assert_eq!(bundle.prints("test -S /run/socket && echo socket"), ["socket"]);
    }

    /// What can't be bound.
    fn bind_missing(world) as [root, subids, plain] {
        let mut bundle = Bundle::new(world);
        bundle.mount("bind", "/no/such/source", "/data", &["bind"]);
        assert_error(bundle.run(), &["/no/such/source"]);
        world.assert_nothing_left(bundle.id());
    }

    /// A directory over a file, and the other way round, is refused.
    fn bind_mismatch(world) as [root, plain] {
        let mut bundle = Bundle::new(world);
        bundle.make_dir("data");
        let source = bundle.path("data");
        bundle.mount("bind", source.to_str().unwrap(), "/etc/passwd", &["bind"]);
        assert_error(bundle.run(), &["not a directory", "is a directory"]);
    }

    /// What means nothing to a bind mount is left out with a warning, as callers pass such options.
    fn bind_of_unknown_options(world) as [root, plain] {
        let mut bundle = Bundle::new(world);
        bundle.make_dir("data");
        let source = bundle.path("data");
        bundle.mount("bind", source.to_str().unwrap(), "/data", &["bind", "z", "x-foo=1"]);
        let output = bundle.run().exits(0);
        if kind() == Sandcrab {
            assert!(output.stderr.contains("`z` left out"), "{}", output.stderr);
        }
    }

    /// A bind is not recursive unless it is asked for.
    fn recursive_bind(world) as [root] {
        let mut bundle = Bundle::new(world);
        let below = bundle.make_dir("data/below");
        let disk = support::world::SmallDisk::mount(world, &format!("{}/data/below", bundle.id()), 1).unwrap();
        std::fs::write(below.join("file"), "deep\n").unwrap();
        let source = bundle.path("data");
        let source = source.to_str().unwrap();
        bundle.mount("bind", source, "/flat", &["bind"]);
        bundle.mount("bind", source, "/deep", &["rbind"]);
        let lines = bundle.prints("ls /flat/below | wc -l; cat /deep/below/file");
        assert_eq!(lines, ["0", "deep"]);
        drop(disk);
    }

    /// Flags of a mount and their opposites.
    fn flags(world) as [root, subids, plain] {
        let mut bundle = Bundle::new(world);
        for (place, options) in [
            ("/m/all", &["ro", "nosuid", "nodev", "noexec", "noatime", "nodiratime", "mode=700"][..]),
            ("/m/none", &["nosuid", "suid", "noexec", "exec", "ro", "rw", "relatime"]),
            ("/m/strict", &["strictatime", "sync", "dirsync"]),
            ("/m/defaults", &["defaults"]),
        ] {
            if kind() == Runc && place == "/m/defaults" {
                // runc 1.1.5 leaves it to the kernel, which doesn't know it.
                continue;
            }
            bundle.mount("tmpfs", "tmpfs", place, options);
        }
        let lines = bundle.prints("cat /proc/self/mountinfo");
        let (all, _, data) = options(&lines, "/m/all");
        for option in ["ro", "nosuid", "nodev", "noexec", "noatime"] {
            assert!(has(&all, option), "{option}: {all}");
        }
        assert!(has(&data, "mode=700"), "{data}");
        let (none, _, _) = options(&lines, "/m/none");
        for option in ["ro", "nosuid", "noexec"] {
            if kind() == Crun {
                // crun 1.8.1 doesn't undo an option.
                break;
            }
            assert!(!has(&none, option), "{option}: {none}");
        }
        let (strict, _, super_options) = options(&lines, "/m/strict");
        assert!(!has(&strict, "relatime") && !has(&strict, "noatime"), "{strict}");
        assert!(has(&super_options, "sync") && has(&super_options, "dirsync"), "{super_options}");
        if kind() != Runc {
            options(&lines, "/m/defaults");
        }
    }

    /// Links in a destination lead nowhere outside.
    fn links_in_destination(world) as [root, subids, plain] {
        let mut bundle = Bundle::new(world);
        let outside = bundle.make_dir("outside");
        symlink(&outside, bundle.inside("absolute")).unwrap();
        symlink("../../../../../../../../../../tmp", bundle.inside("up")).unwrap();
        symlink("/tmp", bundle.inside("inside")).unwrap();
        for (to, name) in [("/absolute/x", "a"), ("/up/y", "b"), ("/inside/z", "c")] {
            bundle.mount("tmpfs", name, to, &[]);
        }
        let output = bundle.script("touch /up/y/f /inside/z/f; grep -c tmpfs /proc/self/mountinfo; ls /tmp").run();
        assert!(!outside.join("x").exists(), "a link led out of the root");
        if output.code == Some(0) {
            assert!(output.text().contains('y') && output.text().contains('z'), "{}", output.all());
        }
        assert!(!std::path::Path::new("/tmp/y").exists());
    }

    /// Mounts in order; a later one covers an earlier one.
    fn order(world) as [root, subids, plain] {
        let mut bundle = Bundle::new(world);
        bundle.write("data/file", "first\n");
        let source = bundle.path("data");
        bundle.mount("bind", source.to_str().unwrap(), "/data", &["bind"]);
        bundle.mount("tmpfs", "tmpfs", "/data", &[]);
        bundle.mount("tmpfs", "tmpfs", "/data/below", &["mode=711"]);
        assert_eq!(bundle.prints("ls /data; stat -c %a /data/below"), ["below", "711"]);
    }

    /// tmpfs with sizes and modes; without a mode it has the directory's.
    fn tmpfs(world) as [root, subids, plain] {
        let mut bundle = Bundle::new(world);
        bundle.mount("tmpfs", "tmpfs", "/small", &["size=64k", "mode=1755"]);
        let lines = bundle.prints("head -c 200000 /dev/zero >/small/file 2>/dev/null || echo full; stat -c %a /small; df -k /small | tail -1");
        assert_eq!(lines[..2], ["full", "1755"]);
        assert!(lines[2].contains(" 64 "), "{lines:?}");
    }

    /// `tmpcopyup`: a tmpfs that starts with what it covers.
    fn tmpcopyup(world) as [root, subids, plain] {
        let mut bundle = Bundle::new(world);
        bundle.write("rootfs/covered/dir/file", "copied\n");
        bundle.write_program("rootfs/covered/tool", "#!/bin/sh\n");
        world.link(&format!("{}/rootfs/covered/link", bundle.id()), "dir/file");
        bundle.mount("tmpfs", "tmpfs", "/covered", &["tmpcopyup"]);
        let lines = bundle.prints("cat /covered/link; stat -c %a /covered/tool; rm -r /covered/dir; grep -c ' /covered ' /proc/self/mountinfo");
        assert_eq!(lines, ["copied", "755", "1"]);
        assert!(bundle.inside("covered/dir/file").exists());
    }

    /// Propagation of a single mount.
    fn propagation(world) as [root, subids, plain] {
        if differs(world, &[(Crun, "1.8.1 sets it in the other order")]) {
            return;
        }
        let mut bundle = Bundle::new(world);
        bundle.make_dir("data");
        let source = bundle.path("data");
        let source = source.to_str().unwrap();
        for (place, option) in [("/p/shared", "rshared"), ("/p/slave", "rslave"), ("/p/private", "rprivate"), ("/p/unbindable", "unbindable"), ("/p/one", "shared")] {
            bundle.mount("bind", source, place, &["rbind", option]);
        }
        let lines = bundle.prints("grep ' /p/' /proc/self/mountinfo");
        let tags = |place: &str| {
            let line = lines.iter().find(|line| line.split(' ').nth(4) == Some(place)).expect(place);
            line.split(" - ").next().unwrap().split(' ').skip(6).collect::<Vec<_>>().join(" ")
        };
        assert!(tags("/p/shared").contains("shared:"));
        assert!(tags("/p/one").contains("shared:"));
        assert!(!tags("/p/private").contains("shared:"), "{lines:?}");
        assert!(tags("/p/unbindable").contains("unbindable"), "{lines:?}");
        assert!(!tags("/p/slave").contains("shared:"), "{lines:?}");
    }

    /// Propagation of the root.
    fn rootfs_propagation(world) as [root, subids, plain] {
        let mut bundle = Bundle::new(world);
        if differs(world, &[(Runc, "1.1.5 sets it before the root is mounted"), (Crun, "1.8.1 sets some")]) {
            return;
        }
        for (value, shared) in [("private", false), ("rprivate", false), ("slave", false), ("rslave", false), ("shared", true), ("rshared", true), ("unbindable", false)] {
            bundle.set("/linux/rootfsPropagation", json!(value));
            let lines = bundle.prints("cat /proc/self/mountinfo");
            let line = lines.iter().find(|line| line.split(' ').nth(4) == Some("/")).unwrap();
            let tags = line.split(" - ").next().unwrap();
            assert_eq!(tags.contains("shared:"), shared, "{value}: {line}");
        }
        bundle.set("/linux/rootfsPropagation", json!("frobnicate"));
        assert_error(bundle.run(), &["frobnicate", "propagation"]);
    }

    /// Options that hold for everything below.
    fn recursive_options(world) as [root] {
        if differs(world, &[(Runc, "1.1.5 has some of them"), (Crun, "1.8.1 has them, but not their opposites")]) {
            return;
        }
        let mut bundle = Bundle::new(world);
        bundle.make_dir("data/below");
        let disk = support::world::SmallDisk::mount(world, &format!("{}/data/below", bundle.id()), 1).unwrap();
        let source = bundle.path("data");
        let source = source.to_str().unwrap();
        for (place, option) in [("/r/ro", "rro"), ("/r/nosuid", "rnosuid"), ("/r/nodev", "rnodev"), ("/r/noexec", "rnoexec"), ("/r/noatime", "rnoatime"), ("/r/nosymfollow", "rnosymfollow"), ("/r/nodiratime", "rnodiratime")] {
            bundle.mount("bind", source, place, &["rbind", option]);
        }
        bundle.mount("bind", source, "/r/ro-rw", &["rbind", "ro"]);
        bundle.mount("bind", source, "/r/strict", &["rbind", "rstrictatime"]);
        let lines = bundle.prints("cat /proc/self/mountinfo");
        for option in ["ro", "nosuid", "nodev", "noexec", "noatime", "nosymfollow", "nodiratime"] {
            for place in [format!("/r/{option}"), format!("/r/{option}/below")] {
                assert!(has(&options(&lines, &place).0, option), "{place}: {lines:#?}");
            }
        }
        assert!(has(&options(&lines, "/r/ro-rw").0, "ro") && !has(&options(&lines, "/r/ro-rw/below").0, "ro"));
        assert!(!has(&options(&lines, "/r/strict/below").0, "relatime"));
        drop(disk);
    }

    /// `rro` for ordinary users, too.
    fn recursive_read_only(world) as [root, subids, plain] {
        if differs(world, &[(Runc, "1.1.5 has no rro")]) {
            return;
        }
        let mut bundle = Bundle::new(world);
        bundle.make_dir("data");
        let source = bundle.path("data");
        bundle.mount("bind", source.to_str().unwrap(), "/data", &["rbind", "rro"]);
        assert!(bundle.prints("touch /data/x 2>&1; true")[0].contains("Read-only"));
    }

    /// Locked flags of the host's mounts are kept by a read-only bind of an ordinary user.
    fn locked_flags(world) as [subids, plain] {
        let mut bundle = Bundle::new(world);
        bundle.mount("bind", "/dev/shm", "/shm", &["rbind", "ro"]);
        let lines = bundle.prints("grep ' /shm ' /proc/self/mountinfo");
        let (mount, _, _) = options(&lines, "/shm");
        assert!(has(&mount, "ro"), "{mount}");
        let outside = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let outside: Vec<String> = outside.lines().map(str::to_owned).collect();
        for flag in ["nosuid", "nodev", "noexec"] {
            if has(&options(&outside, "/dev/shm").0, flag) {
                assert!(has(&mount, flag), "{flag}: {mount}");
            }
        }
    }

    /// `nosymfollow`, `src-nofollow`, `dest-nofollow`, `copy-symlink`.
    fn links(world) as [root, subids, plain] {
        if differs(world, &[(Runc, "1.1.5 has none of these"), (Crun, "1.8.1 has some of these")]) {
            return;
        }
        let mut bundle = Bundle::new(world);
        bundle.write("data/file", "content\n");
        symlink("file", bundle.path("data/link")).unwrap();
        let data = bundle.path("data");
        bundle.mount("bind", data.to_str().unwrap(), "/data", &["bind", "nosymfollow"]);
        assert_eq!(bundle.prints("cat /data/link 2>/dev/null || echo not followed"), ["not followed"]);
        let link = bundle.path("data/link");
        let mut copied = Bundle::new(world);
        copied.mount("bind", link.to_str().unwrap(), "/copied", &["bind", "copy-symlink"]);
        let output = copied.script("readlink /copied").run();
        if output.code != Some(0) {
            assert_error(output, &["copy-symlink"]);
        } else {
            assert_eq!(output.text(), "file\n");
        }
    }

    /// What is masked reads as nothing, whatever it is.
    fn masked_paths(world) as [root, subids, plain] {
        let mut bundle = Bundle::new(world);
        bundle.write("rootfs/secret/file", "secret\n");
        bundle.write("rootfs/secret-file", "secret\n");
        bundle.set("/linux/maskedPaths", json!(["/secret", "/secret-file", "/proc/kcore", "/proc/keys", "/sys/firmware", "/no/such/path", "/proc/acpi"]));
        let lines = bundle.prints("ls -A /secret | wc -l; wc -c </secret-file; wc -c </proc/keys; touch /secret/x 2>&1; echo x >/secret-file; cat /secret-file | wc -c");
        assert_eq!(lines[..3], ["0", "0", "0"]);
        assert!(lines[3].contains("Read-only") || lines[3].contains("denied"), "{lines:?}");
        assert_eq!(lines[4], "0");
        assert_eq!(std::fs::read_to_string(bundle.inside("secret-file")).unwrap(), "secret\n");
        assert!(!bundle.inside("no").exists());
        let container = bundle.script(SLEEP).start();
        assert_eq!(container.sh("ls -A /secret | wc -l"), "0\n");
    }

    /// Read-only paths.
    fn readonly_paths(world) as [root, subids, plain] {
        let mut bundle = Bundle::new(world);
        bundle.write("rootfs/fixed/file", "fixed\n");
        bundle.write("rootfs/fixed-file", "fixed\n");
        bundle.set("/linux/readonlyPaths", json!(["/fixed", "/fixed-file", "/proc/sys", "/proc/bus", "/proc/sysrq-trigger", "/no/such/path"]));
        let lines = bundle.prints("cat /fixed/file /fixed-file; for f in /fixed/new /fixed-file /proc/sys/net/ipv4/ip_forward; do (echo 1 >$f) 2>&1 | grep -c 'Read-only'; done");
        assert_eq!(lines, ["fixed", "fixed", "1", "1", "1"]);
    }

    /// What may not be mounted over.
    fn over_proc(world) as [root, subids, plain] {
        let mut bundle = Bundle::new(world);
        bundle.make_dir("data");
        let source = bundle.path("data");
        let before = bundle.config.clone();
        for place in ["/proc/self", "/proc/sys", "/proc/1"] {
            bundle.config = before.clone();
            bundle.mount("bind", source.to_str().unwrap(), place, &["bind"]);
            if kind() == Crun {
                continue;
            }
            assert_error(bundle.run(), &["/proc", "proc"]);
        }
        bundle.config = before;
        let file = bundle.write("uptime", "forever\n");
        bundle.mount("bind", file.to_str().unwrap(), "/proc/uptime", &["bind"]);
        assert_eq!(bundle.prints("cat /proc/uptime"), ["forever"]);
    }

    /// proc and sysfs are what they say, or nothing.
    fn proc_is_proc(world) as [root, plain] {
        if differs(world, &[(Crun, "takes any")]) {
            return;
        }
        let mut bundle = Bundle::new(world);
        bundle.without_mount("/proc");
        symlink("/tmp", bundle.inside("link")).unwrap();
        std::fs::remove_dir(bundle.inside("proc")).unwrap();
        symlink("/tmp", bundle.inside("proc")).unwrap();
        bundle.mount("proc", "proc", "/proc", &[]);
        assert_error(bundle.run(), &["proc"]);
    }

    /// A cgroup mount.
    fn cgroup(world) as [root] {
        if differs(world, &[(Crun, "1.8.1 refuses hybrid hosts")]) {
            return;
        }
        let mut bundle = Bundle::new(world);
        bundle.mount("cgroup", "cgroup", "/sys/fs/cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]);
        let lines = bundle.prints("ls /sys/fs/cgroup; ls /sys/fs/cgroup/pids /sys/fs/cgroup/*/cgroup.procs | head -50; mkdir /sys/fs/cgroup/pids/x 2>&1");
        assert!(lines.iter().any(|line| line.contains("pids")), "{lines:?}");
        assert!(lines.iter().any(|line| line.ends_with("cgroup.procs")), "{lines:?}");
        assert!(lines.last().unwrap().contains("Read-only"), "{lines:?}");
        bundle.namespace("cgroup", Some(json!({"type": "cgroup"})));
        let lines = bundle.prints("cat /sys/fs/cgroup/pids/cgroup.procs | wc -l; cat /proc/self/cgroup");
        assert!(lines[0].parse::<u32>().unwrap() >= 1, "{lines:?}");
    }

    /// A cgroup mount that an ordinary user can't have doesn't keep the container from starting.
    fn cgroup_rootless(world) as [subids, plain] {
        if differs(world, &[(Crun, "1.8.1 refuses hybrid hosts")]) {
            return;
        }
        let mut bundle = Bundle::new(world);
        bundle.mount("cgroup", "cgroup", "/sys/fs/cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]);
        bundle.prints("ls /sys/fs/cgroup; true");
    }

    /// Options and types that nobody knows.
    fn unknown(world) as [root, plain] {
        let mut bundle = Bundle::new(world);
        let before = bundle.config.clone();
        bundle.mount("tmpfs", "tmpfs", "/data", &["frobnicate"]);
        assert_error(bundle.run(), &["frobnicate", "invalid argument"]);
        bundle.config = before.clone();
        bundle.mount("frobnicate", "x", "/data", &[]);
        assert_error(bundle.run(), &["frobnicate", "no such device"]);
        bundle.config = before;
        bundle.mount("tmpfs", "tmpfs", "relative", &[]);
        if kind() == Sandcrab {
            // runc 1.1.5 takes it with a warning, as relative to the root.
            let output = bundle.run();
            assert!(output.code == Some(0) || output.stderr.contains("destination"), "{}", output.all());
        }
    }

    /// An overlay made of the bundle's directories.
    fn overlay(world) as [root, subids, plain] {
        let mut bundle = Bundle::new(world);
        bundle.write("lower/file", "lower\n");
        for directory in ["upper", "work"] {
            bundle.make_dir(directory);
        }
        let option = |name: &str, directory: &str| format!("{name}={}", bundle.path(directory).display());
        let options = [option("lowerdir", "lower"), option("upperdir", "upper"), option("workdir", "work"), "userxattr".to_owned()];
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        let options = options.clone();
        let mount = json!({"destination": "/over", "type": "overlay", "source": "overlay", "options": options});
        bundle.push("/mounts", mount);
        let output = bundle.script("cat /over/file; echo new >/over/new").run().success();
        assert_eq!(output.text(), "lower\n");
        assert!(bundle.path("upper/new").exists());
    }

    /// The host sees nothing of a container's mounts.
    fn nothing_outside(world) as [root, subids, plain] {
        let mut bundle = Bundle::with_script(world, SLEEP);
        bundle.mount("tmpfs", "tmpfs", "/data", &[]);
        let container = bundle.start();
        container.wait_for("ready");
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let below = bundle.path("rootfs").display().to_string();
        assert!(!mounts.contains(&below), "{mounts}");
        container.verb(&["delete", "--force"]).ok();
        world.assert_nothing_left(bundle.id());
    }

    /// Directories that are made for mounts have usual modes.
    fn made_directories(world) as [root, subids, plain] {
        let mut bundle = Bundle::new(world);
        bundle.mount("tmpfs", "tmpfs", "/deep/er/est", &[]);
        bundle.run().success();
        for directory in ["deep", "deep/er"] {
            let mode = std::fs::metadata(bundle.inside(directory)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o755, "{directory}");
        }
    }

    /// Programs on a `noexec` mount don't run.
    fn noexec(world) as [root, subids, plain] {
        let mut bundle = Bundle::new(world);
        bundle.write_program("data/tool", "#!/bin/sh\necho ran\n");
        let source = bundle.path("data");
        bundle.mount("bind", source.to_str().unwrap(), "/data", &["bind", "noexec"]);
        assert_eq!(bundle.prints("/data/tool 2>/dev/null || echo refused"), ["refused"]);
    }
}
