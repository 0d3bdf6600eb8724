//! The look of a signature's value: `"t={{ timestamp }},v1={{ signature }}"`, read and written.

use std::borrow::Cow;

use super::ValuePattern;
use super::content::{Settings, setting};

/// A part of one element of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece<'p> {
    Text(Cow<'p, str>),
    What(What),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Signature,
    Timestamp,
    Algorithm,
}

type Element<'p> = Vec<Piece<'p>>;

/// A signature and the algorithm that is named beside it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offered {
    pub text: String,
    pub algorithm: Option<String>,
}

/// What a received value holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    pub signatures: Vec<Offered>,
    pub timestamp: Option<String>,
    /// Named in an element without a signature.
    pub algorithm: Option<String>,
}

impl ValuePattern {
    /// `{{ signature }}` alone.
    pub fn plain() -> ValuePattern {
        ValuePattern { text: "{{ signature }}".into(), separator: None }
    }

    /// A fault of the pattern in words; None when it can be read and written.
    pub fn fault(&self) -> Option<String> {
        for element in self.elements(&Settings::new()) {
            let beside = element.windows(2).any(|pair| matches!(pair, [Piece::What(_), Piece::What(_)]));
            let whats = |wanted| element.iter().filter(|piece| **piece == Piece::What(wanted)).count();
            if beside || whats(What::Signature) > 1 || (whats(What::Signature) + whats(What::Timestamp)) > 1 {
                return Some(
                    "holds more than one of `{{ signature }}` and `{{ timestamp }}` in an element; give the `separator`"
                        .into(),
                );
            }
        }
        None
    }

    fn elements<'p>(&'p self, settings: &Settings) -> Vec<Element<'p>> {
        let element = |text| element(text, settings);
        match self.separator.as_deref().filter(|separator| !separator.is_empty()) {
            Some(separator) => split_outside(&self.text, separator).into_iter().map(element).collect(),
            None => vec![element(&self.text)],
        }
    }

    /// Takes a received value apart. Elements may repeat; unknown ones are passed over.
    pub fn read(&self, value: &str, settings: &Settings) -> Found {
        let elements = self.elements(settings);
        let mut found = Found::default();
        let mut take = |part: &str| {
            let Some(parts) = elements.iter().find_map(|element| matched(element, part)) else { return };
            let part = |wanted| parts.iter().find(|(what, _)| *what == wanted).map(|(_, text)| (*text).to_owned());
            match part(What::Signature) {
                Some(text) => found.signatures.push(Offered { text, algorithm: part(What::Algorithm) }),
                None => found.algorithm = part(What::Algorithm).or(found.algorithm.take()),
            }
            found.timestamp = part(What::Timestamp).or(found.timestamp.take());
        };
        match self.separator.as_deref().filter(|separator| !separator.is_empty()) {
            Some(separator) => value.split(separator).for_each(&mut take),
            None => take(value),
        }
        found
    }

    /// Writes a value. The element of the signature is repeated for each of several.
    pub fn write(&self, signatures: &[String], timestamp: &str, algorithm: &str, settings: &Settings) -> String {
        let mut parts = Vec::new();
        for element in self.elements(settings) {
            let write = |signature: &str| -> String {
                let text = |piece: &Piece<'_>| match piece {
                    Piece::Text(text) => text.clone().into_owned(),
                    Piece::What(What::Signature) => signature.to_owned(),
                    Piece::What(What::Timestamp) => timestamp.to_owned(),
                    Piece::What(What::Algorithm) => algorithm.to_owned(),
                };
                element.iter().map(text).collect()
            };
            if element.contains(&Piece::What(What::Signature)) {
                parts.extend(signatures.iter().map(|signature| write(signature)));
            } else {
                parts.push(write(""));
            }
        }
        parts.join(self.separator.as_deref().unwrap_or_default())
    }

    /// Whether several signatures fit into one value.
    pub fn repeats(&self) -> bool {
        self.separator.as_deref().is_some_and(|separator| !separator.is_empty())
    }
}

/// What stands at the placeholders of an element, when the part looks like it.
fn matched<'v>(element: &[Piece<'_>], part: &'v str) -> Option<Vec<(What, &'v str)>> {
    match element {
        [] => part.is_empty().then(Vec::new),
        [Piece::Text(text), rest @ ..] => matched(rest, part.strip_prefix(text.as_ref())?),
        [Piece::What(what)] => Some(vec![(*what, part)]),
        // What stands last may hold anything; before it ends at the first place where the text after it stands.
        [Piece::What(what), Piece::Text(end)] => Some(vec![(*what, part.strip_suffix(end.as_ref())?)]),
        [Piece::What(what), rest @ ..] => {
            let [Piece::Text(next), ..] = rest else { return None };
            let at = part.find(next.as_ref())?;
            let mut found = matched(rest, &part[at..])?;
            found.push((*what, &part[..at]));
            Some(found)
        }
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

fn element<'t>(text: &'t str, settings: &Settings) -> Element<'t> {
    let (mut pieces, mut rest) = (Vec::new(), text);
    while let Some((before, after)) = rest.split_once("{{") {
        let Some((name, after)) = after.split_once("}}") else { break };
        if !before.is_empty() {
            pieces.push(Piece::Text(before.into()));
        }
        pieces.push(match name.trim() {
            "signature" => Piece::What(What::Signature),
            "timestamp" => Piece::What(What::Timestamp),
            "algorithm" => Piece::What(What::Algorithm),
            other => {
                Piece::Text(other.strip_prefix("settings.").map_or("".into(), |name| setting(settings, name).into()))
            }
        });
        rest = after;
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest.into()));
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str, separator: Option<&str>) -> ValuePattern {
        ValuePattern { text: text.into(), separator: separator.map(Into::into) }
    }

    fn read(pattern: &ValuePattern, value: &str) -> Vec<String> {
        pattern.read(value, &Settings::new()).signatures.into_iter().map(|offered| offered.text).collect()
    }

    fn write(pattern: &ValuePattern, signatures: &[&str], timestamp: &str, algorithm: &str) -> String {
        let signatures: Vec<String> = signatures.iter().map(|s| (*s).to_owned()).collect();
        pattern.write(&signatures, timestamp, algorithm, &Settings::new())
    }

    #[test]
    fn values_are_read_and_written_by_one_pattern() {
        let timed = pattern("t={{ timestamp }},v1={{ signature }}", Some(","));
        let found = timed.read("t=12,v0=zz,v1=aa,v1=bb", &Settings::new());
        assert_eq!(found.timestamp.as_deref(), Some("12"));
        assert_eq!(read(&timed, "t=12,v0=zz,v1=aa,v1=bb"), ["aa", "bb"]);
        assert_eq!(write(&timed, &["aa", "bb"], "12", ""), "t=12,v1=aa,v1=bb");
        assert!(read(&timed, "t=12, v1=aa").is_empty(), "white space is not trimmed");
        let prefixed = pattern("sha256={{ signature }}", None);
        assert_eq!(read(&prefixed, "sha256=aa"), ["aa"]);
        assert!(read(&prefixed, "sha1=aa").is_empty());
    }

    #[test]
    fn a_space_that_separates_signatures_is_not_looked_for_inside_the_placeholder() {
        let spaced = pattern("v1,{{ signature }}", Some(" "));
        assert_eq!(spaced.fault(), None);
        assert_eq!(read(&spaced, "v1a,zz v1,aa v1,bb"), ["aa", "bb"]);
        assert_eq!(write(&spaced, &["aa", "bb"], "", ""), "v1,aa v1,bb");
    }

    #[test]
    fn a_name_of_the_algorithm_and_a_setting_may_stand_beside_the_signature() {
        let named = pattern("{{ algorithm }}={{ signature }}", None);
        assert_eq!(named.fault(), None);
        let found = named.read("sha512=aa=bb", &Settings::new()).signatures;
        assert_eq!(found, [Offered { text: "aa=bb".into(), algorithm: Some("sha512".into()) }]);
        assert_eq!(write(&named, &["aa"], "", "sha1"), "sha1=aa");
        assert!(read(&named, "aa").is_empty());

        let own = pattern("{{ settings.key }}|{{ signature }}", Some("&"));
        let mut settings = Settings::new();
        settings.insert("key".into(), "mine".into());
        let found = own.read("other|aa&mine|bb", &settings).signatures;
        assert_eq!(found, [Offered { text: "bb".into(), algorithm: None }]);
        assert_eq!(own.write(&["bb".into()], "", "", &settings), "mine|bb");
    }

    #[test]
    fn a_pattern_with_more_in_one_element_is_a_fault() {
        assert!(pattern("t={{ timestamp }},v1={{ signature }}", None).fault().is_some());
        assert!(pattern("{{ algorithm }}{{ signature }}", None).fault().is_some());
        assert_eq!(pattern("t={{ timestamp }},v1={{ signature }}", Some(",")).fault(), None);
        assert_eq!(ValuePattern::plain().fault(), None);
    }
}
