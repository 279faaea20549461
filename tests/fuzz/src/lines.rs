//! Changes of documents that have lines.
//!
//! Responsible for moving whole lines and for the words of the Dockerfile language. Must not know
//! its grammar. Invariant: inputs stay below a size.

use crate::mutate::{LARGEST, change_bytes};
use crate::random::Random;

/// Pieces that something in a Dockerfile may give a meaning to.
const WORDS: [&str; 64] = [
    "FROM ",
    "FROM scratch AS a\n",
    "FROM a AS b\n",
    " AS ",
    "RUN ",
    "COPY ",
    "ADD ",
    "ENV ",
    "ARG ",
    "LABEL ",
    "EXPOSE ",
    "VOLUME ",
    "USER ",
    "WORKDIR ",
    "SHELL ",
    "STOPSIGNAL ",
    "HEALTHCHECK CMD ",
    "HEALTHCHECK NONE",
    "ONBUILD ",
    "MAINTAINER ",
    "CMD ",
    "ENTRYPOINT ",
    "# escape=`\n",
    "# check=error=true;skip=all\n",
    "# syntax=x\n",
    "#",
    "\\\n",
    "`\n",
    "<<EOF",
    "<<-'E F' ",
    "3<<X\n",
    "EOF\n",
    "\nE F\n",
    "[\"a\", \"b\"]",
    "[]",
    "${a:-",
    "${a:+${b}}",
    "${a#*",
    "${a%%?}",
    "${a//x/y}",
    "${a:?b}",
    "$",
    "}",
    "'",
    "\"",
    "\\",
    "--from=",
    "--from=0 ",
    "--mount=type=",
    "--mount=type=cache,",
    "target=/x,",
    "--chmod=u+rwX,g=u ",
    "--link ",
    "--parents ",
    "--exclude=*.o ",
    "--checksum=sha256:",
    "--platform=$TARGETPLATFORM ",
    "--network=none ",
    "\u{feff}",
    "\r\n",
    "\0",
    "\u{a0}",
    "ü",
    "=",
];

/// Changes one of the known inputs in a few places.
pub(crate) fn change(pool: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut bytes = random.pick(pool).cloned().unwrap_or_default();
    for _ in 0..=random.below(6) {
        match random.below(4) {
            0 => change_bytes(&mut bytes, pool, random),
            1 => {
                let word = random.pick(&WORDS).map_or("", |word| *word);
                let at = random.below(bytes.len() + 1);
                bytes.splice(at..at, word.bytes());
            }
            _ => change_lines(&mut bytes, pool, random),
        }
    }
    bytes.truncate(LARGEST);
    bytes
}

fn change_lines(bytes: &mut Vec<u8>, pool: &[Vec<u8>], random: &mut Random) {
    let mut lines: Vec<Vec<u8>> = bytes
        .split_inclusive(|b| *b == b'\n')
        .map(<[u8]>::to_vec)
        .collect();
    let at = random.below(lines.len() + 1);
    let other = random.below(lines.len());
    match random.below(5) {
        0 if at < lines.len() => drop(lines.remove(at)),
        1 if at < lines.len() => lines.swap(at, other),
        2 if at < lines.len() => {
            let again = lines.get(at).cloned().unwrap_or_default();
            let times = if random.once_in(16) { 300 } else { 1 };
            lines.splice(at..at, std::iter::repeat_n(again, times));
        }
        3 if at < lines.len() => {
            let word = random.pick(&WORDS).map_or("", |word| *word);
            if let Some(line) = lines.get_mut(at) {
                let place = random.below(line.len() + 1);
                line.splice(place..place, word.bytes());
            }
        }
        _ => {
            let donor = random.pick(pool).cloned().unwrap_or_default();
            let given: Vec<&[u8]> = donor.split_inclusive(|b| *b == b'\n').collect();
            if let Some(line) = random.pick(&given) {
                lines.insert(at, line.to_vec());
            }
        }
    }
    *bytes = lines.concat();
}
