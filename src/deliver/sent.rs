//! What is kept of a request for people to read: where it went and with which headers, no secret among them.

use url::Url;

use super::Handler;
use crate::client::Outgoing;
use crate::config;
use crate::model::AttemptDetail;
use crate::secret::Secret;

const MASK: &str = "***";
/// Longer values are cut: a header is kept to be recognised.
const VALUE_MAX: usize = 256;

/// What an HTTP request looked like. The id and the time of the attempt stand elsewhere and are not said twice.
pub fn over_http(handler: &Handler, request: &Outgoing) -> AttemptDetail {
    let hidden = Hidden::of(handler);
    let headers =
        request.headers.iter().filter(|(name, _)| !matches!(name.as_str(), "webhook-id" | "webhook-timestamp"));
    let headers = headers.map(|(name, value)| {
        let value = String::from_utf8_lossy(value.as_bytes());
        (name.as_str().to_owned(), mask(name.as_str(), &value, &hidden))
    });
    let target = match &handler.config.transport {
        config::Transport::Unix(socket) => {
            format!("unix:{}:{}", socket.display(), path(&request.url, &hidden))
        }
        _ => address(&request.url, &hidden),
    };
    AttemptDetail { target, headers: headers.collect(), ..AttemptDetail::default() }
}

/// What is never shown: the secrets that sign, and those of templates in every writing in which they may stand in a request.
struct Hidden<'h> {
    secrets: &'h [Secret],
    writings: Vec<String>,
}

impl Hidden<'_> {
    fn of(handler: &Handler) -> Hidden<'_> {
        Hidden { secrets: &handler.secrets, writings: handler.named.values().flat_map(Secret::writings).collect() }
    }

    fn in_text(&self, text: &str) -> bool {
        self.secrets.iter().any(|secret| text.contains(secret.expose()))
            || self.writings.iter().any(|word| !word.is_empty() && text.contains(word.as_str()))
    }
}

fn mask(name: &str, value: &str, hidden: &Hidden<'_>) -> String {
    const TELLING: [&str; 7] = ["authorization", "cookie", "signature", "token", "secret", "password", "api-key"];
    if TELLING.iter().any(|word| name.contains(word)) || hidden.in_text(value) {
        return MASK.to_owned();
    }
    value.chars().take(VALUE_MAX).collect()
}

fn address(url: &Url, hidden: &Hidden<'_>) -> String {
    let mut shown = url.clone();
    let _ = shown.set_username("");
    let _ = shown.set_password(None);
    shown.set_query(None);
    shown.set_fragment(None);
    shown.set_path("");
    format!("{}{}", shown.as_str().trim_end_matches('/'), path(url, hidden))
}

/// Path and query; a query says what its parameters are and not their values, which may be keys.
fn path(url: &Url, hidden: &Hidden<'_>) -> String {
    let mut shown = if hidden.in_text(url.path()) { format!("/{MASK}") } else { url.path().to_owned() };
    shown.push_str(&config::query_masked(url));
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_masked_wherever_they_stand() {
        let secrets = [Secret::new("s3cret")];
        let hidden = Hidden { secrets: &secrets, writings: Secret::new("1:a/b").writings() };
        for (name, value, want) in [
            ("content-type", "application/json", "application/json"),
            ("x-team", "billing", "billing"),
            ("webhook-signature", "v1,abc", MASK),
            ("authorization", "Bearer x", MASK),
            ("x-hub-signature-256", "sha256=ab", MASK),
            ("x-forge-token", "t", MASK),
            ("x-anything", "key s3cret", MASK),
        ] {
            assert_eq!(mask(name, value, &hidden), want, "{name}");
        }
        let url = |text: &str| address(&text.parse().expect("an address"), &hidden);
        assert_eq!(url("https://u:p@h.example:8443/a/b?key=v&x=1#f"), "https://h.example:8443/a/b?key=***&x=***");
        assert_eq!(url("http://h.example/s3cret/x"), "http://h.example/***");
        assert_eq!(url("http://127.0.0.1:9/"), "http://127.0.0.1:9/");
        assert_eq!(url("http://h.example/bot1%3Aa%2Fb/send"), "http://h.example/***", "as a template writes it");
    }
}
