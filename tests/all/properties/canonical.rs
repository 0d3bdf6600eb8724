//! The canonical form: what means the same is the same, what does not is not.

use proptest::prelude::*;
use ringback::canonical::{Comparing, canonical};
use ringback::path::Path;
use ringback::simulate::Dice;
use serde_json::{Map, Value};

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-c\u{e9}\"\\\\]{0,3}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec(("[a-e]{1,2}", inner), 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// The same value with its members in another order, at every depth.
fn shuffled(value: &Value, dice: &mut Dice) -> Value {
    match value {
        Value::Object(members) => {
            let mut members: Vec<_> =
                members.iter().map(|(name, value)| (name.clone(), shuffled(value, dice))).collect();
            for end in (1..members.len()).rev() {
                members.swap(end, dice.below(end + 1));
            }
            Value::Object(members.into_iter().collect::<Map<_, _>>())
        }
        Value::Array(items) => items.iter().map(|item| shuffled(item, dice)).collect(),
        leaf => leaf.clone(),
    }
}

fn path(text: &str) -> Vec<Path> {
    vec![Path::parse(text).expect("a plain path")]
}

fn form(value: &Value, ignore: &[Path], unordered: &[Path]) -> Vec<u8> {
    let comparing = Comparing { ignore: ignore.to_vec(), unordered: unordered.to_vec(), ..Comparing::default() };
    canonical(&value.to_string(), &comparing).expect("JSON")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_order_of_members_means_nothing(value in value(), seed in any::<u64>()) {
        let other = shuffled(&value, &mut Dice::new(seed));
        prop_assert_eq!(form(&value, &[], &[]), form(&other, &[], &[]));
    }

    #[test]
    fn two_values_share_a_form_only_when_they_are_equal(one in value(), other in value()) {
        prop_assert_eq!(form(&one, &[], &[]) == form(&other, &[], &[]), one == other);
    }

    #[test]
    fn an_ignored_place_may_hold_anything(one in value(), other in value(), rest in value()) {
        let record = |noise: &Value| serde_json::json!({ "noise": noise, "rest": rest, "in": [{ "noise": noise }, { "x": rest }] });
        let ignore: Vec<Path> = [".noise", ".in[].noise"].iter().flat_map(|text| path(text)).collect();
        prop_assert_eq!(form(&record(&one), &ignore, &[]), form(&record(&other), &ignore, &[]));
        // Only there: the rest counts as before.
        prop_assert_eq!(form(&record(&one), &path(".noise"), &[]) == form(&record(&other), &path(".noise"), &[]), one == other);
    }

    #[test]
    fn a_set_may_come_in_any_order_and_a_list_may_not(items in prop::collection::vec(value(), 0..6), seed in any::<u64>()) {
        let mut dice = Dice::new(seed);
        let mut other = items.clone();
        for end in (1..other.len()).rev() {
            other.swap(end, dice.below(end + 1));
        }
        let record = |items: &[Value]| serde_json::json!({ "set": items, "n": 1 });
        prop_assert_eq!(form(&record(&items), &[], &path(".set")), form(&record(&other), &[], &path(".set")));
        prop_assert_eq!(form(&record(&items), &[], &[]) == form(&record(&other), &[], &[]), items == other);
    }
}
