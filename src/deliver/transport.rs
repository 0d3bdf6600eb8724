//! By what way an attempt goes out, and what came of it.

use std::sync::Arc;

use bytes::Bytes;
use tracing::warn;

use super::exec::{self, Ended};
use super::outcome::{self, Tried};
use super::{Broker, Handler, file, format, mail, sent};
use crate::client::{Bounds, Exchange, Failed, Over, SendError};
use crate::config;
use crate::model::{AttemptDetail, AttemptResult, ErrorClass, Timestamp};
use crate::store::ClaimedDelivery;

/// Bytes kept of a handler's answer.
pub const ANSWER_MAX: usize = 4 << 10;
/// What a command says that cannot take the event now, by convention of mail programs: it speaks of the handler.
const EX_TEMPFAIL: i32 = 75;

/// By what way a handler's events go.
pub enum Transport {
    /// Over TCP or a Unix socket: that is the client's affair.
    Http(Arc<dyn Exchange>),
    Exec(Vec<String>),
    File(file::Out),
    Mail(Box<mail::Mailer>),
    Broker(Box<dyn Broker>),
    /// Nothing is sent: the handler asks.
    Pull,
}

impl Transport {
    /// What the configuration says, with a client for HTTP.
    pub fn new(config: &config::Handler, client: impl Exchange) -> Result<Transport, String> {
        Ok(match &config.transport {
            config::Transport::Http | config::Transport::Unix(_) => Transport::Http(Arc::new(client)),
            config::Transport::Exec(words) => Transport::Exec(words.clone()),
            config::Transport::File(target) => Transport::File(file::Out::new(target.clone())),
            config::Transport::Pull { .. } => Transport::Pull,
            config::Transport::Mail(_) => return Err("a mail server takes no HTTP client".into()),
            config::Transport::Nats(_) | config::Transport::Kafka(_) => {
                return Err("a message broker takes no HTTP client".into());
            }
        })
    }
}

/// What came of one attempt.
pub struct Carried {
    pub tried: Tried,
    /// A sentence for a person, when it did not succeed.
    pub error: Option<String>,
    pub answer: Bytes,
    pub detail: AttemptDetail,
}

impl Carried {
    pub fn delivered(detail: AttemptDetail) -> Carried {
        Carried { tried: Tried::new(AttemptResult::Delivered), error: None, answer: Bytes::new(), detail }
    }

    pub fn failed(tried: Tried, class: ErrorClass, error: String, detail: AttemptDetail) -> Carried {
        let detail = AttemptDetail { class: Some(class), ..detail };
        Carried { tried, error: Some(error), answer: Bytes::new(), detail }
    }

    /// No request can be made of this event: its own affair, which makes no other wait.
    pub fn unsendable(error: String, detail: AttemptDetail) -> Carried {
        Carried::failed(Tried::new(AttemptResult::NotSent), ErrorClass::Unsendable, error, detail)
    }

    /// Our own trouble: it says nothing of the event.
    pub fn not_sent(class: ErrorClass, error: String, detail: AttemptDetail) -> Carried {
        let tried = Tried { own_fault: true, ..Tried::new(AttemptResult::NotSent) };
        Carried::failed(tried, class, error, detail)
    }
}

/// Makes one attempt.
pub async fn carry(handler: &Handler, delivery: &ClaimedDelivery, now: Timestamp) -> Carried {
    match &handler.transport {
        Transport::Http(client) => over_http(handler, &**client, delivery, now).await,
        Transport::Exec(words) => by_command(handler, words, delivery, now).await,
        Transport::File(out) => into_file(handler, out, delivery, now).await,
        Transport::Mail(mailer) => mailer.send(delivery, now, handler.config.timeout).await,
        Transport::Broker(broker) => broker.publish(handler, delivery, now).await,
        Transport::Pull => {
            // Nothing claims for it; a handler that became one while an attempt was being made takes it by asking.
            let error = "its handler asks for its events since the last reload".to_owned();
            Carried::not_sent(ErrorClass::Unsendable, error, AttemptDetail::default())
        }
    }
}

async fn over_http(handler: &Handler, client: &dyn Exchange, delivery: &ClaimedDelivery, now: Timestamp) -> Carried {
    let request = match format::request(handler, delivery, now) {
        Ok(request) => request,
        Err(error) => return Carried::unsendable(error, AttemptDetail::default()),
    };
    let detail = sent::over_http(handler, &request);
    let bounds = Bounds { timeout: handler.config.timeout, body_max: ANSWER_MAX, over: Over::Cut };
    let exchanged = client.timed(request, bounds).await;
    let detail = AttemptDetail { timings: exchanged.timings, ..detail };
    let connecting = match exchanged.failed {
        Some(Failed::Dns) => ErrorClass::Dns,
        Some(Failed::Tls) => ErrorClass::Tls,
        Some(Failed::Connect) | None => ErrorClass::Connect,
    };
    let failed = |result, class, error| Carried::failed(Tried::new(result), class, error, detail.clone());
    match exchanged.answer {
        Ok(answer) => answered(answer, now, detail),
        Err(SendError::HostRefused(error)) => Carried::not_sent(ErrorClass::HostRefused, error, detail),
        Err(SendError::Proxy(error)) => Carried::not_sent(ErrorClass::Proxy, error, detail),
        Err(SendError::Unreachable(error)) => failed(AttemptResult::Unreachable, connecting, error),
        Err(SendError::Timeout(error)) => failed(AttemptResult::Timeout, ErrorClass::Timeout, error),
        Err(SendError::Broken(error) | SendError::TooLarge(error)) => {
            failed(AttemptResult::Broken, ErrorClass::Broken, error)
        }
    }
}

fn answered(answer: crate::client::Incoming, now: Timestamp, detail: AttemptDetail) -> Carried {
    let retry_after = answer.headers.get("retry-after").and_then(|v| v.to_str().ok());
    let retry_after = retry_after.and_then(|value| outcome::retry_after(value, now));
    let tried = |result| Tried { status: Some(answer.status), retry_after, ..Tried::new(result) };
    let carried = match answer.status {
        200..300 => Carried { tried: tried(AttemptResult::Delivered), ..Carried::delivered(detail) },
        300..400 => {
            let error = format!("answered {}: redirects are not followed, change the handler's `url`", answer.status);
            Carried::failed(tried(AttemptResult::Refused), ErrorClass::Redirect, error, detail)
        }
        status => {
            let error = format!("answered {status}");
            Carried::failed(tried(AttemptResult::Refused), ErrorClass::Status, error, detail)
        }
    };
    Carried { answer: answer.body, ..carried }
}

async fn by_command(handler: &Handler, words: &[String], delivery: &ClaimedDelivery, now: Timestamp) -> Carried {
    let program = words.first().map(String::as_str).unwrap_or_default();
    let request = match format::request(handler, delivery, now) {
        Ok(request) => request,
        Err(error) => return Carried::unsendable(error, AttemptDetail::default()),
    };
    let detail = AttemptDetail { target: format!("exec:{program}"), ..sent::over_http(handler, &request) };
    let variables = exec::variables(handler, delivery, &request);
    let run = exec::run(words, variables, request.body, handler.config.timeout, ANSWER_MAX).await;
    let tried = Tried::new(AttemptResult::Refused);
    let carried = match run.ended {
        Ended::Exit(0) => Carried::delivered(detail),
        Ended::Exit(EX_TEMPFAIL) => {
            let error = format!("{program} ended with 75: it cannot take events now");
            Carried::failed(Tried { busy: true, ..tried }, ErrorClass::Command, error, detail)
        }
        Ended::Exit(code) => {
            Carried::failed(tried, ErrorClass::Command, format!("{program} ended with {code}"), detail)
        }
        Ended::Signal(signal) => {
            let error = format!("{program} was ended by signal {signal}");
            Carried::failed(tried, ErrorClass::Command, error, detail)
        }
        Ended::Late => {
            let error = format!("{program} did not end within {:?} and was killed", handler.config.timeout);
            Carried::failed(Tried::new(AttemptResult::Timeout), ErrorClass::Timeout, error, detail)
        }
        Ended::NotStarted(reason) => {
            let error = format!("{program} cannot be started: {reason}");
            Carried::failed(Tried::new(AttemptResult::Unreachable), ErrorClass::Command, error, detail)
        }
    };
    Carried { answer: run.output, ..carried }
}

async fn into_file(handler: &Handler, out: &file::Out, delivery: &ClaimedDelivery, now: Timestamp) -> Carried {
    let detail = AttemptDetail { target: format!("file:{}", out.path().display()), ..AttemptDetail::default() };
    let line = file::line(&delivery.event, handler.config.format, delivery.replay);
    match out.append(line, now).await {
        Ok(mended) => {
            if let Some(what) = mended {
                warn!(handler.name = %handler.config.name, "{}: {what}", out.path().display());
            }
            Carried::delivered(detail)
        }
        // A full disk or a missing folder speaks of the file, whatever the event.
        Err(error) => Carried::failed(Tried::new(AttemptResult::Unreachable), ErrorClass::File, error, detail),
    }
}
