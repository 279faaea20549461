//! Word expansion: `$v`, `${v:-w}`, quotes and escapes.
//!
//! Responsible for one word of an instruction, given its variables, with the rules of BuildKit's
//! shell lexer, which are close to those of a POSIX shell but not the same. Must not know where the
//! variables come from. Invariant: time and memory are bounded, whatever the word and the values.

mod expand;
mod pattern;
mod split;

use std::ops::Range;

pub use expand::Expander;
pub(super) use split::split_words;

/// Longest result of one expansion, in bytes: far beyond what a process can be given, near enough
/// to stop values that double with each instruction.
pub const LONGEST: usize = 1 << 20;

/// Why a word could not be expanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpandError {
    /// Lower-case text without a full stop.
    pub message: String,
    /// Byte range in the word.
    pub range: Range<usize>,
}

/// What an expansion gave.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expansion {
    /// The word with everything replaced.
    pub text: String,
    /// The pieces of `text` between white space that was neither quoted nor escaped.
    pub words: Vec<Range<usize>>,
    /// Variables that are not set and for which the word gives no default, with their place in it.
    pub undefined: Vec<(String, Range<usize>)>,
}

/// Whether quotes and unset variables stay as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Quotes go, unset variables are empty.
    Plain,
    /// For display: quotes stay, unset variables stay as written.
    Display,
    /// For here-documents: quotes are text, unset variables are empty.
    Document,
}
