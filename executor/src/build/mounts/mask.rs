//! Keeps secrets out of what is shown.
//!
//! Responsible for finding values in a stream that arrives in pieces. Must not know where they come
//! from. Invariant: no piece that is let through completes a value, however the stream was cut.

/// What is shown in a value's place.
const STARS: &[u8] = b"****";

/// The shortest line of a value of several lines that is looked for by itself: shorter ones are
/// words that mean nothing.
const SHORTEST_LINE: usize = 8;

/// The values to hide.
#[derive(Clone, Default)]
pub struct Mask {
    /// Longest first; none is empty.
    patterns: Vec<Vec<u8>>,
}

impl std::fmt::Debug for Mask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mask")
            .field("patterns", &self.patterns.len())
            .finish_non_exhaustive()
    }
}

/// One stream on its way.
#[derive(Debug)]
pub struct Masked<'a> {
    mask: &'a Mask,
    held: Vec<u8>,
}

impl Mask {
    /// Takes the values. White space around them does not count, since shells take it off; of values
    /// of several lines each longer line counts, too.
    pub fn new<'v>(values: impl IntoIterator<Item = &'v [u8]>) -> Self {
        let mut patterns = Vec::new();
        for value in values {
            let whole = value.trim_ascii();
            patterns.push(whole.to_vec());
            let lines = whole.split(|b| *b == b'\n').map(<[u8]>::trim_ascii);
            patterns.extend(
                lines
                    .filter(|line| line.len() >= SHORTEST_LINE)
                    .map(<[u8]>::to_vec),
            );
        }
        patterns.retain(|p| !p.is_empty());
        patterns.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        patterns.dedup();
        Self { patterns }
    }

    /// Starts a stream.
    pub fn stream(&self) -> Masked<'_> {
        Masked {
            mask: self,
            held: Vec::new(),
        }
    }

    /// Hides the values in a text.
    pub fn text(&self, text: &str) -> String {
        if self.patterns.is_empty() {
            return text.to_owned();
        }
        let (shown, _) = self.scan(text.as_bytes(), true);
        String::from_utf8_lossy(&shown).into_owned()
    }

    /// Returns what can be shown, and where it ends: what follows may be the beginning of a value.
    fn scan(&self, bytes: &[u8], is_all: bool) -> (Vec<u8>, usize) {
        let mut shown = Vec::with_capacity(bytes.len());
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            let same = |p: &&Vec<u8>| p[0] == rest[0];
            let may_follow = self.patterns.iter().filter(same).find(|p| {
                rest.starts_with(p) || (!is_all && rest.len() < p.len() && p.starts_with(rest))
            });
            match may_follow {
                Some(pattern) if rest.len() < pattern.len() => break,
                Some(pattern) => {
                    shown.extend_from_slice(STARS);
                    at += pattern.len();
                }
                None => {
                    shown.push(rest[0]);
                    at += 1;
                }
            }
        }
        (shown, at)
    }
}

impl Masked<'_> {
    /// Takes the next piece; returns what can be shown now.
    pub fn push(&mut self, piece: &[u8]) -> Vec<u8> {
        self.held.extend_from_slice(piece);
        let (shown, end) = self.mask.scan(&self.held, false);
        self.held.drain(..end);
        shown
    }

    /// Returns the rest.
    pub fn finish(self) -> Vec<u8> {
        self.mask.scan(&self.held, true).0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn through(mask: &Mask, pieces: &[&[u8]]) -> String {
        let mut stream = mask.stream();
        let mut out = Vec::new();
        for piece in pieces {
            out.extend(stream.push(piece));
        }
        out.extend(stream.finish());
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn values_are_hidden_however_they_are_cut() {
        let mask = Mask::new([
            &b"hunter2\n"[..],
            b"hunter2-long",
            b"",
            b"first line\nshort\nlast line",
        ]);
        for (pieces, shown) in [
            (&[&b"pw=hunter2\n"[..]][..], "pw=****\n"),
            (&[b"pw=hun", b"ter", b"2 hunter2"], "pw=**** ****"),
            (&[b"hunter2-", b"long"], "****"),
            (&[b"hunter2-", b"loud"], "****-loud"),
            (&[b"hunt", b"ed"], "hunted"),
            (&[b"hunt"], "hunt"),
            (&[b"first line\nshort\nlast line!"], "****!"),
            (&[b"<last line> short"], "<****> short"),
        ] {
            assert_eq!(through(&mask, pieces), shown);
        }
        assert_eq!(mask.text("a hunter2 b"), "a **** b");
        assert_eq!(Mask::default().text("x"), "x");
    }

    proptest! {
        #[test]
        fn cuts_don_t_matter(text in "[ab]{0,20}", cuts in proptest::collection::vec(0..21_usize, 0..5)) {
            let mask = Mask::new([&b"aab"[..], b"ab", b"aabba"]);
            let whole = through(&mask, &[text.as_bytes()]);
            let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(text.len())).collect();
            cuts.sort_unstable();
            let mut pieces = Vec::new();
            let mut from = 0;
            for cut in cuts {
                pieces.push(&text.as_bytes()[from..cut]);
                from = cut;
            }
            pieces.push(&text.as_bytes()[from..]);
            prop_assert_eq!(through(&mask, &pieces), whole);
        }
    }
}
