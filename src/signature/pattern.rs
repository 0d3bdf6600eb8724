//! The look of a signature's value: `"t={{ timestamp }},v1={{ signature }}"`, read and written.

use super::ValuePattern;

/// One element of a value: literal text around a placeholder.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Element<'a> {
    before: &'a str,
    what: Option<What>,
    after: &'a str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Signature,
    Timestamp,
}

/// What a received value holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found<'v> {
    pub signatures: Vec<&'v str>,
    pub timestamp: Option<&'v str>,
}

impl ValuePattern {
    /// `{{ signature }}` alone.
    pub fn plain() -> ValuePattern {
        ValuePattern { text: "{{ signature }}".into(), separator: None }
    }

    /// A fault of the pattern in words; None when it can be read and written.
    pub fn fault(&self) -> Option<String> {
        let elements = self.elements();
        let placeholders = self.text.matches("{{").count();
        let understood = elements.iter().filter(|element| element.what.is_some()).count();
        if placeholders != understood {
            return Some(
                "holds more than `{{ signature }}` and `{{ timestamp }}`, one in each element; give the `separator`"
                    .into(),
            );
        }
        let signature = elements.iter().any(|element| element.what == Some(What::Signature));
        (!signature).then(|| "has no `{{ signature }}`".into())
    }

    fn elements(&self) -> Vec<Element<'_>> {
        match self.separator.as_deref().filter(|separator| !separator.is_empty()) {
            Some(separator) => split_outside(&self.text, separator).into_iter().map(element).collect(),
            None => vec![element(&self.text)],
        }
    }

    /// Takes a received value apart. Elements may repeat; unknown ones are passed over.
    pub fn read<'v>(&self, value: &'v str) -> Found<'v> {
        let elements = self.elements();
        let mut found = Found::default();
        let mut take = |part: &'v str| {
            for element in &elements {
                let inner = part.strip_prefix(element.before).and_then(|rest| rest.strip_suffix(element.after));
                match (element.what, inner) {
                    (Some(What::Signature), Some(inner)) => return found.signatures.push(inner),
                    (Some(What::Timestamp), Some(inner)) => return found.timestamp = Some(inner),
                    _ => {}
                }
            }
        };
        match self.separator.as_deref().filter(|separator| !separator.is_empty()) {
            Some(separator) => value.split(separator).for_each(&mut take),
            None => take(value),
        }
        found
    }

    /// Writes a value. The element of the signature is repeated for each of several.
    pub fn write(&self, signatures: &[String], timestamp: &str) -> String {
        let mut parts = Vec::new();
        for element in self.elements() {
            match element.what {
                Some(What::Signature) => {
                    parts.extend(signatures.iter().map(|s| format!("{}{s}{}", element.before, element.after)));
                }
                Some(What::Timestamp) => parts.push(format!("{}{timestamp}{}", element.before, element.after)),
                None => parts.push(element.before.to_owned()),
            }
        }
        parts.join(self.separator.as_deref().unwrap_or_default())
    }

    /// Whether several signatures fit into one value.
    pub fn repeats(&self) -> bool {
        self.separator.as_deref().is_some_and(|separator| !separator.is_empty())
    }
}

/// Splits a pattern at its separator, but never inside `{{ }}`: a separator may well be a space.
fn split_outside<'t>(text: &'t str, separator: &str) -> Vec<&'t str> {
    let (mut parts, mut start, mut at) = (Vec::new(), 0, 0);
    while at < text.len() {
        let rest = &text[at..];
        if rest.starts_with("{{") {
            at += rest.find("}}").map_or(rest.len(), |end| end + 2);
        } else if rest.starts_with(separator) {
            parts.push(&text[start..at]);
            at += separator.len();
            start = at;
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    parts.push(&text[start..]);
    parts
}

fn element(text: &str) -> Element<'_> {
    let literal = Element { before: text, what: None, after: "" };
    let Some((before, rest)) = text.split_once("{{") else { return literal };
    let Some((name, after)) = rest.split_once("}}") else { return literal };
    let what = match name.trim() {
        "signature" => What::Signature,
        "timestamp" => What::Timestamp,
        _ => return literal,
    };
    if after.contains("{{") { literal } else { Element { before, what: Some(what), after } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_and_written_by_one_pattern() {
        let timed = ValuePattern { text: "t={{ timestamp }},v1={{ signature }}".into(), separator: Some(",".into()) };
        let found = timed.read("t=12,v0=zz,v1=aa,v1=bb");
        assert_eq!((found.timestamp, found.signatures), (Some("12"), vec!["aa", "bb"]));
        assert_eq!(timed.write(&["aa".into(), "bb".into()], "12"), "t=12,v1=aa,v1=bb");
        assert!(timed.read("t=12, v1=aa").signatures.is_empty(), "white space is not trimmed");
        let prefixed = ValuePattern { text: "sha256={{ signature }}".into(), separator: None };
        assert_eq!(prefixed.read("sha256=aa").signatures, ["aa"]);
        assert!(prefixed.read("sha1=aa").signatures.is_empty());
    }

    #[test]
    fn a_space_that_separates_signatures_is_not_looked_for_inside_the_placeholder() {
        let spaced = ValuePattern { text: "v1,{{ signature }}".into(), separator: Some(" ".into()) };
        assert_eq!(spaced.fault(), None);
        assert_eq!(spaced.read("v1a,zz v1,aa v1,bb").signatures, ["aa", "bb"]);
        assert_eq!(spaced.write(&["aa".into(), "bb".into()], ""), "v1,aa v1,bb");
    }

    #[test]
    fn a_pattern_without_a_signature_or_with_more_in_one_element_is_a_fault() {
        let pattern = |text: &str, separator: Option<&str>| ValuePattern {
            text: text.into(),
            separator: separator.map(Into::into),
        };
        assert!(pattern("t={{ timestamp }}", None).fault().is_some());
        assert!(pattern("t={{ timestamp }},v1={{ signature }}", None).fault().is_some());
        assert!(pattern("{{ other }}", None).fault().is_some());
        assert_eq!(pattern("t={{ timestamp }},v1={{ signature }}", Some(",")).fault(), None);
        assert_eq!(ValuePattern::plain().fault(), None);
    }
}
