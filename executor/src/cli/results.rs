//! `build`'s options about the result: annotations and dates.
//!
//! Responsible for what they mean for all outputs together. Must not make outputs. Invariant: what
//! has no place in the result is an error, not left out.

use super::dates;
use crate::dockerfile::ast::Dockerfile;
use crate::dockerfile::suggest;
use crate::error::{Error, Kind, Result};
use crate::image::annotations::{Annotations, Level};
use crate::image::platform::Platform;
use crate::output::options::{Output, Target};

/// The part of `build`'s command line that is about the result.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Result")]
pub(super) struct ResultArgs {
    /// Annotate the image; TYPE is manifest, index, manifest-descriptor or index-descriptor, and may
    /// have a platform in brackets
    #[arg(long = "annotation", value_name = "[TYPE:]KEY=VALUE")]
    annotations: Vec<String>,

    /// Make one layer of all, those of the base image too
    #[arg(long)]
    squash: bool,

    /// Leave the history out of the image
    #[arg(long)]
    omit_history: bool,

    /// Leave extended attributes `user.*` out of new layers, as BuildKit does
    #[arg(long)]
    no_user_xattrs: bool,

    /// Date of the image in seconds since 1970, and the latest one of files in new layers; the same
    /// as SOURCE_DATE_EPOCH, except that steps don't see it
    #[arg(long, value_name = "SECONDS")]
    timestamp: Option<u32>,

    /// Give files in new layers no later date than SOURCE_DATE_EPOCH, which they have in any case
    #[arg(long)]
    rewrite_timestamp: bool,

    /// Run the steps of some stages again, whatever the cache has; with commas between
    #[arg(long, value_name = "STAGE", value_delimiter = ',')]
    no_cache_filter: Vec<String>,
}

/// What holds for the result besides outputs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ResultOptions {
    /// Whether all layers become one.
    pub squash: bool,
    /// Whether the config has no history.
    pub omit_history: bool,
    /// Whether new layers are without attributes `user.*`.
    pub without_user: bool,
    /// Whether there has to be a date for the files of new layers.
    pub rewrite_timestamp: bool,
    /// Stages whose steps are run again, by name in lower case.
    pub no_cache_filter: Vec<String>,
}

impl ResultOptions {
    /// Refuses stages that a Dockerfile has not.
    ///
    /// # Errors
    /// [`Kind::Usage`], naming the stage.
    pub(super) fn check_stages(&self, file: &Dockerfile) -> Result<()> {
        let names = || file.stages.iter().filter_map(|s| s.name.as_deref());
        for wanted in &self.no_cache_filter {
            if !names().any(|name| name == wanted) {
                let error = usage(format!("--no-cache-filter: there is no stage `{wanted}`"));
                return Err(match suggest::hint(wanted, names()) {
                    Some(hint) => error.hint(hint),
                    None => error,
                });
            }
        }
        Ok(())
    }
}

fn usage(text: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(text).kind(Kind::Usage)
}

impl ResultArgs {
    /// Returns what concerns no output.
    ///
    /// # Errors
    /// [`Kind::Usage`] for a stage without a name.
    pub(super) fn options(&self) -> Result<ResultOptions> {
        if self.no_cache_filter.iter().any(String::is_empty) {
            return Err(usage("--no-cache-filter with an empty name of a stage"));
        }
        Ok(ResultOptions {
            squash: self.squash,
            omit_history: self.omit_history,
            without_user: self.no_user_xattrs,
            rewrite_timestamp: self.rewrite_timestamp,
            no_cache_filter: self
                .no_cache_filter
                .iter()
                .map(|n| n.to_lowercase())
                .collect(),
        })
    }

    /// Returns the date that the command line gives the result.
    ///
    /// # Errors
    /// [`Kind::Usage`] when there are several.
    pub(super) fn date(&self, epoch: Option<i64>, outputs: &[Output]) -> Result<Option<i64>> {
        dates::given(self.timestamp.map(i64::from), epoch, outputs)
    }

    /// Returns the annotations of the image wherever it goes, after giving them to all outputs.
    ///
    /// # Errors
    /// [`Kind::Usage`] for one that is malformed or has no place.
    pub(super) fn annotate(
        &self,
        outputs: &mut [Output],
        platforms: &[Platform],
        index: bool,
    ) -> Result<Annotations> {
        let mut all = Annotations::default();
        for text in &self.annotations {
            all = Annotations::of_flag(text)?.after(&all);
        }
        let layout = |o: &Output| matches!(o.target, Target::Archive { .. });
        let in_layout = outputs.iter().any(layout);
        placed(&all, platforms, index, in_layout)?;
        for output in outputs.iter_mut() {
            placed(&output.form.annotations, platforms, index, layout(output))?;
            if matches!(output.target, Target::Image(_) | Target::Archive { .. }) {
                output.form.annotations = output.form.annotations.after(&all);
                if !output.form.oci_media_types && !all.is_empty() {
                    return Err(usage(
                        "annotations with oci-mediatypes=false: Docker's manifests have none",
                    ));
                }
            }
        }
        Ok(all)
    }
}

/// Refuses annotations of documents that the result has not.
fn placed(
    annotations: &Annotations,
    platforms: &[Platform],
    index: bool,
    in_layout: bool,
) -> Result<()> {
    for annotation in annotations.iter() {
        let key = &annotation.key;
        let wrong = match annotation.level {
            Level::Index | Level::IndexDescriptor if !index => {
                return Err(usage(format!(
                    "annotation `{key}` is for an index, and the result is a single image"
                ))
                .hint(
                    "several platforms, attestations, or BUILDKIT_MULTI_PLATFORM=1 make an index",
                ));
            }
            Level::IndexDescriptor => !in_layout,
            Level::ManifestDescriptor => !index && !in_layout,
            Level::Index | Level::Manifest => false,
        };
        if wrong {
            return Err(usage(format!(
                "annotation `{key}` is for what points to the image, which only an archive has here"
            ))
            .hint("use type=oci"));
        }
        if let Some(platform) = &annotation.platform
            && !platforms.iter().any(|p| platform.accepts(p))
        {
            return Err(usage(format!(
                "annotation `{key}` is for {platform}, which is not built"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::options;

    fn annotate(flags: &[&str], output: &str, platforms: &[&str]) -> Result<Vec<Output>> {
        let args = ResultArgs {
            annotations: flags.iter().map(|&f| f.to_owned()).collect(),
            ..ResultArgs::default()
        };
        let mut outputs = vec![options::parse(output)?];
        let platforms: Vec<Platform> = platforms
            .iter()
            .map(|p| p.parse().expect("platform"))
            .collect();
        args.annotate(&mut outputs, &platforms, platforms.len() > 1)?;
        Ok(outputs)
    }

    #[test]
    fn annotations_reach_all_outputs() {
        let one: Platform = "linux/amd64".parse().expect("platform");
        let outputs = annotate(
            &["a=1", "b=2"],
            "type=oci,dest=x,annotation.a=3",
            &["linux/amd64"],
        );
        let outputs = outputs.expect("annotated");
        let got = outputs[0].form.annotations.on(Level::Manifest, &one);
        assert_eq!((got["a"].as_str(), got["b"].as_str()), ("3", "2"));
        let files = annotate(&["a=1"], "type=local,dest=x", &["linux/amd64"]).expect("files");
        assert!(files[0].form.annotations.is_empty());
    }

    #[test]
    fn what_has_no_place_is_refused() {
        let both = &["linux/amd64", "linux/arm64"][..];
        for (flag, output, platforms, wanted) in [
            ("index:a=1", "type=image", &both[..1], Some("single image")),
            ("index:a=1", "type=image", both, None),
            (
                "index-descriptor:a=1",
                "type=image",
                both,
                Some("only an archive"),
            ),
            ("index-descriptor:a=1", "type=oci,dest=x", both, None),
            (
                "manifest-descriptor:a=1",
                "type=image",
                &both[..1],
                Some("only an archive"),
            ),
            ("manifest-descriptor:a=1", "type=image", both, None),
            (
                "manifest-descriptor:a=1",
                "type=oci,dest=x",
                &both[..1],
                None,
            ),
            (
                "manifest[linux/s390x]:a=1",
                "type=image",
                both,
                Some("linux/s390x"),
            ),
            (
                "a=1",
                "type=image,oci-mediatypes=false",
                both,
                Some("Docker's"),
            ),
        ] {
            match (annotate(&[flag], output, platforms), wanted) {
                (Ok(_), None) => {}
                (Err(error), Some(wanted)) => {
                    assert!(error.to_string().contains(wanted), "{flag}: {error}");
                }
                (other, _) => panic!("{flag} {output}: {other:?}"),
            }
        }
    }
}
