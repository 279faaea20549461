//! Changes of inputs.
//!
//! Responsible for changing bytes, and values of JSON documents. Must not know which document it
//! is. Invariant: inputs stay below a size.

use serde_json::{Map, Value, json};

use crate::random::Random;

/// Larger inputs only make the same slower.
pub(crate) const LARGEST: usize = 256 * 1024;

/// Texts that something in a document may give a meaning to.
const WORDS: [&str; 40] = [
    "",
    "/",
    ".",
    "..",
    "../..",
    "/proc/self/fd/3",
    "/dev/null",
    "//",
    "a/../../b",
    "\0",
    "a\0b",
    "=",
    "A=",
    "=B",
    "-",
    "-1",
    "0-",
    "0-4095",
    "4294967295",
    "18446744073709551616",
    "0,,1",
    "9999999999999999999999",
    "1.0.0",
    "2.0.0",
    "rbind",
    "bind",
    "idmap=uids=0-1-1",
    "ridmap",
    "rro",
    "private",
    "SCMP_ACT_NOTIFY",
    "SCMP_ACT_ERRNO",
    "SCMP_CMP_MASKED_EQ",
    "CAP_SYS_ADMIN",
    "net.ipv4.conf.a/b.c",
    "kernel.sem",
    "write",
    "clone3",
    "é\u{202e}\n\u{7f}",
    "%s%n`$(x)",
];

/// Numbers at limits of something.
const NUMBERS: [i64; 26] = [
    0,
    1,
    -1,
    2,
    5,
    6,
    7,
    19,
    20,
    -20,
    -21,
    63,
    64,
    99,
    100,
    255,
    256,
    1000,
    4095,
    4096,
    65535,
    65536,
    i32::MAX as i64,
    u32::MAX as i64,
    i64::MAX,
    i64::MIN,
];

/// Makes a new input of those that there are.
pub(crate) fn change(pool: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let Some(input) = random.pick(pool) else {
        return Vec::new();
    };
    let changes = 1 + random.below(4);
    let document = serde_json::from_slice::<Value>(input);
    let mut output = match document {
        // Most of what is no JSON ends at once.
        Ok(mut document) if !random.once_in(8) => {
            for _ in 0..changes {
                change_value(&mut document, pool, random);
            }
            document.to_string().into_bytes()
        }
        _ => {
            let mut bytes = input.clone();
            for _ in 0..changes {
                change_bytes(&mut bytes, pool, random);
            }
            bytes
        }
    };
    output.truncate(LARGEST);
    output
}

pub(crate) fn change_bytes(bytes: &mut Vec<u8>, pool: &[Vec<u8>], random: &mut Random) {
    let at = random.below(bytes.len() + 1);
    let length = random.below(bytes.len() - at + 1).min(1 + random.below(64));
    match random.below(5) {
        0 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
        1 => drop(bytes.drain(at..at + length)),
        2 => {
            let again: Vec<u8> = bytes.get(at..at + length).unwrap_or_default().to_vec();
            for _ in 0..=random.below(64) {
                bytes.splice(at..at, again.iter().copied());
            }
        }
        3 => {
            let word = random.pick(&WORDS).map_or("", |w| *w);
            bytes.splice(at..at + length, word.bytes());
        }
        _ => {
            let other = random.pick(pool).map(Vec::as_slice).unwrap_or_default();
            let tail = other.get(random.below(other.len() + 1)..);
            bytes.truncate(at);
            bytes.extend_from_slice(tail.unwrap_or_default());
        }
    }
}

fn change_value(document: &mut Value, pool: &[Vec<u8>], random: &mut Random) {
    // A donor of values, now and then another document.
    let donor = if random.once_in(4) {
        let other = random
            .pick(pool)
            .and_then(|bytes| serde_json::from_slice(bytes).ok());
        other.unwrap_or(Value::Null)
    } else {
        document.clone()
    };
    let given = pick(&donor, random).clone();
    let place = pick_mut(document, random);
    match (random.below(8), &mut *place) {
        (0, place) => *place = given,
        (1, Value::Array(list)) => {
            let at = random.below(list.len() + 1);
            list.insert(at, given);
        }
        (2, Value::Array(list)) if !list.is_empty() => {
            let at = random.below(list.len());
            list.remove(at);
        }
        (3, Value::Array(list)) if !list.is_empty() => {
            let at = random.below(list.len());
            let again = list.get(at).cloned().unwrap_or(Value::Null);
            let times = if random.once_in(16) { 500 } else { 1 };
            list.splice(at..at, std::iter::repeat_n(again, times));
        }
        (1, Value::Object(map)) => {
            let name = pick_name(&donor, random);
            map.insert(name, given);
        }
        (2 | 3, Value::Object(map)) => {
            let names: Vec<String> = map.keys().cloned().collect();
            if let Some(name) = random.pick(&names) {
                map.remove(name);
            }
        }
        (_, Value::String(text)) => change_text(text, &donor, random),
        (_, Value::Number(_)) => *place = number(random),
        (_, Value::Bool(value)) => *value = !*value,
        (_, place) => *place = leaf(random),
    }
}

fn change_text(text: &mut String, donor: &Value, random: &mut Random) {
    let word = random.pick(&WORDS).map_or("", |w| *w);
    let limits: Vec<usize> = text
        .char_indices()
        .map(|(i, _)| i)
        .chain([text.len()])
        .collect();
    let at = random.pick(&limits).copied().unwrap_or_default();
    match random.below(6) {
        0 => word.clone_into(text),
        1 => text.insert_str(at, word),
        2 => text.truncate(at),
        3 => *text = text.repeat(random.below(9)),
        4 => {
            // A text of the same document, which is a name of something more often.
            if let Value::String(other) = pick(donor, random) {
                text.clone_from(other);
            }
        }
        _ => {
            let end = random.pick(&limits).copied().unwrap_or_default();
            text.replace_range(at.min(end)..at.max(end), word);
        }
    }
}

fn number(random: &mut Random) -> Value {
    match random.below(4) {
        0 => json!(random.number()),
        1 => json!(random.below(70_000)),
        2 => json!(u64::MAX - (random.number() >> 60)),
        _ => json!(random.pick(&NUMBERS)),
    }
}

fn leaf(random: &mut Random) -> Value {
    match random.below(6) {
        0 => Value::Null,
        1 => json!([]),
        2 => Value::Object(Map::new()),
        3 => json!(random.once_in(2)),
        4 => number(random),
        _ => json!(random.pick(&WORDS)),
    }
}

/// A value somewhere inside another.
fn pick<'v>(value: &'v Value, random: &mut Random) -> &'v Value {
    let inner: Vec<&Value> = match value {
        Value::Array(list) => list.iter().collect(),
        Value::Object(map) => map.values().collect(),
        _ => return value,
    };
    match random.pick(&inner) {
        Some(inner) if !random.once_in(6) => pick(inner, random),
        _ => value,
    }
}

fn pick_mut<'v>(value: &'v mut Value, random: &mut Random) -> &'v mut Value {
    let length = match value {
        Value::Array(list) => list.len(),
        Value::Object(map) => map.len(),
        _ => 0,
    };
    if length == 0 || random.once_in(6) {
        return value;
    }
    let at = random.below(length);
    let inner = match value {
        Value::Array(list) => list.get_mut(at),
        Value::Object(map) => map.values_mut().nth(at),
        _ => None,
    };
    // There is one: `at` is below the length.
    inner.map_or_else(
        || unreachable!("an element"),
        |inner| pick_mut(inner, random),
    )
}

fn pick_name(donor: &Value, random: &mut Random) -> String {
    if let Value::Object(map) = pick(donor, random)
        && let Some(name) = map.keys().nth(random.below(map.len()))
    {
        return name.clone();
    }
    random
        .pick(&WORDS)
        .map_or(String::new(), |w| (*w).to_owned())
}
