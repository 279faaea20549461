use super::*;
use crate::image::platform::Platform;
use crate::plan::step::Op;
use crate::plan::{Options as PlanOptions, Origin, lower, resolve};

fn plan_options() -> PlanOptions {
    PlanOptions {
        target: None,
        build_args: vec![(CACHE_NAMESPACE.into(), Some("ns".into()))],
        platform: Platform::host(),
        build_platform: Platform::host(),
        entitlements: Default::default(),
        contexts: Default::default(),
    }
}

/// Returns the mounts of the last RUN of a Dockerfile whose first line is a stage's.
fn mounts_of(run: &str) -> Result<Vec<MountKind>, Vec<Diagnostic>> {
    let text = format!("FROM scratch AS base\nWORKDIR /w\nARG X=/from/arg\nARG Q=a\\'b\n{run}\n");
    let file = crate::dockerfile::parse(text.as_bytes()).expect("parses");
    let plan = resolve(&file, &plan_options()).map_err(|e| e.diagnostics().to_vec())?;
    let lowered = lower(&plan, 0, Origin::Scratch).map_err(|e| e.diagnostics().to_vec())?;
    let Some(Op::Run(run)) = lowered.steps.last().map(|s| s.op.clone()) else {
        panic!("no RUN: {lowered:?}");
    };
    Ok(run.mounts.into_iter().map(|m| m.kind).collect())
}

fn one(run: &str) -> MountKind {
    let mut all = mounts_of(run).unwrap_or_else(|e| panic!("{run}: {e:?}"));
    assert_eq!(all.len(), 1, "{run}");
    all.remove(0)
}

#[test]
fn what_each_type_means() {
    let own = |mode| Permissions {
        mode,
        uid: 0,
        gid: 0,
    };
    let bind = BindMount {
        from: CopyFrom::Context,
        source: "/".into(),
        target: "/x".into(),
        read_only: true,
    };
    let cache = CacheMount {
        id: "ns//c".into(),
        target: "/c".into(),
        from: None,
        source: "/".into(),
        sharing: Sharing::Shared,
        read_only: false,
        permissions: own(0o755),
    };
    let secret = SecretMount {
        id: "s".into(),
        target: Some("/run/secrets/s".into()),
        env: None,
        required: false,
        permissions: own(0o400),
    };
    let ssh = SshMount {
        id: "default".into(),
        target: "/run/buildkit/ssh_agent.0".into(),
        required: false,
        permissions: own(0o600),
    };
    for (options, wanted) in [
        ("target=/x", MountKind::Bind(bind.clone())),
        ("type=bind,dst=/x,ro", MountKind::Bind(bind.clone())),
        (
            "destination=$X/y,src=../a/./b,rw",
            MountKind::Bind(BindMount {
                source: "/a/b".into(),
                target: "/from/arg/y".into(),
                read_only: false,
                ..bind.clone()
            }),
        ),
        (
            "source=a,target=rel,readonly=false",
            MountKind::Bind(BindMount {
                source: "/a".into(),
                target: "/w/rel".into(),
                read_only: false,
                ..bind.clone()
            }),
        ),
        (
            "source=a",
            MountKind::Bind(BindMount {
                source: "/a".into(),
                target: "/w".into(),
                ..bind.clone()
            }),
        ),
        (
            "source=$Q,target=/x",
            MountKind::Bind(BindMount {
                source: "/a'b".into(),
                ..bind.clone()
            }),
        ),
        (
            "from=busybox:1,target=/x",
            MountKind::Bind(BindMount {
                from: CopyFrom::Image("busybox:1".parse().expect("reference")),
                ..bind.clone()
            }),
        ),
        ("type=cache,target=/c/", MountKind::Cache(cache.clone())),
        (
            "type=cache,target=c",
            MountKind::Cache(CacheMount {
                id: "ns/c".into(),
                target: "/w/c".into(),
                ..cache.clone()
            }),
        ),
        (
            "type=cache,id=$X,target=/c,sharing=LOCKED,ro,mode=0700,uid=1,gid=2",
            MountKind::Cache(CacheMount {
                id: "ns//from/arg".into(),
                sharing: Sharing::Locked,
                read_only: true,
                permissions: Permissions {
                    mode: 0o700,
                    uid: 1,
                    gid: 2,
                },
                ..cache.clone()
            }),
        ),
        (
            "type=tmpfs,target=/t",
            MountKind::Tmpfs {
                target: "/t".into(),
                size: None,
            },
        ),
        (
            "type=tmpfs,target=/t,size=1.5m",
            MountKind::Tmpfs {
                target: "/t".into(),
                size: Some(3 << 19),
            },
        ),
        (
            "type=tmpfs,target=/t,size=64",
            MountKind::Tmpfs {
                target: "/t".into(),
                size: Some(64),
            },
        ),
        ("type=secret,id=s", MountKind::Secret(secret.clone())),
        ("type=secret,source=s", MountKind::Secret(secret.clone())),
        (
            "type=secret,id=a/s",
            MountKind::Secret(SecretMount {
                id: "a/s".into(),
                ..secret.clone()
            }),
        ),
        (
            "type=secret,target=/k/s",
            MountKind::Secret(SecretMount {
                target: Some("/k/s".into()),
                ..secret.clone()
            }),
        ),
        (
            "type=secret,id=s,env=S,required",
            MountKind::Secret(SecretMount {
                target: None,
                env: Some("S".into()),
                required: true,
                ..secret.clone()
            }),
        ),
        (
            "type=secret,id=s,env=S,target=t,mode=440,uid=3,required=false",
            MountKind::Secret(SecretMount {
                target: Some("/w/t".into()),
                env: Some("S".into()),
                permissions: Permissions {
                    mode: 0o440,
                    uid: 3,
                    gid: 0,
                },
                ..secret.clone()
            }),
        ),
        ("type=ssh", MountKind::Ssh(ssh.clone())),
        (
            "type=ssh,id=x,target=/a,mode=0666,required=1",
            MountKind::Ssh(SshMount {
                id: "x".into(),
                target: "/a".into(),
                required: true,
                permissions: own(0o666),
            }),
        ),
    ] {
        assert_eq!(
            one(&format!("RUN --mount={options} true")),
            wanted,
            "{options}"
        );
    }
    let all =
        mounts_of("RUN --mount=type=ssh --mount=target=/x --mount=type=ssh true").expect("valid");
    let MountKind::Ssh(second) = &all[2] else {
        panic!("{all:?}");
    };
    assert_eq!(second.target, "/run/buildkit/ssh_agent.1");
}

#[test]
fn what_is_wrong_and_where() {
    for (options, at, message) in [
        (
            "type=cahce,target=/x",
            "cahce",
            "there is no mount type `cahce`",
        ),
        (
            "target=/",
            "/",
            "nothing can be mounted on the root directory",
        ),
        (
            "target=/a/..",
            "/a/..",
            "nothing can be mounted on the root directory",
        ),
        (
            "type=bind,target=/x,sharing=locked",
            "locked",
            "a bind mount has no option `sharing`",
        ),
        (
            "type=tmpfs,target=/x,mode=1",
            "1",
            "a tmpfs mount has no option `mode`",
        ),
        (
            "type=secret,id=s,from=a",
            "a",
            "a secret mount has no option `from`",
        ),
        (
            "type=cache,target=/x,required",
            "required",
            "a cache mount has no option `required`",
        ),
        (
            "type=cache,target=/x,sharing=lock",
            "lock",
            "mount option `sharing` can't be `lock`",
        ),
        (
            "type=tmpfs,target=/x,size=1x",
            "1x",
            "mount option `size` can't be `1x`",
        ),
        (
            "type=secret,id=s,mode=9",
            "9",
            "mount option `mode` can't be `9`",
        ),
        (
            "type=secret,id=s,uid=me",
            "me",
            "mount option `uid` can't be `me`",
        ),
        (
            "type=secret,id=s,required=maybe",
            "maybe",
            "mount option `required` can't be `maybe`",
        ),
        (
            "type=secret",
            "type=secret",
            "a secret mount needs an `id` or a `target`",
        ),
        (
            "type=secret,id=a,src=b",
            "type=secret,id=a,src=b",
            "a secret mount can't have both `id` and `source`: they mean the same",
        ),
        ("tagret=/x", "tagret", "unknown mount option `tagret`"),
        (
            "from=$X,target=/x",
            "$X",
            "`from` of a mount takes no variables",
        ),
        ("from=base,target=/x", "base", ""),
        (
            "target=${X:?no}${Y:?missing}",
            "${Y:?missing}",
            "Y: missing",
        ),
    ] {
        let run = format!("RUN --mount={options} true");
        let found = mounts_of(&run).expect_err(options);
        assert_eq!(found.len(), 1, "{options} {found:?}");
        let text =
            format!("FROM scratch AS base\nWORKDIR /w\nARG X=/from/arg\nARG Q=a\\'b\n{run}\n");
        assert_eq!(&text[found[0].span.clone()], at, "{options}");
        if !message.is_empty() {
            assert_eq!(found[0].message, message, "{options}");
        }
    }
}

/// What BuildKit lets pass without a word.
#[test]
fn what_has_no_effect_is_said() {
    for (options, at, message) in [
        ("target=/x,id=a", "a", "a bind mount has no option `id`"),
        (
            "type=tmpfs,target=/x,ro",
            "ro",
            "a tmpfs mount has no option `readonly`",
        ),
        (
            "type=cache,target=/x,env=A",
            "A",
            "a cache mount has no option `env`",
        ),
        (
            "type=ssh,source=x",
            "x",
            "a ssh mount has no option `source`",
        ),
        (
            "ro,target=/x,rw",
            "ro",
            "mount option `ro` has no effect: `rw` comes later",
        ),
        (
            "dst=/y,target=/x",
            "dst",
            "mount option `dst` has no effect: `target` comes later",
        ),
    ] {
        let text = format!("FROM scratch\nRUN --mount={options} true\n");
        let file = crate::dockerfile::parse(text.as_bytes()).expect("parses");
        let plan = resolve(&file, &plan_options()).expect("valid");
        let lowered = lower(&plan, 0, Origin::Scratch).expect("valid");
        let [warning] = &lowered.warnings[..] else {
            panic!("{options}: {:?}", lowered.warnings);
        };
        assert_eq!(
            (&text[warning.span.clone()], &warning.message[..]),
            (at, message)
        );
        let Some(Op::Run(run)) = lowered.steps.last().map(|s| s.op.clone()) else {
            panic!("no RUN: {lowered:?}");
        };
        if let MountKind::Bind(bind) = &run.mounts[0].kind {
            assert_eq!(bind.target, "/x");
            assert_eq!(bind.read_only, !options.ends_with("rw"));
        }
    }
}

#[test]
fn sizes_with_units() {
    for (text, size) in [
        ("0", Some(0)),
        ("10", Some(10)),
        ("1k", Some(1024)),
        ("1 KiB", Some(1024)),
        ("2Gb", Some(2 << 30)),
        ("0.5t", Some(1 << 39)),
        (".5k", Some(512)),
        ("", None),
        ("x", None),
        ("-1", None),
        ("1.2.3", None),
        ("99999999999p", None),
    ] {
        assert_eq!(bytes(text), size, "{text}");
    }
}
