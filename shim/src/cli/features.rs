//! `features`: what this runtime understands.

use runtime::oci_features;

use super::args::Stop;
use super::output;
use super::verb::Verb;

/// The verb.
pub(crate) const VERB: Verb = Verb {
    name: "features",
    usage: "",
    about: "show what is understood of the specification",
    details: "Prints the specification's features document. It says what this program can do, not\n\
              what the host's kernel can.",
    flags: &[],
    arguments: (0, 0),
    stop: Stop::Never,
    enters: false,
    run: |_context, _matches| {
        let document = oci_features::document(env!("CARGO_PKG_VERSION"));
        output::print_line(output::pretty(&document, b"  ")?)?;
        Ok(0)
    },
};
