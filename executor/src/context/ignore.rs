//! Ignore files: which paths of a context are left out.
//!
//! Responsible for parsing `.dockerignore` and for deciding about paths with moby's semantics:
//! the last rule that matches wins, a rule covers everything below what it names, and `!`
//! re-includes. Must not read the tree. Invariant: decisions go from the root downwards, one
//! [`State`] per directory, because by moby's rules a path's fate depends on its parents'.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::context::pattern::Pattern;
use crate::error::{Error, Result};

/// Largest ignore file, in bytes.
pub const MAX_FILE: u64 = 4 << 20;

/// An ignore file as it was found, to be parsed wherever the tree is walked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IgnoreFile {
    /// Name in messages.
    pub name: String,
    /// Contents.
    pub text: Vec<u8>,
}

impl IgnoreFile {
    /// Parses the rules.
    ///
    /// # Errors
    /// Those of [`Matcher::parse`].
    pub fn rules(&self) -> Result<Matcher> {
        Matcher::parse(&self.name, &self.text)
    }
}

/// The rules of one ignore file.
#[derive(Debug, Clone, Default)]
pub struct Matcher {
    file: String,
    rules: Vec<Rule>,
}

/// One line.
#[derive(Debug, Clone)]
struct Rule {
    line: usize,
    /// The line, trimmed, for messages.
    text: String,
    /// Cleaned path pattern, without `!`.
    pattern: Vec<u8>,
    matcher: Pattern,
    /// Starts with `!`.
    exception: bool,
}

impl Rule {
    /// Parses a trimmed line that is not empty.
    fn parse(text: &[u8], line: usize) -> Result<Self, String> {
        let (exception, rest) = match text.strip_prefix(b"!") {
            Some(rest) => (true, trim(rest)),
            None => (false, text),
        };
        if rest.is_empty() {
            return Err("`!` needs a pattern after it".into());
        }
        let cleaned = clean(rest);
        let pattern = match cleaned.as_slice() {
            [b'/', rest @ ..] if !rest.is_empty() => rest.to_vec(),
            _ => cleaned,
        };
        let matcher = Pattern::recursive(&pattern).map_err(|e| e.to_string())?;
        Ok(Self {
            line,
            text: String::from_utf8_lossy(text).into_owned(),
            pattern,
            matcher,
            exception,
        })
    }
}

/// What the rules say of one path, and what its children need to know.
#[derive(Debug, Clone)]
pub struct State {
    excluded: bool,
    /// The rule that decided, by index.
    by: Option<usize>,
    /// Which rules matched the path or a parent of it; empty at the root.
    matched: Vec<bool>,
}

impl State {
    /// Tells whether the path is left out. A directory that is may still have children that are
    /// not.
    pub fn is_excluded(&self) -> bool {
        self.excluded
    }
}

impl Matcher {
    /// Returns the matcher that excludes nothing.
    pub fn none() -> Self {
        Self::default()
    }

    /// Parses an ignore file; `file` is its name in messages.
    ///
    /// # Errors
    /// Names the line of the first malformed pattern.
    pub fn parse(file: &str, text: &[u8]) -> Result<Self> {
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        let mut rules = Vec::new();
        for (index, line) in text.split(|b| *b == b'\n').enumerate() {
            // Comments are recognised before trimming: ` #x` is a pattern.
            if line.starts_with(b"#") {
                continue;
            }
            let line = trim(line);
            if line.is_empty() {
                continue;
            }
            let rule = Rule::parse(line, index + 1).map_err(|why| {
                let shown = String::from_utf8_lossy(line);
                Error::new(format!(
                    "invalid pattern `{shown}` on line {} of `{file}`: {why}",
                    index + 1
                ))
            })?;
            rules.push(rule);
        }
        Ok(Self {
            file: file.to_owned(),
            rules,
        })
    }

    /// Parses patterns that are given one by one; `from` says where, in messages.
    ///
    /// # Errors
    /// Names the first malformed pattern.
    pub fn patterns(from: &str, patterns: &[String]) -> Result<Self> {
        let mut rules = Vec::new();
        for (index, pattern) in patterns.iter().enumerate() {
            let line = trim(pattern.as_bytes());
            if line.is_empty() {
                continue;
            }
            let rule = Rule::parse(line, index + 1).map_err(|why| {
                Error::new(format!("invalid pattern `{pattern}` of {from}: {why}"))
            })?;
            rules.push(rule);
        }
        Ok(Self {
            file: from.to_owned(),
            rules,
        })
    }

    /// Tells whether nothing can be excluded.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Returns the state of the context's root, which no rule excludes.
    pub fn root(&self) -> State {
        State {
            excluded: false,
            by: None,
            matched: Vec::new(),
        }
    }

    /// Decides about `path`, relative to the context's root, from its parent directory's state.
    pub fn enter(&self, parent: &State, path: &Path) -> State {
        let name = path.as_os_str().as_bytes();
        let mut state = State {
            excluded: false,
            by: None,
            matched: vec![false; self.rules.len()],
        };
        for (index, rule) in self.rules.iter().enumerate() {
            // BuildKit's walker leaves out rules that can't change the verdict, and then forgets
            // for the children that they matched; moby's documented rule has no such gap.
            let inherited = parent.matched.get(index).copied().unwrap_or(false);
            if inherited || rule.matcher.matches(name) {
                state.matched[index] = true;
                state.excluded = !rule.exception;
                state.by = Some(index);
            }
        }
        state
    }

    /// Decides about `path`, relative to the context's root, by way of all its parents.
    pub fn decide(&self, path: &Path) -> State {
        let mut state = self.root();
        let mut at = std::path::PathBuf::new();
        for part in path {
            at.push(part);
            state = self.enter(&state, &at);
        }
        state
    }

    /// Tells whether a source of COPY is left out, as far as its text says. As BuildKit's check: where some
    /// rule re-includes something, nobody can tell, and `.` is left out where one rule names everything.
    pub fn leaves_out(&self, source: &Path) -> bool {
        if self.rules.iter().any(|rule| rule.exception) {
            return false;
        }
        if source.components().next().is_none() || source == Path::new(".") {
            let all: [&[u8]; 3] = [b"*", b"**", b"**/*"];
            return (self.rules.iter()).any(|rule| all.contains(&rule.pattern.as_slice()));
        }
        self.decide(source).is_excluded()
    }

    /// Tells whether an excluded directory may have children that are not excluded, so that it
    /// has to be read.
    pub fn may_include_below(&self, dir: &Path) -> bool {
        let mut dir = dir.as_os_str().as_bytes().to_vec();
        dir.push(b'/');
        self.rules.iter().filter(|r| r.exception).any(|rule| {
            let stem = rule.pattern.strip_suffix(b"/**").unwrap_or(&rule.pattern);
            let stem = stem.strip_suffix(b"/*").unwrap_or(stem);
            if stem.iter().any(|b| b"*[]?^\\".contains(b)) {
                return true;
            }
            let mut stem = stem.to_vec();
            stem.push(b'/');
            stem.starts_with(&dir)
        })
    }

    /// Returns words that name the rule which excluded a path: ``"`*.o` on line 3 of
    /// `.dockerignore`"``.
    pub fn reason(&self, state: &State) -> Option<String> {
        let rule = self.rules.get(state.by.filter(|_| state.excluded)?)?;
        Some(format!(
            "`{}` on line {} of `{}`",
            rule.text, rule.line, self.file
        ))
    }
}

/// Strips white space as Go's `strings.TrimSpace` does.
fn trim(line: &[u8]) -> &[u8] {
    match std::str::from_utf8(line) {
        Ok(text) => text.trim().as_bytes(),
        Err(_) => line.trim_ascii(),
    }
}

/// Cleans a slash-separated path as Go's `filepath.Clean` does: a relative path keeps its leading
/// `..` (and then matches nothing), an absolute one can't go above `/`.
fn clean(path: &[u8]) -> Vec<u8> {
    let absolute = path.starts_with(b"/");
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." if parts.last().is_some_and(|p| *p != b"..") => {
                parts.pop();
            }
            b".." if absolute => {}
            other => parts.push(other),
        }
    }
    let mut out = if absolute { vec![b'/'] } else { Vec::new() };
    out.extend(parts.join(&b'/'));
    if out.is_empty() {
        out.push(b'.');
    }
    out
}

/// Returns a path made of bytes.
pub(crate) fn bytes_path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn excluded(rules: &str, path: &str) -> bool {
        Matcher::parse(".dockerignore", rules.as_bytes())
            .expect(rules)
            .decide(Path::new(path))
            .is_excluded()
    }

    #[test]
    fn decides_as_moby_does() {
        for (rules, path, expected) in [
            ("fileutils.go\n", "fileutils.go", true),
            ("a/b", "a/b/c/d", true),
            ("a/b", "a/bc", false),
            ("foo", "x/foo", false),
            ("**/foo", "x/foo/y", true),
            ("/foo", "foo", true),
            ("!foo\nfoo", "foo", true),
            ("foo\n!foo", "foo", false),
            ("docs\n!docs/README.md", "docs/README.md", false),
            ("docs\n!docs/README.md", "docs/other", true),
            ("docs\n!docs/README.md\ndocs", "docs/README.md", true),
            ("docs/*\n!docs/README.md", "docs/sub/README.md", true),
            ("*\n!src", "src/deep/file", false),
            ("*\n!src\nsrc/*.o", "src/a.o", true),
            ("**\n!util/docker/web", "util/docker/web/foo", false),
            (
                "**\n!util/docker/web\nutil/docker/web/foo",
                "util/docker/web/foo",
                true,
            ),
            ("**\n!dist/*.whl", "dist/a.whl", false),
            ("**\n!dist/*.whl", "dist/a.tar", true),
            ("a/b\n!a", "a/b", false),
            ("a/b\n!a\na/b/c", "a/b/c", true),
            ("*\n!**/k", "c/d/k", false),
            (".", "anything", false),
            ("/", "anything", false),
            ("..\n../x", "x", false),
            ("/../x", "x", true),
            ("./x/./y//z/", "x/y/z", true),
            ("a/../b", "b", true),
            ("  spaced  ", "spaced", true),
            ("two words", "two words", true),
            (" #not-a-comment", "#not-a-comment", true),
            ("#comment", "#comment", false),
            ("\\#escaped", "#escaped", true),
            ("\\!escaped", "!escaped", true),
            ("!  /spaced", "spaced", false),
            ("*\n!  /spaced", "spaced", false),
            ("crlf\r\nother\r\n", "crlf", true),
            ("\u{feff}bom", "bom", true),
            (
                "*.md\n!README*.md\nREADME-secret.md",
                "README-secret.md",
                true,
            ),
            ("*.md\n!README*.md\nREADME-secret.md", "README.md", false),
            ("*/temp*", "some/temporary.txt", true),
            ("*/*/temp*", "some/temp", false),
            ("temp?", "tempa", true),
            ("Dockerfile", "Dockerfile", true),
        ] {
            assert_eq!(excluded(rules, path), expected, "{rules:?} {path}");
        }
    }

    #[test]
    fn sources_are_left_out_as_in_buildkits_check() {
        for (rules, source, expected) in [
            ("*.log", "a.log", true),
            ("*.log", "*.log", true),
            ("dir", "dir/below", true),
            ("dir/*", "dir", false),
            // What else could be taken, nobody can tell.
            ("*.log\n!keep.log", "a.log", false),
            ("dir\n!other", "dir", false),
            ("*", ".", true),
            ("**", ".", true),
            ("**/*", "", true),
            ("a\n*/*", ".", false),
            ("*\n!a", ".", false),
            ("", ".", false),
        ] {
            let matcher = Matcher::parse(".dockerignore", rules.as_bytes()).expect("valid");
            let found = matcher.leaves_out(Path::new(source));
            assert_eq!(found, expected, "{rules:?} {source}");
        }
    }

    #[test]
    fn a_bad_pattern_names_its_line() {
        for (rules, line) in [("a\n[\n", 2), ("!", 1), ("a\n\n!  \n", 3), ("x\\", 1)] {
            let error = Matcher::parse("f.dockerignore", rules.as_bytes()).expect_err(rules);
            let text = error.to_string();
            assert!(
                text.contains(&format!("line {line} of `f.dockerignore`")),
                "{text}"
            );
        }
    }

    #[test]
    fn the_reason_is_the_rule_that_decided() {
        let rules = "*.o\n!keep.o\nkeep.o\n";
        let matcher = Matcher::parse(".dockerignore", rules.as_bytes()).expect("valid");
        let state = matcher.decide(Path::new("keep.o"));
        let reason = matcher.reason(&state).expect("excluded");
        assert_eq!(reason, "`keep.o` on line 3 of `.dockerignore`");
        assert!(matcher.reason(&matcher.decide(Path::new("a.c"))).is_none());
    }

    #[test]
    fn only_directories_that_may_hold_exceptions_are_read() {
        let matcher = |rules: &str| Matcher::parse("i", rules.as_bytes()).expect("valid");
        let below = |rules: &str, dir: &str| matcher(rules).may_include_below(Path::new(dir));
        assert!(!below("*", "a"));
        assert!(below("*\n!a/b/c", "a/b"));
        assert!(!below("*\n!a/b/c", "x"));
        assert!(below("*\n!a/**", "a"));
        assert!(!below("*\n!ab", "a"));
        assert!(below("*\n!**/x", "anywhere"));
    }

    proptest! {
        /// Skipping a directory never changes what is included.
        #[test]
        fn pruning_is_sound(
            rules in proptest::collection::vec("!?(a|b|\\*\\*|\\*)(/(a|b|\\*)){0,2}", 1..5),
            path in proptest::collection::vec("[ab]", 1..5),
        ) {
            let matcher = Matcher::parse("i", rules.join("\n").as_bytes()).expect("valid");
            let mut at = std::path::PathBuf::new();
            let mut pruned = false;
            let mut state = matcher.root();
            for part in &path {
                at.push(part);
                state = matcher.enter(&state, &at);
                prop_assert!(!pruned || state.is_excluded(), "{rules:?} {}", at.display());
                pruned |= state.is_excluded() && !matcher.may_include_below(&at);
            }
        }

        #[test]
        fn parsing_never_panics(text: Vec<u8>) {
            drop(Matcher::parse("i", &text));
        }
    }
}
