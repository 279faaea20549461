//! `sandcrab-oci`: the OCI command line over the runtime.
//!
//! The place is kept, so that the workspace's shape is fixed; every call is refused by name until
//! the verbs are there.

use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    // A closed standard error changes nothing about the refusal.
    drop(writeln!(
        std::io::stderr(),
        "error: sandcrab-oci has no commands yet\nhint: `sandcrab` builds and runs images"
    ));
    ExitCode::FAILURE
}
