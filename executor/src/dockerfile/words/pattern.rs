//! Patterns of `${v#p}`, `${v%p}` and `${v/p/r}`.
//!
//! Responsible for `*` and `?` with backslash escapes; there are no bracket expressions. Invariant:
//! one match costs the product of both lengths at most.

/// One element of a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    /// Any characters.
    Many,
    /// Any one character.
    One,
    /// This character.
    Exactly(char),
}

/// A compiled pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    tokens: Vec<Token>,
}

/// Which of several matches is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    Shortest,
    Longest,
}

impl Pattern {
    /// Compiles a pattern; the error says what is wrong with it.
    pub(super) fn new(text: &str) -> Result<Self, String> {
        let mut tokens = Vec::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            tokens.push(match c {
                // Stars in a row match what one does, and cost more.
                '*' if tokens.last() == Some(&Token::Many) => continue,
                '*' => Token::Many,
                '?' => Token::One,
                '\\' => match chars.next() {
                    Some(c @ ('*' | '?' | '\\' | '}' | '/')) => Token::Exactly(c),
                    Some(c) => return Err(format!("invalid escape `\\{c}` in pattern")),
                    None => return Err("the pattern ends with an escape".into()),
                },
                c => Token::Exactly(c),
            });
        }
        Ok(Self { tokens })
    }

    fn reversed(&self) -> Self {
        Self {
            tokens: self.tokens.iter().rev().copied().collect(),
        }
    }

    /// Returns how many characters at the start of `chars` match.
    fn prefix(&self, chars: impl Iterator<Item = char>, extent: Extent) -> Option<usize> {
        // The set of tokens that may come next, stepped along the text; the last is "all matched".
        let goal = self.tokens.len();
        let mut active = vec![false; goal + 1];
        active[0] = true;
        self.skip_stars(&mut active);
        let mut found = active[goal].then_some(0);
        let mut next = vec![false; goal + 1];
        for (at, c) in chars.enumerate() {
            if found.is_some() && extent == Extent::Shortest {
                break;
            }
            next.fill(false);
            for (i, token) in self.tokens.iter().enumerate() {
                if active[i] {
                    match token {
                        Token::Many => next[i] = true,
                        Token::One => next[i + 1] = true,
                        Token::Exactly(wanted) => next[i + 1] |= *wanted == c,
                    }
                }
            }
            self.skip_stars(&mut next);
            std::mem::swap(&mut active, &mut next);
            if active[goal] {
                found = Some(at + 1);
            } else if !active.contains(&true) {
                break;
            }
        }
        found
    }

    fn skip_stars(&self, active: &mut [bool]) {
        for (i, token) in self.tokens.iter().enumerate() {
            if active[i] && *token == Token::Many {
                active[i + 1] = true;
            }
        }
    }

    /// Removes a matching start.
    pub(super) fn trim_start(&self, value: &str, extent: Extent) -> String {
        let matched = self.prefix(value.chars(), extent).unwrap_or(0);
        value.chars().skip(matched).collect()
    }

    /// Removes a matching end.
    pub(super) fn trim_end(&self, value: &str, extent: Extent) -> String {
        let matched = self
            .reversed()
            .prefix(value.chars().rev(), extent)
            .unwrap_or(0);
        let kept = value.chars().count() - matched;
        value.chars().take(kept).collect()
    }

    /// Replaces the first match, or all of them, each as long as possible.
    pub(super) fn replace(&self, value: &str, replacement: &str, all: bool) -> String {
        let chars: Vec<char> = value.chars().collect();
        let mut out = String::new();
        let mut at = 0;
        // An empty match right behind another match does not count.
        let mut behind_match = false;
        while at <= chars.len() {
            let matched = self.prefix(chars[at..].iter().copied(), Extent::Longest);
            let taken = match matched {
                Some(0) if behind_match => None,
                other => other,
            };
            if let Some(length) = taken {
                out.push_str(replacement);
                at += length;
                if !all {
                    out.extend(&chars[at..]);
                    return out;
                }
                behind_match = true;
                if length > 0 {
                    continue;
                }
            }
            behind_match = false;
            out.extend(chars.get(at));
            at += 1;
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::new(text).expect(text)
    }

    #[test]
    fn trims_both_ends() {
        use Extent::{Longest, Shortest};
        for (text, value, extent, start, end) in [
            ("*/", "a/b/c/", Shortest, "b/c/", "a/b/c"),
            ("*/", "a/b/c/", Longest, "", ""),
            (".*", "x.tar.gz", Shortest, "x.tar.gz", "x.tar"),
            (".*", "x.tar.gz", Longest, "x.tar.gz", "x"),
            ("?", "äöü", Shortest, "öü", "äö"),
            ("", "abc", Longest, "abc", "abc"),
            ("*", "abc", Shortest, "abc", "abc"),
            ("*", "abc", Longest, "", ""),
            ("a*b*c", "axbxcxcab", Shortest, "xcab", "axbxcxcab"),
            ("\\*", "*a*", Shortest, "a*", "*a"),
            ("x", "abc", Longest, "abc", "abc"),
        ] {
            let pattern = pattern(text);
            assert_eq!(pattern.trim_start(value, extent), start, "{text} {value}");
            assert_eq!(pattern.trim_end(value, extent), end, "{text} {value}");
        }
    }

    #[test]
    fn replaces() {
        for (text, value, by, first, all) in [
            ("a", "banana", "o", "bonana", "bonono"),
            ("a*n", "banana!", "-", "b-a!", "b-a!"),
            ("", "ab", "-", "-ab", "-a-b-"),
            ("x", "ab", "-", "ab", "ab"),
            ("*", "ab", "-", "-", "-"),
            ("??", "abc", "-", "-c", "-c"),
        ] {
            let pattern = pattern(text);
            assert_eq!(pattern.replace(value, by, false), first, "{text} {value}");
            assert_eq!(pattern.replace(value, by, true), all, "{text} {value}");
        }
    }

    #[test]
    fn refuses_bad_escapes() {
        for text in ["\\", "\\x", "a\\\\\\"] {
            assert!(Pattern::new(text).is_err(), "{text}");
        }
    }
}
