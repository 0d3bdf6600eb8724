//! What an answer says about the end of its listing, beside the records.

use std::borrow::Cow;

use super::records::{Raw, parsed};
use crate::ingest::{IngestError, PageEnd};
use crate::jq::{Jq, Json, Vars};
use crate::path::Path;
use crate::provider::{PageKind, RecordsAs, Stream};

/// Reads how a page ended. What only the run knows (digest, order) is left to its caller.
pub(super) fn page_end(
    stream: &Stream,
    text: &str,
    raws: &[Raw<'_>],
    vars: &Vars,
    whole: &mut Option<Json>,
) -> Result<PageEnd, IngestError> {
    let pagination = &stream.pagination;
    let mut answer = Answer { stream, text, rest: without_records(stream, text, raws), vars, whole };
    let next = match &pagination.kind {
        PageKind::None | PageKind::Page | PageKind::Offset | PageKind::LinkHeader => None,
        PageKind::Token(jq) | PageKind::NextUrl(jq) => answer.scalar("pagination.next", jq)?,
        PageKind::LastId(jq) => match raws.last() {
            Some((_, last)) => jq.scalar(last, vars).map_err(|error| fault("pagination.next", error))?,
            None => None,
        },
    };
    Ok(PageEnd {
        next: next.filter(|next| !next.is_empty()),
        more: pagination.more.as_ref().map(|jq| answer.more(jq)).transpose()?,
        total: pagination.total.as_ref().map(|jq| answer.total(jq)).transpose()?,
        stop: match &pagination.stop_when {
            Some(jq) => answer.truth("pagination.stop_when", jq)?,
            None => false,
        },
        complete: stream.complete_when.as_ref().map(|jq| answer.truth("complete_when", jq)).transpose()?,
        ..PageEnd::default()
    })
}

fn fault(key: &str, error: impl std::fmt::Display) -> IngestError {
    IngestError::Unreadable(format!("`{key}`: {error}"))
}

/// An answer, asked by the keys of a stream.
struct Answer<'a> {
    stream: &'a Stream,
    text: &'a str,
    /// Without its records: far less to search, and what ends a listing mostly stands beside them.
    rest: Cow<'a, str>,
    vars: &'a Vars,
    whole: &'a mut Option<Json>,
}

impl Answer<'_> {
    fn scalar(&mut self, key: &str, jq: &Jq) -> Result<Option<String>, IngestError> {
        if let Some(path) = jq.path() {
            let text = if leads_into(path, self.stream) { self.text } else { &*self.rest };
            return jq.scalar(text, self.vars).map_err(|error| fault(key, error));
        }
        let found = jq.first(parsed(self.text, self.whole)?, self.vars).map_err(|error| fault(key, error))?;
        Ok(found.filter(|json| !json.is_null()).map(|json| match json.as_str() {
            Some(text) => text.to_owned(),
            None => json.to_text(),
        }))
    }

    fn truth(&mut self, key: &str, jq: &Jq) -> Result<bool, IngestError> {
        jq.truth(parsed(self.text, self.whole)?, self.vars).map_err(|error| fault(key, error))
    }

    fn more(&mut self, jq: &Jq) -> Result<bool, IngestError> {
        let more = self.scalar("pagination.more", jq)?;
        let more = more.as_deref().unwrap_or("null");
        more.parse().map_err(|_| fault("pagination.more", format!("must be true or false, not {more}")))
    }

    fn total(&mut self, jq: &Jq) -> Result<u64, IngestError> {
        let total = self.scalar("pagination.total", jq)?;
        let total = total.as_deref().unwrap_or("null");
        total.parse().map_err(|_| fault("pagination.total", format!("must be a whole number, not {total}")))
    }
}

/// The answer with its list of records emptied.
fn without_records<'a>(stream: &Stream, text: &'a str, raws: &[Raw<'_>]) -> Cow<'a, str> {
    let place = |raw: &str| {
        let start = (raw.as_ptr() as usize).checked_sub(text.as_ptr() as usize)?;
        (start + raw.len() <= text.len()).then_some(start..start + raw.len())
    };
    match (raws, stream.records_as, stream.records.path()) {
        ([(_, Cow::Borrowed(first)), .., (_, Cow::Borrowed(last))], RecordsAs::List, Some(_)) => {
            match (place(first), place(last)) {
                (Some(first), Some(last)) => [&text[..first.start], &text[last.end..]].concat().into(),
                _ => text.into(),
            }
        }
        _ => text.into(),
    }
}

/// Whether a path leads to the records, to something in them or to something around them.
fn leads_into(path: &Path, stream: &Stream) -> bool {
    stream.records.path().is_none_or(|records| {
        path.steps.starts_with(records.list_steps()) || records.steps.starts_with(path.list_steps())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::PageAnswer;
    use crate::ingest::decode::page;
    use crate::provider;
    use crate::shape::SourceFile;

    fn end_of(pagination: &str, body: &str) -> Result<PageEnd, IngestError> {
        let file = format!(
            "schema = 1\nbase_url = \"http://bank.example\"\n[streams.all]\npath = \"/all\"\nrecords = \".data.items\"\nkey = \".id\"\n\
             query = {{ page = \"{{{{ page.number }}}}\" }}\ndetect = \"new\"\npagination = {{ type = \"page\", size = 2, {pagination} }}\n"
        );
        let (provider, _) =
            provider::read(SourceFile::new("bank.toml", &file)).unwrap_or_else(|faults| panic!("{faults:?}"));
        let answer = PageAnswer { body: body.to_owned().into(), headers: http::HeaderMap::new(), date: None };
        page(&provider.streams[0], &answer, &Vars::default()).map(|page| page.end)
    }

    #[test]
    fn the_end_of_a_listing_is_found_before_behind_and_inside_the_records() {
        let body = r#"{"more":false,"data":{"total":9,"items":[{"id":1,"more":true},{"id":2,"total":7}],"left":3},"more":true}"#;
        let more =
            |pagination: &str| end_of(pagination, body).map(|end| (end.more, end.total)).map_err(|e| e.to_string());
        assert_eq!(more(r#"more = ".more""#), Ok((Some(true), None)), "of two members the last counts");
        assert_eq!(more(r#"total = ".data.left""#), Ok((None, Some(3))));
        assert_eq!(more(r#"more = ".data.items[0].more""#), Ok((Some(true), None)));
        assert_eq!(more(r#"total = ".data.items[1].total""#), Ok((None, Some(7))));
        assert_eq!(more(r#"total = ".data.items | length""#), Ok((None, Some(2))));
        assert!(more(r#"total = ".data.items""#).is_err());
    }

    #[test]
    fn pages_with_the_same_records_have_the_same_digest_and_no_others() {
        let digest = |body: &str| end_of(r#"more = ".more""#, body).expect("a page").digest;
        let one = digest(r#"{"data":{"items":[{"id":1},{"id":2}]},"more":true}"#);
        assert_eq!(one, digest(r#"{"more":false,"data":{"items":[ {"id":1} , {"id":2} ]}}"#));
        assert_ne!(one, digest(r#"{"data":{"items":[{"id":2},{"id":1}]},"more":true}"#));
        assert_ne!(one, digest(r#"{"data":{"items":[{"id":1}]},"more":true}"#));
    }
}
