//! Reading a JSON value with the place of what is wrong.
//!
//! Responsible for the path of the value that has the wrong type. Must not know any document.
//! Invariant: the place is that of the first value that was refused, written as `validate` writes
//! places.

use std::cell::RefCell;
use std::fmt::Write as _;

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, Error as _, IntoDeserializer, MapAccess,
    SeqAccess, Visitor,
};
use serde::forward_to_deserialize_any;
use serde_json::{Error, Map, Value};

/// Reads a value. The error comes with its place; that of the whole document is empty.
pub(super) fn from_value<T: DeserializeOwned>(value: &Value) -> Result<T, (String, Error)> {
    let path = RefCell::new(Vec::new());
    let located = Located { value, path: &path };
    T::deserialize(located).map_err(|error| (place(&path.take()), error))
}

/// One step from a value to one inside it.
enum Step<'de> {
    Field(&'de str),
    Item(usize),
}

fn place(path: &[Step<'_>]) -> String {
    let mut text = String::new();
    for step in path {
        let _: std::fmt::Result = match step {
            Step::Item(index) => write!(text, "[{index}]"),
            Step::Field(name) if text.is_empty() => write!(text, "{}", name.escape_debug()),
            Step::Field(name) => write!(text, ".{}", name.escape_debug()),
        };
    }
    text
}

/// A value, and where in the document reading is. A step stays in the path when it fails.
#[derive(Clone, Copy)]
struct Located<'de, 'p> {
    value: &'de Value,
    path: &'p RefCell<Vec<Step<'de>>>,
}

impl<'de> Located<'de, '_> {
    fn read<T: DeserializeSeed<'de>>(
        self,
        step: Step<'de>,
        value: &'de Value,
        seed: T,
    ) -> Result<T::Value, Error> {
        let Self { path, .. } = self;
        path.borrow_mut().push(step);
        let read = seed.deserialize(Located { value, path })?;
        path.borrow_mut().pop();
        Ok(read)
    }
}

impl<'de> Deserializer<'de> for Located<'de, '_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Object(map) => visitor.visit_map(Fields {
                fields: map.into_iter(),
                next: None,
                at: self,
            }),
            Value::Array(list) => visitor.visit_seq(Items {
                items: list.iter().enumerate(),
                at: self,
            }),
            leaf => leaf.deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    /// A list in place of an object is an error: derived code would take it for the fields in
    /// order.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        if self.value.is_array() {
            return Err(Error::custom("invalid type: list, expected an object"));
        }
        self.deserialize_any(visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map enum identifier
    }
}

struct Fields<'de, 'p> {
    fields: <&'de Map<String, Value> as IntoIterator>::IntoIter,
    next: Option<(&'de str, &'de Value)>,
    at: Located<'de, 'p>,
}

impl<'de> MapAccess<'de> for Fields<'de, '_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        self.next = self.fields.next().map(|(key, value)| (key.as_str(), value));
        match self.next {
            None => Ok(None),
            Some((key, _)) => {
                let key: StrDeserializer<'_, Error> = key.into_deserializer();
                seed.deserialize(key).map(Some)
            }
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        match self.next.take() {
            None => Err(Error::custom("a value without a key")),
            Some((key, value)) => self.at.read(Step::Field(key), value, seed),
        }
    }
}

struct Items<'de, 'p> {
    items: std::iter::Enumerate<std::slice::Iter<'de, Value>>,
    at: Located<'de, 'p>,
}

impl<'de> SeqAccess<'de> for Items<'de, '_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        match self.items.next() {
            None => Ok(None),
            Some((index, value)) => self.at.read(Step::Item(index), value, seed).map(Some),
        }
    }
}
