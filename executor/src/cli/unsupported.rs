//! Options that other builders have and this one has not.
//!
//! Responsible for a better answer than "unexpected argument" to what docker's, buildah's,
//! podman's and kaniko's users type out of habit. Must not accept anything. Invariant: no option
//! that a command has is listed for it.

use crate::error::{Error, Kind};

/// What to say.
#[derive(Debug, Clone, Copy)]
enum Answer {
    /// It is on the way.
    NotYet,
    /// It has no use here; why.
    Needless(&'static str),
    /// Something else does it.
    Instead(&'static str),
}

use Answer::{Instead, Needless, NotYet};

const BUILD: &[(&[&str], Answer)] = &[
    (&["--cache-ttl"], NotYet),
    (&["--cert-dir"], NotYet),
    (&["--device", "--env", "--from"], NotYet),
    (&["--ignorefile", "--manifest"], NotYet),
    (&["--policy", "--retry", "--retry-delay"], NotYet),
    (&["--security-opt", "--sign-by"], NotYet),
    (&["--tls-verify", "--volume", "-v"], NotYet),
    (&["--userns", "--unsetenv", "--unsetlabel"], NotYet),
    (
        &[
            "--cache-copy-layers",
            "--cache-dir",
            "--cache-repo",
            "--reproducible",
        ],
        NotYet,
    ),
    (
        &[
            "--ignore-path",
            "--registry-certificate",
            "--registry-mirror",
        ],
        NotYet,
    ),
    (
        &[
            "--skip-tls-verify",
            "--skip-tls-verify-pull",
            "--skip-tls-verify-registry",
        ],
        NotYet,
    ),
    (
        &["--logfile"],
        Instead("redirect standard error: `2> FILE`"),
    ),
    (&["--builder"], Needless("there is no daemon to choose")),
    (&["--compress"], Needless("the context is read in place")),
    (
        &["--rm", "--force-rm"],
        Needless("no container stays behind"),
    ),
    (&["--layers"], Needless("every step is cached")),
    (
        &["--cleanup", "--force", "--use-new-run"],
        Needless("builds leave nothing behind"),
    ),
    (
        &["--snapshot-mode"],
        Needless("changes are found without looking at all files"),
    ),
    (
        &["--cache"],
        Needless("the cache is on unless --no-cache is given"),
    ),
    (
        &["--arch", "--os", "--variant", "--custom-platform"],
        Instead("use --platform OS/ARCH"),
    ),
    (&["--creds"], Instead("use `sandcrab login`")),
    (
        &["--context"],
        Instead("name the context last, without an option"),
    ),
    (&["--dockerfile"], Instead("use -f FILE")),
    (&["--destination", "-d"], Instead("use -t NAME --push")),
    (&["--no-push"], Instead("leave out --push")),
    (
        &["--tar-path", "--tarPath"],
        Instead("use -o type=docker,dest=FILE"),
    ),
    (
        &["--oci-layout-path"],
        Instead("use -o type=oci,tar=false,dest=DIR"),
    ),
    (&["--digest-file"], Instead("use --metadata-file FILE")),
    (
        &["--image-name-with-digest-file"],
        Instead("use --metadata-file FILE"),
    ),
    (
        &["--format"],
        Instead("choose with -o type=oci or -o type=docker"),
    ),
    (
        &["--compression"],
        Instead("use -o type=…,compression=gzip|estargz|zstd"),
    ),
    (
        &["--compression-format"],
        Instead("use -o type=…,compression=gzip|estargz|zstd"),
    ),
    (
        &["--compression-level"],
        Instead("use -o type=…,compression-level=N"),
    ),
    (
        &["--insecure", "--insecure-pull"],
        Instead("use --insecure-registry HOST"),
    ),
    (&["--verbosity"], Instead("use --progress or --quiet")),
];

const RUN: &[(&[&str], Answer)] = &[
    (
        &[
            "--add-host",
            "--annotation",
            "--cap-add",
            "--cap-drop",
            "--cgroup-parent",
        ],
        NotYet,
    ),
    (
        &[
            "--cidfile",
            "--cpus",
            "--detach",
            "-d",
            "--device",
            "--dns",
            "--env-file",
        ],
        NotYet,
    ),
    (
        &[
            "--gpus",
            "--group-add",
            "--health-cmd",
            "--hostname",
            "-h",
            "--init",
        ],
        NotYet,
    ),
    (
        &[
            "--label", "-l", "--memory", "-m", "--mount", "--name", "--pid", "--pod",
        ],
        NotYet,
    ),
    (
        &[
            "--pids-limit",
            "--privileged",
            "--publish",
            "-p",
            "--publish-all",
            "-P",
        ],
        NotYet,
    ),
    (
        &[
            "--read-only",
            "--restart",
            "--runtime",
            "--security-opt",
            "--shm-size",
        ],
        NotYet,
    ),
    (
        &[
            "--stop-signal",
            "--sysctl",
            "--tmpfs",
            "--ulimit",
            "--userns",
        ],
        NotYet,
    ),
    (&["--volume", "-v", "--volumes-from"], NotYet),
    (
        &["--platform"],
        Needless("an image for this machine is taken"),
    ),
];

/// Returns the answer to an unknown `flag` of `command`, when there is a better one than usual.
pub(super) fn explain(command: &str, flag: &str) -> Option<Error> {
    let table = match command {
        "build" => BUILD,
        "run" => RUN,
        _ => return None,
    };
    // clap names a flag with its value where there is one.
    let flag = flag.split('=').next().unwrap_or(flag);
    let (_, answer) = table.iter().find(|(flags, _)| flags.contains(&flag))?;
    let error = |text: String| Error::new(text).kind(Kind::Usage);
    Some(match answer {
        NotYet => error(format!("`{flag}` is not supported yet"))
            .hint(format!("`sandcrab {command} --help` lists what is")),
        Needless(why) => {
            error(format!("there is no `{flag}`")).hint(format!("leave it out: {why}"))
        }
        Instead(what) => error(format!("there is no `{flag}`")).hint(*what),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_exists_is_listed() {
        for (name, table) in [("build", BUILD), ("run", RUN)] {
            let cli = super::super::command();
            let command = cli.find_subcommand(name).expect("subcommand");
            for flag in table.iter().flat_map(|(flags, _)| flags.iter()) {
                let known = command.get_arguments().any(|arg| {
                    arg.get_long().is_some_and(|l| *flag == format!("--{l}"))
                        || arg.get_short().is_some_and(|s| *flag == format!("-{s}"))
                });
                assert!(!known, "{name} has {flag}");
                let times = table
                    .iter()
                    .filter(|(flags, _)| flags.contains(flag))
                    .count();
                assert_eq!(times, 1, "{flag} is listed more than once");
            }
        }
    }

    #[test]
    fn answers() {
        let error = explain("build", "--policy").expect("known");
        assert_eq!(error.to_string(), "`--policy` is not supported yet");
        let error = explain("build", "--dockerfile=x").expect("known");
        assert_eq!(error.hints(), ["use -f FILE"]);
        assert!(explain("build", "--nonsense").is_none());
        assert!(explain("images", "--squash").is_none());
    }
}
