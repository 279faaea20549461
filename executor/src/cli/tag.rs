//! `sandcrab tag`: gives an image another name.

use crate::error::{Kind, Result};
use crate::image::reference::Reference;
use crate::store::Store;

/// Arguments of `tag`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Name or id of an image
    #[arg(value_name = "IMAGE")]
    pub(super) source: String,
    /// The new name, which another image loses
    #[arg(value_name = "NAME")]
    pub(super) target: String,
}

/// Runs the command.
///
/// # Errors
/// When the image does not exist or the name is not valid.
pub(super) fn run(args: &Args, store: &Store) -> Result<()> {
    let name: Reference = args
        .target
        .parse()
        .map_err(|e: crate::error::Error| e.kind(Kind::Usage))?;
    // A collector must not take the image between finding and naming it.
    let session = store.session()?;
    let images = session.store().images();
    images.set_name(&name, &images.find(&args.source)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::fixture;

    #[test]
    fn names_an_image() {
        let (_dir, session) = fixture::session();
        let image = fixture::image(&session, &["a"], &[]);
        let tag = |source: String, target: &str| {
            let target = target.to_owned();
            run(&Args { source, target }, session.store())
        };
        tag(image.config_digest.hex(), "app").expect("tag");
        tag("app".into(), "quay.io/x/app:2").expect("tag");
        let found = session.store().images().get("app").expect("get");
        assert_eq!(found.names.len(), 2);
        for target in ["UPPER", &format!("app@{}", image.config_digest)] {
            let error = tag("app".into(), target).expect_err(target);
            assert_eq!(error.get_kind(), Kind::Usage);
        }
        assert!(tag("nothing".into(), "x").is_err());
    }
}
