//! Keys: the digest of everything that a result depends on.
//!
//! Responsible for hashing named fields so that different inputs never give the same bytes to the
//! hash. Must not know which fields a step has. Invariant: every field is written as its name,
//! its kind and its length before its content, so no sequence of fields can be read as another.

use std::io::{self, Write};

use crate::image::digest::{Digest, HashingWriter};

/// Changes whenever the meaning of keys does, so that old records are not found.
const VERSION: &str = "sandcrab key 1";

/// A key in the making.
#[derive(Debug)]
pub struct KeyBuilder {
    out: HashingWriter<io::Sink>,
}

impl KeyBuilder {
    /// Starts a key. `domain` keeps keys of different kinds of work apart.
    pub fn new(domain: &str) -> Self {
        let mut key = Self {
            out: HashingWriter::new(io::sink()),
        };
        key.bytes(VERSION.as_bytes());
        key.bytes(domain.as_bytes());
        key
    }

    /// Adds a field.
    pub fn field(&mut self, name: &str, value: impl AsRef<[u8]>) -> &mut Self {
        self.head(name, b'f');
        self.bytes(value.as_ref());
        self
    }

    /// Adds a field that may be absent, which differs from empty.
    pub fn option(&mut self, name: &str, value: Option<impl AsRef<[u8]>>) -> &mut Self {
        match value {
            None => self.head(name, b'n'),
            Some(value) => {
                self.head(name, b's');
                self.bytes(value.as_ref());
            }
        }
        self
    }

    /// Adds a list in its order.
    pub fn list<T: AsRef<[u8]>>(
        &mut self,
        name: &str,
        values: impl IntoIterator<Item = T>,
    ) -> &mut Self {
        self.head(name, b'[');
        for value in values {
            self.write(b"+");
            self.bytes(value.as_ref());
        }
        self.write(b"]");
        self
    }

    /// Adds a digest.
    pub fn digest(&mut self, name: &str, value: &Digest) -> &mut Self {
        self.head(name, b'd');
        self.write(value.as_bytes());
        self
    }

    /// Adds a number.
    pub fn number(&mut self, name: &str, value: u64) -> &mut Self {
        self.head(name, b'u');
        self.write(&value.to_be_bytes());
        self
    }

    /// Returns the key.
    pub fn finish(self) -> Digest {
        self.out.finish().1
    }

    fn head(&mut self, name: &str, kind: u8) {
        self.write(&[kind]);
        self.bytes(name.as_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.write(&(bytes.len() as u64).to_be_bytes());
        self.write(bytes);
    }

    fn write(&mut self, bytes: &[u8]) {
        self.out
            .write_all(bytes)
            .expect("a sink accepts everything");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn boundaries_count() {
        let list = |values: &[&str]| {
            let mut key = KeyBuilder::new("test");
            key.list("argv", values);
            key.finish()
        };
        let all = [
            list(&[]),
            list(&[""]),
            list(&["ab"]),
            list(&["a", "b"]),
            list(&["a", "", "b"]),
        ];
        for (i, a) in all.iter().enumerate() {
            for b in &all[i + 1..] {
                assert_ne!(a, b);
            }
        }
    }

    #[test]
    fn domain_and_absence_count() {
        let key = |domain: &str, value: Option<&str>| {
            let mut key = KeyBuilder::new(domain);
            key.option("user", value);
            key.finish()
        };
        assert_ne!(key("run", None), key("copy", None));
        assert_ne!(key("run", None), key("run", Some("")));
        assert_eq!(key("run", Some("a")), key("run", Some("a")));
    }

    proptest! {
        #[test]
        fn different_fields_give_different_keys(
            a: Vec<(String, Vec<u8>)>,
            b: Vec<(String, Vec<u8>)>,
        ) {
            let key = |fields: &[(String, Vec<u8>)]| {
                let mut key = KeyBuilder::new("test");
                for (name, value) in fields {
                    key.field(name, value);
                }
                key.finish()
            };
            prop_assert_eq!(a == b, key(&a) == key(&b));
        }
    }
}
