//! Values of D-Bus and their bytes.
//!
//! Responsible for the types that systemd's interface uses, little endian, as the D-Bus
//! specification says ("Type System", "Wire Format"). Must not know messages. Invariant: what comes
//! from the socket is checked; no length in it is believed beyond the bytes that are there.

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Byte(u8),
    Bool(bool),
    I16(i16),
    U16(u16),
    I32(i32),
    U32(u32),
    I64(i64),
    U64(u64),
    Double(f64),
    Text(String),
    Path(String),
    Signature(String),
    /// The signature of the elements, and they.
    Array(String, Vec<Value>),
    Struct(Vec<Value>),
    /// A key and its value; only in arrays.
    Entry(Box<(Value, Value)>),
    Variant(Box<Value>),
}

impl Value {
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    pub(crate) fn variant(self) -> Self {
        Self::Variant(Box::new(self))
    }

    /// The text of a string or path.
    pub(crate) fn as_str(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::Path(text) => Some(text),
            Self::Variant(inner) => inner.as_str(),
            _ => None,
        }
    }

    /// The type of the value.
    pub(crate) fn signature(&self) -> String {
        match self {
            Self::Byte(_) => "y".to_owned(),
            Self::Bool(_) => "b".to_owned(),
            Self::I16(_) => "n".to_owned(),
            Self::U16(_) => "q".to_owned(),
            Self::I32(_) => "i".to_owned(),
            Self::U32(_) => "u".to_owned(),
            Self::I64(_) => "x".to_owned(),
            Self::U64(_) => "t".to_owned(),
            Self::Double(_) => "d".to_owned(),
            Self::Text(_) => "s".to_owned(),
            Self::Path(_) => "o".to_owned(),
            Self::Signature(_) => "g".to_owned(),
            Self::Array(element, _) => format!("a{element}"),
            Self::Struct(fields) => {
                let fields: String = fields.iter().map(Self::signature).collect();
                format!("({fields})")
            }
            Self::Entry(entry) => format!("{{{}{}}}", entry.0.signature(), entry.1.signature()),
            Self::Variant(_) => "v".to_owned(),
        }
    }

    /// Appends the value's bytes. Alignment counts from the beginning of `out`.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Byte(n) => out.push(*n),
            Self::Bool(b) => put(out, 4, &u32::from(*b).to_le_bytes()),
            Self::I16(n) => put(out, 2, &n.to_le_bytes()),
            Self::U16(n) => put(out, 2, &n.to_le_bytes()),
            Self::I32(n) => put(out, 4, &n.to_le_bytes()),
            Self::U32(n) => put(out, 4, &n.to_le_bytes()),
            Self::I64(n) => put(out, 8, &n.to_le_bytes()),
            Self::U64(n) => put(out, 8, &n.to_le_bytes()),
            Self::Double(n) => put(out, 8, &n.to_le_bytes()),
            Self::Text(text) | Self::Path(text) => {
                put(out, 4, &(text.len() as u32).to_le_bytes());
                out.extend_from_slice(text.as_bytes());
                out.push(0);
            }
            Self::Signature(text) => {
                out.push(text.len() as u8);
                out.extend_from_slice(text.as_bytes());
                out.push(0);
            }
            Self::Array(element, values) => {
                put(out, 4, &[0; 4]);
                let length_at = out.len() - 4;
                pad(out, alignment(element.as_bytes().first().copied()));
                let start = out.len();
                for value in values {
                    value.write(out);
                }
                let length = ((out.len() - start) as u32).to_le_bytes();
                out[length_at..length_at + 4].copy_from_slice(&length);
            }
            Self::Struct(fields) => {
                pad(out, 8);
                for field in fields {
                    field.write(out);
                }
            }
            Self::Entry(entry) => {
                pad(out, 8);
                entry.0.write(out);
                entry.1.write(out);
            }
            Self::Variant(inner) => {
                Self::Signature(inner.signature()).write(out);
                inner.write(out);
            }
        }
    }
}

pub(super) fn pad(out: &mut Vec<u8>, to: usize) {
    out.resize(out.len().next_multiple_of(to), 0);
}

fn put(out: &mut Vec<u8>, align: usize, bytes: &[u8]) {
    pad(out, align);
    out.extend_from_slice(bytes);
}

fn alignment(kind: Option<u8>) -> usize {
    match kind {
        Some(b'y' | b'g' | b'v') => 1,
        Some(b'n' | b'q') => 2,
        Some(b'x' | b't' | b'd' | b'(' | b'{') => 8,
        _ => 4,
    }
}

/// Reads values from bytes. `None` anywhere means that the bytes are no such value.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    depth: u32,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            at: 0,
            depth: 0,
        }
    }

    /// Reads one value for each complete type of the signature.
    pub(crate) fn read_all(&mut self, signature: &str) -> Option<Vec<Value>> {
        let mut rest = signature.as_bytes();
        let mut values = Vec::new();
        while !rest.is_empty() {
            let length = type_length(rest, 0)?;
            values.push(self.read(&rest[..length])?);
            rest = &rest[length..];
        }
        Some(values)
    }

    fn read(&mut self, signature: &[u8]) -> Option<Value> {
        // The specification allows 32 levels each of arrays and structures.
        if self.depth > 64 {
            return None;
        }
        self.depth += 1;
        let value = self.read_inner(signature);
        self.depth -= 1;
        value
    }

    fn read_inner(&mut self, signature: &[u8]) -> Option<Value> {
        Some(match signature.first()? {
            b'y' => Value::Byte(self.take::<1>(1)?[0]),
            b'b' => Value::Bool(self.u32()? != 0),
            b'n' => Value::I16(i16::from_le_bytes(self.take(2)?)),
            b'q' => Value::U16(u16::from_le_bytes(self.take(2)?)),
            b'i' => Value::I32(i32::from_le_bytes(self.take(4)?)),
            // A descriptor is an index; none is ever asked for.
            b'u' | b'h' => Value::U32(self.u32()?),
            b'x' => Value::I64(i64::from_le_bytes(self.take(8)?)),
            b't' => Value::U64(u64::from_le_bytes(self.take(8)?)),
            b'd' => Value::Double(f64::from_le_bytes(self.take(8)?)),
            b's' => Value::Text(self.string()?),
            b'o' => Value::Path(self.string()?),
            b'g' => Value::Signature(self.signature()?),
            b'v' => {
                let signature = self.signature()?;
                if type_length(signature.as_bytes(), 0)? != signature.len() {
                    return None;
                }
                self.read(signature.as_bytes())?.variant()
            }
            b'a' => {
                let length = usize::try_from(self.u32()?).ok()?;
                let element = &signature[1..];
                self.align(alignment(element.first().copied()))?;
                let end = self.at.checked_add(length)?;
                if end > self.bytes.len() {
                    return None;
                }
                let mut values = Vec::new();
                while self.at < end {
                    values.push(self.read(element)?);
                }
                let element = std::str::from_utf8(element).ok()?.to_owned();
                (self.at == end).then_some(Value::Array(element, values))?
            }
            b'(' => {
                self.align(8)?;
                let fields = std::str::from_utf8(&signature[1..signature.len() - 1]).ok()?;
                Value::Struct(self.read_all(fields)?)
            }
            b'{' => {
                self.align(8)?;
                let fields = std::str::from_utf8(&signature[1..signature.len() - 1]).ok()?;
                let mut pair = self.read_all(fields)?.into_iter();
                Value::Entry(Box::new((pair.next()?, pair.next()?)))
            }
            _ => return None,
        })
    }

    fn align(&mut self, to: usize) -> Option<()> {
        self.at = self.at.checked_next_multiple_of(to)?;
        (self.at <= self.bytes.len()).then_some(())
    }

    fn take<const N: usize>(&mut self, align: usize) -> Option<[u8; N]> {
        self.align(align)?;
        let bytes = self.bytes.get(self.at..self.at.checked_add(N)?)?;
        self.at += N;
        bytes.try_into().ok()
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?))
    }

    fn string(&mut self) -> Option<String> {
        let length = usize::try_from(self.u32()?).ok()?;
        self.text(length)
    }

    fn signature(&mut self) -> Option<String> {
        let [length] = self.take(1)?;
        self.text(usize::from(length))
    }

    fn text(&mut self, length: usize) -> Option<String> {
        let end = self.at.checked_add(length)?;
        let bytes = self.bytes.get(self.at..end)?;
        // The terminating zero isn't counted.
        (self.bytes.get(end) == Some(&0)).then_some(())?;
        self.at = end + 1;
        String::from_utf8(bytes.to_vec()).ok()
    }
}

/// The length of the first complete type of a signature.
fn type_length(signature: &[u8], depth: u32) -> Option<usize> {
    if depth > 64 {
        return None;
    }
    match signature.first()? {
        b'a' => Some(1 + type_length(&signature[1..], depth + 1)?),
        open @ (b'(' | b'{') => {
            let close = if *open == b'(' { b')' } else { b'}' };
            let mut at = 1;
            while *signature.get(at)? != close {
                at += type_length(&signature[at..], depth + 1)?;
            }
            (at > 1).then_some(at + 1)
        }
        b'y' | b'b' | b'n' | b'q' | b'i' | b'u' | b'x' | b't' | b'd' | b's' | b'o' | b'g'
        | b'v' | b'h' => Some(1),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_bytes_are_those_of_the_specification() {
        let mut out = Vec::new();
        // The specification's own example of an array: length, padding to 8, one 64-bit number.
        Value::Array("x".to_owned(), vec![Value::I64(5)]).write(&mut out);
        assert_eq!(out, [8, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0]);
        out.clear();
        Value::text("foo").write(&mut out);
        Value::text("+").write(&mut out);
        assert_eq!(out, [3, 0, 0, 0, b'f', b'o', b'o', 0, 1, 0, 0, 0, b'+', 0]);
        out.clear();
        Value::Bool(true).variant().write(&mut out);
        assert_eq!(out, [1, b'b', 0, 0, 1, 0, 0, 0]);
    }

    #[test]
    fn what_is_written_is_read() {
        let values = vec![
            Value::Byte(1),
            Value::text("a unit.scope"),
            Value::Array(
                "(sv)".to_owned(),
                vec![
                    Value::Struct(vec![
                        Value::text("PIDs"),
                        Value::Array("u".to_owned(), vec![Value::U32(7)]).variant(),
                    ]),
                    Value::Struct(vec![Value::text("CPUWeight"), Value::U64(9).variant()]),
                ],
            ),
            Value::Array("(sa(sv))".to_owned(), Vec::new()),
            Value::Array(
                "{sd}".to_owned(),
                vec![Value::Entry(Box::new((
                    Value::text("k"),
                    Value::Double(1.5),
                )))],
            ),
            Value::Path("/a".to_owned()),
            Value::I16(-2),
        ];
        let signature: String = values.iter().map(Value::signature).collect();
        let mut bytes = Vec::new();
        for value in &values {
            value.write(&mut bytes);
        }
        assert_eq!(Reader::new(&bytes).read_all(&signature), Some(values));
    }

    proptest! {
        #[test]
        fn garbage_is_no_value(
            bytes in proptest::collection::vec(any::<u8>(), 0..64),
            signature in "[ybnqiuxtdsogva(){}]{0,12}",
        ) {
            // It must end, and not panic.
            drop(Reader::new(&bytes).read_all(&signature));
        }
    }
}
