//! The date of a result: `SOURCE_DATE_EPOCH`, by whatever way it is given.
//!
//! Responsible for there being one at most, and for refusing what wants another. Must not apply it.
//! Invariant: what is given for this build wins over a Dockerfile's default.

use std::borrow::Cow;

use super::build::Request;
use super::building;
use crate::diagnostics::Diagnostic;
use crate::error::{Error, Kind, Result};
use crate::output::options::Output;
use crate::plan::{self, platform::SOURCE_DATE_EPOCH};

fn usage(text: impl Into<Cow<'static, str>>) -> Error {
    Error::new(text).kind(Kind::Usage)
}

/// Reads a number of seconds.
fn seconds(value: &str) -> Result<i64, String> {
    let number: Result<u32, _> = value.parse();
    number
        .map(i64::from)
        .map_err(|_| format!("{SOURCE_DATE_EPOCH} is not a number of seconds: `{value}`"))
}

/// Returns the build argument, which comes from the environment, too.
///
/// # Errors
/// [`Kind::Usage`] when it is not a number of seconds.
pub(super) fn epoch(build_args: &[(String, String)]) -> Result<Option<i64>> {
    let given = build_args.iter().find(|(n, _)| n == SOURCE_DATE_EPOCH);
    let Some((_, value)) = given.filter(|(_, value)| !value.is_empty()) else {
        return Ok(None);
    };
    seconds(value).map(Some).map_err(usage)
}

/// Returns the date that the command line gives: `--timestamp`, the build argument, or outputs.
///
/// # Errors
/// [`Kind::Usage`] when they name different ones.
pub(super) fn given(
    timestamp: Option<i64>,
    epoch: Option<i64>,
    outputs: &[Output],
) -> Result<Option<i64>> {
    if let (Some(_), Some(epoch)) = (timestamp, epoch) {
        return Err(usage(format!(
            "--timestamp and {SOURCE_DATE_EPOCH}={epoch} are two dates"
        ))
        .hint("leave one out"));
    }
    let mut date = timestamp.or(epoch);
    for given in outputs.iter().filter_map(|o| o.epoch) {
        if let Some(other) = date.filter(|other| *other != given) {
            return Err(usage(format!(
                "a build has one date, not both {other} and source-date-epoch={given}"
            )));
        }
        date = Some(given);
    }
    Ok(date)
}

/// Returns the date once the Dockerfile is known, whose global scope may have a default.
///
/// # Errors
/// A default that is not a number of seconds; [`Kind::Usage`] for options that the date contradicts.
pub(super) fn settle(request: &Request, text: &[u8]) -> Result<Option<i64>> {
    let date = match request.epoch {
        Some(date) => Some(date),
        None => default(request, text)?,
    };
    check(date, request.result.rewrite_timestamp, &request.outputs)?;
    Ok(date)
}

fn default(request: &Request, text: &[u8]) -> Result<Option<i64>> {
    // Few have one, and reading the Dockerfile once more takes its time.
    let name = SOURCE_DATE_EPOCH.as_bytes();
    if !text.windows(name.len()).any(|part| part == name) {
        return Ok(None);
    }
    let file = building::parse(request, text).file;
    let options = building::options(request);
    let Some((value, span)) = plan::global(&file, &options, SOURCE_DATE_EPOCH) else {
        return Ok(None);
    };
    if value.is_empty() {
        return Ok(None);
    }
    seconds(&value).map(Some).map_err(|message| {
        let finding = Diagnostic::error(span, message).hint("it counts from 1970");
        Error::with_diagnostics("invalid Dockerfile", vec![finding])
    })
}

/// Refuses what a date alone makes possible, and what it rules out.
fn check(date: Option<i64>, rewrite: bool, outputs: &[Output]) -> Result<()> {
    if rewrite && date.is_none() {
        return Err(usage("--rewrite-timestamp needs a date")
            .hint("set SOURCE_DATE_EPOCH, or use --timestamp SECONDS"));
    }
    for rewrite in outputs.iter().filter_map(|o| o.rewrite_timestamp) {
        match (rewrite, date) {
            (true, None) => {
                return Err(usage("rewrite-timestamp=true needs a date")
                    .hint("set SOURCE_DATE_EPOCH, or add source-date-epoch=SECONDS"));
            }
            (false, Some(_)) => {
                return Err(usage(
                    "rewrite-timestamp=false: with SOURCE_DATE_EPOCH no file of a new layer has a later date",
                ));
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::options;

    #[test]
    fn there_is_one_date() {
        let of = |epoch, output: &str| {
            let outputs = [options::parse(output).expect("output")];
            let date = given(None, epoch, &outputs)?;
            check(date, false, &outputs).map(|()| date)
        };
        assert_eq!(of(None, "type=image").expect("none"), None);
        let given = "type=oci,source-date-epoch=5,rewrite-timestamp=true";
        assert_eq!(of(None, given).expect("output's"), Some(5));
        assert_eq!(of(Some(5), given).expect("the same"), Some(5));
        assert!(of(Some(6), given).is_err());
        assert!(of(None, "type=oci,rewrite-timestamp=true").is_err());
        assert!(of(Some(1), "type=oci,rewrite-timestamp=false").is_err());
        assert_eq!(
            of(None, "type=oci,rewrite-timestamp=false").ok(),
            Some(None)
        );
    }

    #[test]
    fn a_timestamp_is_a_date() {
        assert_eq!(given(Some(5), None, &[]).expect("date"), Some(5));
        assert_eq!(given(None, Some(6), &[]).expect("date"), Some(6));
        assert!(given(Some(5), Some(5), &[]).is_err());
        assert!(check(Some(5), true, &[]).is_ok());
        assert!(check(None, true, &[]).is_err());
    }
}
