//! Plain paths (`.a.b[]`, `.items[0].id`, `.["odd name"]`): the part of jq that is read straight from the bytes.
//!
//! [`pick`], [`list`] and [`members`] slice what they find out of the text and build no tree. Records stay the bytes they were.

mod read;

use serde_json::Value;

use crate::canonical;

pub use read::{PathError, list, members, pick};

/// A plain path. Its text is kept for messages.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Path {
    pub text: String,
    pub steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    Field(String),
    Index(usize),
    /// `[]`: every item.
    Each,
}

impl Path {
    /// `.`: the whole.
    pub fn root() -> Path {
        Path { text: ".".into(), steps: Vec::new() }
    }

    /// Reads a path; None when the text is more than a plain path (it may still be jq).
    pub fn parse(text: &str) -> Option<Path> {
        let text = text.trim();
        let mut rest = text.strip_prefix('.')?;
        let mut steps = Vec::new();
        // Right after a dot a name may come; a bracket may come anywhere.
        let mut after_dot = true;
        while !rest.is_empty() {
            if rest.starts_with('[') {
                rest = bracket(rest, &mut steps)?;
            } else if after_dot {
                rest = name(rest, &mut steps)?;
            } else {
                rest = rest.strip_prefix('.')?;
                if rest.is_empty() {
                    return None;
                }
                after_dot = true;
                continue;
            }
            after_dot = false;
        }
        Some(Path { text: text.to_owned(), steps })
    }

    /// Whether it leads to one place at most: it holds no `[]`.
    pub fn is_single(&self) -> bool {
        !self.steps.contains(&Step::Each)
    }

    /// The steps without a trailing `[]`: where the list itself stands.
    pub fn list_steps(&self) -> &[Step] {
        match self.steps.split_last() {
            Some((Step::Each, before)) => before,
            _ => &self.steps,
        }
    }
}

/// `name` or `"odd name"` after a dot.
fn name<'t>(text: &'t str, steps: &mut Vec<Step>) -> Option<&'t str> {
    if text.starts_with('"') {
        let (field, rest) = quoted(text)?;
        steps.push(Step::Field(field));
        return Some(rest);
    }
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(text.len());
    if end == 0 || text.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    steps.push(Step::Field(text[..end].to_owned()));
    Some(&text[end..])
}

/// `[]`, `[3]` or `["odd name"]`.
fn bracket<'t>(text: &'t str, steps: &mut Vec<Step>) -> Option<&'t str> {
    let inner = text.strip_prefix('[')?;
    if let Some(rest) = inner.strip_prefix(']') {
        steps.push(Step::Each);
        return Some(rest);
    }
    if inner.starts_with('"') {
        let (field, rest) = quoted(inner)?;
        steps.push(Step::Field(field));
        return rest.strip_prefix(']');
    }
    let end = inner.find(']')?;
    let digits = &inner[..end];
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    steps.push(Step::Index(digits.parse().ok()?));
    Some(&inner[end + 1..])
}

/// A quoted name and what follows it. None for jq's `\( )`, which is no JSON text.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut texts = serde_json::Deserializer::from_str(text).into_iter::<String>();
    let field = texts.next()?.ok()?;
    Some((field, &text[texts.byte_offset()..]))
}

/// Takes what stands at `path` out of `value`.
pub fn remove(value: &mut Value, path: &Path) {
    if path.steps.is_empty() {
        *value = Value::Null;
    }
    remove_at(value, &path.steps);
}

fn remove_at(value: &mut Value, steps: &[Step]) {
    let Some((step, rest)) = steps.split_first() else { return };
    match (step, value) {
        (Step::Field(name), Value::Object(members)) if rest.is_empty() => {
            // The order of the others stays as it was received.
            members.shift_remove(name);
        }
        (Step::Field(name), Value::Object(members)) => {
            if let Some(inner) = members.get_mut(name) {
                remove_at(inner, rest);
            }
        }
        (Step::Index(n), Value::Array(items)) if *n < items.len() => {
            if rest.is_empty() {
                items.remove(*n);
            } else {
                remove_at(&mut items[*n], rest);
            }
        }
        (Step::Each, Value::Array(items)) if rest.is_empty() => items.clear(),
        (Step::Each, Value::Array(items)) => items.iter_mut().for_each(|item| remove_at(item, rest)),
        _ => {}
    }
}

/// Sorts the list at `path` by the canonical text of its items, so that lists which are sets compare equal.
/// A trailing `[]` means the same list.
pub fn sort_list(value: &mut Value, path: &Path) {
    sort_at(value, path.list_steps());
}

fn sort_at(value: &mut Value, steps: &[Step]) {
    match (steps.split_first(), value) {
        (None, Value::Array(items)) => items.sort_by_cached_key(canonical::text_of),
        (Some((Step::Field(name), rest)), Value::Object(members)) => {
            if let Some(inner) = members.get_mut(name) {
                sort_at(inner, rest);
            }
        }
        (Some((Step::Index(n), rest)), Value::Array(items)) => {
            if let Some(item) = items.get_mut(*n) {
                sort_at(item, rest);
            }
        }
        (Some((Step::Each, rest)), Value::Array(items)) => items.iter_mut().for_each(|item| sort_at(item, rest)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn field(name: &str) -> Step {
        Step::Field(name.into())
    }

    #[test]
    fn plain_paths_are_told_from_other_jq() {
        let cases: &[(&str, Option<Vec<Step>>)] = &[
            (".", Some(vec![])),
            (" .a ", Some(vec![field("a")])),
            (".a.b", Some(vec![field("a"), field("b")])),
            (".a[]", Some(vec![field("a"), Step::Each])),
            (".[]", Some(vec![Step::Each])),
            (".[][0]", Some(vec![Step::Each, Step::Index(0)])),
            (".a[0].b", Some(vec![field("a"), Step::Index(0), field("b")])),
            (".a.[0]", Some(vec![field("a"), Step::Index(0)])),
            (".[\"odd name\"]", Some(vec![field("odd name")])),
            (".a[\"x.y\"].c", Some(vec![field("a"), field("x.y"), field("c")])),
            (".\"odd\".b", Some(vec![field("odd"), field("b")])),
            (".a.\"\\u0061\\n\"", Some(vec![field("a"), field("a\n")])),
            (".[\"a]b\"]", Some(vec![field("a]b")])),
            ("", None),
            ("a", None),
            ("..", None),
            (".a.", None),
            (".a..b", None),
            (".a b", None),
            (".1a", None),
            (".a?", None),
            (".a[-1]", None),
            (".a[1:2]", None),
            (".a[", None),
            (".a[\"b\"", None),
            (".\"a\\(.b)\"", None),
            (".a | .b", None),
            (".a // .b", None),
            (".a[99999999999999999999]", None),
            (".é", None),
        ];
        for (text, want) in cases {
            assert_eq!(Path::parse(text).map(|p| p.steps), *want, "{text}");
        }
        assert_eq!(Path::parse(" .a ").map(|p| p.text), Some(".a".into()));
    }

    #[test]
    fn removing_leaves_everything_else_in_its_order() {
        let cases = [
            (".a", json!({"z": 1, "a": 2, "b": 3}), r#"{"z":1,"b":3}"#),
            (".a.b", json!({"a": {"b": 1, "c": 2}}), r#"{"a":{"c":2}}"#),
            (".a[].b", json!({"a": [{"b": 1, "c": 2}, {"b": 3}, 4]}), r#"{"a":[{"c":2},{},4]}"#),
            (".a[1]", json!({"a": [1, 2, 3]}), r#"{"a":[1,3]}"#),
            (".a[]", json!({"a": [1, 2, 3]}), r#"{"a":[]}"#),
            (".a[9]", json!({"a": [1]}), r#"{"a":[1]}"#),
            (".x.y", json!({"x": 1}), r#"{"x":1}"#),
            (".", json!({"x": 1}), "null"),
        ];
        for (path, mut value, want) in cases {
            remove(&mut value, &Path::parse(path).expect("a plain path"));
            assert_eq!(value.to_string(), want, "{path}");
        }
    }

    #[test]
    fn a_list_that_is_a_set_gets_one_order() {
        let cases = [
            (".t", json!({"t": ["b", "a", {"y": 1, "x": 2}]}), r#"{"t":["a","b",{"y":1,"x":2}]}"#),
            (".t[]", json!({"t": [3, 1, 2]}), r#"{"t":[1,2,3]}"#),
            (".l[].t", json!({"l": [{"t": [2, 1]}, {"t": 5}]}), r#"{"l":[{"t":[1,2]},{"t":5}]}"#),
            (".", json!([2, 1]), "[1,2]"),
        ];
        for (path, mut value, want) in cases {
            sort_list(&mut value, &Path::parse(path).expect("a plain path"));
            assert_eq!(value.to_string(), want, "{path}");
        }
    }
}
