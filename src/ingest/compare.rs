//! What differs between two copies of a record: `changed` as JSON pointers, `previous` as the old values nested as in the record.
//!
//! Numbers are compared and carried as the digits that were sent. A list is one place: it changed as a whole.

use std::borrow::Cow;
use std::fmt::Write as _;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::canonical::{Comparing, canonical};

/// The difference between an old and a new copy.
#[derive(Debug, Default, PartialEq)]
pub struct Difference {
    /// JSON pointers (RFC 6901) of the changed places, in the order of the new copy, places that went away last.
    pub changed: Vec<String>,
    /// JSON: the old values at those places, null where there was none.
    pub previous: String,
}

impl Difference {
    /// `changed` as JSON.
    pub fn changed_json(&self) -> Vec<u8> {
        serde_json::to_vec(&self.changed).expect("a list of texts is always JSON")
    }
}

/// The rules of a comparison.
#[derive(Clone, Copy)]
pub struct Rules<'a> {
    pub comparing: &'a Comparing,
    /// Only the places that both copies have: for copies that came by different ways (RULES R5.4).
    pub common_only: bool,
}

/// Compares two copies of a record, both valid JSON.
pub fn difference(old: &str, new: &str, rules: Rules<'_>) -> Result<Difference, serde_json::Error> {
    let (old, new) = (serde_json::from_str(old)?, serde_json::from_str(new)?);
    let mut difference = Difference::default();
    let mut place = Vec::new();
    let previous = walk(old, new, &mut place, rules, &mut difference.changed)?;
    difference.previous = previous.unwrap_or_else(|| "{}".to_owned());
    Ok(difference)
}

/// Whether two copies agree on every place that both have (RULES R5.2).
pub fn agree(one: &str, other: &str, comparing: &Comparing) -> Result<bool, serde_json::Error> {
    Ok(difference(one, other, Rules { comparing, common_only: true })?.changed.is_empty())
}

/// Notes the changed places below `place`; gives the old values there, nested, when there are any.
fn walk(
    old: &RawValue,
    new: &RawValue,
    place: &mut Vec<String>,
    rules: Rules<'_>,
    changed: &mut Vec<String>,
) -> Result<Option<String>, serde_json::Error> {
    if old.get() == new.get() || place.len() > MAX_DEPTH {
        return Ok(None);
    }
    let (Some(olds), Some(news)) = (members(old)?, members(new)?) else {
        let below = rules.comparing.below(place);
        if canonical(old.get(), &below)? == canonical(new.get(), &below)? {
            return Ok(None);
        }
        changed.push(pointer(place));
        return Ok(Some(old.get().to_owned()));
    };
    let mut previous: Vec<(String, String)> = Vec::new();
    for (name, value) in &news {
        place.push(name.to_string());
        if rules.comparing.takes_part(place) {
            match olds.iter().find(|(n, _)| n == name) {
                Some((_, before)) => {
                    if let Some(was) = walk(before, value, place, rules, changed)? {
                        previous.push((name.to_string(), was));
                    }
                }
                None if rules.common_only => {}
                None => {
                    changed.push(pointer(place));
                    previous.push((name.to_string(), "null".to_owned()));
                }
            }
        }
        place.pop();
    }
    for (name, before) in &olds {
        place.push(name.to_string());
        if !rules.common_only && rules.comparing.takes_part(place) && !news.iter().any(|(n, _)| n == name) {
            changed.push(pointer(place));
            previous.push((name.to_string(), before.get().to_owned()));
        }
        place.pop();
    }
    Ok(if previous.is_empty() { None } else { Some(object(&previous)) })
}

/// Deeper than this nothing is compared: answers nested deeper are refused when they are read.
const MAX_DEPTH: usize = 128;

fn object(members: &[(String, String)]) -> String {
    let mut text = String::from("{");
    for (n, (name, value)) in members.iter().enumerate() {
        if n > 0 {
            text.push(',');
        }
        let name = serde_json::to_string(name).expect("text is always JSON");
        let _ = write!(text, "{name}:{value}");
    }
    text.push('}');
    text
}

fn pointer(place: &[String]) -> String {
    place.iter().map(|part| format!("/{}", part.replace('~', "~0").replace('/', "~1"))).collect()
}

type Members<'a> = Vec<(Cow<'a, str>, &'a RawValue)>;

/// An object's members in the order sent; None when the value is no object.
fn members(value: &RawValue) -> Result<Option<Members<'_>>, serde_json::Error> {
    if !value.get().starts_with('{') {
        return Ok(None);
    }
    struct Object<'a>(Members<'a>);
    impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Pairs;
            impl<'de> Visitor<'de> for Pairs {
                type Value = Members<'de>;
                fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    f.write_str("an object")
                }
                fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                    let mut members = Vec::new();
                    while let Some(Name(name)) = map.next_key()? {
                        members.push((name, map.next_value()?));
                    }
                    Ok(members)
                }
            }
            deserializer.deserialize_map(Pairs).map(Object)
        }
    }
    serde_json::from_str::<Object<'_>>(value.get()).map(|object| Some(object.0))
}

/// A member's name, borrowed where it holds no escapes.
struct Name<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Name<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Cow<'de, str>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a name")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Cow::Borrowed(text))
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Cow::Owned(text.to_owned()))
            }
        }
        deserializer.deserialize_str(Text).map(Name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::Path;

    fn paths(texts: &[&str]) -> Vec<Path> {
        texts.iter().map(|t| Path::parse(t).expect("a plain path")).collect()
    }

    fn check(old: &str, new: &str, ignore: &[&str], unordered: &[&str], changed: &[&str], previous: &str) {
        let comparing = Comparing { ignore: paths(ignore), unordered: paths(unordered), ..Comparing::default() };
        let rules = Rules { comparing: &comparing, common_only: false };
        let found = difference(old, new, rules).expect("both are JSON");
        assert_eq!(found.changed, changed, "{old} -> {new}");
        assert_eq!(found.previous, previous, "{old} -> {new}");
    }

    #[test]
    fn the_changed_places_and_what_was_there_before() {
        check(r#"{"a":1}"#, r#"{"a":1}"#, &[], &[], &[], "{}");
        check(r#"{"s":"P"}"#, r#"{"s":"S","t":"x"}"#, &[], &[], &["/s", "/t"], r#"{"s":"P","t":null}"#);
        check(r#"{"a":{"b":1,"c":2}}"#, r#"{"a":{"b":1,"c":3}}"#, &[], &[], &["/a/c"], r#"{"a":{"c":2}}"#);
        check(r#"{"a":1,"b":2}"#, r#"{"b":2}"#, &[], &[], &["/a"], r#"{"a":1}"#);
        check(r#"{"l":[1,2]}"#, r#"{"l":[2,1]}"#, &[], &[], &["/l"], r#"{"l":[1,2]}"#);
        check(r#"{"l":[1,2]}"#, r#"{"l":[2,1]}"#, &[], &[".l"], &[], "{}");
        check(r#"{"l":[1,2]}"#, r#"{"l":[2,1,3]}"#, &[], &[".l"], &["/l"], r#"{"l":[1,2]}"#);
        check(r#"{"m":{"at":1},"x":1}"#, r#"{"m":{"at":2},"x":1}"#, &[".m.at"], &[], &[], "{}");
        check(r#"{"a/b~":1}"#, r#"{"a/b~":2}"#, &[], &[], &["/a~1b~0"], r#"{"a/b~":1}"#);
        check("[1]", "[2]", &[], &[], &[""], "[1]");
    }

    #[test]
    fn amounts_keep_their_digits() {
        check(r#"{"sum":10.50}"#, r#"{"sum":10.5}"#, &[], &[], &["/sum"], r#"{"sum":10.50}"#);
        check(
            r#"{"n":12345678901234567890123}"#,
            r#"{"n":12345678901234567890124}"#,
            &[],
            &[],
            &["/n"],
            r#"{"n":12345678901234567890123}"#,
        );
    }

    #[test]
    fn white_space_and_the_order_of_members_are_no_change() {
        check("{\"a\": {\"x\":1, \"y\":2}}", r#"{"a":{"y":2,"x":1}}"#, &[], &[], &[], "{}");
    }

    #[test]
    fn what_takes_no_part_is_not_named_and_what_is_equal_is_no_change() {
        use crate::canonical::Equal;
        let only = Comparing { only: paths(&[".a.b", ".n"]), ..Comparing::default() };
        let equal = Equal { numbers: true, ..Equal::default() };
        let found = |comparing: &Comparing| {
            let (old, new) = (r#"{"a":{"b":1,"c":1},"n":1.0,"t":1}"#, r#"{"a":{"b":2,"c":2},"n":1,"t":2,"x":1}"#);
            difference(old, new, Rules { comparing, common_only: false }).expect("JSON").changed
        };
        assert_eq!(found(&only), ["/a/b", "/n"]);
        assert_eq!(found(&Comparing { equal, ..only }), ["/a/b"]);
    }

    #[test]
    fn copies_agree_on_what_both_have() {
        for (one, other, want) in [
            (r#"{"a":1}"#, r#"{"a":1,"b":2}"#, true),
            (r#"{"a":1,"c":{"x":1}}"#, r#"{"a":1,"c":{"x":1,"y":2}}"#, true),
            (r#"{"a":1}"#, r#"{"a":2,"b":2}"#, false),
            (r#"{"a":[1]}"#, r#"{"a":[1,2]}"#, false),
        ] {
            assert_eq!(agree(one, other, &Comparing::default()).expect("JSON"), want, "{one} {other}");
        }
    }
}
