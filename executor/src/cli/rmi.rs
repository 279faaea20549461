//! `sandcrab rmi`: takes names away, and images with their last name.
//!
//! The space comes back with `sandcrab prune`, since layers may be part of other images and of the
//! cache.

use std::io::Write;

use super::table::write;
use crate::error::{Error, Kind, Result};
use crate::store::Store;
use crate::store::images::familiar;

/// Arguments of `rmi`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Names or ids of images
    #[arg(value_name = "IMAGE", required = true)]
    pub(super) images: Vec<String>,
    /// Remove an image by id although it has several names, and ignore images that don't exist
    #[arg(short, long)]
    pub(super) force: bool,
}

/// Runs the command; what was removed goes to `out`.
///
/// # Errors
/// All that there were, in one, after all images were tried.
pub(super) fn run(args: &Args, store: &Store, out: &mut dyn Write) -> Result<()> {
    let mut failed = Vec::new();
    for text in &args.images {
        match store.images().remove(text, args.force) {
            Ok(removed) => {
                let mut report = String::new();
                for name in familiar(&removed.untagged) {
                    report += &format!("Untagged: {name}\n");
                }
                if let Some(id) = removed.deleted {
                    report += &format!("Deleted: {id}\n");
                }
                write(out, report.as_bytes())?;
            }
            Err(e) if args.force && e.get_kind() == Kind::NotFound => {}
            Err(e) => failed.push(e),
        }
    }
    let texts: Vec<String> = failed.iter().map(Error::chain).collect();
    match failed.pop() {
        None => Ok(()),
        Some(only) if failed.is_empty() => Err(only),
        Some(last) => Err(Error::new(texts.join("; ")).kind(last.get_kind())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::fixture;

    fn remove(store: &Store, images: &[&str], force: bool) -> (String, Result<()>) {
        let args = Args {
            images: images.iter().map(|&i| i.to_owned()).collect(),
            force,
        };
        let mut out = Vec::new();
        let result = run(&args, store, &mut out);
        (String::from_utf8(out).expect("text"), result)
    }

    #[test]
    fn says_what_it_did_and_goes_on_after_errors() {
        let (_dir, session) = fixture::session();
        let image = fixture::image(&session, &["a"], &["app:1", "app:2"]);
        let store = session.store();
        let (text, result) = remove(store, &["nothing", "app:1", "app:2"], false);
        let id = image.config_digest;
        let wanted = format!("Untagged: app:1\nUntagged: app:2\nDeleted: {id}\n");
        assert_eq!(text, wanted);
        assert_eq!(result.expect_err("missing").get_kind(), Kind::NotFound);
        let error = remove(store, &["this", "that"], false).1;
        let error = error.expect_err("missing").to_string();
        assert!(error.contains("this") && error.contains("that"), "{error}");
        remove(store, &["nothing"], true).1.expect("forced");
    }
}
