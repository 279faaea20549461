//! `exec`: another process in a container.

use runtime::container::ExecOptions;
use runtime::error::ResultExt;
use runtime::spec::Process;
use runtime::weaken::{self, Protection};
use runtime::{Error, Result};

use super::args::{Flag, Matches, Stop, invalid};
use super::context::Context;
use super::create::{inherited, path};
use super::verb::{Failure, Outcome, Verb};

/// The verb.
pub(crate) const VERB: Verb = Verb {
    name: "exec",
    usage: "[OPTIONS] ID (PROGRAM [ARGUMENTS] | --process FILE)",
    about: "run another program in a container",
    details: "The program gets the container's own environment, ids and capabilities, or those of\n\
              the document that --process names, changed as the other options say.",
    flags: &[&[
        Flag::value(
            "process",
            "FILE",
            "read the specification's process document",
        )
        .short(b'p'),
        Flag::switch("detach", "do not wait for the program").short(b'd'),
        Flag::switch("tty", "give it a terminal").short(b't'),
        Flag::value("console-socket", "SOCKET", "send the terminal there"),
        Flag::value(
            "pid-file",
            "FILE",
            "write the program's process number to FILE",
        ),
        Flag::value(
            "pidfd-socket",
            "SOCKET",
            "send the program's process descriptor there",
        ),
        Flag::value("cwd", "DIR", "working directory"),
        Flag::list("env", "NAME=VALUE", "add to the environment").short(b'e'),
        Flag::value("user", "UID[:GID]", "user and group").short(b'u'),
        Flag::list("additional-gids", "GID", "add a supplementary group").short(b'g'),
        Flag::list("cap", "NAME", "add a capability").short(b'c'),
        Flag::switch("no-new-privs", "set no_new_privs"),
        Flag::value("apparmor", "PROFILE", "AppArmor profile"),
        Flag::value("process-label", "LABEL", "SELinux label"),
        Flag::value("preserve-fds", "N", "pass N descriptors from 3 on"),
        Flag::list(
            "cgroup",
            "[CONTROLLER:]PATH",
            "control group below the container's",
        ),
        Flag::switch("ignore-paused", "do not refuse a paused container"),
    ]],
    arguments: (1, usize::MAX),
    stop: Stop::After(2),
    enters: true,
    run,
};

fn run(context: &Context<'_>, matches: &Matches) -> Outcome {
    exec(context, matches).map_err(|error| Failure {
        error,
        // runc 1.1 has this code for what never became the program's own.
        code: 255,
    })
}

fn exec(context: &Context<'_>, matches: &Matches) -> Result<u8> {
    let (root, id) = context.named(matches)?;
    let container = context.load(&root, &id)?;
    let options = ExecOptions {
        process: process(matches, || Ok(container.spec()?.process))?,
        detached: matches.switch("detach"),
        pid_file: path(matches, "pid-file")?,
        console_socket: path(matches, "console-socket")?,
        pidfd_socket: path(matches, "pidfd-socket")?,
        inherited: inherited(matches)?,
        cgroup: matches.texts("cgroup")?,
        ignore_paused: matches.switch("ignore-paused"),
    };
    let exit = container.exec(&options, &mut |text| context.log.note(&text))?;
    Ok(exit.map_or(0, |exit| exit.code()))
}

/// Makes the process document from the container's own or from a file, and the options.
fn process(matches: &Matches, own: impl FnOnce() -> Result<Option<Process>>) -> Result<Process> {
    let words = matches.arguments.get(1..).unwrap_or_default();
    let mut process = match matches.value("process") {
        Some(_) if !words.is_empty() => {
            return Err(Error::new("`--process` and a program exclude each other"));
        }
        Some(path) => Process::parse(&std::fs::read(path).op_path("read process document", path)?)?,
        None if words.is_empty() => {
            return Err(Error::new("`exec` lacks a program").hint("or `--process FILE`"));
        }
        None => {
            let args = words.iter().map(|word| match word.to_str() {
                Some(text) => Ok(text.to_owned()),
                None => Err(Error::new(format!("argument {word:?} is not UTF-8"))),
            });
            Process {
                args: args.collect::<Result<_>>()?,
                terminal: false,
                console_size: None,
                ..own()?.unwrap_or_default()
            }
        }
    };
    adapt(&mut process, matches)?;
    Ok(process)
}

fn adapt(process: &mut Process, matches: &Matches) -> Result<()> {
    if let Some(tty) = matches.maybe("tty") {
        // conmon says it besides the document, which it does not overrule.
        process.terminal |= tty;
    }
    if let Some(cwd) = matches.text("cwd")? {
        cwd.clone_into(&mut process.cwd);
    }
    process.env.extend(matches.texts("env")?);
    if let Some(text) = matches.text("user")? {
        let why = "it is not UID or UID:GID in numbers";
        let number = |part: &str| {
            part.parse()
                .map_err(|_| invalid("user", text.as_ref(), why))
        };
        let (uid, gid) = match text.split_once(':') {
            Some((uid, gid)) => (uid, Some(gid)),
            None => (text, None),
        };
        process.user.uid = number(uid)?;
        if let Some(gid) = gid {
            process.user.gid = number(gid)?;
        }
    }
    for text in matches.texts("additional-gids")? {
        let gid = text.parse();
        let gid =
            gid.map_err(|_| invalid("additional-gids", text.as_ref(), "it is no group id"))?;
        process.user.additional_gids.push(gid);
    }
    for name in matches.texts("cap")? {
        let sets = process.capabilities.get_or_insert_default();
        // Not inheritable: that would outlive the program (CVE-2022-29162). Without it the kernel
        // refuses ambient, capabilities(7).
        if weaken::off(Protection::Inheritable) {
            sets.inheritable.push(name.clone());
        }
        sets.bounding.push(name.clone());
        sets.effective.push(name.clone());
        if sets.inheritable.contains(&name) {
            sets.ambient.push(name.clone());
        }
        sets.permitted.push(name);
    }
    if let Some(set) = matches.maybe("no-new-privs") {
        process.no_new_privileges = set;
    }
    if let Some(profile) = matches.text("apparmor")? {
        profile.clone_into(&mut process.apparmor_profile);
    }
    if let Some(label) = matches.text("process-label")? {
        label.clone_into(&mut process.selinux_label);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> Process {
        Process {
            terminal: true,
            args: vec!["sh".into()],
            env: vec!["A=1".into()],
            cwd: "/".into(),
            no_new_privileges: true,
            ..Process::default()
        }
    }

    fn parse(line: &str) -> Result<Process> {
        let matches = VERB.parse(line.split_whitespace().map(Into::into))?;
        process(&matches, || Ok(Some(own())))
    }

    #[test]
    fn a_program_in_the_container_s_own_way() {
        let expected = Process {
            terminal: false,
            args: vec!["ls".into(), "-l".into()],
            ..own()
        };
        assert_eq!(parse("x ls -l").expect("process"), expected);
    }

    #[test]
    fn options_change_the_process() {
        let found = parse(
            "-t --cwd /tmp -e B=2 --env C=3 -u 5:6 -g 7 -g 8 -c CAP_KILL --no-new-privs=false \
             --apparmor p --process-label l x true",
        )
        .expect("process");
        let sets = found.capabilities.expect("capabilities");
        assert!(found.terminal && !found.no_new_privileges);
        assert_eq!(found.env, ["A=1", "B=2", "C=3"]);
        assert_eq!((found.user.uid, found.user.gid), (5, 6));
        assert_eq!(found.user.additional_gids, [7, 8]);
        assert_eq!(sets.permitted, ["CAP_KILL"]);
        assert!(sets.inheritable.is_empty() && sets.ambient.is_empty());
        assert_eq!(
            (found.cwd.as_str(), found.apparmor_profile.as_str()),
            ("/tmp", "p")
        );
        assert_eq!(found.selinux_label, "l");
    }

    #[test]
    fn a_document_of_its_own() {
        let file = tempfile::NamedTempFile::new().expect("file");
        std::fs::write(file.path(), r#"{"args":["a"],"cwd":"/x","env":null}"#).expect("write");
        let path = file.path().display();
        let found = parse(&format!("--process {path} -t x")).expect("process");
        assert_eq!(
            (found.args, found.cwd.as_str(), found.terminal),
            (vec!["a".into()], "/x", true)
        );
        assert!(parse(&format!("--process {path} x ls")).is_err());
        assert!(parse("--process /nonexistent x").is_err());
    }

    #[test]
    fn what_is_wrong_is_an_error() {
        for line in [
            "x",
            "-u root x ls",
            "-u 1: x ls",
            "-g wheel x ls",
            "--nope x ls",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
