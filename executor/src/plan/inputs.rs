//! What FROM and the build arguments deserve attention for.
//!
//! Responsible for the build checks of FROM and for build arguments that nothing uses. Must not
//! find errors: what stops a build is for [`super::stages`] to say.

use std::collections::BTreeSet;

use super::platform::{Control, SOURCE_DATE_EPOCH, control, is_proxy, predefined};
use super::scope::Variables;
use super::stages::Resolver;
use crate::diagnostics::Diagnostic;
use crate::dockerfile::ast::{Kind, Stage};
use crate::dockerfile::suggest;
use crate::dockerfile::words::{Expander, Mode};
use crate::image::platform::Platform;
use crate::image::reference::Reference;

const TARGET: &str = "TARGETPLATFORM";

impl Resolver<'_> {
    /// Runs the build checks that are about FROM, for every stage.
    pub(super) fn check_froms(&mut self) {
        let defaults = self.defaults();
        for stage in &self.file.stages {
            if let Some(defaults) = &defaults {
                self.check_default(stage, defaults);
            }
            self.check_platform_flag(stage);
        }
    }

    fn expand_with(&self, word: &str, variables: &Variables) -> Option<String> {
        let expander = Expander {
            escape: self.file.escape,
            mode: Mode::Plain,
            lookup: &|name| variables.get(name).map(str::to_owned),
        };
        expander.expand(word).ok().map(|expansion| expansion.text)
    }

    /// Returns the global scope as it were without build arguments.
    fn defaults(&self) -> Option<Variables> {
        let mut variables = Variables::default();
        let target = self.options.target.as_deref();
        for (name, value) in
            predefined(&self.options.platform, &self.options.build_platform, target)
        {
            variables.set(name, &value);
        }
        for instruction in &self.file.globals {
            let Kind::Arg(pairs) = &instruction.kind else {
                continue;
            };
            for pair in pairs {
                if let Some(default) = &pair.value {
                    let value = self.expand_with(default.as_str(), &variables)?;
                    variables.set(pair.name.as_str(), &value);
                }
            }
        }
        Some(variables)
    }

    /// InvalidDefaultArgInFrom.
    fn check_default(&mut self, stage: &Stage, defaults: &Variables) {
        let written = stage.base.as_str();
        let Some(name) = self.expand_with(written, defaults) else {
            return;
        };
        if name.parse::<Reference>().is_err() {
            self.warnings.push(Diagnostic::warning(
                Some("InvalidDefaultArgInFrom"),
                stage.base.span(),
                format!(
                    "Default value for ARG {written} results in empty or invalid base image name"
                ),
            ));
        }
    }

    /// RedundantTargetPlatform, FromPlatformFlagConstDisallowed.
    fn check_platform_flag(&mut self, stage: &Stage) {
        let Some(flag) = &stage.platform else {
            return;
        };
        let written = flag.as_str();
        let Some(value) = self.expand_with(written, &self.globals) else {
            return;
        };
        if written.matches('$').count() == 1
            && written.contains(TARGET)
            && self.globals.get(TARGET) == Some(&value)
        {
            self.warnings.push(
                Diagnostic::warning(
                    Some("RedundantTargetPlatform"),
                    flag.span(),
                    format!(
                        "Setting platform to predefined {written} in FROM is redundant as this \
                         is the default behavior"
                    ),
                )
                .hint("leave `--platform` out"),
            );
        }
        let name = stage.name.as_deref().unwrap_or_default();
        if let Ok(platform) = value.parse::<Platform>()
            && !written.contains('$')
            && !name.contains(&platform.os)
            && !name.contains(&platform.architecture)
        {
            self.warnings.push(Diagnostic::warning(
                Some("FromPlatformFlagConstDisallowed"),
                flag.span(),
                format!("FROM --platform flag should not use constant value \"{value}\""),
            ));
        }
    }

    /// Warns of build arguments that nothing uses, and of those that mean nothing here.
    pub(super) fn warn_args(&mut self) {
        let file = self.file;
        let declared: BTreeSet<&str> = file
            .globals
            .iter()
            .chain(file.stages.iter().flat_map(|s| s.instructions.iter()))
            .filter_map(|i| match &i.kind {
                Kind::Arg(pairs) => Some(pairs),
                _ => None,
            })
            .flatten()
            .map(|p| p.name.as_str())
            .collect();
        let unused: Vec<&str> = self
            .build_args
            .keys()
            .map(String::as_str)
            .filter(|name| !declared.contains(name) && !is_proxy(name))
            .filter(|name| *name != SOURCE_DATE_EPOCH && control(name).is_none())
            .filter(|name| self.globals.get(name).is_none())
            .collect();
        if !unused.is_empty() {
            let mut warning = Diagnostic::warning(
                None,
                0..0,
                format!(
                    "one or more build-args [{}] were not consumed",
                    unused.join(" ")
                ),
            );
            warning.hint = unused
                .iter()
                .find_map(|name| suggest::hint(name, declared.iter().copied()));
            self.warnings.push(warning);
        }
        for name in self.build_args.keys() {
            if control(name) == Some(Control::Meaningless) {
                self.warnings.push(Diagnostic::warning(
                    None,
                    0..0,
                    format!("the build argument `{name}` has no effect here"),
                ));
            }
        }
    }
}
