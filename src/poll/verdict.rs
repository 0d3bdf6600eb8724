//! What an answer means: the stream's own rules first, then the provider's, then the built-in table. Pure.

use std::time::Duration;

use http::{HeaderMap, header};
use url::Url;

use super::pace;
use crate::client::{Incoming, SendError};
use crate::jq::Jq;
use crate::model::{ProblemKind, Timestamp};
use crate::provider::{Action, ResponseAction};

/// What the run does with an answer.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Verdict {
    /// A page to read.
    Page,
    /// A listing without records, by a rule of the provider file.
    Empty,
    /// The parent of this listing is gone.
    Gone,
    /// Nothing is new since the validators we sent.
    NotModified,
    Failed(Failure),
}

/// Why there is no page, and what follows from it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Failure {
    pub cause: Cause,
    /// A sentence for a person: what happened and what to do.
    pub message: String,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Cause {
    /// May go well the next time. `after`: as the provider asked.
    Passing { after: Option<Duration> },
    /// The credential is asked too often; all its streams keep quiet.
    RateLimited { after: Option<Duration> },
    /// The credential was refused: nothing is asked with it any more.
    Refused,
    /// The cursor is too old for the provider.
    Expired,
    /// A guard held the run; the problem is ingest's.
    Held,
    /// Needs a person.
    Lasting(ProblemKind),
}

impl Failure {
    pub fn new(cause: Cause, message: impl Into<String>) -> Failure {
        Failure { cause, message: message.into() }
    }

    /// The problem that this failure is at once. What passes by itself becomes one only when it lasts.
    pub fn problem(&self) -> Option<ProblemKind> {
        match self.cause {
            Cause::Passing { .. } | Cause::RateLimited { .. } | Cause::Held => None,
            Cause::Refused => Some(ProblemKind::AuthFailed),
            Cause::Expired => Some(ProblemKind::HistoryGap),
            Cause::Lasting(kind) => Some(kind),
        }
    }
}

/// An exchange without an answer.
pub(super) fn unsent(error: SendError) -> Failure {
    let message = error.to_string();
    match error {
        SendError::HostRefused(_) => Failure::new(Cause::Lasting(ProblemKind::HostRefused), message),
        SendError::Proxy(_) => Failure::new(Cause::Lasting(ProblemKind::ProxyFailed), message),
        SendError::TooLarge(_) => Failure::new(Cause::Lasting(ProblemKind::AnswerUnreadable), message),
        SendError::Unreachable(_) | SendError::Timeout(_) | SendError::Broken(_) => {
            Failure::new(Cause::Passing { after: None }, message)
        }
    }
}

/// What there was to a request, for judging its answer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Asked<'a> {
    /// Validators were sent with it.
    pub conditional: bool,
    /// It was made for one parent of several.
    pub parent: bool,
    /// What the provider says in a SOAP fault.
    pub fault: Option<&'a str>,
}

/// Judges an answer. `when` runs a rule's jq over it.
pub(super) fn judge<'r>(
    rules: impl IntoIterator<Item = &'r ResponseAction>,
    answer: &Incoming,
    asked: Asked<'_>,
    now: Timestamp,
    when: impl Fn(&Jq) -> Result<bool, String>,
) -> Verdict {
    for rule in rules {
        if !(rule.status.is_empty() || rule.status.contains(&answer.status)) {
            continue;
        }
        match rule.when.as_ref().map_or(Ok(true), &when) {
            Ok(true) => return declared(rule, answer, asked, now),
            Ok(false) => {}
            // A rule over the body cannot be asked of a body that is none (a proxy's page, say): the status decides then.
            Err(_) if !(200..300).contains(&answer.status) => {}
            Err(reason) => {
                let message = format!("a `when` of `response_actions` cannot be asked of the answer: {reason}");
                return Verdict::Failed(Failure::new(Cause::Lasting(ProblemKind::AnswerUnreadable), message));
            }
        }
    }
    built_in(answer, asked, now)
}

fn declared(rule: &ResponseAction, answer: &Incoming, asked: Asked<'_>, now: Timestamp) -> Verdict {
    let after = pace::retry_after(&answer.headers, now);
    let message = match &rule.message {
        Some(message) => format!("{message} (status {})", answer.status),
        None => said(answer.status),
    };
    let cause = match rule.action {
        Action::Ok => return Verdict::Page,
        Action::Empty => return Verdict::Empty,
        Action::Retry => Cause::Passing { after },
        Action::RateLimited => Cause::RateLimited { after },
        Action::Login => Cause::Refused,
        Action::Expired => Cause::Expired,
        // Without parents it is an empty listing.
        Action::Skip if asked.parent => return Verdict::Gone,
        Action::Skip => return Verdict::Empty,
        Action::Fatal => Cause::Lasting(ProblemKind::AnswerUnreadable),
    };
    Verdict::Failed(Failure::new(cause, message))
}

/// 2xx ok · 401 login · 404 of one parent: skip · 410 expired · 408, 429, 5xx retry · rest fatal.
fn built_in(answer: &Incoming, asked: Asked<'_>, now: Timestamp) -> Verdict {
    let after = pace::retry_after(&answer.headers, now);
    // SOAP 1.1 sends every fault with a 500, which by itself would say "later".
    if let (Some(fault), 200..=299 | 500) = (asked.fault, answer.status) {
        let message = format!("{fault} (status {}); say what it means in `response_actions`", answer.status);
        return Verdict::Failed(Failure::new(Cause::Lasting(ProblemKind::AnswerUnreadable), message));
    }
    let (cause, remedy) = match answer.status {
        200..=299 => return Verdict::Page,
        304 if asked.conditional => return Verdict::NotModified,
        304 => (Cause::Lasting(ProblemKind::AnswerUnreadable), "nothing was asked conditionally; a proxy or cache answers in the provider's place".into()),
        status @ 300..=399 => return redirect(status, &answer.headers),
        401 => (
            Cause::Refused,
            "the credential is not asked again until it is changed and the configuration reloaded, or `ringback poll` tries it once more; \
             correct the source's `secrets`".to_owned(),
        ),
        403 => (
            Cause::Lasting(ProblemKind::AuthFailed),
            "the credential may not read this stream; give it the right at the provider, or leave the stream out with `only`".to_owned(),
        ),
        407 => (Cause::Lasting(ProblemKind::ProxyFailed), "the proxy wants another user or password; see `network.proxy`".to_owned()),
        // Its own stream will say that it is gone; what was known of its children stays.
        404 if asked.parent => return Verdict::Gone,
        404 => (
            Cause::Lasting(ProblemKind::AnswerUnreadable),
            "there is nothing at this address; check `base_url` and the stream's `path`".to_owned(),
        ),
        410 => (
            Cause::Expired,
            "the provider no longer keeps what the cursor points to; records may be lost between then and now".to_owned(),
        ),
        429 => (Cause::RateLimited { after }, "too many requests; the daemon waits, `limits.rate` would keep below it".to_owned()),
        408 | 500..=599 => (Cause::Passing { after }, "the provider is in trouble; it is asked again".to_owned()),
        _ => (
            Cause::Lasting(ProblemKind::AnswerUnreadable),
            "the provider does not accept the request; check the stream's request and settings".to_owned(),
        ),
    };
    Verdict::Failed(Failure::new(cause, format!("{}: {remedy}", said(answer.status))))
}

/// Redirects are never followed: credentials would go with them. Only the host is named, a query may hold a secret.
fn redirect(status: u16, headers: &HeaderMap) -> Verdict {
    let location = headers.get(header::LOCATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let to = match Url::parse(location) {
        Ok(url) => url.origin().ascii_serialization(),
        Err(_) if location.is_empty() => "an address it does not name".to_owned(),
        Err(_) => "another path on the same host".to_owned(),
    };
    let message = format!(
        "{}: the provider redirects to {to}, and redirects are not followed; correct `base_url` or `path` if that is the right place, \
         or look for a login page or proxy in between",
        said(status)
    );
    Verdict::Failed(Failure::new(Cause::Lasting(ProblemKind::AnswerUnreadable), message))
}

fn said(status: u16) -> String {
    let name = http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    match name {
        Some(name) => format!("the provider answered {status} ({name})"),
        None => format!("the provider answered {status}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn answer(status: u16, headers: &[(&'static str, &'static str)]) -> Incoming {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, http::HeaderValue::from_static(value));
        }
        Incoming { status, headers: map, body: Bytes::new() }
    }

    fn rule(status: &[u16], when: Option<&str>, action: Action) -> ResponseAction {
        let when = when.map(|text| Jq::parse(text).expect("valid"));
        ResponseAction { status: status.to_vec(), when, action, message: None }
    }

    fn cause(verdict: Verdict) -> Cause {
        match verdict {
            Verdict::Failed(failure) => failure.cause,
            other => panic!("{other:?} is no failure"),
        }
    }

    fn by_table(answer: &Incoming, conditional: bool) -> Verdict {
        judge([], answer, Asked { conditional, ..Asked::default() }, Timestamp(0), |_| Ok(true))
    }

    #[test]
    fn without_rules_the_status_decides() {
        let unreadable = Cause::Lasting(ProblemKind::AnswerUnreadable);
        for status in [200, 201, 204, 299] {
            assert_eq!(by_table(&answer(status, &[]), false), Verdict::Page);
        }
        for (status, want) in [
            (401, Cause::Refused),
            (403, Cause::Lasting(ProblemKind::AuthFailed)),
            (404, unreadable),
            (407, Cause::Lasting(ProblemKind::ProxyFailed)),
            (410, Cause::Expired),
            (408, Cause::Passing { after: None }),
            (429, Cause::RateLimited { after: None }),
            (500, Cause::Passing { after: None }),
            (503, Cause::Passing { after: None }),
            (599, Cause::Passing { after: None }),
            (400, unreadable),
            (418, unreadable),
            (302, unreadable),
            (304, unreadable),
            (101, unreadable),
            (999, unreadable),
        ] {
            assert_eq!(cause(by_table(&answer(status, &[]), false)), want, "{status}");
        }
        assert_eq!(by_table(&answer(304, &[]), true), Verdict::NotModified);
        let after = Some(Duration::from_secs(7));
        assert_eq!(cause(by_table(&answer(429, &[("retry-after", "7")]), false)), Cause::RateLimited { after });
        assert_eq!(cause(by_table(&answer(503, &[("retry-after", "7")]), false)), Cause::Passing { after });
    }

    #[test]
    fn a_redirect_names_the_host_and_nothing_of_the_query() {
        let moved = answer(302, &[("location", "https://login.example/in?token=s3cret")]);
        let Verdict::Failed(failure) = by_table(&moved, false) else { panic!("a redirect is a failure") };
        assert!(failure.message.contains("https://login.example,"), "{}", failure.message);
        assert!(!failure.message.contains("s3cret"));
    }

    #[test]
    fn the_first_matching_rule_wins_over_the_table() {
        let says = |text: &'static str| move |jq: &Jq| Ok(format!("{jq:?}") == text);
        let rules = [
            rule(&[403], Some(".limited"), Action::RateLimited),
            rule(&[403, 404], None, Action::Empty),
            rule(&[], Some(".ok == false"), Action::Login),
            rule(&[409], None, Action::Ok),
        ];
        let judged = |status, text| judge(&rules, &answer(status, &[]), Asked::default(), Timestamp(0), says(text));
        assert_eq!(cause(judged(403, ".limited")), Cause::RateLimited { after: None });
        assert_eq!(judged(403, ""), Verdict::Empty);
        assert_eq!(judged(404, ".limited"), Verdict::Empty);
        assert_eq!(cause(judged(200, ".ok == false")), Cause::Refused);
        assert_eq!(judged(200, ""), Verdict::Page);
        assert_eq!(judged(409, ""), Verdict::Page);
        assert_eq!(cause(judged(500, "")), Cause::Passing { after: None });
    }

    #[test]
    fn a_rule_that_cannot_be_asked_fails_a_good_answer_and_leaves_a_bad_one_to_its_status() {
        let rules = [rule(&[], Some(".ok"), Action::Fatal)];
        let judged = |status| {
            judge(&rules, &answer(status, &[]), Asked::default(), Timestamp(0), |_| {
                Err("the answer is not JSON".to_owned())
            })
        };
        assert_eq!(cause(judged(200)), Cause::Lasting(ProblemKind::AnswerUnreadable));
        assert_eq!(cause(judged(502)), Cause::Passing { after: None });
    }
}
