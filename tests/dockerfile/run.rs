//! RUN: how a step is executed, apart from its mounts.

use support::image::assert_file;
use support::progress::{assert_all_cached, steps};
use support::{World, base, for_users};

/// Builds a Dockerfile, and returns what its steps printed.
fn printed(world: &World, text: &str, arguments: &[&str]) -> Vec<String> {
    world.dockerfile(text);
    let arguments = ["--no-cache"].into_iter().chain(arguments.iter().copied());
    let output = world.build(arguments).ok();
    let steps = steps(&output.stderr);
    steps.into_iter().flat_map(|step| step.lines).collect()
}

for_users! {
    /// `--network` of an instruction counts more than the command line's; the host's network
    /// must be allowed.
    fn network(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        let count = "ls /sys/class/net | wc -l";
        let outside = std::fs::read_dir("/sys/class/net").unwrap().count().to_string();
        let text = format!(
            "FROM {base}\n\
             RUN --network=none {count}\n\
             RUN --network=default {count}\n\
             RUN {count}\n"
        );
        assert_eq!(printed(world, &text, &[]), ["1", &outside, &outside]);
        assert_eq!(printed(world, &text, &["--network=none"]), ["1"; 3]);
        let text = format!("FROM {base}\nRUN true\nRUN --network=host {count}\n");
        world.dockerfile(&text);
        world.build([]).run().exits(1).says(&[
            "`RUN --network=host` needs the entitlement network.host",
            "Dockerfile:3:15",
            "--allow network.host",
        ]);
        for allowed in [&["--allow=network.host", "--network=none"][..], &["--network=host"]] {
            assert_eq!(printed(world, &text, allowed), [outside.as_str()], "{allowed:?}");
        }
        // What is not needed is not asked.
        world.dockerfile(&format!("FROM {base} AS a\nRUN --network=host x\nFROM {base}\n"));
        world.build([]).ok();
        world.build(["--allow=network.hots"]).run().exits(2).says(&[
            "unknown entitlement `network.hots`",
            "did you mean `network.host`?",
        ]);
    }

    /// `--add-host` is in the steps' hosts file and not in the image; names are in the key,
    /// addresses are not.
    fn added_hosts(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        let text = format!("FROM {base}\nRUN grep -v localhost /etc/hosts\n");
        let first = [
            "--add-host=one.example:10.0.0.1",
            "--add-host=two=[fe80::2]",
            "--add-host=me:host-gateway",
        ];
        let lines = printed(world, &text, &first);
        assert_eq!(lines, ["10.0.0.1\tone.example", "fe80::2\ttwo", "127.0.0.1\tme"]);
        assert_file(&world.tree(first), "etc/hosts", "");
        let moved = ["--add-host=one.example:10.0.0.9", "--add-host=two=::1", "--add-host=me=::1"];
        assert_all_cached(&world.build(moved).ok().stderr, 1);
        assert_eq!(printed(world, &text, &["--add-host=one:10.0.0.1"]), ["10.0.0.1\tone"]);
    }

    /// `--dns` and its like are in resolv.conf; a step that does not write there leaves no trace.
    fn name_servers(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        let text = format!("FROM {base}\nRUN cat /etc/resolv.conf\n");
        let lines = printed(world, &text, &[
            "--dns=192.0.2.1", "--dns=2001:db8::1", "--dns-search=a.example", "--dns-option=ndots:3",
        ]);
        let wanted = ["search a.example", "nameserver 192.0.2.1", "nameserver 2001:db8::1", "options ndots:3"];
        let lines: Vec<&str> = lines.iter().map(String::as_str).filter(|l| wanted.contains(l)).collect();
        assert_eq!(lines, wanted);
        let own = format!("FROM {base}\nRUN echo own >/etc/resolv.conf\nRUN cat /etc/resolv.conf; ls -l /etc/resolv.conf\n");
        let lines = printed(world, &own, &["--dns=none"]);
        assert_eq!(lines[0], "own");
    }
}
