//! JSON token by token with every literal as it was sent. The text is checked first, so that reading it needs no more checks.

use std::borrow::Cow;

use serde::de::Error as _;
use serde_json::Error;
use serde_json::value::RawValue;

/// One token. Commas and colons carry no news and are passed over; in an object names and values take turns.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Token<'a> {
    ObjectStart,
    ListStart,
    /// Of an object or a list.
    End,
    /// What stands between the quotes, escapes and all.
    Text(&'a str),
    /// A number, true, false or null.
    Literal(&'a str),
}

pub(crate) struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    /// Checks that the text is one JSON value.
    pub(crate) fn new(json: &'a str) -> Result<Scanner<'a>, Error> {
        let raw: &'a RawValue = serde_json::from_str(json)?;
        Ok(Scanner { text: raw.get(), at: 0 })
    }

    /// The next token, where one must follow.
    pub(crate) fn demand(&mut self) -> Result<Token<'a>, Error> {
        self.next().ok_or_else(|| Error::custom("the JSON ends too early"))
    }

    /// Passes over a value that begins with this token.
    pub(crate) fn skip(&mut self, mut token: Token<'a>) -> Result<(), Error> {
        let mut open = 0_usize;
        loop {
            match token {
                Token::ListStart | Token::ObjectStart => open += 1,
                Token::End => open = open.saturating_sub(1),
                Token::Text(_) | Token::Literal(_) => {}
            }
            if open == 0 {
                return Ok(());
            }
            token = self.demand()?;
        }
    }

    pub(crate) fn next(&mut self) -> Option<Token<'a>> {
        let bytes = self.text.as_bytes();
        loop {
            let first = *bytes.get(self.at)?;
            let from = self.at;
            self.at += 1;
            match first {
                b' ' | b'\t' | b'\n' | b'\r' | b',' | b':' => {}
                b'{' => return Some(Token::ObjectStart),
                b'[' => return Some(Token::ListStart),
                b'}' | b']' => return Some(Token::End),
                b'"' => {
                    let end = closing_quote(bytes, self.at);
                    self.at = end + 1;
                    return self.text.get(from + 1..end).map(Token::Text);
                }
                _ => {
                    let rest = &bytes[self.at..];
                    let length = rest.iter().position(|b| !is_literal(*b)).unwrap_or(rest.len());
                    self.at += length;
                    return self.text.get(from..self.at).map(Token::Literal);
                }
            }
        }
    }
}

fn is_literal(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'+')
}

fn closing_quote(bytes: &[u8], from: usize) -> usize {
    let mut at = from;
    while let Some(found) = bytes.get(at..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
        at += found;
        if bytes[at] == b'"' {
            return at;
        }
        // Past the backslash and what it escapes.
        at += 2;
    }
    bytes.len()
}

/// A piece of a JSON text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Unit<'a> {
    /// Characters that were not escaped.
    Plain(&'a str),
    Char(char),
    /// Half of a pair whose other half is not there.
    Lone(u16),
}

/// A JSON text (what stands between its quotes) piece by piece.
pub(crate) fn units(raw: &str) -> impl Iterator<Item = Unit<'_>> {
    let mut rest = raw;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let Some(escape) = rest.strip_prefix('\\') else {
            let (plain, after) = rest.split_at(rest.find('\\').unwrap_or(rest.len()));
            rest = after;
            return Some(Unit::Plain(plain));
        };
        let (unit, after) = escaped(escape);
        rest = after;
        Some(unit)
    })
}

fn escaped(escape: &str) -> (Unit<'_>, &str) {
    let mut chars = escape.chars();
    let char = match chars.next() {
        Some('u') => return hex_escaped(&escape[1..]),
        Some('b') => '\u{8}',
        Some('f') => '\u{c}',
        Some('n') => '\n',
        Some('r') => '\r',
        Some('t') => '\t',
        Some(other) => other,
        None => '\\',
    };
    (Unit::Char(char), chars.as_str())
}

fn hex_escaped(digits: &str) -> (Unit<'_>, &str) {
    let unit = |text: &str| text.get(..4).and_then(|digits| u16::from_str_radix(digits, 16).ok());
    let Some(first) = unit(digits) else { return (Unit::Plain(digits), "") };
    let rest = &digits[4..];
    let second = rest.strip_prefix("\\u").and_then(unit);
    match char::decode_utf16([first].into_iter().chain(second)).next() {
        Some(Ok(char)) => (Unit::Char(char), if char.len_utf16() == 2 { &rest[6..] } else { rest }),
        _ => (Unit::Lone(first), rest),
    }
}

/// Writes a piece the one way it is written in the canonical form.
pub(super) fn write_unit(out: &mut Vec<u8>, unit: Unit<'_>) {
    match unit {
        Unit::Plain(text) => out.extend_from_slice(text.as_bytes()),
        Unit::Lone(half) => out.extend_from_slice(format!("\\u{half:04x}").as_bytes()),
        Unit::Char('"') => out.extend_from_slice(b"\\\""),
        Unit::Char('\\') => out.extend_from_slice(b"\\\\"),
        Unit::Char('\n') => out.extend_from_slice(b"\\n"),
        Unit::Char('\r') => out.extend_from_slice(b"\\r"),
        Unit::Char('\t') => out.extend_from_slice(b"\\t"),
        Unit::Char('\u{8}') => out.extend_from_slice(b"\\b"),
        Unit::Char('\u{c}') => out.extend_from_slice(b"\\f"),
        Unit::Char(control) if u32::from(control) < 0x20 => {
            out.extend_from_slice(format!("\\u{:04x}", u32::from(control)).as_bytes());
        }
        Unit::Char(char) => out.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

/// What a JSON text says; half a character becomes the replacement character.
pub(crate) fn text_value(raw: &str) -> Cow<'_, str> {
    if !raw.contains('\\') {
        return Cow::Borrowed(raw);
    }
    let mut text = String::with_capacity(raw.len());
    for unit in units(raw) {
        match unit {
            Unit::Plain(plain) => text.push_str(plain),
            Unit::Char(char) => text.push(char),
            Unit::Lone(_) => text.push(char::REPLACEMENT_CHARACTER),
        }
    }
    Cow::Owned(text)
}
