//! Arguments of single instructions, right and wrong.

use super::super::parse;
use super::*;

fn kind(line: &str) -> Kind {
    let source = format!("FROM scratch\n{line}\n");
    let mut file = parse(source.as_bytes()).expect(line);
    std::sync::Arc::make_mut(&mut file.stages[0].instructions)
        .remove(0)
        .kind
}

fn errors(line: &str) -> Vec<String> {
    let source = format!("FROM scratch\n{line}\n");
    let found = parse(source.as_bytes()).expect_err(line);
    found.into_iter().map(|d| d.message).collect()
}

#[test]
fn commands() {
    let shell = |t: &str| Command::Shell(t.to_owned());
    let exec = |w: &[&str]| Command::Exec(w.iter().map(|w| (*w).to_owned()).collect());
    assert_eq!(kind("CMD echo  a"), Kind::Cmd(shell("echo  a")));
    assert_eq!(kind("cmd [\"a\", \"b\"]"), Kind::Cmd(exec(&["a", "b"])));
    assert_eq!(kind("CMD []"), Kind::Cmd(exec(&[])));
    assert_eq!(kind("ENTRYPOINT ['a']"), Kind::Entrypoint(shell("['a']")));
    let Kind::Run(run) = kind("RUN --network=none --security=sandbox make") else {
        panic!("not RUN");
    };
    assert_eq!(run.network, Some((RunNetwork::None, 27..31)));
    assert_eq!(run.command, shell("make"));
    assert_eq!(kind("SHELL [\"a\"]"), Kind::Shell(vec!["a".into()]));
}

#[test]
fn what_is_strange_but_not_wrong() {
    for (line, message, hint) in [
        (
            "CMD",
            "CMD calls the shell with nothing to do",
            "write `CMD []` for none",
        ),
        (
            "ENTRYPOINT",
            "ENTRYPOINT calls the shell with nothing to do",
            "write `ENTRYPOINT []` for none",
        ),
        (
            "RUN --network=none",
            "RUN calls the shell with nothing to do",
            "",
        ),
        (
            "STOPSIGNAL 65",
            "Linux has no signal 65",
            "its signals are 1 to 64",
        ),
    ] {
        let file = parse(format!("FROM scratch\n{line}\n").as_bytes()).expect(line);
        let found: Vec<_> = file
            .warnings
            .iter()
            .map(|w| (w.message.as_str(), w.hint.as_deref().unwrap_or("")))
            .collect();
        assert_eq!(found, [(message, hint)], "{line}");
    }
}

#[test]
fn pairs() {
    let Kind::Env(pairs) = kind("ENV a=1 b=\"x y\" c=z\\ w d=") else {
        panic!("not ENV");
    };
    let found: Vec<_> = pairs
        .iter()
        .map(|p| (p.name.as_str(), p.value.as_str()))
        .collect();
    assert_eq!(
        found,
        [("a", "1"), ("b", "\"x y\""), ("c", "z\\ w"), ("d", "")]
    );
    let Kind::Label(pairs) = kind("LABEL a  b=c d") else {
        panic!("not LABEL");
    };
    assert!(pairs[0].legacy);
    assert_eq!(pairs[0].value, "b=c d");
    let Kind::Arg(args) = kind("ARG a b=1 c=") else {
        panic!("not ARG");
    };
    let values: Vec<_> = args
        .iter()
        .map(|a| a.value.as_ref().map(Text::as_str))
        .collect();
    assert_eq!(values, [None, Some("1"), Some("")]);
}

#[test]
fn copies() {
    let Kind::Copy(copy) = kind("COPY --from=a --chown=b:c --chmod=755 d* e /f/") else {
        panic!("not COPY");
    };
    assert_eq!(copy.sources.len(), 2);
    assert_eq!(copy.dest, "/f/");
    assert_eq!(copy.from.expect("given"), "a");
    let Kind::Add(add) = kind("ADD [\"a b\", \"https://x/y\", \"c\"]") else {
        panic!("not ADD");
    };
    assert_eq!(*add.sources[0].word(), "a b");
    assert_eq!(*add.sources[1].word(), "https://x/y");
}

#[test]
fn healthchecks() {
    let line = "HEALTHCHECK --interval=1m --timeout=1.5s --start-period=0 \
                --start-interval=2s --retries=3 CMD curl x";
    assert_eq!(
        kind(line),
        Kind::Healthcheck(Box::new(Healthcheck {
            test: vec!["CMD-SHELL".into(), "curl x".into()],
            interval: 60_000_000_000,
            timeout: 1_500_000_000,
            start_period: 0,
            start_interval: 2_000_000_000,
            retries: 3,
        }))
    );
    let Kind::Healthcheck(exec) = kind("HEALTHCHECK cmd [\"a\"]") else {
        panic!("not HEALTHCHECK");
    };
    assert_eq!(exec.test, ["CMD", "a"]);
    let Kind::Healthcheck(none) = kind("HEALTHCHECK none") else {
        panic!("not HEALTHCHECK");
    };
    assert_eq!(none.test, ["NONE"]);
}

#[test]
fn triggers_are_checked_but_may_use_what_comes_later() {
    assert_eq!(
        kind("ONBUILD RUN --mount=type=cache,target=/x make"),
        Kind::Onbuild(Text::joined(
            "RUN --mount=type=cache,target=/x make".into(),
            vec![(0, 21)],
            21..58
        ))
    );
    for (line, message) in [
        ("ONBUILD", "ONBUILD requires an instruction"),
        ("ONBUILD ONBUILD RUN x", "ONBUILD can't be chained"),
        ("ONBUILD from x", "FROM isn't allowed as an ONBUILD trigger"),
        ("ONBUILD RNU x", "unknown instruction `RNU`"),
        ("ONBUILD COPY x", "COPY requires at least two arguments"),
        (
            "ONBUILD RUN <<X\ny",
            "the here-document is not ended by a line `X`",
        ),
    ] {
        assert_eq!(errors(line), [message], "{line}");
    }
}

#[test]
fn mistakes() {
    for (line, message) in [
        ("RUN []", "RUN requires a command"),
        ("RUN [\"a\", 1]", "the JSON array must hold strings only"),
        ("RUN --network=nnoe x", "invalid network `nnoe`"),
        ("ENV", "ENV requires at least one argument"),
        ("ENV a", "ENV requires a name and a value"),
        ("ENV a=b c", "no `=` in `c`"),
        ("ENV a=b # one mistake", "no `=` in `#`"),
        ("EXPOSE 80 #http and tls", "invalid port `#http`"),
        ("ENV =b", "ENV names can't be blank"),
        ("LABEL a", "LABEL requires a name and a value"),
        ("ARG", "ARG requires at least one argument"),
        ("ARG =x", "ARG names can't be blank"),
        ("COPY", "COPY requires at least two arguments"),
        ("COPY a", "COPY requires at least two arguments"),
        (
            "COPY --from=$x a b",
            "variables are not expanded in `--from`",
        ),
        ("COPY --from= a b", "`--from` names no stage and no image"),
        (
            "COPY --chmod=999 a b",
            "invalid mode `999`: it must be octal, from 0 to 07777",
        ),
        (
            "COPY --chmod=u+y a b",
            "invalid mode `u+y`: unknown permission `y`; modes are as in `755` or `u=rwX,go=rX`",
        ),
        (
            "COPY http://x/y z",
            "the source of COPY can't be a URL: use ADD",
        ),
        (
            "COPY https://x/y.git z",
            "the source of COPY can't be a git repository",
        ),
        (
            "COPY a <<EOF\nEOF",
            "a here-document can't be the destination",
        ),
        ("WORKDIR", "WORKDIR requires exactly one argument"),
        ("USER", "USER requires exactly one argument"),
        ("EXPOSE", "EXPOSE requires at least one argument"),
        ("EXPOSE 80/x", "invalid protocol `x`: use tcp, udp or sctp"),
        ("EXPOSE 99999", "invalid port `99999`"),
        ("VOLUME", "VOLUME requires at least one argument"),
        ("VOLUME [\"\"]", "a VOLUME can't be an empty string"),
        ("SHELL bash", "SHELL requires its arguments in JSON form"),
        ("SHELL []", "SHELL requires its arguments in JSON form"),
        ("STOPSIGNAL SIGTREM", "invalid signal `SIGTREM`"),
        (
            "HEALTHCHECK",
            "HEALTHCHECK requires `CMD` and a command, or `NONE`",
        ),
        ("HEALTHCHECK CDM x", "unknown type `CDM` of HEALTHCHECK"),
        (
            "HEALTHCHECK CMD",
            "HEALTHCHECK requires a command after CMD",
        ),
        ("HEALTHCHECK NONE x", "HEALTHCHECK NONE takes no arguments"),
        (
            "HEALTHCHECK --interval=5 CMD x",
            "missing unit in duration `5`",
        ),
        (
            "HEALTHCHECK --interval=1us CMD x",
            "the duration `1us` is less than 1ms",
        ),
        (
            "HEALTHCHECK --retries=-1 CMD x",
            "invalid number of retries `-1`",
        ),
        ("MAINTAINER", "MAINTAINER requires exactly one argument"),
        (
            "FROM a b",
            "FROM requires one argument, or three: `FROM image AS name`",
        ),
        ("FROM a AS 1x", "invalid stage name `1x`"),
        ("FROM a AS x/y", "invalid stage name `x/y`"),
    ] {
        assert_eq!(errors(line), [message], "{line}");
    }
}

#[test]
fn variables_put_checks_off() {
    for line in [
        "EXPOSE $port",
        "STOPSIGNAL ${sig}",
        "COPY --chmod=$mode a b",
        "ADD $url /",
    ] {
        kind(line);
    }
}
