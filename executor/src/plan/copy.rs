//! COPY and ADD: from words to a step.
//!
//! Responsible for their sources, destination and flags after expansion. Must not look at files:
//! wildcards are the build's.

use super::path;
use super::stages::{Source, find_source};
use super::step::{Copy, CopyFrom, CopySource, CopySourceKind, Op};
use super::steps::Lowering;
use crate::diagnostics::Diagnostic;
use crate::dockerfile::ast::{self, CopyArgs, Heredoc, Instruction, Keyword};
use crate::dockerfile::mode::FileMode;
use crate::dockerfile::text::Text;
use crate::dockerfile::values::{self, SourceKind};
use crate::image::digest::Digest;
use crate::redact;

/// A value, or what is wrong with the instruction.
pub(super) type Lookup<T> = Result<T, Diagnostic>;

impl Lowering<'_> {
    /// Makes the history entry and the step of COPY or ADD.
    pub(super) fn copy(
        &mut self,
        instruction: &Instruction,
        args: &CopyArgs,
    ) -> Lookup<(String, Op)> {
        let keyword = instruction.keyword;
        let from = match &args.from {
            None => CopyFrom::Context,
            Some(from) => self.source(from)?,
        };
        let mut sources = Vec::new();
        let mut words = Vec::new();
        // As in BuildKit, here-documents come after files, wherever they are written, so that they count
        // where both have a name.
        let (documents, files): (Vec<_>, Vec<_>) = (args.sources.iter())
            .partition(|source| matches!(source, ast::CopySource::Heredoc(..)));
        for source in files.into_iter().chain(documents) {
            let kind = match source {
                ast::CopySource::Word(word) => {
                    let text = self.expand(word)?;
                    values::check_source(keyword, &text)
                        .map_err(|message| Diagnostic::error(word.span(), message))?;
                    words.push(text.clone());
                    CopySourceKind::Word(text)
                }
                ast::CopySource::Heredoc(number, word) => {
                    let heredoc = &instruction.heredocs[*number];
                    words.push(format!("<<{}", heredoc.name));
                    self.inline_file(heredoc, word)?
                }
            };
            let span = source.word().span();
            sources.push(CopySource { span, kind });
        }
        let written_dest = self.expand(&args.dest)?;
        let dest = path::join_dest(&self.out.config.working_dir, &written_dest);
        if sources.len() > 1 && !dest.ends_with('/') {
            // As BuildKit: it may be a directory that exists, which shows when they are copied.
            let message = format!(
                "{} of more than one source needs a directory as its destination",
                keyword.name()
            );
            let warning = Diagnostic::warning(None, args.dest.span(), message);
            let hint = format!("end it with a slash: `{written_dest}/`");
            self.out.warnings.push(warning.hint(hint));
        }
        let chown = self.optional(args.chown.as_ref())?;
        let chmod = self.optional(args.chmod.as_ref())?;
        let mode = match (&args.chmod, &chmod) {
            (Some(written), Some(text)) => Some(
                FileMode::parse(text)
                    .map_err(|message| Diagnostic::error(written.span(), message))?,
            ),
            _ => None,
        };
        let exclude = args.exclude.iter().map(|e| self.expand(e));
        let exclude = exclude.collect::<Lookup<Vec<String>>>()?;
        let checksum = match &args.checksum {
            Some(written) => self.checksum(written, &words)?,
            None => None,
        };
        if args.link
            && let (Some(written), Some(owner)) = (&args.chown, &chown)
            && !owner.bytes().all(|b| b.is_ascii_digit() || b == b':')
        {
            return Err(Diagnostic::error(
                written.span(),
                format!("`--link` can't look up `{owner}`: its layer knows no users"),
            )
            .hint("use numbers, as in `--chown=1000:1000`, or leave out `--link`"));
        }
        let mut created_by = keyword.name().to_owned();
        if args.parents {
            created_by.push_str(" --parents");
        }
        for (flag, value) in [("chown", &chown), ("chmod", &chmod)] {
            if let Some(value) = value {
                created_by.push_str(&format!(" --{flag}={value}"));
            }
        }
        for word in words.iter().chain([&written_dest]) {
            created_by.push(' ');
            // An image's history is for everybody who has the image.
            created_by.push_str(&redact::text(word));
        }
        let op = Op::Copy(Box::new(Copy {
            from,
            sources,
            dest,
            chown,
            chmod: mode,
            exclude,
            parents: args.parents,
            // As in BuildKit, which does not link files whose modes it changes.
            link: args.link && args.chmod.is_none(),
            add: keyword == Keyword::Add,
            checksum,
            unpack: args.unpack,
            keep_git_dir: args.keep_git_dir,
        }));
        Ok((created_by, op))
    }

    fn inline_file(&mut self, heredoc: &Heredoc, word: &Text) -> Lookup<CopySourceKind> {
        let name = heredoc.name.as_str();
        if matches!(name, "." | "..") || name.contains('/') || name.len() > 255 {
            return Err(Diagnostic::error(
                word.span(),
                format!("the here-document's name can't be a file's: `{name}`"),
            )
            .hint("the destination names the file: `COPY <<EOF /dir/file`"));
        }
        let content = heredoc.content();
        let content = if heredoc.expand {
            self.expand_document(&content)?
        } else {
            content.as_str().to_owned()
        };
        Ok(CopySourceKind::File {
            name: heredoc.name.clone(),
            content,
        })
    }

    /// Expands a flag's value; an empty one counts as not given.
    fn optional(&mut self, text: Option<&Text>) -> Lookup<Option<String>> {
        let text = text.map(|t| self.expand(t)).transpose()?;
        Ok(text.filter(|t| !t.is_empty()))
    }

    pub(super) fn source(&mut self, from: &Text) -> Lookup<CopyFrom> {
        let found = match find_source(&self.plan.file, &self.plan.contexts, self.index, from)? {
            Source::Found(found) => found,
            // The plan refuses these in the Dockerfile, so that this is a trigger of the base.
            Source::NotYet(_) => {
                return Err(Diagnostic::error(
                    from.span(),
                    format!(
                        "a trigger of the base copies from stage `{}`, which comes later",
                        from.as_str()
                    ),
                ));
            }
        };
        match &found {
            CopyFrom::Context | CopyFrom::Named(_) => {}
            CopyFrom::Stage(stage) => {
                if let Some(wrong) = self.plan.broken(*stage) {
                    return Err(wrong.clone());
                }
                if !self.out.needs.contains(stage) {
                    self.out.needs.push(*stage);
                }
            }
            CopyFrom::Image(image) => {
                if !self.out.images.contains(image) {
                    self.out.images.push(image.clone());
                }
            }
        }
        Ok(found)
    }

    fn checksum(&mut self, written: &Text, sources: &[String]) -> Lookup<Option<String>> {
        let text = self.expand(written)?;
        if text.is_empty() {
            return Ok(None);
        }
        let error = |message: String| Diagnostic::error(written.span(), message);
        let [source] = sources else {
            return Err(error("`--checksum` takes one source only".into()));
        };
        match values::source_kind(source) {
            SourceKind::Http => text
                .parse::<Digest>()
                .map(|_| ())
                .map_err(|e| error(e.chain()))?,
            // Which commit it has to be shows when the repository is asked.
            SourceKind::Git => {}
            SourceKind::Local => {
                return Err(error(
                    "`--checksum` needs an http or https source, or a git repository".into(),
                ));
            }
        }
        Ok(Some(text))
    }
}
