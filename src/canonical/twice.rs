//! Names that an object has twice: JSON leaves open which of the two counts, and readers differ.

use std::borrow::Cow;
use std::collections::HashSet;

use super::{Scanner, Token, text_value};

/// The first name that an object of this text has twice, at any depth. None also for what is no JSON.
pub fn repeated_name(json: &str) -> Option<String> {
    let mut scanner = Scanner::new(json).ok()?;
    // What is open: the names of an object so far, or a list.
    let mut open: Vec<Option<HashSet<Cow<'_, str>>>> = Vec::new();
    let mut is_value = false;
    while let Some(token) = scanner.next() {
        if let (Token::Text(raw), false, Some(Some(names))) = (token, is_value, open.last_mut()) {
            // As a reader sees it: `a` may be written `\u0061`.
            if let Some(name) = names.replace(text_value(raw)) {
                return Some(name.into_owned());
            }
            is_value = true;
            continue;
        }
        match token {
            Token::ObjectStart => open.push(Some(HashSet::new())),
            Token::ListStart => open.push(None),
            Token::End => {
                open.pop();
            }
            Token::Text(_) | Token::Literal(_) => {}
        }
        is_value = false;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_twice_in_its_own_object_only() {
        for (json, name) in [
            (r#"{"a":1,"b":{"a":1},"c":[{"a":1},{"a":2}]}"#, None),
            (r#"{"a":"a","b":"a"}"#, None),
            (r#"["a","a",{"a":["a","a"]}]"#, None),
            (r#"{"a":{},"b":[],"a":1}"#, Some("a")),
            (r#"{"a":1,"\u0061":2}"#, Some("a")),
            (r#"[1,{"x":{"y":[],"z":"y","y":null}}]"#, Some("y")),
            (r#"{"":1,"":2}"#, Some("")),
            (r#""a""#, None),
            ("{\"a\":1,\"a\"", None),
        ] {
            assert_eq!(repeated_name(json).as_deref(), name, "{json}");
        }
    }
}
