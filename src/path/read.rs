//! Slicing by plain paths: one pass over the bytes, nothing parsed into a tree.
//!
//! The quick way reads with serde; it refuses a few values that JSON allows (`1e999`, a lone surrogate) when they stand where
//! an object was expected. Then the slow way, which looks at slices only, decides.

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

use super::{Path, Step};

/// Why there is no list (or object) at a path.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PathError {
    #[error("this is not JSON: {0}")]
    Syntax(String),
    #[error("nothing stands at the path")]
    Missing,
    #[error("null stands at the path")]
    Null,
    /// The kind of what stands there, in words.
    #[error("{0} stands at the path")]
    NotAList(&'static str),
}

/// What stands at each of these paths, cut out of `json`. JSON's null is Some; a member that is not there is None.
/// Of members with equal names the last counts. A path with `[]` is an error: it may lead to many places.
pub fn pick<'a>(json: &'a str, paths: &[&Path]) -> Result<Vec<Option<&'a RawValue>>, serde_json::Error> {
    if let Some(path) = paths.iter().find(|p| !p.is_single()) {
        return Err(serde_json::Error::custom(format!("`{}` leads to many places", path.text)));
    }
    let mut found = vec![None; paths.len()];
    // Sixty-four paths at a time: which of them are still alive is one word of bits.
    for (paths, found) in paths.chunks(64).zip(found.chunks_mut(64)) {
        let alive = if paths.len() == 64 { u64::MAX } else { (1 << paths.len()) - 1 };
        let quick = from_here(json, Walk { paths, found, depth: 0, alive });
        if quick.is_err() {
            for (path, found) in paths.iter().zip(found.iter_mut()) {
                *found = slow(json, &path.steps)?;
            }
        }
    }
    Ok(found)
}

fn from_here<'a, S: DeserializeSeed<'a>>(json: &'a str, seed: S) -> Result<S::Value, serde_json::Error> {
    let mut text = serde_json::Deserializer::from_str(json);
    let value = seed.deserialize(&mut text)?;
    text.end()?;
    Ok(value)
}

/// Follows the paths in `alive`, all of which match up to `depth`.
struct Walk<'p, 'a> {
    paths: &'p [&'p Path],
    found: &'p mut [Option<&'a RawValue>],
    depth: usize,
    alive: u64,
}

/// Of the paths in `alive`, those that go on after this step, and those that end with it.
#[derive(Clone, Copy, Default)]
struct Matches {
    on: u64,
    end: u64,
}

fn matches(paths: &[&Path], depth: usize, mut alive: u64, is: impl Fn(&Step) -> bool) -> Matches {
    let mut result = Matches::default();
    while alive != 0 {
        let n = alive.trailing_zeros() as usize;
        alive &= alive - 1;
        let steps = &paths[n].steps;
        if steps.get(depth).is_some_and(&is) {
            if steps.len() == depth + 1 {
                result.end |= 1 << n;
            } else {
                result.on |= 1 << n;
            }
        }
    }
    result
}

impl<'a> Walk<'_, 'a> {
    fn set(&mut self, mut which: u64, value: Option<&'a RawValue>) {
        while which != 0 {
            self.found[which.trailing_zeros() as usize] = value;
            which &= which - 1;
        }
    }

    fn inner(&mut self, alive: u64) -> Walk<'_, 'a> {
        Walk { paths: self.paths, found: self.found, depth: self.depth + 1, alive }
    }

    /// Takes the value that comes next, for the paths that match it.
    fn take<E: serde::de::Error>(
        &mut self,
        hit: Matches,
        next: &mut dyn FnMut(Next<'_, '_, 'a>) -> Result<(), E>,
    ) -> Result<(), E> {
        // An equal name further up is forgotten: the last one counts.
        self.set(hit.on | hit.end, None);
        if hit.on | hit.end == 0 {
            return next(Next::Skip);
        }
        if hit.end == 0 {
            return next(Next::Walk(self.inner(hit.on)));
        }
        let mut raw = None;
        next(Next::Slice(&mut raw))?;
        self.set(hit.end, raw);
        if let (Some(raw), true) = (raw, hit.on != 0) {
            from_here(raw.get(), self.inner(hit.on)).map_err(E::custom)?;
        }
        Ok(())
    }
}

/// What to do with the value that comes next.
enum Next<'n, 'p, 'a> {
    Skip,
    Slice(&'n mut Option<&'a RawValue>),
    Walk(Walk<'p, 'a>),
}

impl<'a> DeserializeSeed<'a> for Walk<'_, 'a> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(mut self, deserializer: D) -> Result<(), D::Error> {
        // Only the path `.` ends before its first step.
        let here = if self.depth == 0 { matches_root(self.paths, self.alive) } else { 0 };
        if here != 0 {
            let raw: &'a RawValue = serde::Deserialize::deserialize(deserializer)?;
            self.set(here, Some(raw));
            let alive = self.alive & !here;
            if alive != 0 {
                from_here(raw.get(), Walk { paths: self.paths, found: self.found, depth: 0, alive })
                    .map_err(D::Error::custom)?;
            }
            return Ok(());
        }
        deserializer.deserialize_any(self)
    }
}

fn matches_root(paths: &[&Path], alive: u64) -> u64 {
    let root = |(n, path): (usize, &&Path)| if path.steps.is_empty() { 1 << n } else { 0 };
    paths.iter().enumerate().map(root).fold(0, |all: u64, one: u64| all | one) & alive
}

impl<'a> Visitor<'a> for Walk<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'a>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(hit) = map.next_key_seed(KeyOf { paths: self.paths, depth: self.depth, alive: self.alive })? {
            self.take(hit, &mut |next| match next {
                Next::Skip => map.next_value::<IgnoredAny>().map(|_| ()),
                Next::Slice(raw) => map.next_value().map(|value| *raw = Some(value)),
                Next::Walk(walk) => map.next_value_seed(walk),
            })?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'a>>(mut self, mut seq: A) -> Result<(), A::Error> {
        let mut ended = false;
        let mut at = 0;
        while !ended {
            let hit = matches(self.paths, self.depth, self.alive, |step| matches!(step, Step::Index(n) if *n == at));
            self.take(hit, &mut |next| {
                ended = match next {
                    Next::Skip => seq.next_element::<IgnoredAny>()?.is_none(),
                    Next::Slice(raw) => {
                        *raw = seq.next_element()?;
                        raw.is_none()
                    }
                    Next::Walk(walk) => seq.next_element_seed(walk)?.is_none(),
                };
                Ok::<(), A::Error>(())
            })?;
            at += 1;
        }
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }
    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }
    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }
    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }
    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
}

/// Reads a member's name only to see which paths match it.
struct KeyOf<'p> {
    paths: &'p [&'p Path],
    depth: usize,
    alive: u64,
}

impl<'a> DeserializeSeed<'a> for KeyOf<'_> {
    type Value = Matches;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Matches, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for KeyOf<'_> {
    type Value = Matches;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a member")
    }

    fn visit_str<E>(self, name: &str) -> Result<Matches, E> {
        Ok(matches(self.paths, self.depth, self.alive, |step| matches!(step, Step::Field(field) if field == name)))
    }
}

/// One path, by slices alone: every level is looked through again, but nothing else is ever read.
fn slow<'a>(json: &'a str, steps: &[Step]) -> Result<Option<&'a RawValue>, serde_json::Error> {
    let mut here: &'a RawValue = serde_json::from_str(json)?;
    for step in steps {
        let text: &'a str = here.get();
        let next = match (step, text.as_bytes().first()) {
            (Step::Field(name), Some(b'{')) => {
                let members: Members<'a> = serde_json::from_str(text)?;
                members.0.into_iter().rev().find(|(n, _)| n == name).map(|(_, value)| value)
            }
            (Step::Index(n), Some(b'[')) => serde_json::from_str::<Vec<&'a RawValue>>(text)?.get(*n).copied(),
            _ => None,
        };
        match next {
            Some(next) => here = next,
            None => return Ok(None),
        }
    }
    Ok(Some(here))
}

/// The items of the list at `path` (a trailing `[]` means the same list), cut out of `json`.
pub fn list<'a>(json: &'a str, path: &Path) -> Result<Vec<&'a RawValue>, PathError> {
    if let Ok(Some(items)) = from_here(json, Descend { steps: path.list_steps(), read: Vec::new() }) {
        return Ok(items);
    }
    let found = at(json, path)?;
    match found.as_bytes().first() {
        Some(b'[') => serde_json::from_str(found).map_err(syntax),
        _ => Err(other_kind(found)),
    }
}

/// The members of the object at `path`, cut out of `json`, in their order. Equal names are all given.
pub fn members<'a>(json: &'a str, path: &Path) -> Result<Vec<(String, &'a RawValue)>, PathError> {
    let found = at(json, path)?;
    match found.as_bytes().first() {
        Some(b'{') => serde_json::from_str::<Members<'a>>(found).map(|m| m.0).map_err(syntax),
        _ => Err(other_kind(found)),
    }
}

/// The text of what stands at the path.
fn at<'a>(json: &'a str, path: &Path) -> Result<&'a str, PathError> {
    let steps = path.list_steps();
    if steps.contains(&Step::Each) {
        serde_json::from_str::<&RawValue>(json).map_err(syntax)?;
        return Err(PathError::NotAList("more than one value"));
    }
    slow(json, steps).map_err(syntax)?.map(RawValue::get).ok_or(PathError::Missing)
}

fn syntax(error: serde_json::Error) -> PathError {
    PathError::Syntax(error.to_string())
}

fn other_kind(text: &str) -> PathError {
    match text.as_bytes().first() {
        Some(b'n') => PathError::Null,
        first => PathError::NotAList(kind_of(first.copied())),
    }
}

/// What a JSON value is by its first byte, in words for a message.
fn kind_of(first: Option<u8>) -> &'static str {
    match first {
        Some(b'{') => "an object",
        Some(b'[') => "a list",
        Some(b'"') => "text",
        Some(b't' | b'f') => "true or false",
        Some(b'n') => "null",
        _ => "a number",
    }
}

/// The quick way to a list: None when something else stands there, whatever it is.
struct Descend<'p, 'a> {
    steps: &'p [Step],
    read: Vec<&'a RawValue>,
}

impl<'a> DeserializeSeed<'a> for Descend<'_, 'a> {
    type Value = Option<Vec<&'a RawValue>>;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'a> Visitor<'a> for Descend<'_, 'a> {
    type Value = Option<Vec<&'a RawValue>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let Some((Step::Field(field), rest)) = self.steps.split_first() else {
            return Err(A::Error::custom("an object stands at the path"));
        };
        let mut found = None;
        while let Some(hit) = map.next_key_seed(Named(field))? {
            if hit {
                found = map.next_value_seed(Descend { steps: rest, read: Vec::new() })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'a>>(mut self, mut seq: A) -> Result<Self::Value, A::Error> {
        let Some((step, rest)) = self.steps.split_first() else {
            while let Some(item) = seq.next_element()? {
                self.read.push(item);
            }
            return Ok(Some(self.read));
        };
        let Step::Index(wanted) = step else { return Err(A::Error::custom("a list stands at the path")) };
        let mut found = None;
        for at in 0.. {
            let more = if at == *wanted {
                seq.next_element_seed(Descend { steps: rest, read: Vec::new() })?.map(|list| found = list).is_some()
            } else {
                seq.next_element::<IgnoredAny>()?.is_some()
            };
            if !more {
                break;
            }
        }
        Ok(found)
    }
}

/// Whether a member has this name.
struct Named<'p>(&'p str);

impl<'a> DeserializeSeed<'a> for Named<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Named<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a member")
    }

    fn visit_str<E>(self, name: &str) -> Result<bool, E> {
        Ok(name == self.0)
    }
}

/// An object as its members, in their order.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'a> serde::Deserialize<'a> for Members<'a> {
    fn deserialize<D: Deserializer<'a>>(deserializer: D) -> Result<Self, D::Error> {
        struct All;
        impl<'a> Visitor<'a> for All {
            type Value = Members<'a>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Members<'a>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(All)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Path {
        Path::parse(text).expect("a plain path")
    }

    const RECORD: &str = r#" {"id": 7, "n": null, "big": 12345678901234567890.10, "a": {"b": {"c": "x"}, "l": [1, {"d": true}]},
        "\u006fdd": "y", "huge": 1e999, "half": "\ud800", "id": 8} "#;

    #[test]
    fn values_are_cut_out_as_they_were_sent() {
        let cases: &[(&str, Option<&str>)] = &[
            (".id", Some("8")),
            (".n", Some("null")),
            (".big", Some("12345678901234567890.10")),
            (".a.b", Some(r#"{"c": "x"}"#)),
            (".a.b.c", Some("\"x\"")),
            (".a.l[0]", Some("1")),
            (".a.l[1].d", Some("true")),
            (".a.l[2]", None),
            (".odd", Some("\"y\"")),
            (".huge", Some("1e999")),
            (".half", Some(r#""\ud800""#)),
            (".missing", None),
            (".id.x", None),
            (".huge.x", None),
            (".half.x", None),
            (".n.x", None),
            (".a[0]", None),
            (".", Some(RECORD.trim())),
        ];
        for (text, want) in cases {
            let found = pick(RECORD, &[&path(text)]).expect("JSON");
            assert_eq!(found[0].map(RawValue::get), *want, "{text}");
        }
        let paths: Vec<Path> = cases.iter().map(|(text, _)| path(text)).collect();
        let together = pick(RECORD, &paths.iter().collect::<Vec<_>>()).expect("JSON");
        let want: Vec<Option<&str>> = cases.iter().map(|(_, want)| *want).collect();
        assert_eq!(together.into_iter().map(|v| v.map(RawValue::get)).collect::<Vec<_>>(), want);
    }

    #[test]
    fn of_equal_names_the_last_counts_also_further_down() {
        let json = r#"{"a":{"b":1},"a":{"c":2}}"#;
        let found = pick(json, &[&path(".a.b"), &path(".a.c"), &path(".a")]).expect("JSON");
        assert_eq!(
            found.iter().map(|v| v.map(RawValue::get)).collect::<Vec<_>>(),
            [None, Some("2"), Some(r#"{"c":2}"#)]
        );
    }

    #[test]
    fn more_than_sixty_four_paths_are_all_found() {
        let json = (0..150).map(|n| format!("\"k{n}\":{n}")).collect::<Vec<_>>().join(",");
        let json = format!("{{{json}}}");
        let paths: Vec<Path> = (0..150).map(|n| path(&format!(".k{n}"))).collect();
        let found = pick(&json, &paths.iter().collect::<Vec<_>>()).expect("JSON");
        for (n, value) in found.iter().enumerate() {
            assert_eq!(value.map(RawValue::get), Some(n.to_string().as_str()));
        }
    }

    #[test]
    fn text_that_is_not_json_is_an_error() {
        for json in ["", "{", r#"{"a":1"#, r#"{"a":1} x"#, r#"{"a":01}"#, "<html>", "{'a':1}", r#"{"a":"\x"}"#] {
            assert!(pick(json, &[&path(".a")]).is_err(), "{json}");
            assert!(matches!(list(json, &path(".a")), Err(PathError::Syntax(_))), "{json}");
        }
        assert!(pick("{}", &[&path(".a[]")]).is_err(), "a path to many places");
    }

    #[test]
    fn a_list_is_cut_into_its_items_or_the_reason_is_named() {
        let json = r#"{"d":{"items":[1, "a" ,{"x":1e999}],"e":[]},"n":null,"t":"x","o":{},"b":true,"huge":1e999}"#;
        let cases: &[(&str, Result<Vec<&str>, PathError>)] = &[
            (".d.items", Ok(vec!["1", "\"a\"", r#"{"x":1e999}"#])),
            (".d.items[]", Ok(vec!["1", "\"a\"", r#"{"x":1e999}"#])),
            (".d.e", Ok(vec![])),
            (".n", Err(PathError::Null)),
            (".d.nope", Err(PathError::Missing)),
            (".n.x", Err(PathError::Missing)),
            (".t", Err(PathError::NotAList("text"))),
            (".o", Err(PathError::NotAList("an object"))),
            (".b", Err(PathError::NotAList("true or false"))),
            (".huge", Err(PathError::NotAList("a number"))),
            (".d.items[].x", Err(PathError::NotAList("more than one value"))),
            (".", Err(PathError::NotAList("an object"))),
        ];
        for (text, want) in cases {
            let found = list(json, &path(text)).map(|items| items.into_iter().map(RawValue::get).collect());
            assert_eq!(found, *want, "{text}");
        }
        let found = list(" [ [1] , 2 ] ", &path(".")).expect("a list");
        assert_eq!(found.into_iter().map(RawValue::get).collect::<Vec<_>>(), ["[1]", "2"]);
        let found = list(r#"[0,{"l":[5]}]"#, &path(".[1].l")).expect("a list");
        assert_eq!(found.into_iter().map(RawValue::get).collect::<Vec<_>>(), ["5"]);
    }

    #[test]
    fn an_object_is_cut_into_its_members() {
        let json = r#"{"m":{"b":{"x":1},"a":2.50},"l":[1]}"#;
        let found = members(json, &path(".m")).expect("an object");
        let found: Vec<(&str, &str)> = found.iter().map(|(n, v)| (n.as_str(), v.get())).collect();
        assert_eq!(found, [("b", r#"{"x":1}"#), ("a", "2.50")]);
        assert_eq!(members(json, &path(".l")).map(|_| ()), Err(PathError::NotAList("a list")));
    }

    #[test]
    fn deep_nesting_is_no_danger() {
        let json = format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(pick(&json, &[&path(".b")]).map(|f| f.len()).ok(), Some(1));
    }
}
