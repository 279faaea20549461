//! `sandcrab load`: reads images from an archive.

use std::fs::File;
use std::io::{Read, Write};
use std::path::PathBuf;

use super::table::write;
use crate::cancel::Cancel;
use crate::error::{Error, Kind, Result, ResultExt};
use crate::store::Store;
use crate::store::import;

/// Arguments of `load`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// File to read; standard input without it
    #[arg(short, long, value_name = "FILE")]
    pub(super) input: Option<PathBuf>,
    /// Print ids only
    #[arg(short, long)]
    pub(super) quiet: bool,
}

/// Runs the command; what was loaded goes to `out`. `stdin` is read when no file is named, and is
/// `None` when it is a terminal.
///
/// # Errors
/// When it is not an image archive or a damaged one; nothing is added then.
pub(super) fn run(
    args: &Args,
    store: &Store,
    stdin: Option<&mut (dyn Read + Send)>,
    cancel: &Cancel,
    out: &mut dyn Write,
) -> Result<()> {
    let session = store.session()?;
    let loaded = match &args.input {
        Some(path) if path.as_os_str() != "-" => {
            let file = File::open(path).op_path("open archive", path)?;
            import::load(&session, file, cancel)
                .map_err(|e| e.during(format!("load `{}`", path.display())))?
        }
        _ => {
            let stdin = stdin.ok_or_else(|| {
                Error::new("no archive to load")
                    .kind(Kind::Usage)
                    .hint("name a file with -i, or redirect standard input")
            })?;
            import::load(&session, stdin, cancel)?
        }
    };
    let mut text = String::new();
    for image in loaded {
        if args.quiet {
            text += &format!("{}\n", image.id);
        } else if image.names.is_empty() {
            text += &format!("Loaded image ID: {}\n", image.id);
        }
        for name in image.names.iter().filter(|_| !args.quiet) {
            text += &format!("Loaded image: {}\n", name.familiar());
        }
    }
    write(out, text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{RegistryArgs, save};
    use crate::store::fixture;
    use std::os::fd::AsFd;

    #[test]
    fn reads_what_save_writes() {
        let (dir, session) = fixture::session();
        let image = fixture::image(&session, &["a"], &["app:1", "app:2"]);
        let path = dir.path().join("x.tar");
        let null = File::open("/dev/null").expect("null");
        for format in [save::Format::DockerArchive, save::Format::OciArchive] {
            for (images, wanted) in [
                (vec!["app:1".to_owned()], "Loaded image: app:1\n".to_owned()),
                (
                    vec!["app:2".to_owned(), "app:1".into()],
                    "Loaded image: app:2\nLoaded image: app:1\n".into(),
                ),
                (
                    vec![image.config_digest.hex()],
                    format!("Loaded image ID: {}\n", image.config_digest),
                ),
            ] {
                let save_args = save::Args {
                    images,
                    output: Some(path.clone()),
                    format,
                    registry: RegistryArgs::default(),
                };
                save::run(&save_args, &session, null.as_fd()).expect("save");
                let (_dir, other) = fixture::session();
                let mut out = Vec::new();
                let args = Args {
                    input: Some(path.clone()),
                    quiet: false,
                };
                run(&args, other.store(), None, &Cancel::new(), &mut out).expect("load");
                assert_eq!(String::from_utf8(out).expect("text"), wanted);
            }
        }
    }

    #[test]
    fn a_terminal_is_no_archive() {
        let (_dir, session) = fixture::session();
        let args = Args {
            input: None,
            quiet: false,
        };
        let error = run(
            &args,
            session.store(),
            None,
            &Cancel::new(),
            &mut Vec::new(),
        );
        assert_eq!(error.expect_err("terminal").get_kind(), Kind::Usage);
    }
}
