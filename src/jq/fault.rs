//! Why a filter failed, in words that hold nothing of the record: jaq names the values it stumbled over, whole.

/// Said where a filter calls `halt`.
pub(super) const HALTED: &str = "the filter ended with `halt`";

/// What jaq says, with the kinds of values in place of the values. `filter`: its own words may be said again.
pub(super) fn sentence(said: &str, filter: &str) -> String {
    // What is no operation of jaq's own is a value, and a text among them comes in quotes.
    let text = serde_json::from_str::<String>(said).ok();
    let said = text.as_deref().unwrap_or(said);
    if let Some((left, right)) = operands(said, "cannot index ") {
        return format!("cannot index {left} with {right}");
    }
    if let Some((left, right)) = operands(said, "cannot calculate ") {
        return format!("cannot calculate with {left} and {right}");
    }
    if let Some(rest) = said.strip_prefix("cannot use ") {
        return match rest.rsplit_once(" as ").map(|(_, wanted)| wanted) {
            Some(wanted) if is_words(wanted) => format!("cannot use {} as {wanted}", first_kind(rest)),
            Some(_) | None => format!("cannot use {}", first_kind(rest)),
        };
    }
    if let Some(rest) = said.strip_prefix("invalid path expression with input ") {
        return format!("invalid path expression with {} as input", first_kind(rest));
    }
    if let Some(rest) = said.strip_prefix("cannot parse ") {
        return format!("cannot parse {}", first_kind(rest));
    }
    if let Some(rest) = said.strip_prefix("cannot convert ") {
        return format!("cannot convert {}", first_kind(rest));
    }
    if said.ends_with(" has no length") {
        return format!("{} has no length", first_kind(said));
    }
    match said {
        HALTED => said.to_owned(),
        _ if said.starts_with("index ") && said.ends_with(" out of bounds") => "an index is out of bounds".to_owned(),
        _ if said.starts_with("invalid regex") => "a regular expression is not valid".to_owned(),
        // The author's own sentence.
        _ if !said.is_empty() && filter.contains(&format!("\"{said}\"")) => said.to_owned(),
        _ => "it gave an error, or met a value that it cannot work with".to_owned(),
    }
}

/// The kinds of two values, of which the first begins and the last ends the rest of what was said.
fn operands(said: &str, begins: &str) -> Option<(&'static str, &'static str)> {
    let rest = said.strip_prefix(begins)?;
    Some((first_kind(rest), last_kind(rest)))
}

/// The kind of the value that a text begins with.
fn first_kind(text: &str) -> &'static str {
    match text.bytes().next() {
        Some(b'{') => "an object",
        Some(b'[') => "a list",
        Some(b'"') => "text",
        Some(b'-' | b'0'..=b'9') => "a number",
        Some(b't' | b'f') => "true or false",
        Some(b'n') => "null",
        _ => "a value",
    }
}

/// The kind of the value that a text ends with.
fn last_kind(text: &str) -> &'static str {
    match text.bytes().last() {
        Some(b'}') => "an object",
        Some(b']') => "a list",
        Some(b'"') => "text",
        Some(b'0'..=b'9') => "a number",
        Some(b'e') => "true or false",
        Some(b'l') => "null",
        _ => "a value",
    }
}

/// Such as `iterable (array or object)`: a value would bring quotes, digits or brackets.
fn is_words(text: &str) -> bool {
    text.len() < 40 && text.bytes().all(|b| b.is_ascii_lowercase() || b" ()-".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::super::{Jq, Json, Vars};

    #[test]
    fn no_failure_of_a_filter_says_anything_of_what_it_read() {
        let input =
            r#"{"s":"IVAN with card 4111 as number","n":4111,"l":["4111"],"o":{"IVAN":4111},"b":true,"t":"4111-IVAN"}"#;
        for (filter, want) in [
            (".s.v", "cannot index text with text"),
            (".l.v", "cannot index a list with text"),
            (".n[0]", "cannot index a number with a number"),
            (".s[]", "cannot use text as iterable (array or object)"),
            (".n | keys", "cannot use a number as"),
            (".s - 1", "cannot calculate with text and a number"),
            (".o + .l", "cannot calculate with an object and a list"),
            (".o / .b", "cannot calculate with an object and true or false"),
            (".s | tonumber", ""),
            (".s | fromjson", ""),
            (".b | length", "true or false has no length"),
            (".s | fromdate", ""),
            (".s | strptime(\"%Y\")", ""),
            (".s as $s | \"a\" | test($s + \"(\")", "a regular expression is not valid"),
            ("error(.s)", "it gave an error"),
            ("error(.o)", "it gave an error"),
            ("error", "it gave an error"),
            ("error(\"no such account\")", "no such account"),
            ("(.s, .t) |= (. + 1)", "cannot calculate with text and a number"),
            ("path(.s + \"x\")", ""),
            ("halt", "ended with `halt`"),
        ] {
            let input = Json::parse(input.as_bytes()).expect("JSON");
            let failed = Jq::parse(filter).expect(filter).all(&input, &Vars::default());
            let said = failed.expect_err(filter).to_string();
            assert!(said.contains(want), "{filter}: {said}");
            assert!(!said.contains("IVAN") && !said.contains("4111"), "{filter}: {said}");
        }
    }
}
