//! `ringback sign`: the headers that a signed request carries, to try a handler or a verifier by hand.

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;
use url::Url;

use super::exit::{Exit, Failure, Outcome};
use super::output::{Format, Out};
use super::scheme::{Choice, secrets};
use crate::model::Timestamp;
use crate::signature::{Added, ID, Request};

#[derive(Args, Clone, Debug, PartialEq)]
pub struct Command {
    #[command(flatten)]
    pub choice: Choice,
    /// A file with the secret, or the private key of a scheme that has one; several sign side by side where the scheme can
    #[arg(long = "secret-file", alias = "secret", value_name = "FILE", required = true)]
    pub secrets: Vec<PathBuf>,
    /// The body; `-` or nothing reads standard input
    #[arg(long, value_name = "FILE", default_value = "-")]
    pub body: PathBuf,
    /// The event's id (`webhook-id`)
    #[arg(long, default_value = "evt_test")]
    pub id: String,
    /// The address it is sent to, for schemes that sign it
    #[arg(long)]
    pub url: Option<Url>,
    /// A header that the scheme covers
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = header)]
    pub headers: Vec<(String, String)>,
    #[arg(long, default_value = "POST")]
    pub method: String,
    /// Sign as of this moment (seconds since 1970)
    #[arg(long, value_name = "UNIX", allow_negative_numbers = true)]
    pub at: Option<i64>,
}

pub fn run(command: &Command, out: &mut Out) -> Outcome {
    let keys = secrets(&command.secrets)?;
    let chosen = command.choice.find_for(&keys, out.color)?;
    let body = read(&command.body)?;
    // The id stands once, however it was given.
    let given = command.headers.iter().find(|(name, _)| name == ID).map_or(&command.id, |(_, id)| id);
    let mut headers = vec![(ID.to_owned(), given.clone())];
    headers.extend(command.headers.iter().filter(|(name, _)| name != ID).cloned());
    let request = Request {
        method: &command.method,
        url: command.url.as_ref().map(Url::as_str),
        headers: &headers,
        body: &body,
        settings: &chosen.settings,
    };
    let now = command.at.map_or(out.now, |seconds| Timestamp(seconds.saturating_mul(1_000)));
    let added =
        chosen.scheme.sign(&request, &keys, now).map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
    // Only Standard Webhooks signs the id; elsewhere it would be a header that nobody sends.
    let id = (command.choice.provider.is_none() || chosen.scheme.content.iter().any(|c| c.text_source().contains(ID)))
        .then(|| (ID.to_owned(), given.clone()));
    show(id, added, out)?;
    Ok(Exit::Done)
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or_else(|| format!("`{text}` is not NAME: VALUE"))?;
    Ok((name.trim().to_ascii_lowercase(), value.trim().to_owned()))
}

fn show(id: Option<(String, String)>, added: Added, out: &mut Out) -> std::io::Result<()> {
    let headers: Vec<(String, String)> = id.into_iter().chain(added.headers).collect();
    if out.format != Format::Table {
        let object = |pairs: &[(String, String)]| pairs.iter().cloned().collect::<std::collections::BTreeMap<_, _>>();
        return out.json(&json!({
            "headers": object(&headers), "query": object(&added.query), "form": object(&added.form),
            "body": added.body,
        }));
    }
    for (name, value) in headers {
        out.line(format!("{name}: {value}"))?;
    }
    for (place, pairs) in [("query", added.query), ("form", added.form)] {
        for (name, value) in pairs {
            out.line(format!("{place} {name}={value}"))?;
        }
    }
    if let Some(body) = added.body {
        out.line(body)?;
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let cannot = |error: std::io::Error| Failure::usage(format!("{}: cannot be read: {error}", path.display()));
    if path != Path::new("-") {
        return std::fs::read(path).map_err(cannot);
    }
    let mut body = Vec::new();
    std::io::stdin().lock().read_to_end(&mut body).map_err(cannot)?;
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::super::output::capture;
    use super::*;

    #[test]
    fn what_is_signed_by_hand_is_what_the_daemon_would_send() {
        let folder = tempfile::tempdir().expect("a folder");
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let (body, key) = (folder.path().join("body"), folder.path().join("s"));
        std::fs::write(&body, r#"{"a":1}"#).expect("written");
        std::fs::write(&key, secret).expect("written");
        let command = Command {
            choice: Choice::default(),
            secrets: vec![key],
            body,
            id: "evt_1".into(),
            url: None,
            headers: Vec::new(),
            method: "POST".into(),
            at: Some(1_700_000_000),
        };
        let (mut out, captured) = capture::out(Format::Table);
        assert_eq!(run(&command, &mut out), Ok(Exit::Done));
        let signer = crate::signature::StandardSigner::new(&[crate::secret::Secret::new(secret)]).expect("a key");
        let signature = signer.sign("evt_1", Timestamp(1_700_000_000_000), br#"{"a":1}"#);
        assert_eq!(
            captured.text(),
            format!("webhook-id: evt_1\nwebhook-timestamp: 1700000000\nwebhook-signature: {signature}\n")
        );
        let given = Command { headers: vec![(ID.to_owned(), "evt_1".to_owned())], id: "evt_test".into(), ..command };
        let (mut out, again) = capture::out(Format::Table);
        assert_eq!(run(&given, &mut out), Ok(Exit::Done));
        assert_eq!(again.text(), captured.text(), "an id given as a header");
    }
}
