//! Messages of D-Bus.
//!
//! Responsible for the header (D-Bus specification, "Message Format"). Must not know what is said.
//! Invariant: only little-endian messages of a bounded size are read.

use super::value::{Reader, Value, pad};

pub(crate) const CALL: u8 = 1;
pub(crate) const RETURN: u8 = 2;
pub(crate) const ERROR: u8 = 3;
pub(crate) const SIGNAL: u8 = 4;

/// Nothing that systemd answers us is nearly this long; the specification's limit is 128 MiB.
const MAX: usize = 1 << 22;

/// The part of the header that has a fixed size, with the length of the fields.
pub(crate) const FIXED: usize = 16;

/// A message.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Message {
    pub(crate) kind: u8,
    pub(crate) serial: u32,
    pub(crate) reply_to: Option<u32>,
    pub(crate) path: String,
    pub(crate) interface: String,
    pub(crate) member: String,
    pub(crate) error: String,
    pub(crate) destination: String,
    pub(crate) body: Vec<Value>,
}

impl Message {
    /// The message's bytes.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut body = Vec::new();
        for value in &self.body {
            value.write(&mut body);
        }
        let mut fields = Vec::new();
        let mut field = |code: u8, value: Value| {
            fields.push(Value::Struct(vec![Value::Byte(code), value.variant()]));
        };
        let texts = [
            (1, Value::Path(self.path.clone()), &self.path),
            (2, Value::text(&self.interface), &self.interface),
            (3, Value::text(&self.member), &self.member),
            (4, Value::text(&self.error), &self.error),
            (6, Value::text(&self.destination), &self.destination),
        ];
        for (code, value, text) in texts {
            if !text.is_empty() {
                field(code, value);
            }
        }
        if let Some(serial) = self.reply_to {
            field(5, Value::U32(serial));
        }
        let signature: String = self.body.iter().map(Value::signature).collect();
        if !signature.is_empty() {
            field(8, Value::Signature(signature));
        }
        let mut out = vec![b'l', self.kind, 0, 1];
        out.extend_from_slice(&(body.len() as u32).to_le_bytes());
        out.extend_from_slice(&self.serial.to_le_bytes());
        Value::Array("(yv)".to_owned(), fields).write(&mut out);
        pad(&mut out, 8);
        out.extend_from_slice(&body);
        out
    }

    /// The length of the whole message that begins with these bytes.
    pub(crate) fn length(start: &[u8; FIXED]) -> Option<usize> {
        if start[0] != b'l' || start[3] != 1 {
            return None;
        }
        let mut reader = Reader::new(&start[4..]);
        let body = usize::try_from(reader.u32()?).ok()?;
        reader.u32()?;
        let fields = usize::try_from(reader.u32()?).ok()?;
        let header = FIXED.checked_add(fields)?.checked_next_multiple_of(8)?;
        let length = header.checked_add(body)?;
        (length <= MAX).then_some(length)
    }

    /// Reads a whole message.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let start: &[u8; FIXED] = bytes.first_chunk()?;
        if Self::length(start)? != bytes.len() {
            return None;
        }
        let mut message = Self {
            kind: bytes[1],
            ..Self::default()
        };
        let mut reader = Reader::new(bytes);
        let header = reader.read_all("yyyyuua(yv)")?;
        let [
            _,
            _,
            _,
            _,
            Value::U32(body),
            Value::U32(serial),
            Value::Array(_, fields),
        ] = header.as_slice()
        else {
            return None;
        };
        message.serial = *serial;
        let mut signature = String::new();
        for field in fields {
            let Value::Struct(pair) = field else {
                return None;
            };
            let [Value::Byte(code), Value::Variant(value)] = pair.as_slice() else {
                return None;
            };
            match (code, value.as_ref()) {
                (1, Value::Path(text)) => message.path.clone_from(text),
                (2, Value::Text(text)) => message.interface.clone_from(text),
                (3, Value::Text(text)) => message.member.clone_from(text),
                (4, Value::Text(text)) => message.error.clone_from(text),
                (5, Value::U32(serial)) => message.reply_to = Some(*serial),
                (6, Value::Text(text)) => message.destination.clone_from(text),
                (8, Value::Signature(text)) => signature.clone_from(text),
                // Others are to be ignored.
                _ => {}
            }
        }
        let body = bytes.len() - usize::try_from(*body).ok()?;
        message.body = Reader::new(&bytes[body..]).read_all(&signature)?;
        Some(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hello() -> Message {
        Message {
            kind: CALL,
            serial: 1,
            path: "/org/freedesktop/DBus".to_owned(),
            interface: "org.freedesktop.DBus".to_owned(),
            member: "Hello".to_owned(),
            destination: "org.freedesktop.DBus".to_owned(),
            ..Message::default()
        }
    }

    #[test]
    fn there_and_back() {
        let mut message = hello();
        for body in [vec![], vec![Value::text("x"), Value::U64(1)]] {
            message.body = body;
            message.reply_to = Some(9);
            let bytes = message.to_bytes();
            let start: &[u8; FIXED] = bytes.first_chunk().expect("a header");
            assert_eq!(Message::length(start), Some(bytes.len()));
            assert_eq!(Message::parse(&bytes), Some(message.clone()));
        }
    }

    #[test]
    fn what_is_too_long_is_refused() {
        let mut start = [0; FIXED];
        start[..4].copy_from_slice(&[b'l', 2, 0, 1]);
        start[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(Message::length(&start), None);
        start[0] = b'B';
        assert_eq!(Message::length(&start), None);
    }

    proptest! {
        #[test]
        fn a_broken_message_is_none(at in 0_usize..128, byte in any::<u8>()) {
            let mut bytes = hello().to_bytes();
            let at = at % bytes.len();
            bytes[at] = byte;
            drop(Message::parse(&bytes));
        }
    }
}
