//! Links to the next page: the `Link` header of RFC 8288, and whether a link only counts pages. Pure.

use url::Url;

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

/// Whether a link leads on by a number alone, be it a page's or that of its first record: rows can slip between such pages, and none
/// between those that a token leads to. `sizes`: how many records a page may hold.
///
/// A first link often names what was not asked for, such as defaults; what is neither a number nor a word is a token.
pub(super) fn counts(asked: &Url, next: &Url, sizes: &[u64]) -> bool {
    let Some(mut counts) = path_counts(asked, next, sizes) else { return false };
    let before: Vec<_> = asked.query_pairs().collect();
    for (name, value) in next.query_pairs() {
        let former = before.iter().find(|(known, _)| *known == name).map(|(_, value)| &**value);
        if before.contains(&(name, value.clone())) {
            continue;
        }
        match former {
            _ if steps(former, &value, sizes) => counts = true,
            None if is_plain(&value) => {}
            _ => return false,
        }
    }
    counts
}

/// Whether the path counts; None: it holds a token.
fn path_counts(asked: &Url, next: &Url, sizes: &[u64]) -> Option<bool> {
    let before: Vec<&str> = asked.path().split('/').collect();
    let after: Vec<&str> = next.path().split('/').collect();
    let mut differing = before.iter().zip(&after).filter(|(before, after)| before != after);
    if let (true, Some((former, value)), None) = (before.len() == after.len(), differing.next(), differing.next())
        && steps(Some(former), value, sizes)
    {
        return Some(true);
    }
    // The same list may have another path in its links, by its number in place of its name.
    after.iter().all(|part| before.contains(part) || is_plain(part)).then_some(false)
}

/// From one page's number to the next, or by so many records.
fn steps(former: Option<&str>, value: &str, sizes: &[u64]) -> bool {
    let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u64>().ok()).flatten();
    let Some(value) = number(value) else { return false };
    match former.map(number) {
        None => matches!(value, 1 | 2) || (value > 0 && sizes.contains(&value)),
        Some(Some(former)) => {
            value.checked_sub(former).is_some_and(|step| step == 1 || (step > 0 && sizes.contains(&step)))
        }
        Some(None) => false,
    }
}

/// A number or a word, as names and defaults are, and tokens are not.
fn is_plain(text: &str) -> bool {
    const LONGEST: usize = 40;
    let word = text.bytes().all(|b| b.is_ascii_alphabetic() || b"_-.,:".contains(&b));
    text.len() <= LONGEST && (word || text.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_differs_in_a_number_alone_counts_pages_and_one_with_a_token_does_not() {
        let first = "https://a.example/repos/o/r/issues?since=2026-01-05T12:00:00Z&per_page=100";
        for (asked, next, want) in [
            (
                first,
                "https://a.example/repositories/1300192/issues?since=2026-01-05T12%3A00%3A00Z&per_page=100&page=2",
                true,
            ),
            ("https://a.example/x?page=2", "https://a.example/x?page=3", true),
            ("https://a.example/x?page=1&sort=up", "https://a.example/x?sort=up&page=2", true),
            ("https://a.example/x", "https://a.example/x?page=1&scope=created_by_me&state=all&per_page=20", true),
            ("https://a.example/x?offset=0", "https://a.example/x?offset=100", true),
            ("https://a.example/x?offset=100", "https://a.example/x?offset=187", true),
            ("https://a.example/x?limit=100", "https://a.example/x?limit=100&start=100", true),
            ("https://a.example/x/page/1", "https://a.example/x/page/2", true),
            ("https://a.example/x", "https://a.example/x?after=00u1abcd2EF", false),
            ("https://a.example/x", "https://a.example/x?cursor=v1_17323292984", false),
            ("https://a.example/x", "https://a.example/x?Page=1&PageToken=PASM0f1e2d3c", false),
            ("https://a.example/x?page_info=eyJsYXN0&n=1", "https://a.example/x?page_info=eyJkaXJl&n=2", false),
            ("https://a.example/x?after=1001", "https://a.example/x?after=1950", false),
            (
                "https://a.example/v3/d/events?limit=100",
                "https://a.example/v3/d/events/W3siYSI6IGZhbHNl?limit=100",
                false,
            ),
            ("https://a.example/x?page=2", "https://a.example/x?page=2", false),
            ("https://a.example/x?page=3", "https://a.example/x?page=2", false),
        ] {
            let url = |text: &str| Url::parse(text).expect("a URL");
            let sizes = if next.ends_with("187") { [87, 100] } else { [100, 100] };
            assert_eq!(counts(&url(asked), &url(next), &sizes), want, "{asked} → {next}");
        }
    }

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
