//! Documents with random changes.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::good;
use crate::spec::Spec;
use crate::validate::validate;

/// The pointers to everything inside a value.
fn pointers(value: &Value, prefix: &str, found: &mut Vec<String>) {
    let step = |name: &str| format!("{prefix}/{}", name.replace('~', "~0").replace('/', "~1"));
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                found.push(step(name));
                pointers(value, &step(name), found);
            }
        }
        Value::Array(list) => {
            for (index, value) in list.iter().enumerate() {
                found.push(step(&index.to_string()));
                pointers(value, &step(&index.to_string()), found);
            }
        }
        _ => {}
    }
}

fn leaf() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<i64>().prop_map(|n| json!(n)),
        any::<u64>().prop_map(|n| json!(n)),
        (-2_i64..20).prop_map(|n| json!(n)),
        any::<bool>().prop_map(|b| json!(b)),
        "\\PC{0,12}".prop_map(|s| json!(s)),
        "[-0-9,./:= ]{0,12}".prop_map(|s| json!(s)),
        any::<Vec<char>>().prop_map(|s| json!(s.into_iter().collect::<String>())),
        Just(json!([])),
        Just(json!({})),
        Just(Value::Null),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_panics(changes in prop::collection::vec((any::<prop::sample::Index>(), leaf()), 1..8)) {
        let mut document = good();
        for (index, value) in changes {
            let mut all = Vec::new();
            pointers(&document, "", &mut all);
            if all.is_empty() {
                break;
            }
            if let Some(place) = document.pointer_mut(index.get(all.as_slice()).as_str()) {
                // A value of the same kind gets further than the parser.
                let leaf = place.is_number() || place.is_string();
                if !leaf || std::mem::discriminant(place) == std::mem::discriminant(&value) {
                    *place = value;
                }
            }
        }
        let bytes = serde_json::to_vec(&document).expect("write");
        if let Ok(spec) = Spec::parse(&bytes) {
            for problem in validate(&spec) {
                prop_assert!(!problem.place.is_empty() && !problem.text.contains('\n'));
            }
        }
    }
}
