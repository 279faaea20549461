//! Questions about a Dockerfile: `--check` and `--call`, which build nothing.
//!
//! Responsible for the options, for reading the Dockerfile without a store, and for the answers as
//! buildx gives them, as text and as JSON. Must not judge a Dockerfile. Invariant: what asks
//! changes nothing: no store is made, nothing is fetched but the context that was named.

use std::mem::ManuallyDrop;

use super::answers;
use super::building;
use super::environment::Environment;
use super::exit::{Failure, Source};
use super::input::Input;
use super::ssh::Started;
use super::streams;
use crate::build::mounts::secrets::Secrets;
use crate::cancel::Cancel;
use crate::context::location::{DockerfileLocation, Location};
use crate::context::{self, Context, DockerfileText, OpenRequest};
use crate::diagnostics::{self, Diagnostic, Severity};
use crate::dockerfile::suggest;
use crate::error::{Error, Kind, Result, ResultExt};
use crate::plan::{Extents, survey};

/// The part of `build`'s command line that is about questions.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Questions")]
pub(super) struct RequestArgs {
    /// Check the Dockerfile and build nothing; the same as --call=check
    #[arg(long)]
    check: bool,

    /// Answer a question and build nothing: check, outline or targets; `,format=json` for programs
    #[arg(long, value_name = "QUESTION")]
    call: Option<String>,
}

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Question {
    /// What the build checks find.
    Check,
    /// Which arguments, secrets and the like the target takes.
    Outline,
    /// Which stages there are.
    Targets,
}

/// A question and the form of its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Call {
    /// What is asked.
    pub question: Question,
    /// Whether the answer is JSON.
    pub json: bool,
    /// Whether findings leave the exit code at 0.
    pub ignore_status: bool,
}

impl RequestArgs {
    /// Works out what is asked, if anything is.
    ///
    /// # Errors
    /// [`Kind::Usage`], naming what is wrong.
    pub(super) fn call(&self) -> Result<Option<Call>> {
        let text = match (&self.call, self.check) {
            (Some(_), true) => {
                return Err(usage("--check and --call ask two questions").hint("leave one out"));
            }
            (Some(text), false) => text.as_str(),
            (None, true) => "check",
            (None, false) => return Ok(None),
        };
        let mut parts = text.split(',');
        let name = parts.next().unwrap_or_default();
        let question = match name {
            "build" => None,
            "check" | "lint" | "frontend.lint" => Some(Question::Check),
            "outline" | "frontend.outline" => Some(Question::Outline),
            "targets" | "frontend.targets" => Some(Question::Targets),
            other => {
                let known = ["check", "lint", "outline", "targets", "build"];
                let hint = suggest::hint(other, known)
                    .unwrap_or_else(|| "it is one of check, outline and targets".into());
                return Err(usage(format!("--call can't be `{other}`")).hint(hint));
            }
        };
        let (mut json, mut ignore_status) = (false, false);
        for part in parts {
            match part.split_once('=').unwrap_or((part, "true")) {
                ("format", "json") => json = true,
                ("format", "text") => json = false,
                ("ignorestatus", "true" | "1") => ignore_status = true,
                ("ignorestatus", "false" | "0") => ignore_status = false,
                _ => {
                    return Err(usage(format!("--call has no option `{part}`"))
                        .hint("it has format=json and ignorestatus=true"));
                }
            }
        }
        Ok(question.map(|question| Call {
            question,
            json,
            ignore_status,
        }))
    }
}

fn usage(text: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(text).kind(Kind::Usage)
}

/// Answers and returns the exit code.
pub(super) fn run(
    call: Call,
    request: &super::build::Request,
    environment: &Environment,
) -> Result<u8, Failure> {
    let tmp = tempfile::tempdir().op("make a temporary directory")?;
    let cancel = Cancel::new();
    // What is here is read without anybody's secrets.
    let is_here = matches!(request.context, Location::Directory(_) | Location::Stdin)
        && !matches!(request.dockerfile, DockerfileLocation::Url(_));
    let (secrets, ssh) = if is_here {
        (Secrets::default(), Started::default())
    } else {
        let mut numbers = 0..;
        let fresh = || tmp.path().join(format!("keys{:?}", numbers.next()));
        (
            request.secrets.read(environment)?,
            request.ssh.start(fresh)?,
        )
    };
    let access = building::access(request, environment, &secrets, &ssh.agents, &cancel);
    let (context, DockerfileText { name, bytes, .. }) = context::open(OpenRequest {
        location: &request.context,
        dockerfile: &request.dockerfile,
        stdin: &mut Input::standard(&cancel)?,
        tmp: tmp.path(),
        access: &access,
    })?;
    let source = Source { name, text: bytes };
    // The process ends with the answer: taking the trees apart would only make it wait.
    let parsed = ManuallyDrop::new(building::parse(request, &source.text));
    let options = building::options(request);
    let extents = match call.question {
        Question::Check => Extents::All,
        Question::Outline | Question::Targets => Extents::Target,
    };
    let mut found = ManuallyDrop::new(survey(&parsed, &options, extents, &|path| {
        excludes(&context, path)
    }));
    let warnings = std::mem::take(&mut found.warnings);
    let answer = match call.question {
        Question::Check => answers::check(&source, &parsed.file, &found, &warnings, call.json),
        Question::Outline => answers::outline(&source, &parsed.file, &found, call.json),
        Question::Targets => answers::targets(&source, &parsed.file, call.json),
    };
    let error = found.error();
    let findings = call.question == Question::Check && warnings.iter().any(|w| w.rule.is_some());
    if error.is_none() || call.json || findings {
        streams::write_data(answer?.as_bytes())?;
    }
    if call.question == Question::Check && !call.json {
        // Findings that are no build check have no place in BuildKit's answer.
        let others: Vec<Diagnostic> = warnings
            .iter()
            .filter(|w| w.rule.is_none() && w.severity == Severity::Warning)
            .cloned()
            .collect();
        let colour = streams::colour(environment);
        streams::complain(&diagnostics::render(
            &others,
            &source.name,
            &source.text,
            colour,
            streams::columns(),
        ));
    }
    if let Some(error) = error {
        return Err(Failure {
            error,
            source: Some(source),
        });
    }
    Ok(u8::from(findings && !call.ignore_status))
}

/// Tells whether the context's ignore file leaves out a source of COPY.
pub(super) fn excludes(context: &Context, path: &str) -> bool {
    context.excludes(std::path::Path::new(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(check: bool, call: Option<&str>) -> Result<Option<Call>> {
        RequestArgs {
            check,
            call: call.map(str::to_owned),
        }
        .call()
    }

    #[test]
    fn questions() {
        let question = |text| call(false, Some(text)).map(|c| c.map(|c| (c.question, c.json)));
        assert_eq!(call(false, None).expect("none"), None);
        assert_eq!(question("build").expect("valid"), None);
        assert_eq!(
            question("lint,format=json").expect("valid"),
            Some((Question::Check, true))
        );
        assert_eq!(
            question("targets").expect("valid"),
            Some((Question::Targets, false))
        );
        for (text, hint) in [
            ("target", "did you mean `targets`?"),
            ("x", "it is one of check, outline and targets"),
            (
                "check,fromat=json",
                "it has format=json and ignorestatus=true",
            ),
        ] {
            let error = question(text).expect_err(text);
            assert_eq!(error.get_kind(), Kind::Usage);
            assert_eq!(error.hints(), [hint]);
        }
        assert!(call(true, Some("check")).is_err());
        let ignored = call(false, Some("check,ignorestatus=true")).expect("valid");
        assert!(ignored.is_some_and(|c| c.ignore_status));
    }
}
