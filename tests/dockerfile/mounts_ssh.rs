//! `RUN --mount=type=ssh` and `--ssh`: agents, keys and other sockets.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;

use support::image::{assert_file, node};
use support::progress::steps;
use support::ssh::{Agent, key};
use support::{World, base, for_users, need};

/// Writes a Dockerfile whose steps can start `/agent.py`.
fn dockerfile(world: &World, base: &str, steps: &str) {
    world.write("ctx/agent.py", include_str!("agent.py"));
    world.dockerfile(&format!("FROM {base}\nCOPY agent.py /\n{steps}"));
}

fn ssh(id: &str, socket: &Path) -> String {
    format!("--ssh={id}={}", socket.display())
}

for_users! {
    /// Steps see sockets of agents and of keys, with the owners and modes that they ask for.
    fn agents(world) as [root, subids, plain] {
        need!(world, "ssh-agent");
        let base = base!(world, Tools);
        let agent = Agent::start(world, "first");
        let keys = ["one", "two"].map(|name| key(world, name, "").display().to_string());
        dockerfile(
            world,
            &base,
            "RUN --mount=type=ssh --mount=type=ssh,id=keys,required \\\n\
                 --mount=type=ssh,id=none,target=/none \\\n\
                 echo $SSH_AUTH_SOCK >/variable && stat -c '%a %u:%g %F' $SSH_AUTH_SOCK >/looks && \\\n\
                 python3 /agent.py list $SSH_AUTH_SOCK >/listed && python3 /agent.py sign $SSH_AUTH_SOCK >/signed && \\\n\
                 python3 /agent.py list /run/buildkit/ssh_agent.1 >>/listed && \\\n\
                 python3 /agent.py sign /run/buildkit/ssh_agent.1 >>/signed && \\\n\
                 ! test -e /none && ls /run/buildkit >/names\n\
             USER www-data\n\
             RUN --mount=type=ssh,target=/roots --mount=type=ssh,target=/own/s,uid=33,gid=34,mode=0620 \\\n\
                 --mount=type=ssh,target=/all,mode=0666 --mount=type=ssh,target=/group,gid=33,mode=0060 \\\n\
                 (echo $SSH_AUTH_SOCK; stat -c '%a %u:%g' /own/s; for s in /roots /own/s /all /group; do \\\n\
                 python3 /agent.py try $s; done; python3 /agent.py list /own/s) >/tmp/user\n\
             USER root\n\
             ENV SSH_AUTH_SOCK=/other\n\
             RUN --mount=type=ssh echo $SSH_AUTH_SOCK >/named\n",
        );
        let keys = format!("--ssh=keys={}", keys.join(","));
        let tree = world.tree([&*ssh("default", agent.socket()), &*keys]);
        assert_file(&tree, "variable", "/run/buildkit/ssh_agent.0\n");
        assert_file(&tree, "looks", "600 0:0 socket\n");
        assert_file(&tree, "listed", "first\none two\n");
        assert_file(&tree, "signed", "14\n14\n");
        assert_file(&tree, "names", "ssh_agent.0\nssh_agent.1\n");
        assert_file(&tree, "tmp/user", "/roots\n620 33:34\n13\ndone\ndone\ndone\nfirst\n");
        assert_file(&tree, "named", "/other\n");
        for gone in ["run/buildkit", "none", "roots", "own", "all", "group"] {
            assert!(!tree.contains_key(Path::new(gone)), "{gone}");
        }
        assert_eq!(node(&tree, "run").mode, 0o755);
        // What was there is no part of the key.
        let output = world.build([&*keys]).env("SSH_AUTH_SOCK", "/nowhere").ok();
        assert!(steps(&output.stderr).iter().all(|step| step.cached), "{}", output.stderr);
    }

    /// Without a value it is the agent that the environment names, and a step gets no other socket.
    fn from_the_environment(world) as [subids, plain] {
        need!(world, "ssh-agent");
        let base = base!(world, Tools);
        let agent = Agent::start(world, "first");
        dockerfile(world, &base, "RUN --mount=type=ssh,required python3 /agent.py list $SSH_AUTH_SOCK >/listed\n");
        let build = world.build(["--output=type=oci,dest=built.oci", "--ssh=default"]);
        build.env("SSH_AUTH_SOCK", agent.socket()).ok();
        let tree = support::image::flatten(&world.image("built.oci")).unwrap();
        assert_file(&tree, "listed", "first\n");
    }

    /// A hostile step can neither change the agent nor exhaust the build.
    fn hostile(world) as [root, subids, plain] {
        need!(world, "ssh-agent");
        let base = base!(world, Tools);
        let agent = Agent::start(world, "first");
        let before = agent.list(world);
        dockerfile(
            world,
            &base,
            "RUN --mount=type=ssh python3 /agent.py attack $SSH_AUTH_SOCK >/count\n\
             RUN --mount=type=ssh python3 /agent.py list $SSH_AUTH_SOCK >/again\n",
        );
        let tree = world.tree([&*ssh("default", agent.socket())]);
        assert_file(&tree, "count", "1\n");
        assert_file(&tree, "again", "first\n");
        assert_eq!(agent.list(world), before);
        assert!(before.contains("first"), "{before}");
    }

    /// With `raw=true` a socket need not be an agent's.
    fn raw(world) as [root, subids, plain] {
        let base = base!(world, Tools);
        let socket = world.short_directory().join("raw");
        let listener = UnixListener::bind(&socket).unwrap();
        std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o777)).unwrap();
        // The build looks whether somebody is there, too.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut said = Vec::new();
                let mut stream = stream.unwrap();
                drop(stream.read_to_end(&mut said));
                said.reverse();
                drop(stream.write_all(&said));
            }
        });
        dockerfile(world, &base, "RUN --mount=type=ssh,id=x python3 /agent.py raw $SSH_AUTH_SOCK >/said\n");
        let tree = world.tree([&*(ssh("x", &socket) + ",raw=true")]);
        assert_file(&tree, "said", "b'tnega on \\xff\\x00'\n");
    }

    /// What is missing is named, with the option or the line.
    fn wrong(world) as [subids, plain] {
        need!(world, "ssh-agent");
        let base = base!(world, Busybox);
        let locked = key(world, "locked", "secret").display().to_string();
        world.write("text", "no key\n");
        world.dockerfile(&format!("FROM {base}\nRUN --mount=type=ssh,required true\n"));
        for (arguments, code, texts) in [
            (&[][..], 1, &["the step requires ssh agent `default`", "Dockerfile:2", "--ssh default"][..]),
            (&["--ssh=defualt=text"], 1, &["`--ssh defualt=text`", "private key"]),
            (&["--ssh=default"], 2, &["`--ssh default`", "SSH_AUTH_SOCK is not set", "ssh-add"]),
            (&["--ssh=default=none"], 2, &["`--ssh default=none`", "no such file"]),
            (&["--ssh=default=text"], 1, &["`text`", "private key"]),
            (&["--ssh=default=ctx"], 2, &["neither a socket nor a key"]),
            (&["--ssh=default=text,raw=true"], 2, &["only a socket"]),
            (&["--ssh=a=text", "--ssh=a=text"], 2, &["given twice"]),
        ] {
            world.build(arguments.iter().copied()).run().exits(code).says(texts);
        }
        let locked = format!("--ssh=default={locked}");
        world.build([&*locked]).run().exits(1).says(&["passphrase", "`--ssh default`"]);
        // An agent that has ended is told when a step wants it, and not before.
        let socket = world.short_directory().join("stale");
        drop(UnixListener::bind(&socket).unwrap());
        let stale = ssh("default", &socket);
        world.build([&*stale]).run().exits(1).says(&["connect to the ssh agent", "ssh-add -l", "Dockerfile:2"]);
        world.dockerfile(&format!("FROM {base}\nRUN --mount=type=ssh,id=dflt,required true\n"));
        world.build([&*stale]).run().exits(1).says(&["requires ssh agent `dflt`", "--ssh dflt="]);
        world.dockerfile(&format!("FROM {base}\nRUN true\n"));
        world.build([&*stale]).ok();
    }
}
