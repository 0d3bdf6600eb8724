//! NATS JetStream: the stream's acknowledgement is the verdict, and the event's id is the message's, so a stream keeps a repeat once.
//!
//! The library is given an address that was judged, never a name, and keeps to it: servers that a cluster tells of are not called. A
//! connection that is lost is made anew by the next attempt, from the name on.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_nats::jetstream::{self, context::PublishErrorKind, message::PublishMessage, publish::PublishAck};
use async_nats::{ConnectErrorKind, ConnectOptions, Event, HeaderMap, HeaderName, HeaderValue};
use async_trait::async_trait;
use tokio::sync::watch;

use super::Broker;
use super::message::{Failure, Message, message};
use super::way::Way;
use crate::certificate::Presented;
use crate::client::tls;
use crate::config::{self, BrokerAddress, NatsLogin, Network};
use crate::deliver::Handler;
use crate::deliver::transport::Carried;
use crate::fresh::Fresh;
use crate::model::{AttemptDetail, AttemptResult, ErrorClass, Timestamp, Timings};
use crate::secret::Secret;
use crate::store::ClaimedDelivery;

const CONNECT: Duration = Duration::from_secs(5);

/// Publishes to the subjects of one handler.
pub struct NatsBroker {
    nats: config::Nats,
    way: Way,
    trust: Fresh<tls::Trust>,
    server_name: Option<String>,
    presented: Presented,
    login: Login,
    live: Mutex<Option<Live>>,
}

enum Login {
    None,
    User { user: String, password: Secret },
    Token(Secret),
    Credentials(Secret),
}

/// A connection that stands.
#[derive(Clone)]
struct Live {
    stream: jetstream::Context,
    server: BrokerAddress,
    /// Turns true when the connection is lost, and with it every answer that is awaited.
    lost: watch::Receiver<bool>,
}

impl NatsBroker {
    pub fn new(
        nats: &config::Nats,
        tls: &config::Tls,
        network: &Network,
        presented: &Presented,
    ) -> Result<NatsBroker, String> {
        let load = |place: &crate::secret::SecretRef| place.load().map_err(|error| error.to_string());
        let login = match &nats.login {
            NatsLogin::None => Login::None,
            NatsLogin::User { user, password } => Login::User { user: user.clone(), password: load(password)? },
            NatsLogin::Token(token) => Login::Token(load(token)?),
            NatsLogin::Credentials(place) => {
                let text = load(place)?;
                let wrong = |_| format!("{place}: holds no NATS credentials (a JWT and a seed)");
                ConnectOptions::with_credentials(text.expose()).map_err(wrong)?;
                Login::Credentials(text)
            }
        };
        Ok(NatsBroker {
            nats: nats.clone(),
            way: Way::new(network),
            trust: tls::fresh(tls, network)?,
            server_name: tls.server_name.clone(),
            presented: presented.clone(),
            login,
            live: Mutex::default(),
        })
    }

    /// The connection that stands, or a new one to the first server that can be had.
    async fn connection(&self, timings: &mut Timings) -> Result<Live, Failure> {
        let standing = self.live.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(live) = standing.filter(|live| !*live.lost.borrow()) {
            return Ok(live);
        }
        let mut last = Failure::unreachable(ErrorClass::Connect, "no server is named".into());
        for server in &self.nats.servers {
            match self.connect(server, timings).await {
                Ok(live) => {
                    *self.live.lock().unwrap_or_else(PoisonError::into_inner) = Some(live.clone());
                    return Ok(live);
                }
                Err(failure) => last = failure,
            }
        }
        Err(last)
    }

    async fn connect(&self, server: &BrokerAddress, timings: &mut Timings) -> Result<Live, Failure> {
        let began = Instant::now();
        let addresses = self.way.to(&server.host).await?;
        timings.dns = Some(began.elapsed());
        let mut last = Failure::unreachable(ErrorClass::Dns, format!("`{}` has no address", server.host));
        for address in addresses {
            let began = Instant::now();
            let made = self.connect_to(server, address).await;
            timings.connect = Some(began.elapsed());
            match made {
                Ok(live) => return Ok(live),
                Err(failure) => last = failure,
            }
        }
        Err(last)
    }

    async fn connect_to(&self, server: &BrokerAddress, address: IpAddr) -> Result<Live, Failure> {
        let (losing, lost) = watch::channel(false);
        let losing = Arc::new(losing);
        let options = match &self.login {
            Login::None => ConnectOptions::new(),
            Login::User { user, password } => {
                ConnectOptions::with_user_and_password(user.clone(), password.expose().to_owned())
            }
            Login::Token(token) => ConnectOptions::with_token(token.expose().to_owned()),
            Login::Credentials(text) => ConnectOptions::with_credentials(text.expose())
                .map_err(|error| Failure::own(ErrorClass::Unsendable, error.to_string()))?,
        };
        let name = self.server_name.as_deref().unwrap_or(&server.host);
        let config = self.trust.get().by_name(name, &server.to_string(), &self.presented);
        let config = config.map_err(|error| Failure::own(ErrorClass::Tls, error))?;
        let options = options
            .name(concat!("ringback/", env!("CARGO_PKG_VERSION")))
            // The library asks for the name that it was given, which is an address: the certificate must bear the server's own.
            .tls_client_config(config)
            .ignore_discovered_servers()
            .connection_timeout(CONNECT)
            // One, as the library takes 0 for no bound: after that the next attempt of ours begins with the name.
            .max_reconnects(1)
            .event_callback(move |event| {
                if matches!(event, Event::Disconnected | Event::Closed) {
                    losing.send_replace(true);
                }
                async {}
            });
        let scheme = if self.nats.tls { "tls" } else { "nats" };
        let url = format!("{scheme}://{}", SocketAddr::new(address, server.port));
        let client = options.connect(url).await.map_err(|error| not_connected(server, &error))?;
        let stream = jetstream::new(client);
        Ok(Live { stream, server: server.clone(), lost })
    }

    async fn send(
        &self,
        subject: String,
        message: PublishMessage,
        limit: Duration,
        timings: &mut Timings,
    ) -> Result<PublishAck, Failure> {
        let mut live = self.connection(timings).await?;
        live.stream.set_timeout(limit);
        let began = Instant::now();
        let acked = async { live.stream.send_publish(subject.clone(), message).await?.await };
        let answer = tokio::select! {
            answer = acked => answer.map_err(|error| refused(&error, &subject, &live.server)),
            _ = live.lost.wait_for(|lost| *lost) => {
                Err(Failure::broken(format!("{} closed the connection before it answered", live.server)))
            }
        };
        timings.first_byte = Some(began.elapsed());
        answer
    }
}

#[async_trait]
impl Broker for NatsBroker {
    async fn publish(&self, handler: &Handler, delivery: &ClaimedDelivery, now: Timestamp) -> Carried {
        let unsendable = |error| Carried::not_sent(ErrorClass::Unsendable, error, AttemptDetail::default());
        let Message { headers, body, context, detail } = match message(handler, delivery, now) {
            Ok(message) => message,
            Err(error) => return unsendable(error),
        };
        let subject = match self.nats.subject.text(&context) {
            Ok(text) => publishable(&text),
            Err(error) => return unsendable(format!("nats.subject: {error}")),
        };
        let scheme = if self.nats.tls { "tls" } else { "nats" };
        let server = self.nats.servers.first().map(ToString::to_string).unwrap_or_default();
        let detail = AttemptDetail { target: format!("{scheme}://{server}/{subject}"), ..detail };
        let message = match told(&headers) {
            Ok(headers) => {
                PublishMessage::build().headers(headers).payload(body).message_id(delivery.event.id.as_str())
            }
            Err(error) => return unsendable(error),
        };
        let mut timings = Timings::default();
        let limit = handler.config.timeout;
        let sent = tokio::time::timeout(limit, self.send(subject, message, limit, &mut timings)).await;
        let sent = sent.unwrap_or_else(|_| {
            // An answer that never comes may be the connection's fault.
            self.live.lock().unwrap_or_else(PoisonError::into_inner).take();
            let error = format!("{server} did not acknowledge within {limit:?}");
            Err(Failure::new(AttemptResult::Timeout, ErrorClass::Timeout, error))
        });
        let detail = AttemptDetail { timings, ..detail };
        match sent {
            Ok(ack) => {
                let (stream, sequence, duplicate) = (ack.stream, ack.sequence, ack.duplicate);
                let answer = serde_json::json!({ "stream": stream, "seq": sequence, "duplicate": duplicate });
                Carried { answer: answer.to_string().into(), ..Carried::delivered(detail) }
            }
            Err(failure) => failure.carried(detail),
        }
    }
}

/// The headers as NATS writes them.
fn told(headers: &http::HeaderMap) -> Result<HeaderMap, String> {
    let mut told = HeaderMap::new();
    for (name, value) in headers {
        let wrong = || format!("header `{name}` cannot be sent to NATS");
        let value = String::from_utf8_lossy(value.as_bytes());
        let value: HeaderValue = value.parse().map_err(|_| wrong())?;
        told.insert(HeaderName::try_from(name.as_str()).map_err(|_| wrong())?, value);
    }
    Ok(told)
}

/// A text as a subject that can be published to, whatever the event holds: what has a meaning in subjects is percent-encoded, and a
/// token that would be empty is `_`.
fn publishable(text: &str) -> String {
    let token = |token: &str| {
        if token.is_empty() {
            return "_".to_owned();
        }
        let mut out = String::with_capacity(token.len());
        for c in token.chars() {
            if c.is_whitespace() || c.is_control() || matches!(c, '*' | '>' | '%') {
                c.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| out.push_str(&format!("%{byte:02X}")));
            } else {
                out.push(c);
            }
        }
        out
    };
    text.split('.').map(token).collect::<Vec<_>>().join(".")
}

fn not_connected(server: &BrokerAddress, error: &async_nats::ConnectError) -> Failure {
    let class = match error.kind() {
        ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
            let error = format!("{server} does not let us in: check `user`, `password`, `token` or `credentials`");
            return Failure::unreachable(ErrorClass::Broker, error);
        }
        _ if tls::failed(error) => ErrorClass::Tls,
        ConnectErrorKind::Tls => ErrorClass::Tls,
        _ => ErrorClass::Connect,
    };
    Failure::unreachable(class, format!("{server} cannot be reached: {error}"))
}

fn refused(error: &jetstream::context::PublishError, subject: &str, server: &BrokerAddress) -> Failure {
    match error.kind() {
        PublishErrorKind::StreamNotFound => {
            let error = format!("no stream of {server} takes `{subject}`: add the subject to a stream");
            Failure::refused(true, Some(503), error)
        }
        PublishErrorKind::MaxPayloadExceeded => {
            Failure::refused(false, Some(413), format!("{server} takes no message of this size: {error}"))
        }
        PublishErrorKind::TimedOut => {
            let error = format!("{server} did not acknowledge in time");
            Failure::new(AttemptResult::Timeout, ErrorClass::Timeout, error)
        }
        PublishErrorKind::BrokenPipe => Failure::broken(format!("{server} closed the connection before it answered")),
        // Its codes are those of HTTP, with the same meaning: 503 for a stream that is full, 400 for what it will never take.
        _ => {
            let source = std::error::Error::source(error);
            let code = source.and_then(|source| source.downcast_ref::<jetstream::Error>()).map(jetstream::Error::code);
            let status = code.and_then(|code| u16::try_from(code).ok()).filter(|code| *code != 410);
            Failure::refused(false, status, format!("{server}: {error}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_is_one_subject() {
        for (text, want) in [
            ("ringback.core.payments", "ringback.core.payments"),
            ("a.P 1\r\nPUB x", "a.P%201%0D%0APUB%20x"),
            ("a.*.>", "a.%2A.%3E"),
            ("a..b.", "a._.b._"),
            ("", "_"),
            ("a.100%.\u{a0}é", "a.100%25.%C2%A0é"),
        ] {
            assert_eq!(publishable(text), want);
        }
    }

    #[test]
    fn what_the_server_says_is_judged_like_a_status() {
        let at = BrokerAddress { host: "n".into(), port: 4222 };
        let said = |json: &str| {
            let inner: jetstream::Error = serde_json::from_str(json).expect("an error of JetStream's");
            refused(&jetstream::context::PublishError::with_source(PublishErrorKind::Other, inner), "a.b", &at)
        };
        let full = said(r#"{"code":503,"err_code":10077,"description":"maximum messages exceeded"}"#);
        assert_eq!((full.tried.status, full.class), (Some(503), ErrorClass::Broker));
        assert!(full.error.contains("maximum messages exceeded"), "{}", full.error);
        let large = said(r#"{"code":400,"err_code":10054,"description":"message size exceeds maximum allowed"}"#);
        assert_eq!((large.tried.status, large.tried.busy), (Some(400), false));
        let none = refused(&jetstream::context::PublishError::new(PublishErrorKind::StreamNotFound), "a.b", &at);
        assert!(none.tried.busy && none.error.contains("no stream of n:4222 takes `a.b`"), "{}", none.error);
    }
}
