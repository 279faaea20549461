//! Single instructions: one logical line to one node of the tree.
//!
//! Responsible for each instruction's arguments: their form, their number, and the values that are
//! written out. Must not know what comes before or after.

use std::sync::Arc;

use super::ast::{
    ArgPair, Command, CopyArgs, CopySource, Heredoc, Instruction, Keyword, Kind, Pair, RunArgs,
    RunNetwork, Stage,
};
use super::flags::{self, Findings, Flags};
use super::heredoc;
use super::json::{self, Form};
use super::mode::FileMode;
use super::suggest;
use super::text::Text;
use super::values;
use super::words::split_words;
use crate::diagnostics::Diagnostic;
use crate::image::config::Healthcheck;

/// What to do about a `#` behind an instruction.
const COMMENT: &str = "a comment must be on a line of its own";

/// A parsed line.
#[derive(Debug)]
pub(super) enum Line {
    /// FROM.
    Stage(Box<Stage>),
    /// Anything else.
    Instruction(Box<Instruction>),
}

/// The white space that separates words, as BuildKit has it.
fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\x0b' | '\x0c')
}

fn split_keyword(text: &Text) -> (Text, Text) {
    let line = text.as_str();
    let end = line.find(is_blank).unwrap_or(line.len());
    (text.slice(0..end), text.slice(end..line.len()).trim())
}

/// Returns the instruction that a line begins with, also when FROM is misspelt: what follows would
/// not make sense without the stage.
pub(super) fn meant(text: &Text) -> Option<Keyword> {
    let (name, _) = split_keyword(text);
    Keyword::find(name.as_str()).or_else(|| {
        let near = suggest::nearest(name.as_str(), Keyword::ALL.iter().map(|k| k.name()));
        (near == Some(Keyword::From.name())).then_some(Keyword::From)
    })
}

/// Parses a line; `None` when something is wrong that leaves no instruction, which is then found.
pub(super) fn read(
    text: &Text,
    heredocs: Vec<Heredoc>,
    escape: char,
    found: &mut Findings,
) -> Option<Line> {
    let (name, args) = split_keyword(text);
    if Keyword::find(name.as_str()).is_none() {
        let shown: String = name.as_str().chars().take(40).collect();
        let mut error = Diagnostic::error(name.span(), format!("unknown instruction `{shown}`"));
        error.hint = suggest::hint(name.as_str(), Keyword::ALL.iter().map(|k| k.name()));
        found.errors.push(error);
    }
    let keyword = meant(text)?;
    let (flags, rest) = flags::read(keyword, &args, found);
    let mut reader = Reader {
        keyword,
        name,
        rest: rest.trim(),
        flags,
        heredocs,
        escape,
        found,
    };
    if keyword == Keyword::From {
        return reader.from(text).map(|s| Line::Stage(Box::new(s)));
    }
    let kind = reader.kind()?;
    Some(Line::Instruction(Box::new(Instruction {
        span: text.span(),
        keyword_span: reader.name.span(),
        keyword,
        text: text.as_str().to_owned(),
        kind,
        comments: Vec::new(),
        heredocs: reader.heredocs,
    })))
}

struct Reader<'a> {
    keyword: Keyword,
    name: Text,
    /// What follows the flags, without white space at both ends.
    rest: Text,
    flags: Flags,
    heredocs: Vec<Heredoc>,
    escape: char,
    found: &'a mut Findings,
}

impl Reader<'_> {
    fn error(&mut self, at: &Text, message: impl Into<String>) {
        self.found
            .errors
            .push(Diagnostic::error(at.span(), message));
    }

    /// Reports the number of arguments as wrong.
    fn wrong_count(&mut self, wanted: &str, hint: Option<&str>) {
        let mut error = Diagnostic::error(
            self.name.span(),
            format!("{} requires {wanted}", self.keyword.name()),
        );
        error.hint = hint.map(str::to_owned);
        self.found.errors.push(error);
    }

    fn kind(&mut self) -> Option<Kind> {
        Some(match self.keyword {
            Keyword::Add | Keyword::Copy => self.copy()?,
            Keyword::Arg => Kind::Arg(self.arg()?),
            Keyword::Cmd => Kind::Cmd(self.command("a command", true)?),
            Keyword::Entrypoint => Kind::Entrypoint(self.command("a command", true)?),
            Keyword::Env => Kind::Env(self.pairs()?),
            Keyword::Expose => Kind::Expose(self.expose()?),
            Keyword::From => return None,
            Keyword::Healthcheck => Kind::Healthcheck(Box::new(self.healthcheck()?)),
            Keyword::Label => Kind::Label(self.pairs()?),
            Keyword::Maintainer => Kind::Maintainer(self.one()?),
            Keyword::Onbuild => Kind::Onbuild(self.onbuild()?),
            Keyword::Run => Kind::Run(Box::new(self.run()?)),
            Keyword::Shell => Kind::Shell(self.shell()?),
            Keyword::Stopsignal => Kind::Stopsignal(self.stopsignal()?),
            Keyword::User => Kind::User(self.one()?),
            Keyword::Volume => Kind::Volume(self.volume()?),
            Keyword::Workdir => Kind::Workdir(self.one()?),
        })
    }

    /// Tells whether expansion leaves a word as it is.
    fn is_literal(&self, word: &Text) -> bool {
        !word.as_str().contains(['$', '\'', '"', self.escape])
    }

    fn blank_words(&self) -> Vec<Text> {
        let rest = self.rest.as_str();
        let mut words = Vec::new();
        let mut at = 0;
        for word in rest.split(is_blank) {
            if !word.is_empty() {
                words.push(self.rest.slice(at..at + word.len()));
            }
            // All blanks are one byte long.
            at += word.len() + 1;
        }
        words
    }

    /// Reads a JSON array of strings, or words separated by blanks.
    fn list(&mut self) -> Option<Vec<Text>> {
        match json::form(self.rest.as_str()) {
            Form::Shell => Some(self.blank_words()),
            Form::Exec(words) => {
                let span = self.rest.span();
                Some(
                    words
                        .into_iter()
                        .map(|w| Text::whole(w, span.clone()))
                        .collect(),
                )
            }
            Form::Mixed => {
                self.mixed();
                None
            }
        }
    }

    fn mixed(&mut self) {
        let rest = self.rest.clone();
        self.error(&rest, "the JSON array must hold strings only");
    }

    fn one(&mut self) -> Option<Text> {
        if self.rest.as_str().is_empty() {
            self.wrong_count("exactly one argument", None);
            return None;
        }
        Some(self.rest.clone())
    }

    fn command(&mut self, wanted: &str, may_be_empty: bool) -> Option<Command> {
        match json::form(self.rest.as_str()) {
            Form::Mixed => {
                self.mixed();
                None
            }
            Form::Exec(words) if !words.is_empty() || may_be_empty => Some(Command::Exec(words)),
            Form::Shell if !self.rest.as_str().is_empty() => {
                Some(Command::Shell(self.rest.as_str().to_owned()))
            }
            Form::Shell if self.keyword != Keyword::Healthcheck => {
                let message = format!("{} calls the shell with nothing to do", self.keyword.name());
                let mut warning = Diagnostic::warning(None, self.name.span(), message);
                if may_be_empty {
                    warning.hint = Some(format!("write `{} []` for none", self.keyword.name()));
                }
                self.found.warnings.push(warning);
                Some(Command::Shell(String::new()))
            }
            _ => {
                self.wrong_count(wanted, None);
                None
            }
        }
    }

    fn from(&mut self, text: &Text) -> Option<Stage> {
        let words = self.blank_words();
        let (base, as_keyword, alias) = match &words[..] {
            [base] => (base, None, None),
            [base, keyword, alias] if keyword.as_str().eq_ignore_ascii_case("as") => {
                (base, Some(keyword.clone()), Some(alias.clone()))
            }
            _ => {
                self.wrong_count(
                    "one argument, or three: `FROM image AS name`",
                    words
                        .get(1)
                        .filter(|w| w.as_str().starts_with('#'))
                        .map(|_| COMMENT),
                );
                // The stage is there, whatever it stands on: what follows belongs to it.
                let alias = words.get(2).filter(|w| values::is_stage_name(w.as_str()));
                (words.first()?, None, alias.cloned())
            }
        };
        let name = alias.as_ref().map(|a| a.as_str().to_lowercase());
        if let (Some(alias), Some(name)) = (&alias, &name)
            && !values::is_stage_name(name)
        {
            self.found.errors.push(
                Diagnostic::error(
                    alias.span(),
                    format!("invalid stage name `{}`", alias.as_str()),
                )
                .hint("a name begins with a letter, then has letters, digits, `-`, `_` and `.`"),
            );
        }
        Some(Stage {
            span: text.span(),
            keyword_span: self.name.span(),
            text: text.as_str().to_owned(),
            base: base.clone(),
            platform: self.flags.take("platform"),
            as_keyword,
            alias,
            name,
            comments: Vec::new(),
            instructions: Arc::default(),
        })
    }

    fn arg(&mut self) -> Option<Vec<ArgPair>> {
        let words = split_words(&self.rest, self.escape);
        if words.is_empty() {
            self.wrong_count("at least one argument", None);
            return None;
        }
        let mut pairs = Vec::new();
        for word in words {
            let (name, value) = split_pair(&word);
            if name.as_str().is_empty() {
                self.error(&word, "ARG names can't be blank");
                continue;
            }
            pairs.push(ArgPair { name, value });
        }
        Some(pairs)
    }

    fn pairs(&mut self) -> Option<Vec<Pair>> {
        let words = split_words(&self.rest, self.escape);
        let Some(first) = words.first() else {
            self.wrong_count("at least one argument", None);
            return None;
        };
        if !first.as_str().contains('=') {
            let rest = self.rest.as_str();
            let end = rest.find(is_blank).unwrap_or(rest.len());
            let value = self.rest.slice(end..rest.len()).trim();
            if value.as_str().is_empty() {
                let name = self.keyword.name();
                self.wrong_count(
                    "a name and a value",
                    Some(&format!("write `{name} NAME=value`")),
                );
                return None;
            }
            return Some(vec![Pair {
                name: self.rest.slice(0..end),
                value,
                legacy: true,
            }]);
        }
        let mut pairs = Vec::new();
        for word in words {
            match split_pair(&word) {
                (name, Some(value)) if !name.as_str().is_empty() => pairs.push(Pair {
                    name,
                    value,
                    legacy: false,
                }),
                (_, Some(_)) => {
                    let message = format!("{} names can't be blank", self.keyword.name());
                    self.error(&word, message);
                }
                (_, None) => {
                    let comment = word.as_str().starts_with('#');
                    let hint = if comment {
                        COMMENT
                    } else {
                        "put quotes around a value that has spaces"
                    };
                    let message = format!("no `=` in `{}`", word.as_str());
                    let error = Diagnostic::error(word.span(), message).hint(hint);
                    self.found.errors.push(error);
                    // What follows was meant to be part of it.
                    if comment {
                        break;
                    }
                }
            }
        }
        Some(pairs)
    }

    fn expose(&mut self) -> Option<Vec<Text>> {
        let mut words = self.blank_words();
        if words.is_empty() {
            self.wrong_count("at least one argument", None);
            return None;
        }
        for word in &words {
            let comment = word.as_str().starts_with('#');
            if self.is_literal(word)
                && let Err(message) = values::parse_ports(word.as_str())
            {
                let mut error = Diagnostic::error(word.span(), message);
                error.hint = comment.then(|| COMMENT.to_owned());
                self.found.errors.push(error);
            }
            if comment {
                break;
            }
        }
        words.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        Some(words)
    }

    fn run(&mut self) -> Option<RunArgs> {
        let network = self.flags.take("network").and_then(|value| {
            let choices = ["default", "none", "host"];
            match value.as_str() {
                "default" => None,
                "none" => Some((RunNetwork::None, value.span())),
                "host" => Some((RunNetwork::Host, value.span())),
                other => {
                    let mut error =
                        Diagnostic::error(value.span(), format!("invalid network `{other}`"));
                    error.hint = suggest::hint(other, choices)
                        .or_else(|| Some("use `default`, `none` or `host`".into()));
                    self.found.errors.push(error);
                    None
                }
            }
        });
        let insecure = self.flags.take("security").and_then(|value| {
            let choices = ["sandbox", "insecure"];
            let known = choices.contains(&value.as_str());
            if !known {
                let message = format!("invalid security mode `{}`", value.as_str());
                let mut error = Diagnostic::error(value.span(), message);
                error.hint = suggest::hint(value.as_str(), choices)
                    .or_else(|| Some("use `sandbox` or `insecure`".into()));
                self.found.errors.push(error);
            }
            (value.as_str() == "insecure").then(|| value.span())
        });
        let mounts = self.flags.take_all("mount");
        let devices = self.flags.take_all("device");
        let command = self.command("a command", false)?;
        Some(RunArgs {
            command,
            mounts,
            network,
            insecure,
            devices,
        })
    }

    fn shell(&mut self) -> Option<Vec<String>> {
        match json::form(self.rest.as_str()) {
            Form::Exec(words) if !words.is_empty() => Some(words),
            Form::Mixed => {
                self.mixed();
                None
            }
            _ => {
                self.wrong_count(
                    "its arguments in JSON form",
                    Some("write it as `SHELL [\"/bin/bash\", \"-c\"]`"),
                );
                None
            }
        }
    }

    fn stopsignal(&mut self) -> Option<Text> {
        let signal = self.one()?;
        if self.is_literal(&signal)
            && let Err(message) = values::check_signal(signal.as_str())
        {
            let names: Vec<String> = values::signal_names().collect();
            let mut error = Diagnostic::error(signal.span(), message);
            error.hint = suggest::hint(signal.as_str(), names.iter().map(String::as_str));
            self.found.errors.push(error);
        } else if values::is_strange_signal(signal.as_str()) {
            let message = format!("Linux has no signal {}", signal.as_str());
            let warning = Diagnostic::warning(None, signal.span(), message);
            self.found
                .warnings
                .push(warning.hint("its signals are 1 to 64"));
        }
        Some(signal)
    }

    fn volume(&mut self) -> Option<Vec<Text>> {
        let words = self.list()?;
        if words.is_empty() {
            self.wrong_count("at least one argument", None);
            return None;
        }
        let words: Vec<Text> = words.iter().map(Text::trim).collect();
        if let Some(empty) = words.iter().find(|w| w.as_str().is_empty()) {
            self.error(empty, "a VOLUME can't be an empty string");
        }
        Some(words)
    }

    fn onbuild(&mut self) -> Option<Text> {
        let trigger = self.rest.clone();
        if trigger.as_str().is_empty() {
            self.wrong_count("an instruction", None);
            return None;
        }
        let (name, _) = split_keyword(&trigger);
        match Keyword::find(name.as_str()) {
            Some(Keyword::Onbuild) => {
                self.error(&name, "ONBUILD can't be chained");
                return None;
            }
            Some(keyword @ (Keyword::From | Keyword::Maintainer)) => {
                let message = format!("{} isn't allowed as an ONBUILD trigger", keyword.name());
                self.error(&name, message);
                return None;
            }
            _ => {}
        }
        let heredocs = std::mem::take(&mut self.heredocs);
        let mut text = trigger.as_str().to_owned();
        let alone = heredocs.is_empty();
        for heredoc in &heredocs {
            text.push('\n');
            text.push_str(heredoc.body.as_str());
            text.push_str(&heredoc.name);
        }
        let mut found = Findings::default();
        read(&trigger, heredocs, self.escape, &mut found);
        self.found.errors.append(&mut found.errors);
        Some(if alone {
            trigger
        } else {
            Text::whole(text, trigger.span())
        })
    }

    fn healthcheck(&mut self) -> Option<Healthcheck> {
        let (kind, command) = split_keyword(&self.rest);
        match kind.as_str().to_ascii_uppercase().as_str() {
            "NONE" if command.as_str().is_empty() => {
                for name in [
                    "interval",
                    "timeout",
                    "start-period",
                    "start-interval",
                    "retries",
                ] {
                    if let Some(value) = self.flags.take(name) {
                        self.found.warnings.push(Diagnostic::warning(
                            None,
                            value.span(),
                            format!("`--{name}` means nothing with HEALTHCHECK NONE"),
                        ));
                    }
                }
                Some(Healthcheck {
                    test: vec!["NONE".into()],
                    ..Healthcheck::default()
                })
            }
            "NONE" => {
                self.error(&command, "HEALTHCHECK NONE takes no arguments");
                None
            }
            "CMD" => {
                self.rest = command;
                let test = match self.command("a command after CMD", false)? {
                    Command::Shell(line) => vec!["CMD-SHELL".into(), line],
                    Command::Exec(words) => {
                        let mut test = vec!["CMD".to_owned()];
                        test.extend(words);
                        test
                    }
                };
                Some(Healthcheck {
                    test,
                    interval: self.interval("interval"),
                    timeout: self.interval("timeout"),
                    start_period: self.interval("start-period"),
                    start_interval: self.interval("start-interval"),
                    retries: self.retries(),
                })
            }
            "" => {
                self.wrong_count("`CMD` and a command, or `NONE`", None);
                None
            }
            _ => {
                let mut error = Diagnostic::error(
                    kind.span(),
                    format!("unknown type `{}` of HEALTHCHECK", kind.as_str()),
                );
                error.hint = suggest::hint(kind.as_str(), ["CMD", "NONE"])
                    .or_else(|| Some("write `HEALTHCHECK CMD command`".into()));
                self.found.errors.push(error);
                None
            }
        }
    }

    fn interval(&mut self, flag: &str) -> u64 {
        let Some(value) = self.flags.take(flag).filter(|v| !v.as_str().is_empty()) else {
            return 0;
        };
        values::parse_interval(value.as_str()).unwrap_or_else(|message| {
            self.found.errors.push(
                Diagnostic::error(value.span(), message)
                    .hint("write a duration as `30s`, `1m30s` or `500ms`"),
            );
            0
        })
    }

    fn retries(&mut self) -> u64 {
        let Some(value) = self
            .flags
            .take("retries")
            .filter(|v| !v.as_str().is_empty())
        else {
            return 0;
        };
        let number = value.as_str().parse::<u64>().ok();
        match number.filter(|n| *n <= i32::MAX as u64) {
            Some(number) => number,
            None => {
                let message = format!("invalid number of retries `{}`", value.as_str());
                self.error(&value, message);
                0
            }
        }
    }

    fn copy(&mut self) -> Option<Kind> {
        let name = self.keyword.name();
        let mut words = self.list()?;
        if words.len() < 2 {
            self.wrong_count(
                "at least two arguments",
                Some(&format!("write `{name} SOURCE DESTINATION`")),
            );
            return None;
        }
        let dest = words.pop()?;
        let mut mark = 0;
        let sources = words
            .into_iter()
            .map(|word| {
                let found = heredoc::find(word.as_str());
                match found.first() {
                    Some(_) if mark < self.heredocs.len() => {
                        mark += 1;
                        CopySource::Heredoc(mark - 1, word)
                    }
                    _ => CopySource::Word(word),
                }
            })
            .collect();
        if mark < self.heredocs.len() {
            self.error(&dest, "a here-document can't be the destination");
        }
        let args = CopyArgs {
            sources,
            dest,
            from: self.flags.take("from"),
            chown: self.flags.take("chown"),
            chmod: self.flags.take("chmod"),
            link: self.flags.switch("link").unwrap_or(false),
            parents: self.flags.switch("parents").unwrap_or(false),
            exclude: self.flags.take_all("exclude"),
            checksum: self.flags.take("checksum"),
            keep_git_dir: self.flags.switch("keep-git-dir"),
            unpack: self.flags.switch("unpack"),
        };
        if let Some(from) = &args.from {
            if from.as_str().contains('$') {
                self.found.errors.push(
                    Diagnostic::error(from.span(), "variables are not expanded in `--from`").hint(
                        "give the image a stage of its own: `ARG` before `FROM $image AS name`",
                    ),
                );
            } else if from.as_str().is_empty() {
                self.error(from, "`--from` names no stage and no image");
            }
        }
        if let Some(mode) = &args.chmod
            && self.is_literal(mode)
            && let Err(message) = FileMode::parse(mode.as_str())
        {
            self.error(mode, message);
        }
        for source in &args.sources {
            if let CopySource::Word(source) = source
                && self.is_literal(source)
            {
                values::check_source(self.keyword, source.as_str())
                    .unwrap_or_else(|message| self.error(source, message));
            }
        }
        let args = Box::new(args);
        Some(if self.keyword == Keyword::Add {
            Kind::Add(args)
        } else {
            Kind::Copy(args)
        })
    }
}

/// Splits at the first `=`.
fn split_pair(word: &Text) -> (Text, Option<Text>) {
    let text = word.as_str();
    match text.find('=') {
        Some(at) => (word.slice(0..at), Some(word.slice(at + 1..text.len()))),
        None => (word.clone(), None),
    }
}

#[cfg(test)]
#[path = "instructions_tests.rs"]
mod tests;
