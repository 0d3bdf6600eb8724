//! How an answer is read: whatever format it came in, what comes out is JSON text, made by a fixed mapping so that equal answers give
//! equal bytes. Strict: what cannot be read whole is an error; only single lines and rows are set aside. Pure; memory: one answer.
//!
//! The mappings are told in `docs/providers.md`. Called where pages are decoded and where a rule looks at an answer.

mod bytes_in;
mod feed;
mod lines;
mod rows;
mod soap;
mod xml;

use bytes::Bytes;

pub use bytes_in::{Charset, UNPACKED_MAX, unpack};

/// How the answers of a stream are read (KEYS rows 13–16).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AnswerFormat {
    pub kind: FormatKind,
    /// None: as the answer says, else UTF-8.
    pub charset: Option<Charset>,
    pub lists: Vec<ListElement>,
    pub csv: CsvShape,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FormatKind {
    #[default]
    Json,
    /// JSON values, one a line.
    Ndjson,
    Xml,
    /// What stands in the body of a SOAP envelope.
    Soap,
    Csv,
    /// Atom or RSS.
    Feed,
    Text,
}

/// An XML element that is always a list. With a parent it is one there also when there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListElement {
    pub parent: Option<String>,
    pub name: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CsvShape {
    pub delimiter: u8,
    /// None: a quotation mark is a character like any other.
    pub quote: Option<u8>,
    /// The first row names the columns.
    pub header: bool,
}

impl Default for CsvShape {
    fn default() -> CsvShape {
        CsvShape { delimiter: b',', quote: Some(b'"'), header: true }
    }
}

/// An answer as JSON.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decoded {
    pub json: Bytes,
    /// Lines and rows that are no records.
    pub bad: Vec<BadRecord>,
    /// What the provider says in a SOAP fault.
    pub fault: Option<String>,
}

/// A line or row that could not be read, as it was sent.
#[derive(Clone, Debug, PartialEq)]
pub struct BadRecord {
    pub raw: Bytes,
    pub reason: String,
}

impl AnswerFormat {
    /// Reads an answer. `content_type`: what its header says.
    pub fn read(&self, body: &Bytes, content_type: Option<&str>) -> Result<Decoded, String> {
        let body = bytes_in::unpack_one(body)?;
        if self.kind == FormatKind::Json && self.charset.is_none() && std::str::from_utf8(&body).is_ok() {
            return Ok(Decoded { json: body, ..Decoded::default() });
        }
        let text = bytes_in::text(self, &body, content_type)?;
        if self.kind != FormatKind::Json && is_html(&text) {
            return Err(format!("the answer is HTML, not {}", self.kind.as_str()));
        }
        match self.kind {
            FormatKind::Json => Ok(of(text.into_owned())),
            FormatKind::Ndjson => lines::read(&text),
            FormatKind::Xml => {
                let root = xml::parse(&text)?;
                let mut json = String::with_capacity(text.len());
                xml::write_root(&mut json, &root, &self.lists);
                Ok(of(json))
            }
            FormatKind::Soap => soap::read(&xml::parse(&text)?, &self.lists),
            FormatKind::Csv => rows::read(&text, &self.csv),
            FormatKind::Feed => feed::read(&xml::parse(&text)?, &self.lists).map(of),
            FormatKind::Text => {
                let mut json = String::with_capacity(text.len() + 16);
                json.push_str("{\"text\":");
                quote(&mut json, &text);
                json.push('}');
                Ok(of(json))
            }
        }
    }

    /// Adds the places where the jq of `records` expects a list: there it is one also when the answer has no such element.
    pub fn expect_lists(&mut self, records: &str) {
        let mut found = Vec::new();
        for chain in records.split(|c: char| !(c.is_alphanumeric() || "._-[]\"".contains(c))) {
            let steps: Vec<&str> =
                chain.split(['.', '[', ']', '"']).map(str::trim).filter(|step| !step.is_empty()).collect();
            for pair in steps.windows(2) {
                if self.lists.iter().any(|list| list.parent.is_none() && list.name == pair[1]) {
                    found.push(ListElement { parent: Some(pair[0].to_owned()), name: pair[1].to_owned() });
                }
            }
        }
        for list in found {
            if !self.lists.contains(&list) {
                self.lists.push(list);
            }
        }
    }
}

impl FormatKind {
    pub fn as_str(self) -> &'static str {
        match self {
            FormatKind::Json => "JSON",
            FormatKind::Ndjson => "NDJSON",
            FormatKind::Xml => "XML",
            FormatKind::Soap => "SOAP",
            FormatKind::Csv => "CSV",
            FormatKind::Feed => "a feed",
            FormatKind::Text => "text",
        }
    }
}

fn of(json: String) -> Decoded {
    Decoded { json: json.into(), ..Decoded::default() }
}

/// Whether this is a page for people: a login form or a proxy's excuse, whatever the format should be.
fn is_html(text: &str) -> bool {
    let mut rest = text.trim_start();
    // An XML declaration and comments may come first.
    while let Some(after) = rest
        .strip_prefix("<?")
        .and_then(|r| r.split_once("?>"))
        .map(|(_, after)| after)
        .or_else(|| rest.strip_prefix("<!--").and_then(|r| r.split_once("-->")).map(|(_, after)| after))
    {
        rest = after.trim_start();
    }
    let starts = |word: &str| {
        rest.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word))
            && !rest[word.len()..].starts_with(|c: char| c.is_alphanumeric() || c == '-' || c == '_')
    };
    starts("<!doctype html") || starts("<html")
}

/// Writes text as a JSON string.
fn quote(out: &mut String, text: &str) {
    out.push_str(&serde_json::Value::from(text).to_string());
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
