//! The `Link` header of RFC 8288: the address of the link with a wanted relation. Pure.

/// Target of the first link whose relations include `rel`. A link about another resource (`anchor`) does not count.
pub(super) fn target(header: &str, rel: &str) -> Option<String> {
    let mut rest = header;
    while let Some(start) = rest.find('<') {
        let (target, after) = rest[start + 1..].split_once('>')?;
        let (params, next) = params(after);
        if is(&params, rel) {
            return Some(target.trim().to_owned());
        }
        rest = next;
    }
    None
}

/// Only the first `rel` of a link counts; it may name several relations.
fn is(params: &[(String, String)], wanted: &str) -> bool {
    let rel = params.iter().find(|(name, _)| name == "rel");
    let anchored = params.iter().any(|(name, _)| name == "anchor");
    !anchored && rel.is_some_and(|(_, rels)| rels.split_ascii_whitespace().any(|rel| rel.eq_ignore_ascii_case(wanted)))
}

/// The parameters after a link's target, and what follows the comma that ends the link.
fn params(text: &str) -> (Vec<(String, String)>, &str) {
    let mut params = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start();
        match rest.chars().next() {
            Some(';') => {
                let (param, after) = param(&rest[1..]);
                params.push(param);
                rest = after;
            }
            Some(',') => return (params, &rest[1..]),
            // Something else where a parameter should begin: skip to the next one or to the next link.
            Some(_) => rest = &rest[rest.find([';', ',']).unwrap_or(rest.len())..],
            None => return (params, ""),
        }
    }
}

/// One `name=value` or `name="quoted value"`, and what follows it.
fn param(text: &str) -> ((String, String), &str) {
    let end = text.find(['=', ';', ',']).unwrap_or(text.len());
    let name = text[..end].trim().to_ascii_lowercase();
    let Some(after) = text[end..].strip_prefix('=') else { return ((name, String::new()), &text[end..]) };
    let after = after.trim_start();
    if let Some(quoted) = after.strip_prefix('"') {
        let (value, rest) = unquote(quoted);
        return ((name, value), rest);
    }
    let end = after.find([';', ',']).unwrap_or(after.len());
    ((name, after[..end].trim().to_owned()), &after[end..])
}

/// Reads up to the closing quote; a backslash takes the next character as it stands.
fn unquote(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return (value, &text[at + 1..]),
            '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
            char => value.push(char),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_link_is_found_in_every_legal_writing() {
        for (header, want) in [
            (
                r#"<https://a.example/x?page=2>; rel="next", <https://a.example/x?page=9>; rel="last""#,
                Some("https://a.example/x?page=2"),
            ),
            (r#"</prev>; rel="prev", </next>; rel="next""#, Some("/next")),
            (r#"</x>;rel=next"#, Some("/x")),
            (r#"</x> ; REL = "Next""#, Some("/x")),
            (r#"</x>; rel="last next""#, Some("/x")),
            (r#"</x>; title="a, b; \"rel=prev\""; rel="next""#, Some("/x")),
            (r#"</x?ids=1,2,3;4>; rel="next""#, Some("/x?ids=1,2,3;4")),
            (r#"</first>; rel="prev"; rel="next", </second>; rel="next""#, Some("/second")),
            (r#"</other>; rel="next"; anchor="/elsewhere", </x>; rel="next""#, Some("/x")),
            (r#"<?page=2>; rel="next"; results="true""#, Some("?page=2")),
            (r#"</x>; flag; rel="next""#, Some("/x")),
            (r#"</x>; rel="prev""#, None),
            (r#"</x>; rel="nextish""#, None),
            (r#"</x>"#, None),
            ("<unclosed; rel=next", None),
            (r#"</x>; rel="next"#, Some("/x")),
            ("", None),
            ("é<", None),
        ] {
            assert_eq!(target(header, "next").as_deref(), want, "{header}");
        }
    }
}
