//! Secrets out of what a person is shown: addresses of requests, and reasons that may quote them.

use percent_encoding::utf8_percent_encode;
use url::Url;

use std::sync::Arc;

use super::auth::{Credential, Holder};
use super::request::QUERY;
use crate::secret::Secret;
use crate::source::Source;

/// The secrets of a source in every writing in which they may stand in text.
#[derive(Clone)]
pub(super) struct Mask {
    words: Vec<String>,
    /// What was got for its credential is secret too.
    holder: Arc<Holder>,
}

impl Mask {
    pub fn of(source: &Source, credential: &Credential, holder: &Arc<Holder>) -> Mask {
        let mut words: Vec<String> = source.secrets.values().flat_map(|secret| writings(secret.expose())).collect();
        words.extend(credential.shown().into_iter().flat_map(writings));
        Mask { words: sorted(words), holder: holder.clone() }
    }

    /// With these hidden too.
    pub fn and<'s>(mut self, secrets: impl Iterator<Item = &'s Secret>) -> Mask {
        self.words.extend(secrets.flat_map(|secret| writings(secret.expose())));
        Mask { words: sorted(self.words), holder: self.holder }
    }

    /// The text with `***` for every secret.
    pub fn text(&self, text: &str) -> String {
        self.holder.masked(hidden(&self.words, text))
    }

    pub fn url(&self, url: &Url) -> String {
        self.text(url.as_str())
    }
}

/// Longest first: a secret that holds another must go as a whole.
fn sorted(mut words: Vec<String>) -> Vec<String> {
    words.sort_by_key(|word| std::cmp::Reverse(word.len()));
    words.dedup();
    words.retain(|word| !word.is_empty());
    words
}

fn hidden(words: &[String], text: &str) -> String {
    words.iter().fold(text.to_owned(), |text, word| text.replace(word.as_str(), "***"))
}

/// Every writing in which a secret may stand in text.
pub(super) fn writings(secret: &str) -> Vec<String> {
    let form: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
    // As `Url` writes what stands in a path unencoded, and as templates encode a segment or a query value.
    let path = Url::parse("http://x/").ok().map(|mut url| {
        url.set_path(secret);
        url.path().trim_start_matches('/').to_owned()
    });
    let segment = utf8_percent_encode(secret, QUERY).to_string();
    [Some(secret.to_owned()), Some(form), path, Some(segment)].into_iter().flatten().collect()
}

impl std::fmt::Debug for Mask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_masked_however_it_is_written() {
        let words = sorted(writings("a b/ü:1"));
        for text in [
            "https://x.example/bota b/ü:1/get",
            "https://x.example/?k=a+b%2F%C3%BC%3A1",
            "https://x.example/?k=a%20b%2F%C3%BC%3A1",
            "https://x.example/a%20b/%C3%BC:1/get",
        ] {
            let shown = hidden(&words, text);
            assert!(shown.contains("***") && !shown.contains(":1") && !shown.contains("3A1"), "{text} → {shown}");
        }
    }
}
