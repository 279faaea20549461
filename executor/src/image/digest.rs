//! Content digests.
//!
//! Responsible for the digest types and the hashing reader and writer. Invariant: a [`Digest`] is
//! always a well-formed SHA-256; other algorithms are refused by name.

use std::fmt;
use std::io::{self, Read, Write};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

use crate::error::Error;
use crate::image::hasher::Hasher;

/// A SHA-256 content digest, written `sha256:<64 hex digits>` (OCI image-spec, descriptor).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Hashes a byte string.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Makes a digest from the raw hash.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the raw hash.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Returns the 64 lower-case hexadecimal digits, without the algorithm.
    pub fn hex(&self) -> String {
        let mut text = String::with_capacity(64);
        for byte in self.0 {
            for nibble in [byte >> 4, byte & 15] {
                text.push(char::from_digit(u32::from(nibble), 16).unwrap_or('0'));
            }
        }
        text
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let Some((algorithm, hex)) = text.split_once(':') else {
            return Err(Error::new(format!(
                "invalid digest `{text}`: expected `sha256:` and 64 hexadecimal digits"
            )));
        };
        if algorithm != "sha256" {
            return Err(
                Error::new(format!("unsupported digest algorithm `{algorithm}`"))
                    .hint("sandcrab reads and writes sha256 digests only"),
            );
        }
        let mut bytes = [0; 32];
        let valid = hex.len() == 64
            && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
            && bytes.iter_mut().enumerate().all(|(i, byte)| {
                u8::from_str_radix(&hex[2 * i..2 * i + 2], 16)
                    .map(|b| *byte = b)
                    .is_ok()
            });
        if !valid {
            return Err(Error::new(format!(
                "invalid digest `{text}`: expected 64 lower-case hexadecimal digits"
            )));
        }
        Ok(Self(bytes))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|e: Error| serde::de::Error::custom(e))
    }
}

/// The digest of a layer's *uncompressed* tar (OCI image-spec, `rootfs.diff_ids`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DiffId(pub Digest);

impl fmt::Display for DiffId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The identity of a stack of layers (OCI image-spec, "ChainID").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChainId(pub Digest);

impl ChainId {
    /// Returns the chain that has `diff_id` on top of `parent`; the bottom chain is its own
    /// diff id.
    pub fn child(parent: Option<ChainId>, diff_id: DiffId) -> Self {
        match parent {
            None => Self(diff_id.0),
            Some(parent) => Self(Digest::of(format!("{} {diff_id}", parent.0).as_bytes())),
        }
    }

    /// Returns the chain of a whole stack, bottom first, or `None` for no layers.
    pub fn of(diff_ids: &[DiffId]) -> Option<Self> {
        diff_ids
            .iter()
            .fold(None, |parent, id| Some(Self::child(parent, *id)))
    }
}

/// Hashes and counts everything that is written through it.
pub struct HashingWriter<W> {
    inner: W,
    hasher: Hasher,
}

impl<W: Write> HashingWriter<W> {
    /// Wraps a writer.
    pub fn new(inner: W) -> Self {
        Self {
            inner,
            hasher: Hasher::new(),
        }
    }

    /// Returns the number of bytes written so far.
    pub fn count(&self) -> u64 {
        self.hasher.count()
    }

    /// Returns the digest of what was written so far.
    pub fn so_far(&mut self) -> Digest {
        Digest(self.hasher.so_far())
    }

    /// Returns the writer, the digest of what was written, and the number of bytes.
    pub fn finish(self) -> (W, Digest, u64) {
        let count = self.hasher.count();
        (self.inner, Digest(self.hasher.finish()), count)
    }
}

impl<W: Write> Write for HashingWriter<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(buf)?;
        self.hasher.update(&buf[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<W> fmt::Debug for HashingWriter<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HashingWriter")
            .field("count", &self.hasher.count())
            .finish_non_exhaustive()
    }
}

/// Hashes and counts everything that is read through it.
pub struct HashingReader<R> {
    inner: R,
    hasher: Hasher,
}

impl<R: Read> HashingReader<R> {
    /// Wraps a reader.
    pub fn new(inner: R) -> Self {
        Self {
            inner,
            hasher: Hasher::new(),
        }
    }

    /// Returns the reader, the digest of what was read so far, and the number of bytes.
    pub fn finish(self) -> (R, Digest, u64) {
        let count = self.hasher.count();
        (self.inner, Digest(self.hasher.finish()), count)
    }
}

impl<R: Read> Read for HashingReader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.hasher.update(&buf[..n]);
        Ok(n)
    }
}

impl<R> fmt::Debug for HashingReader<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HashingReader")
            .field("count", &self.hasher.count())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_and_prints() {
        let digest = Digest::of(b"");
        let text = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(digest.to_string(), text);
        assert_eq!(text.parse::<Digest>().expect("valid digest"), digest);
    }

    #[test]
    fn refuses_malformed() {
        for text in ["", "sha256", "sha256:", "sha256:ab", "sha512:ab", "md5:00"] {
            assert!(text.parse::<Digest>().is_err(), "{text}");
        }
        let upper = Digest::of(b"").to_string().replace('e', "E");
        assert!(upper.parse::<Digest>().is_err());
    }

    #[test]
    fn chain_of_one_layer_is_its_diff_id() {
        let id = DiffId(Digest::of(b"layer"));
        assert_eq!(ChainId::of(&[id]), Some(ChainId(id.0)));
        assert_eq!(ChainId::of(&[]), None);
    }
}
