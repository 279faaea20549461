//! What source patterns name: wildcards and symbolic links, resolved within a tree.
//!
//! Responsible for BuildKit's rules about sources, and for saying why one is not found. Must not
//! descend into what a pattern names. Invariant: a path is looked up component by component in
//! the tree without what its ignore file excludes, so that a link can't reveal what is hidden.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use runtime::path::normalize;
use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::pick::{Filter, Include, Pick, at_pivot};
use super::{Match, Tree, changed_or, is_dir};
use crate::context::ignore::{State, bytes_path};
use crate::context::pattern::{Pattern, has_wildcard};
use crate::context::suggest;
use crate::error::{Error, Kind, Result, ResultExt};

/// How many symbolic links one path may lead through, as in Go and containerd.
const MAX_LINKS: usize = 255;

/// Where resolving a path ended.
enum Resolved {
    /// It exists.
    Found {
        path: PathBuf,
        stat: Stat,
        state: State,
    },
    /// It does not.
    Missing {
        /// The first part that does not exist, without symbolic links.
        at: PathBuf,
        /// The rule that hides it, when it is only excluded.
        excluded: Option<String>,
    },
}

impl Tree<'_> {
    /// Resolves sources of one COPY, in order; a wildcard's matches are sorted.
    ///
    /// As BuildKit does: leading `/` and `..` are dropped, each element of a path is matched by
    /// Go's `filepath.Match`, symbolic links are followed in what a pattern names and in the
    /// part before the first wildcard, but not below a wildcard. A wildcard that matches nothing
    /// is fine.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when a source without a wildcard does not exist or is excluded, with
    /// hints; and when a pattern is malformed.
    pub fn matches(&self, sources: &[String]) -> Result<Vec<Match>> {
        let mut out = Vec::new();
        for (index, source) in sources.iter().enumerate() {
            let clean = normalize(Path::new(source));
            let mut parts = clean.iter().skip(1).peekable();
            let mut fixed = PathBuf::new();
            while let Some(part) = parts.next_if(|p| !has_wildcard(p.as_bytes())) {
                fixed.push(part);
            }
            if parts.peek().is_none() {
                out.push(self.must_resolve(index, source, &fixed)?);
                continue;
            }
            let patterns = parts
                .map(|part| Pattern::glob(part.as_bytes()))
                .collect::<Result<Vec<_>, _>>()
                .map_err(|e| Error::new(format!("invalid source pattern `{source}`: {e}")))?;
            let base = self.must_resolve(index, source, &fixed)?;
            let mut found = Vec::new();
            if base.is_dir() {
                self.glob(&base.path, &base.state, &patterns, &mut found)?;
            }
            for path in found {
                out.push(self.must_resolve(index, source, &path)?);
            }
        }
        Ok(out)
    }

    /// Resolves what a COPY takes, in order: its sources, without what it excludes.
    ///
    /// With `parents`, a match is the directory before a source's pivot, of which only that is
    /// walked which the rest of the source names; links in there are not followed.
    ///
    /// # Errors
    /// Those of [`Self::matches`]; and when a pattern of `--exclude` is malformed.
    pub fn pick(&self, pick: &Pick) -> Result<Vec<Match>> {
        let exclude = pick.excluded()?;
        let mut out = if pick.parents {
            self.pick_parents(&pick.sources)?
        } else {
            self.matches(&pick.sources)?
        };
        for from in &mut out {
            from.filter.exclude.clone_from(&exclude);
        }
        out.retain(|from| from.is_dir() || !from.filter.drops_file(Path::new(&from.name)));
        Ok(out)
    }

    fn pick_parents(&self, sources: &[String]) -> Result<Vec<Match>> {
        let mut out = Vec::new();
        for (index, source) in sources.iter().enumerate() {
            let (above, kept) = at_pivot(source);
            let kept = normalize(Path::new(kept));
            let kept = kept.strip_prefix("/").unwrap_or(&kept);
            for mut from in self.matches(&[above.to_owned()])? {
                from.source = index;
                if !from.is_dir() {
                    return Err(Error::new(format!(
                        "`{}` before the pivot of `{source}` is no directory",
                        from.path.display()
                    )));
                }
                if !kept.as_os_str().is_empty() {
                    if !has_wildcard(kept.as_os_str().as_bytes()) {
                        self.must_exist(source, &from, kept)?;
                    }
                    from.filter.include = Some(Arc::new(Include::new(kept, source)?));
                }
                out.push(from);
            }
        }
        Ok(out)
    }

    /// Makes sure that a path below a match is there without following links.
    fn must_exist(&self, source: &str, from: &Match, kept: &Path) -> Result<()> {
        let path = from.path.join(kept);
        let parent = path.parent().unwrap_or_else(|| Path::new(""));
        let real = self.must_resolve(from.source, source, parent)?;
        if real.path != parent {
            return Err(Error::new(format!(
                "`{source}` leads through a symbolic link, which `--parents` does not follow"
            ))
            .hint(format!(
                "name what is behind it, in `{}`",
                real.path.display()
            )));
        }
        // A link in the end is copied as such, wherever it leads.
        let is_link = self
            .root
            .stat(&path, false)
            .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink);
        if !is_link || self.is_hidden(&path) {
            self.must_resolve(from.source, source, &path)?;
        }
        Ok(())
    }

    /// Resolves a path that has to exist.
    fn must_resolve(&self, index: usize, source: &str, path: &Path) -> Result<Match> {
        match self.resolve(path)? {
            Resolved::Found {
                path: real,
                stat,
                state,
            } => Ok(Match {
                source: index,
                name: path
                    .file_name()
                    .unwrap_or_else(|| OsStr::new(""))
                    .to_owned(),
                path: real,
                stat,
                state,
                filter: Filter::default(),
            }),
            Resolved::Missing { at, excluded } => {
                let mut error = Error::new(format!("`{source}` not found")).kind(Kind::NotFound);
                if let Some(rule) = excluded {
                    error = error.hint(format!("`{}` is excluded by {rule}", at.display()));
                } else {
                    if at != path && !path.starts_with(&at) {
                        error = error.hint(format!(
                            "`{}` leads through symbolic links to `{}`, which does not exist",
                            path.display(),
                            at.display()
                        ));
                    }
                    if let Some(near) = suggest::near(self, path, &at) {
                        error = error.hint(format!("did you mean `{near}`?"));
                    }
                }
                Err(error)
            }
        }
    }

    /// Follows a path through all symbolic links, each part of it looked up in the tree without
    /// what is excluded.
    fn resolve(&self, path: &Path) -> Result<Resolved> {
        let mut todo: VecDeque<OsString> = components(path).collect();
        let mut at = PathBuf::new();
        let mut states = vec![self.ignore.root()];
        let mut stat = self.root.stat("/", true).op("stat the context")?;
        let mut links = 0;
        while let Some(part) = todo.pop_front() {
            if part == ".." {
                if at.pop() {
                    states.pop();
                }
                continue;
            }
            let parent = states
                .last()
                .map_or_else(|| self.ignore.root(), State::clone);
            let next = at.join(&part);
            stat = match self.root.stat(&next, false) {
                Ok(stat) => stat,
                Err(Errno::NOENT | Errno::NOTDIR) => {
                    return Ok(Resolved::Missing {
                        at: next,
                        excluded: None,
                    });
                }
                Err(e) => return Err(Error::new("stat").path(next).source(e)),
            };
            let state = self.ignore.enter(&parent, &next);
            if state.is_excluded() && !(is_dir(&stat) && self.any_included(&next, &stat, &state)?) {
                return Ok(Resolved::Missing {
                    excluded: self.ignore.reason(&state),
                    at: next,
                });
            }
            if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
                links += 1;
                if links > MAX_LINKS {
                    return Err(Error::new("too many symbolic links in").path(path));
                }
                let target = self.read_link(&next)?;
                if target.starts_with(b"/") {
                    at = PathBuf::new();
                    states.truncate(1);
                }
                for part in components(bytes_path(&target)).rev() {
                    todo.push_front(part);
                }
                continue;
            }
            at = next;
            states.push(state);
        }
        // A link's last step may have gone up, so that `stat` is of something below.
        if !path.as_os_str().is_empty() {
            stat = self.root.stat(&at, false).op_path("stat", &at)?;
        }
        let state = states.pop().unwrap_or_else(|| self.ignore.root());
        Ok(Resolved::Found {
            path: at,
            stat,
            state,
        })
    }

    fn read_link(&self, path: &Path) -> Result<Vec<u8>> {
        self.root
            .open(path, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty())
            .and_then(|fd| rustix::fs::readlinkat(fd, "", Vec::new()))
            .map(std::ffi::CString::into_bytes)
            .op_path("read symbolic link", path)
    }

    /// Collects the paths below `dir` whose elements match `patterns`.
    fn glob(
        &self,
        dir: &Path,
        state: &State,
        patterns: &[Pattern],
        found: &mut Vec<PathBuf>,
    ) -> Result<()> {
        let Some((first, rest)) = patterns.split_first() else {
            return Ok(());
        };
        for name in self.list(dir)? {
            if !first.matches(name.as_bytes()) {
                continue;
            }
            let path = dir.join(&name);
            let stat = match self.root.stat(&path, false) {
                Ok(stat) => stat,
                Err(e) => return Err(changed_or(e, "stat", &path)),
            };
            let state = self.ignore.enter(state, &path);
            let dir = is_dir(&stat);
            if state.is_excluded() && !(dir && self.any_included(&path, &stat, &state)?) {
                continue;
            }
            if rest.is_empty() {
                found.push(path);
            } else if dir {
                self.glob(&path, &state, rest, found)?;
            }
        }
        Ok(())
    }
}

/// Returns the parts of a path that resolving has to look at: names and `..`.
fn components(path: &Path) -> impl DoubleEndedIterator<Item = OsString> + '_ {
    path.as_os_str()
        .as_bytes()
        .split(|b| *b == b'/')
        .filter(|part| !matches!(*part, b"" | b"."))
        .map(|part| OsStr::from_bytes(part).to_owned())
}
