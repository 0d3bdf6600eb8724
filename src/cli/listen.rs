//! `ringback listen`: stands in for a handler while one is being developed. Prints each request, and why a signature fails.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use clap::{Args, ValueEnum};
use serde::Serialize;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use url::Url;

use super::exit::{Exit, Failure, Outcome};
use super::output::{Format, Out, Tone, printable};
use super::scheme::{Choice, Chosen, secrets};
use crate::admin::shape::Time;
use crate::clock::Clock;
use crate::secret::Secret;
use crate::signature::{ID, Request};

/// Larger bodies are refused: a handler gets at most 1 MiB of data and what is around it.
const BODY_MAX: usize = 16 << 20;
/// Longer than a handler is given by default.
const SLOW: Duration = Duration::from_secs(20);
/// `flaky` refuses each third request.
const FLAKY: u64 = 3;
/// Requests told and not yet shown.
const TOLD: usize = 1_024;

/// What to answer requests whose signature is right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Answer {
    #[default]
    #[value(name = "200")]
    Ok,
    #[value(name = "500")]
    Error,
    #[value(name = "410")]
    Gone,
    /// 200 after 20 s
    Slow,
    /// 503 to each third
    Flaky,
}

#[derive(Args, Clone, Debug, PartialEq)]
pub struct Command {
    /// On 127.0.0.1; 0 takes a free one
    #[arg(long, default_value_t = 9000)]
    pub port: u16,
    /// A file with the secret; without one signatures are not checked
    #[arg(long = "secret-file", alias = "secret", value_name = "FILE")]
    pub secrets: Vec<PathBuf>,
    #[command(flatten)]
    pub choice: Choice,
    #[arg(long, value_enum, default_value_t)]
    pub answer: Answer,
    /// Show the bodies as well
    #[arg(long)]
    pub payload: bool,
    /// End after so many requests
    #[arg(long, value_name = "N")]
    pub count: Option<u64>,
}

/// A request as it is shown.
#[derive(Clone, Debug, Serialize)]
struct Heard {
    at: Time,
    method: String,
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", rename = "type")]
    event_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    /// Absent: there was no secret to check with.
    #[serde(skip_serializing_if = "Option::is_none")]
    valid: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    answered: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
}

struct Receiver {
    chosen: Chosen,
    secrets: Vec<Secret>,
    answer: Answer,
    payload: bool,
    base: Url,
    requests: AtomicU64,
    told: mpsc::Sender<Heard>,
}

pub async fn run(command: &Command, out: &mut Out) -> Outcome {
    let chosen = command.choice.find(out.color)?;
    let secrets = secrets(&command.secrets)?;
    let listener = TcpListener::bind(("127.0.0.1", command.port)).await.map_err(|error| {
        Failure::new(Exit::Failed, format!("cannot listen on 127.0.0.1:{}: {error}", command.port))
            .help("choose another with --port, or --port 0 for a free one")
    })?;
    let base = format!("http://{}/", listener.local_addr()?);
    let base = Url::parse(&base).expect("an address and a port make a URL");
    if secrets.is_empty() {
        out.remark("no secret was given: signatures are not checked");
    }
    out.remark(format!("listening on {base}  (end with Ctrl-C)"));
    let (told, heard) = mpsc::channel(TOLD);
    let (answer, payload) = (command.answer, command.payload);
    let receiver = Receiver { chosen, secrets, answer, payload, base, requests: AtomicU64::new(0), told };
    let router = Router::new().fallback(take).layer(DefaultBodyLimit::max(BODY_MAX)).with_state(Arc::new(receiver));
    tokio::select! {
        served = axum::serve(listener, router) => served.map(|()| Exit::Done).map_err(Failure::from),
        shown = show_all(heard, command.count, out) => shown,
        _ = tokio::signal::ctrl_c() => Ok(Exit::Interrupted),
    }
}

async fn show_all(mut heard: mpsc::Receiver<Heard>, count: Option<u64>, out: &mut Out) -> Outcome {
    let mut shown = 0;
    while let Some(request) = heard.recv().await {
        show(&request, out)?;
        shown += 1;
        if count.is_some_and(|count| shown >= count) {
            // The last answer must leave before the process does.
            tokio::time::sleep(Duration::from_millis(100)).await;
            break;
        }
    }
    Ok(Exit::Done)
}

async fn take(
    State(receiver): State<Arc<Receiver>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    let judged = receiver.judge(&method, &uri, &headers, &body);
    let number = receiver.requests.fetch_add(1, Ordering::Relaxed) + 1;
    let status = match (&judged, receiver.answer) {
        (Some(Err(_)), _) => StatusCode::UNAUTHORIZED,
        (_, Answer::Error) => StatusCode::INTERNAL_SERVER_ERROR,
        (_, Answer::Gone) => StatusCode::GONE,
        (_, Answer::Flaky) if number.is_multiple_of(FLAKY) => StatusCode::SERVICE_UNAVAILABLE,
        (_, Answer::Ok | Answer::Flaky | Answer::Slow) => StatusCode::OK,
    };
    let event: Option<Value> = serde_json::from_slice(&body).ok();
    let member = |name: &str| event.as_ref().and_then(|event| event[name].as_str()).map(str::to_owned);
    let heard = Heard {
        at: Time(Clock::system().now()),
        method: method.to_string(),
        path: uri.path().to_owned(),
        id: headers.get(ID).and_then(|value| value.to_str().ok()).map(str::to_owned),
        event_type: member("type"),
        key: member("key"),
        valid: judged.as_ref().map(Result::is_ok),
        reason: judged.and_then(Result::err),
        answered: status.as_u16(),
        body: receiver.payload.then(|| String::from_utf8_lossy(&body).into_owned()),
    };
    // Ending: nobody shows it any more.
    let _ = receiver.told.send(heard).await;
    if receiver.answer == Answer::Slow && status == StatusCode::OK {
        tokio::time::sleep(SLOW).await;
    }
    status
}

impl Receiver {
    /// None: there is nothing to check with. Err: the plain reason.
    fn judge(&self, method: &Method, uri: &Uri, headers: &HeaderMap, body: &[u8]) -> Option<Result<(), String>> {
        if self.secrets.is_empty() {
            return None;
        }
        // As it arrived: a signature covers the letters, not what a parser makes of them.
        let target = uri.path_and_query().map_or("/", |path| path.as_str());
        let url = format!("{}{target}", self.base.origin().ascii_serialization());
        let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let headers: Vec<(String, String)> =
            headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
        let settings = &self.chosen.settings;
        let request = Request { method: method.as_str(), url: Some(&url), headers: &headers, body, settings };
        let verified = self.chosen.scheme.verify(&request, &self.secrets, Clock::system().now());
        Some(verified.map(|_| ()).map_err(|refusal| refusal.to_string()))
    }
}

fn show(heard: &Heard, out: &mut Out) -> std::io::Result<()> {
    if out.format != Format::Table {
        let format = std::mem::replace(&mut out.format, Format::Jsonl);
        let written = out.json(heard);
        out.format = format;
        return written;
    }
    let signature = match (heard.valid, &heard.reason) {
        (Some(true), _) => out.paint("signature valid", Tone::Good),
        (Some(false), Some(reason)) => out.paint(&format!("refused: {reason}"), Tone::Bad),
        (Some(false), None) | (None, _) => out.paint("not checked", Tone::Dim),
    };
    let part = |part: &Option<String>| printable(part.as_deref().unwrap_or("-"));
    out.line(format!(
        "{}  {:<18} {:<12} {}  {}  {signature}",
        out.clock(heard.at),
        part(&heard.event_type),
        part(&heard.key),
        part(&heard.id),
        heard.answered,
    ))?;
    match &heard.body {
        Some(body) => out.line(format!("  {}", printable(body))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::output::capture;
    use super::*;
    use crate::signature::StandardSigner;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    async fn listening(answer: Answer) -> (String, mpsc::Receiver<Heard>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let base = Url::parse(&format!("http://{}/", listener.local_addr().expect("an address"))).expect("a URL");
        let (told, heard) = mpsc::channel(8);
        let receiver = Receiver {
            chosen: Choice::default().find(false).expect("Standard Webhooks"),
            secrets: vec![Secret::new(SECRET)],
            answer,
            payload: false,
            base: base.clone(),
            requests: AtomicU64::new(0),
            told,
        };
        let router = Router::new().fallback(take).with_state(Arc::new(receiver));
        tokio::spawn(async move { axum::serve(listener, router).await });
        (base.to_string(), heard)
    }

    async fn send(url: &str, body: &str, signed: &str) -> u16 {
        let now = Clock::system().now();
        let signer = StandardSigner::new(&[Secret::new(SECRET)]).expect("a key");
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        let request = client.post(format!("{url}hooks")).body(body.to_owned());
        let request = request.header("webhook-id", "evt_1").header("webhook-timestamp", now.unix_seconds().to_string());
        let request = request.header("webhook-signature", signer.sign("evt_1", now, signed.as_bytes()));
        request.send().await.expect("an answer").status().as_u16()
    }

    #[tokio::test]
    async fn a_good_signature_is_accepted_and_a_bad_one_refused_with_the_reason() {
        let (url, mut heard) = listening(Answer::Ok).await;
        let body = r#"{"type":"payment.created","key":"P-1"}"#;
        assert_eq!(send(&url, body, body).await, 200);
        let (mut out, captured) = capture::out(Format::Table);
        out.now = Clock::system().now();
        show(&heard.recv().await.expect("told"), &mut out).expect("written");
        assert!(
            captured.text().ends_with("payment.created    P-1          evt_1  200  signature valid\n"),
            "{}",
            captured.text()
        );

        assert_eq!(send(&url, body, "something else").await, 401);
        let refused = heard.recv().await.expect("told");
        assert!(refused.reason.is_some_and(|reason| reason.contains("does not match")));
    }

    #[tokio::test]
    async fn it_can_play_a_handler_that_is_gone_or_flaky() {
        let (url, _heard) = listening(Answer::Gone).await;
        assert_eq!(send(&url, "{}", "{}").await, 410);
        let (url, _heard) = listening(Answer::Flaky).await;
        let mut answers = Vec::new();
        for _ in 0..3 {
            answers.push(send(&url, "{}", "{}").await);
        }
        assert_eq!(answers, [200, 200, 503]);
    }
}
