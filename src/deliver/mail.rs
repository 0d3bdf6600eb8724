//! Messages to people: an event through a mail server, its subject and text from templates. What the server says is the verdict: 2xx
//! accepted, 4xx speaks of the server, 5xx of the message.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use lettre::message::{Mailbox, header::ContentType};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Identity, Tls, TlsParameters, TlsVersion};
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};

use super::outcome::Tried;
use super::transport::Carried;
use crate::client::{LookUp, SendError, permitted, system, tls};
use crate::config::{self, Mail, MailSecurity, MailServer, Network};
use crate::event_body;
use crate::fresh::Fresh;
use crate::model::{AttemptDetail, AttemptResult, ErrorClass, Timestamp};
use crate::secret::Secret;
use crate::store::ClaimedDelivery;
use crate::template::{Context, TimeFormat};

/// Longer subjects are cut.
const SUBJECT_MAX: usize = 200;

/// Sends messages by one server.
pub struct Mailer {
    mail: Mail,
    network: Network,
    look_up: LookUp,
    /// Made again when a certificate or key changes.
    tls: Fresh<Tls>,
    credentials: Option<Credentials>,
    from: Mailbox,
    to: Vec<Mailbox>,
}

impl Mailer {
    /// Puts it together; the error is a sentence that names the file or key at fault.
    pub fn new(mail: &Mail, tls: &config::Tls, network: &Network, password: Option<Secret>) -> Result<Mailer, String> {
        let mailbox = |text: &String| text.parse().map_err(|error| format!("`{text}` is no mail address: {error}"));
        let files = tls::files(tls, network);
        let (server, tls, cas) = (mail.server.clone(), tls.clone(), network.ca_files.clone());
        let make = move || {
            Ok(match server.security {
                MailSecurity::Tls => Tls::Wrapper(parameters(&server, &tls, &cas)?),
                MailSecurity::StartTls => Tls::Required(parameters(&server, &tls, &cas)?),
                MailSecurity::None => Tls::None,
            })
        };
        Ok(Mailer {
            tls: Fresh::new(files, make)?,
            credentials: mail
                .user
                .clone()
                .zip(password)
                .map(|(user, password)| Credentials::new(user, password.expose().to_owned())),
            from: mailbox(&mail.from)?,
            to: mail.to.iter().map(mailbox).collect::<Result<_, _>>()?,
            mail: mail.clone(),
            network: network.clone(),
            look_up: system(),
        })
    }

    pub(super) async fn send(&self, delivery: &ClaimedDelivery, now: Timestamp, limit: Duration) -> Carried {
        let to: Vec<String> = self.to.iter().map(|to| to.email.to_string()).collect();
        let detail = AttemptDetail { target: format!("mailto:{}", to.join(",")), ..AttemptDetail::default() };
        let message = match self.message(delivery, now) {
            Ok(message) => message,
            Err(error) => return Carried::unsendable(error, detail),
        };
        match tokio::time::timeout(limit, self.hand_in(message)).await {
            Ok(Ok(())) => Carried::delivered(detail),
            Ok(Err((tried, class, error))) if tried.own_fault => Carried::not_sent(class, error, detail),
            Ok(Err((tried, class, error))) => Carried::failed(tried, class, error, detail),
            Err(_) => {
                let error = format!("{} gave no answer within {limit:?}", self.mail.server.host);
                Carried::failed(Tried::new(AttemptResult::Timeout), ErrorClass::Timeout, error, detail)
            }
        }
    }

    async fn hand_in(&self, message: Message) -> Result<(), (Tried, ErrorClass, String)> {
        let host = &self.mail.server.host;
        let unreachable = |class, error| (Tried::new(AttemptResult::Unreachable), class, error);
        let addresses = permitted(&self.network, &self.look_up, host).await.map_err(|error| match error {
            SendError::HostRefused(error) => {
                let tried = Tried { own_fault: true, ..Tried::new(AttemptResult::NotSent) };
                (tried, ErrorClass::HostRefused, error)
            }
            other => unreachable(ErrorClass::Dns, other.to_string()),
        })?;
        let mut last = unreachable(ErrorClass::Dns, format!("`{host}` has no address"));
        for address in addresses {
            // By address, so that what was judged is what is dialled; TLS goes on asking for the name.
            match self.by(address).send(message.clone()).await {
                Ok(_) => return Ok(()),
                Err(error) if error.status().is_some() || is_of_tls(&error) || error.is_timeout() => {
                    return Err(judge(&error, host));
                }
                Err(error) => last = judge(&error, host),
            }
        }
        Err(last)
    }

    fn by(&self, address: IpAddr) -> AsyncSmtpTransport<Tokio1Executor> {
        let builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(address.to_string());
        let builder =
            builder.port(self.mail.server.port).tls((*self.tls.get()).clone()).timeout(Some(Duration::from_secs(60)));
        match &self.credentials {
            Some(credentials) => builder.credentials(credentials.clone()).build(),
            None => builder.build(),
        }
    }

    fn message(&self, delivery: &ClaimedDelivery, now: Timestamp) -> Result<Message, String> {
        let event = &delivery.event;
        let context = context(delivery, now);
        let subject = self.mail.subject.text(&context).map_err(|error| format!("mail.subject: {error}"))?;
        // A header is one line, whatever a record holds.
        let subject: String = subject.chars().map(|c| if c.is_control() { ' ' } else { c }).take(SUBJECT_MAX).collect();
        let body = match &self.mail.body {
            Some(template) => template.text(&context).map_err(|error| format!("mail.body: {error}"))?,
            None => indented(&event_body::with_id(event, delivery.replay)),
        };
        let mut builder = Message::builder().from(self.from.clone()).subject(subject);
        for to in &self.to {
            builder = builder.to(to.clone());
        }
        // The same for every attempt: a mail program then shows a repeat as what it is.
        let id = format!("<{}@ringback>", event.id);
        let builder = builder.message_id(Some(id)).header(ContentType::TEXT_PLAIN);
        builder.body(body).map_err(|error| format!("the message cannot be made: {error}"))
    }
}

fn judge(error: &lettre::transport::smtp::Error, host: &str) -> (Tried, ErrorClass, String) {
    // The library's own words for a failure stand before the reason as often as it was handed on.
    let text = chain(error).replace("Connection error: Connection error: ", "Connection error: ");
    let text = format!("{host}: {text}");
    if let Some(code) = error.status() {
        let status = u16::from(code);
        let tried = Tried { status: Some(status), busy: error.is_transient(), ..Tried::new(AttemptResult::Refused) };
        return (tried, ErrorClass::Mail, text);
    }
    let (result, class) = if error.is_timeout() {
        (AttemptResult::Timeout, ErrorClass::Timeout)
    } else if is_of_tls(error) {
        (AttemptResult::Unreachable, ErrorClass::Tls)
    } else if error.is_client() || error.is_response() {
        (AttemptResult::Broken, ErrorClass::Mail)
    } else {
        (AttemptResult::Unreachable, ErrorClass::Connect)
    };
    (Tried::new(result), class, text)
}

/// Whether the handshake failed: the library tells it as a failure to connect, with the reason inside.
fn is_of_tls(error: &lettre::transport::smtp::Error) -> bool {
    error.is_tls() || tls::failed(error)
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        next = error.source();
    }
    text
}

fn parameters(server: &MailServer, tls: &config::Tls, cas: &[PathBuf]) -> Result<TlsParameters, String> {
    let name = tls.server_name.clone().unwrap_or_else(|| server.host.clone());
    let mut builder = TlsParameters::builder(name);
    for path in cas.iter().chain(&tls.ca_files) {
        let pem = std::fs::read(path).map_err(|error| format!("{}: cannot be read: {error}", path.display()))?;
        let certificate =
            Certificate::from_pem(&pem).map_err(|_| format!("{}: holds no PEM certificates", path.display()))?;
        builder = builder.add_root_certificate(certificate);
    }
    if let (Some(cert), Some(key)) = (&tls.cert, &tls.key) {
        let key = key.load().map_err(|error| error.to_string())?;
        let wrong = || format!("{} and its key are not a PEM certificate and private key", cert.display());
        // The library takes these bytes for the certificate itself, whatever its own name for them says.
        let certificate = CertificateDer::from_pem_file(cert).map_err(|_| wrong())?;
        let identity = Identity::from_pem(&certificate, key.expose().as_bytes());
        builder = builder.identify_with(identity.map_err(|_| wrong())?);
    }
    if tls.min_version == Some(config::TlsVersion::V1_3) {
        builder = builder.set_min_tls_version(TlsVersion::Tlsv13);
    }
    builder.build().map_err(|error| format!("TLS cannot be set up: {error}"))
}

fn context(delivery: &ClaimedDelivery, now: Timestamp) -> Context {
    let event = &delivery.event;
    let mut context = Context::new();
    for (name, text) in [
        ("event.id", event.id.to_string()),
        ("event.type", event.event_type.clone()),
        ("event.kind", event.kind.as_str().to_owned()),
        ("event.source", event.stream.source.to_string()),
        ("event.stream", event.stream.stream.to_string()),
        ("event.key", event.key.to_string()),
    ] {
        context.set(name, text);
    }
    context.set("event.revision", event.revision).set("attempt", delivery.attempts + 1);
    context.set_time("event.time", event.time, &TimeFormat::Rfc3339, None);
    context.set_time("now", now, &TimeFormat::Rfc3339, None);
    for (name, json) in [("record", &event.data), ("previous", &event.previous), ("changed", &event.changed)] {
        if let Some(json) = json.as_ref().and_then(|json| crate::jq::Json::parse(json).ok()) {
            context.set_json(name, &json);
        }
    }
    context
}

/// JSON for people: a line for each member, and every token as it came, since a number's digits may matter.
fn indented(json: &[u8]) -> String {
    let text = String::from_utf8_lossy(json);
    let (mut out, mut depth, mut in_text, mut escaped) = (String::with_capacity(json.len() * 2), 0_usize, false, false);
    for c in text.chars() {
        if in_text {
            out.push(c);
            (in_text, escaped) = (escaped || c != '"', !escaped && c == '\\');
            continue;
        }
        let line = |out: &mut String, depth: usize| {
            out.push('\n');
            out.extend(std::iter::repeat_n("  ", depth));
        };
        match c {
            '"' => {
                in_text = true;
                out.push(c);
            }
            '{' | '[' => {
                depth += 1;
                out.push(c);
                line(&mut out, depth);
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                line(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(c);
                line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            c if c.is_ascii_whitespace() => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_indented_and_its_tokens_stay() {
        let text = indented(br#"{"a":10.50,"b":"x, \"{y}\" \\","c":[1, 2],"d":{}}"#);
        let want = "{\n  \"a\": 10.50,\n  \"b\": \"x, \\\"{y}\\\" \\\\\",\n  \"c\": [\n    1,\n    2\n  ],\n  \"d\": {\n    \n  }\n}";
        assert_eq!(text, want);
    }
}
