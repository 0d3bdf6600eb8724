//! Plain paths (`.a.b[]`, `.items[0].id`, `.["odd name"]`): the part of jq that is read straight from the bytes.
//!
//! [`pick`], [`list`] and [`members`] slice what they find out of the text and build no tree. Records stay the bytes they were.

mod read;

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

#[cfg(test)]
mod tests {
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
}
