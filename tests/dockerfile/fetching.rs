//! What a build shows to servers: secrets, by BuildKit's names, and an ssh agent, for ADD and contexts.

use support::git::Server as Daemon;
use support::http::Server;
use support::image::assert_file;
use support::ssh::{Agent, Server as Ssh, key};
use support::{World, for_users, need};

/// The header that BuildKit makes of the token `s3cret`.
const BASIC: &str = "basic eC1hY2Nlc3MtdG9rZW46czNjcmV0";

/// Puts a repository on a server of files, as git's "dumb" protocol has it.
fn publish(world: &World, server: &Server, name: &str) {
    let base = world.path("published");
    let daemon = Daemon::start(&base).expect("git runs");
    daemon.commit(
        name,
        &[
            ("f", "private"),
            ("Dockerfile", "FROM scratch\nCOPY f /main\n"),
        ],
    );
    daemon.git(name, &["repack", "-q", "-a", "-d"]);
    daemon.git(name, &["update-server-info"]);
    let git = daemon.dir(name).join(".git");
    let mut dirs = vec![git.clone()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                dirs.push(entry.path());
                continue;
            }
            let path = entry.path();
            let path = path.strip_prefix(&git).unwrap().display().to_string();
            let bytes = std::fs::read(entry.path()).unwrap();
            server.put(&format!("/{name}/{path}"), &bytes);
            server.put(&format!("/{name}/{path}?service=git-upload-pack"), &bytes);
        }
    }
}

for_users! {
    /// A private repository as ADD's source, as the context and as a named one.
    fn git_secrets(world) as [subids, plain] {
        need!(world, "git");
        world.write("token", "s3cret\n");
        world.write("header", BASIC);
        let server = Server::closed(&[], BASIC);
        publish(world, &server, "r.git");
        let url = server.url("/r.git");
        let named = format!("--build-context=x={url}");
        let output = "--output=type=local,dest=out";
        let port = url.rsplit(':').next().unwrap().split('/').next().unwrap();
        for secret in [
            "id=GIT_AUTH_TOKEN,src=token",
            "id=GIT_AUTH_TOKEN.127.0.0.1,src=token",
            &format!("id=GIT_AUTH_TOKEN.127.0.0.1:{port},src=token"),
            "id=GIT_AUTH_HEADER,src=header",
            "id=GIT_AUTH_HEADER.127.0.0.1,src=header",
        ] {
            let secret = format!("--secret={secret}");
            let said = world.sandcrab(["build", "--no-cache", output, &secret, &url]).ok();
            said.never_says(&["s3cret", &BASIC[6..]]);
            assert_eq!(std::fs::read(world.path("out/main")).unwrap(), b"private", "{secret}");
        }
        world.dockerfile(&format!("FROM scratch\nADD {url} /add/\nCOPY --from=x f /named\n"));
        let tree = world.tree(["--secret=id=GIT_AUTH_TOKEN,src=token", &named]);
        assert_file(&tree, "add/f", "private");
        assert_file(&tree, "named", "private");
        // Questions are about what is in it, too.
        let secret = "--secret=id=GIT_AUTH_TOKEN,src=token";
        world.sandcrab(["build", "--call=targets", secret, &url]).ok();
        // Nobody else's secret is shown.
        world.write("other", "basic b3RoZXI=");
        for secret in ["--secret=id=GIT_AUTH_TOKEN.example.com,src=token", "--secret=id=GIT_AUTH_HEADER,src=other"] {
            world.sandcrab(["build", secret, &url]).run().exits(1).says(&["git ls-remote"]);
        }
        // A repository's own secret wins over one for all.
        let secrets = ["--secret=id=GIT_AUTH_HEADER,src=other", "--secret=id=GIT_AUTH_TOKEN.127.0.0.1,src=token"];
        world.sandcrab(["build", secrets[0], secrets[1], &url]).ok();
    }

    /// What is at a closed URL, as the context, the Dockerfile and a named context.
    fn url_secrets(world) as [subids, plain] {
        world.write("token", "s3cret\n");
        let secret = "--secret=id=HTTP_AUTH_TOKEN_127.0.0.1,src=token";
        let file = b"FROM scratch\nCOPY --from=x f /f\n";
        let server = Server::closed(&[("/f", b"private"), ("/Dockerfile", file)], "Bearer s3cret");
        let named = format!("--build-context=x={}", server.url("/f"));
        let dockerfile = server.url("/Dockerfile");
        for context in [&["-f", &dockerfile, "ctx"][..], &[&dockerfile]] {
            world.make_dir("ctx");
            let arguments = ["build", secret, "--output=type=local,dest=out", &named];
            world.sandcrab(arguments).args(context).ok().never_says(&["s3cret"]);
            assert_eq!(std::fs::read(world.path("out/f")).unwrap(), b"private");
            world.sandcrab(["build", &named]).args(context).run().exits(1).says(&["401"]);
        }
    }

    /// Passwords and tokens in addresses are in no output and no history.
    fn passwords(world) as [subids, plain] {
        need!(world, "git");
        let server = Server::start(&[("/f?sig=t0ken", b"private")]);
        let url = |path: &str| server.url(path).replace("//", "//me:passw0rd@");
        world.dockerfile(&format!("FROM scratch\nADD {} /f\n", url("/f?sig=t0ken")));
        let secret = ["t0ken", "passw0rd"];
        let output = world.build(["--output=type=oci,dest=built.oci"]).ok().never_says(&secret);
        let config = world.image("built.oci").config.to_string();
        let shown = server.url("/f?...");
        assert!(config.contains(&format!("ADD {shown} /f")), "{config}");
        assert!(!secret.iter().any(|secret| config.contains(secret)), "{config}");
        output.says(&[&format!("ADD {shown} /f")]);
        for source in [url("/missing?sig=t0ken"), url("/r.git#main"), url("/?t0ken")] {
            world.dockerfile(&format!("FROM scratch\nADD {source} /d/\n"));
            world.build([]).run().exits(1).never_says(&secret).says(&["Dockerfile:2"]);
            world.sandcrab(["build", &source]).run().exits(1).never_says(&secret);
        }
    }

    /// A repository by ssh: with an agent, or keys, from a server that is known.
    fn git_by_ssh(world) as [subids, plain] {
        need!(world, "git", "ssh-agent", "sshd");
        let agent = Agent::start(world, "first");
        let server = Ssh::start(world, &world.path("first.pub"));
        server.repository(world, "r.git", "Dockerfile", "FROM scratch\nCOPY Dockerfile /main\n");
        let url = server.url("r.git");
        world.dockerfile(&format!("FROM scratch\nADD {url} /add/\nCOPY --from=x Dockerfile /named\n"));
        let named = format!("--build-context=x={url}");
        let ssh = format!("--ssh=default={}", agent.socket().display());
        // Nobody vouches for the server's key.
        let unknown = world.build([&*ssh, &*named]).run().exits(1);
        unknown.says(&["Host key verification failed", "hint: ssh must know the host: `ssh -p "]);
        let known = world.write("home/.ssh/known_hosts", server.known());
        for arguments in [&[&*named][..], &["--ssh=other=first", &named]] {
            let refused = world.build(arguments.iter().copied()).run().exits(1);
            refused.says(&["Permission denied", "--ssh default"]);
        }
        let stranger = key(world, "stranger", "");
        let wrong = format!("--ssh=default={}", stranger.display());
        world.build([&*wrong, &*named]).run().exits(1).says(&["Permission denied", "ssh-add -l"]);
        for ssh in [&*ssh, "--ssh=default=first"] {
            let tree = world.tree(["--no-cache", ssh, &named]);
            assert_file(&tree, "named", "FROM scratch\nCOPY Dockerfile /main\n");
            assert!(tree.contains_key(std::path::Path::new("add/Dockerfile")));
            let output = "--output=type=local,dest=out";
            world.sandcrab(["build", "--no-cache", ssh, output, &url]).ok();
            assert!(world.path("out/main").exists());
            world.sandcrab(["build", "--check", ssh, &url]).ok();
        }
        assert_eq!(std::fs::read_to_string(known).unwrap(), server.known());
    }
}
