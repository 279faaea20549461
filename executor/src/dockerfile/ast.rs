//! The syntax tree: instructions with their words unexpanded.
//!
//! Pure data between the parser and the planner. Words that variables may appear in are [`Text`],
//! so that an error in their expansion still has a place.

use std::ops::Range;
use std::sync::Arc;

use super::checks::Checks;
use super::text::Text;
use crate::diagnostics::Diagnostic;
use crate::image::config::Healthcheck;

/// A parsed Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dockerfile {
    /// The escape character for words: a backslash or a backtick.
    pub escape: char,
    /// ARG instructions before the first FROM.
    pub globals: Vec<Instruction>,
    /// At least one stage, in order.
    pub stages: Vec<Stage>,
    /// What deserves attention but stops nothing.
    pub warnings: Vec<Diagnostic>,
    /// Which build checks are on.
    pub checks: Checks,
}

/// A FROM and what follows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// The FROM instruction.
    pub span: Range<usize>,
    /// The word FROM.
    pub keyword_span: Range<usize>,
    /// The FROM instruction as written, on one line.
    pub text: String,
    /// The base: an image, a stage, or `scratch`.
    pub base: Text,
    /// `--platform=`.
    pub platform: Option<Text>,
    /// The word `AS`, as written.
    pub as_keyword: Option<Text>,
    /// The name after AS, as written.
    pub alias: Option<Text>,
    /// The name, lower-cased.
    pub name: Option<String>,
    /// The comment lines directly above FROM, without `#` and white space.
    pub comments: Vec<String>,
    /// The instructions up to the next FROM; a copy of the tree shares them.
    pub instructions: Arc<Vec<Instruction>>,
}

/// One instruction other than FROM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instruction {
    /// All of it, from the keyword to the last word.
    pub span: Range<usize>,
    /// The keyword alone.
    pub keyword_span: Range<usize>,
    /// Which instruction.
    pub keyword: Keyword,
    /// As written, on one line.
    pub text: String,
    /// Its arguments.
    pub kind: Kind,
    /// The comment lines directly above, without `#` and white space.
    pub comments: Vec<String>,
    /// Its here-documents, in order; those of a trigger are in [`Kind::Onbuild`]'s text.
    pub heredocs: Vec<Heredoc>,
}

impl Instruction {
    /// Returns the keyword with the casing that it was written in.
    pub fn written_keyword(&self) -> &str {
        let end = self.text.len().min(self.keyword.name().len());
        &self.text[..end]
    }
}

/// A here-document: `<<NAME` on an instruction's line, and the lines up to NAME.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heredoc {
    /// The terminator, without quotes.
    pub name: String,
    /// The number before `<<`: a descriptor, for the shell only.
    pub descriptor: Option<u32>,
    /// `<<-`: tabs at the beginning of lines don't count.
    pub strip_tabs: bool,
    /// Whether variables are expanded in it: no part of the name is quoted.
    pub expand: bool,
    /// The lines as written, each with its line feed.
    pub body: Text,
}

impl Heredoc {
    /// Returns the lines, without leading tabs where they don't count.
    pub fn content(&self) -> Text {
        if !self.strip_tabs {
            return self.body.clone();
        }
        let mut at = 0;
        let lines = self.body.as_str().split_inclusive('\n').map(|line| {
            let start = at + (line.len() - line.trim_start_matches('\t').len());
            at += line.len();
            self.body.slice(start..at)
        });
        Text::concat(lines, self.body.span())
    }
}

/// An instruction's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the instruction of that name")]
pub enum Keyword {
    Add,
    Arg,
    Cmd,
    Copy,
    Entrypoint,
    Env,
    Expose,
    From,
    Healthcheck,
    Label,
    Maintainer,
    Onbuild,
    Run,
    Shell,
    Stopsignal,
    User,
    Volume,
    Workdir,
}

impl Keyword {
    /// Every instruction.
    pub const ALL: [Keyword; 18] = [
        Keyword::Add,
        Keyword::Arg,
        Keyword::Cmd,
        Keyword::Copy,
        Keyword::Entrypoint,
        Keyword::Env,
        Keyword::Expose,
        Keyword::From,
        Keyword::Healthcheck,
        Keyword::Label,
        Keyword::Maintainer,
        Keyword::Onbuild,
        Keyword::Run,
        Keyword::Shell,
        Keyword::Stopsignal,
        Keyword::User,
        Keyword::Volume,
        Keyword::Workdir,
    ];

    /// Returns the name in capitals.
    pub fn name(self) -> &'static str {
        match self {
            Keyword::Add => "ADD",
            Keyword::Arg => "ARG",
            Keyword::Cmd => "CMD",
            Keyword::Copy => "COPY",
            Keyword::Entrypoint => "ENTRYPOINT",
            Keyword::Env => "ENV",
            Keyword::Expose => "EXPOSE",
            Keyword::From => "FROM",
            Keyword::Healthcheck => "HEALTHCHECK",
            Keyword::Label => "LABEL",
            Keyword::Maintainer => "MAINTAINER",
            Keyword::Onbuild => "ONBUILD",
            Keyword::Run => "RUN",
            Keyword::Shell => "SHELL",
            Keyword::Stopsignal => "STOPSIGNAL",
            Keyword::User => "USER",
            Keyword::Volume => "VOLUME",
            Keyword::Workdir => "WORKDIR",
        }
    }

    /// Finds an instruction by its name in any casing.
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|k| k.name().eq_ignore_ascii_case(name))
    }
}

/// An instruction's arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// ADD.
    Add(Box<CopyArgs>),
    /// ARG: names with their defaults.
    Arg(Vec<ArgPair>),
    /// CMD.
    Cmd(Command),
    /// COPY.
    Copy(Box<CopyArgs>),
    /// ENTRYPOINT.
    Entrypoint(Command),
    /// ENV.
    Env(Vec<Pair>),
    /// EXPOSE: port specifications.
    Expose(Vec<Text>),
    /// HEALTHCHECK, complete: no variable is expanded in it.
    Healthcheck(Box<Healthcheck>),
    /// LABEL.
    Label(Vec<Pair>),
    /// MAINTAINER.
    Maintainer(Text),
    /// ONBUILD: the trigger as written, on one line, then its here-documents' lines; valid.
    Onbuild(Text),
    /// RUN.
    Run(Box<RunArgs>),
    /// SHELL.
    Shell(Vec<String>),
    /// STOPSIGNAL.
    Stopsignal(Text),
    /// USER.
    User(Text),
    /// VOLUME: paths.
    Volume(Vec<Text>),
    /// WORKDIR.
    Workdir(Text),
}

/// `NAME=value` of ENV and LABEL; both sides are expanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// The name.
    pub name: Text,
    /// The value.
    pub value: Text,
    /// Written as `NAME value`.
    pub legacy: bool,
}

/// `NAME` or `NAME=default` of ARG; only the default is expanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArgPair {
    /// The name.
    pub name: Text,
    /// The default.
    pub value: Option<Text>,
}

/// A command in one of its two forms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// To be run by SHELL.
    Shell(String),
    /// The JSON form: the argument vector itself.
    Exec(Vec<String>),
}

/// RUN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunArgs {
    /// What to run; a here-document is still `<<NAME` in it.
    pub command: Command,
    /// `--mount=`, each as written: variables are expanded before it is taken apart.
    pub mounts: Vec<Text>,
    /// `--network=`, if it was given and is not `default`, and its place.
    pub network: Option<(RunNetwork, Range<usize>)>,
    /// The place of `--security=insecure`.
    pub insecure: Option<Range<usize>>,
    /// `--device=`, each as written.
    pub devices: Vec<Text>,
}

/// The values of `RUN --network=` other than `default`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunNetwork {
    /// Only a loopback interface.
    None,
    /// The host's network.
    Host,
}

/// COPY and ADD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyArgs {
    /// At least one source.
    pub sources: Vec<CopySource>,
    /// The destination.
    pub dest: Text,
    /// `--from=` of COPY; no variable is expanded in it.
    pub from: Option<Text>,
    /// `--chown=`.
    pub chown: Option<Text>,
    /// `--chmod=`.
    pub chmod: Option<Text>,
    /// `--link`.
    pub link: bool,
    /// `--parents` of COPY.
    pub parents: bool,
    /// `--exclude=`, in order.
    pub exclude: Vec<Text>,
    /// `--checksum=` of ADD.
    pub checksum: Option<Text>,
    /// `--keep-git-dir` of ADD, if it was given.
    pub keep_git_dir: Option<bool>,
    /// `--unpack` of ADD, if it was given.
    pub unpack: Option<bool>,
}

/// A source of COPY or ADD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopySource {
    /// A path, a pattern or a URL.
    Word(Text),
    /// `<<NAME`: the number of one of the instruction's here-documents, and the word.
    Heredoc(usize, Text),
}

impl CopySource {
    /// Returns the word as written.
    pub fn word(&self) -> &Text {
        match self {
            CopySource::Word(word) | CopySource::Heredoc(_, word) => word,
        }
    }
}
