//! A template's text → its pieces: plain text and the expressions between `{{` and `}}`.

/// A piece of a template.
pub(super) enum Piece {
    Text(String),
    /// What stands between the braces.
    Expression(String),
}

/// The filters and functions there are: all others are refused when a template is read, not when it is first used.
const FILTERS: [&str; 17] = [
    "date",
    "plus",
    "minus",
    "json",
    "xml",
    "base64",
    "base64url",
    "hex",
    "urlencode",
    "hash",
    "hmac",
    "crc32",
    "join",
    "lower",
    "upper",
    "default",
    "uuid",
];

/// Whether it needs the engine as a whole: statements, comments, or control of the white space around.
pub(super) fn has_blocks(text: &str) -> bool {
    ["{%", "{#", "{{-", "-}}", "{{+", "+}}"].iter().any(|mark| text.contains(mark))
}

/// The pieces of a template without blocks; the error is a sentence.
pub(super) fn pieces(text: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(open) = rest.find("{{") {
        if open > 0 {
            pieces.push(Piece::Text(rest[..open].to_owned()));
        }
        let inner = &rest[open + 2..];
        let close = closing(inner).ok_or_else(|| format!("`{{{{` is not closed: {}", shown(&rest[open..])))?;
        if inner[..close].trim().is_empty() {
            return Err("`{{ }}` is empty".into());
        }
        pieces.push(Piece::Expression(inner[..close].to_owned()));
        rest = &inner[close + 2..];
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest.to_owned()));
    }
    Ok(pieces)
}

fn shown(text: &str) -> String {
    text.chars().take(30).collect()
}

/// Where the `}}` stands that closes an expression: not the one within a text or of a table.
fn closing(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut quote = None;
    let mut tables = 0_usize;
    let mut at = 0;
    while at < bytes.len() {
        match (quote, bytes[at]) {
            (Some(_), b'\\') => at += 1,
            (Some(open), byte) if byte == open => quote = None,
            (Some(_), _) => {}
            (None, byte @ (b'"' | b'\'')) => quote = Some(byte),
            (None, b'{') => tables += 1,
            (None, b'}') if tables > 0 => tables -= 1,
            (None, b'}') if bytes.get(at + 1) == Some(&b'}') => return Some(at),
            _ => {}
        }
        at += 1;
    }
    None
}

/// The sentence about a filter that does not exist, if the template names one.
pub(super) fn unknown_filter(text: &str) -> Option<String> {
    let mut rest = text;
    while let Some(open) = rest.find("{{").into_iter().chain(rest.find("{%")).min() {
        let inner = &rest[open + 2..];
        let end = closing(inner).or_else(|| inner.find("%}")).unwrap_or(inner.len());
        if let Some(name) = filters_of(&inner[..end]).into_iter().find(|name| !FILTERS.contains(&name.as_str())) {
            let near = crate::shape::nearest(&name, FILTERS.into_iter().filter(|f| *f != "uuid"));
            let help =
                near.map_or_else(|| format!("known: {}", FILTERS[..16].join(", ")), |f| format!("did you mean `{f}`?"));
            return Some(format!("there is no filter `{name}`; {help}"));
        }
        rest = inner.get(end..).unwrap_or_default();
    }
    None
}

/// The names after each `|` outside of texts.
fn filters_of(expression: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut quote = None;
    let mut chars = expression.char_indices();
    while let Some((at, char)) = chars.next() {
        match (quote, char) {
            (Some(_), '\\') => {
                chars.next();
            }
            (Some(open), char) if char == open => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(char),
            (None, '|') => {
                let name = expression[at + 1..].trim_start();
                let end = name.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(name.len());
                names.push(name[..end].to_owned());
            }
            _ => {}
        }
    }
    names
}
