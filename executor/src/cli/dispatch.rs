//! From a parsed command line to the command that carries it out.
//!
//! Responsible for what each command is given: settings, the store, standard streams, a display.
//! Must not do a command's work. Invariant: nothing starts a thread or reads a credential before
//! the commands that need jobs have started their spawner.

use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;

use super::desk::{self, Desk};
use super::environment::Environment;
use super::exit::Failure;
use super::input::Input;
use super::{
    Cli, Command, Global, IsolationChoice, building, df, doctor, history, images, inspect, load,
    login, logout, prune, pull, push, registries, rmi, running, save, signals, streams, tag,
};
use crate::build::fetch::Fetcher;
use crate::cancel::Cancel;
use crate::error::{Error, Result};
use crate::image::platform::Platform;
use crate::progress::Mode;
use crate::store::gc::Hands;
use crate::store::lock::Session;
use crate::store::{Store, measure};

/// Does what the command line asks for and returns the exit code.
pub(super) fn dispatch(cli: Cli, environment: &Environment) -> Result<u8, Failure> {
    let Cli { global, command } = cli;
    match command {
        Command::Build(args) => return building::run(*args, &global, environment),
        Command::Run(args) => return running::run(*args, &global, environment),
        Command::Pull(args) => pull_images(&args, &global, environment)?,
        Command::Push(args) => push_image(&args, &global, environment)?,
        Command::Login(args) => {
            let settings = global.settings(environment, Some(args.registry()), None)?;
            let cancel = Cancel::new();
            signals::listen(cancel.clone())?;
            let told = login::run(args, &settings, environment, &cancel);
            streams::complain(&told.map_err(|e| cancel.settle(e))?);
        }
        Command::Logout(args) => {
            let settings = global.settings(environment, None, None)?;
            streams::complain(&logout::run(&args, &settings, environment)?);
        }
        Command::Images(args) => {
            print(|out| images::run(&args, &open(&global, environment)?, out))?;
        }
        Command::Inspect(args) => {
            print(|out| inspect::run(&args, &open(&global, environment)?, out))?;
        }
        Command::History(args) => {
            print(|out| history::run(&args, &open(&global, environment)?, out))?;
        }
        Command::Tag(args) => tag::run(&args, &open(&global, environment)?)?,
        Command::Rmi(args) => print(|out| rmi::run(&args, &open(&global, environment)?, out))?,
        Command::Load(args) => {
            let store = open(&global, environment)?;
            let cancel = Cancel::new();
            signals::listen(cancel.clone())?;
            let mut stdin = Input::standard(&cancel)?;
            let piped = !io::stdin().is_terminal();
            let stdin: Option<&mut (dyn Read + Send)> = if piped { Some(&mut stdin) } else { None };
            print(|out| load::run(&args, &store, stdin, &cancel, out))
                .map_err(|e| cancel.settle(e))?;
        }
        Command::Save(args) => {
            save_images(&args, &global, environment)?;
        }
        Command::Prune(args) => prune_store(&args, &global, environment)?,
        Command::Df(args) => count_store(&args, &global, environment)?,
        Command::Doctor(args) => {
            let settings = global.settings(environment, None, None)?;
            let diagnosis = doctor::run(&args, &settings)?;
            streams::write_data(diagnosis.text.as_bytes())?;
            return Ok(u8::from(!diagnosis.can_build));
        }
        Command::Version => {
            let version = env!("CARGO_PKG_VERSION");
            let text = format!("sandcrab {version} ({})\n", Platform::host());
            streams::write_data(text.as_bytes())?;
        }
    }
    Ok(0)
}

fn open(global: &Global, environment: &Environment) -> Result<Store> {
    Store::open(&global.settings(environment, None, None)?.root)
}

/// Collects a command's data and prints it in one piece, so that an error comes with none of it.
fn print(work: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let mut data = Vec::new();
    let result = work(&mut data);
    streams::write_data(&data)?;
    result
}

fn pull_images(args: &pull::Args, global: &Global, environment: &Environment) -> Result<()> {
    let settings = global.settings(environment, Some(args.registry()), None)?;
    let desk = Desk::start(settings, IsolationChoice::Auto)?;
    let session = desk.store()?.session()?;
    let client = registries::client(&desk.settings, environment, &desk.cancel);
    let mode = mode(args.quiet, environment)?;
    let pulled = desk.show("Pulling", mode, environment, |progress| {
        pull::run(args, &client, &session, progress)
    })?;
    for id in pulled? {
        streams::write_data(format!("{id}\n").as_bytes())?;
    }
    Ok(())
}

fn push_image(args: &push::Args, global: &Global, environment: &Environment) -> Result<()> {
    let settings = global.settings(environment, Some(args.registry()), None)?;
    let desk = Desk::start(settings, IsolationChoice::Auto)?;
    let session = desk.store()?.session()?;
    let client = registries::client(&desk.settings, environment, &desk.cancel);
    let mode = mode(args.quiet, environment)?;
    let pushed = desk.show("Pushing", mode, environment, |progress| {
        push::run(args, &client, &session, progress, &desk.cancel)
    })?;
    streams::write_data(format!("{}\n", pushed?).as_bytes())
}

fn save_images(args: &save::Args, global: &Global, environment: &Environment) -> Result<()> {
    let settings = global.settings(environment, Some(&args.registry), None)?;
    let store = Store::open(&settings.root)?;
    let session = match store.session() {
        Err(error) if error.is_read_only() => {
            let session = Session::reading(&store, &settings.temp_dir)?;
            if save::is_complete(args, &session)? {
                return save::run(args, &session, io::stdout().as_fd());
            }
            return Err(error);
        }
        other => other?,
    };
    if save::is_complete(args, &session)? {
        return save::run(args, &session, io::stdout().as_fd());
    }
    let desk = Desk::start(settings, IsolationChoice::Auto)?;
    let client = registries::client(&desk.settings, environment, &desk.cancel);
    desk.show("Fetching", Mode::Quiet, environment, |progress| {
        let fetcher = Fetcher::new(&session, &client, progress, &desk.cancel);
        save::complete(args, &session, &fetcher)
    })??;
    save::run(args, &session, io::stdout().as_fd())
}

fn mode(quiet: bool, environment: &Environment) -> Result<Mode> {
    if quiet {
        return Ok(Mode::Quiet);
    }
    let wanted = environment.progress()?.unwrap_or(Mode::Auto);
    Ok(streams::settle(wanted, environment))
}

fn count_store(args: &df::Args, global: &Global, environment: &Environment) -> Result<()> {
    let settings = global.settings(environment, None, None)?;
    let mut desk = Desk::start(settings, IsolationChoice::Auto)?;
    let store = desk.store()?;
    // Where there are no ids to be had, what the caller can read has to do.
    let worker = desk.worker().ok();
    let measurer = |paths: &[PathBuf]| match &worker {
        Some(worker) => desk::measure(worker, paths),
        None => Ok(paths.iter().map(|path| measure::tree(path)).collect()),
    };
    print(|out| df::run(args, &store, &measurer, out))
}

fn prune_store(args: &prune::Args, global: &Global, environment: &Environment) -> Result<()> {
    let mut desk = Desk::start(
        global.settings(environment, None, None)?,
        IsolationChoice::Auto,
    )?;
    let store = desk.store()?;
    let worker = desk.worker()?;
    let mut answers = io::BufReader::new(Input::standard(&desk.cancel)?);
    let terminal = prune::Terminal {
        out: &mut io::stdout(),
        notes: &mut io::stderr(),
        answers: if io::stdin().is_terminal() {
            Some(&mut answers)
        } else {
            None
        },
    };
    prune::run(
        args,
        &store,
        Hands {
            remover: &|paths| desk::remove(&worker, paths),
            measurer: &|paths| desk::measure(&worker, paths),
        },
        terminal,
    )
    .map_err(|e: Error| desk.cancel.settle(e.during("prune the store")))
}
