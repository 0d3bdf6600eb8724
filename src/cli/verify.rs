//! `ringback verify`: is this recorded request signed? Exit 0 when it is, 1 with the plain reason when it is not.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::exit::{Exit, Failure, Outcome};
use super::output::{Format, Out, Tone};
use super::scheme::{Choice, secrets};
use crate::admin::shape::Time;
use crate::model::Timestamp;
use crate::recorded::Recorded;
use crate::shape::Tolerance;
use crate::signature::{Refusal, Request, Verified};

#[derive(Args, Clone, Debug, PartialEq)]
pub struct Command {
    #[command(flatten)]
    pub choice: Choice,
    /// The request: JSON with method, url, headers, and body or body_base64
    #[arg(long, value_name = "FILE")]
    pub request: PathBuf,
    /// A file with a secret; several while a secret is being replaced
    #[arg(long = "secret-file", value_name = "FILE")]
    pub secrets: Vec<PathBuf>,
    /// The signer's public key, or its certificate with the chain, for schemes that have one
    #[arg(long = "public-key-file", value_name = "FILE")]
    pub public_keys: Vec<PathBuf>,
    /// How far from now the signed time may lie, in both directions, in place of what the provider file says
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub tolerance: Option<Duration>,
    /// Verify as if it were this moment (seconds since 1970)
    #[arg(long, value_name = "UNIX", allow_negative_numbers = true)]
    pub at: Option<i64>,
}

const FORM: &str = "a recorded request is JSON with method, url, headers (an object), and body (text) or body_base64";

/// What is shown with `-o json`.
#[derive(Serialize)]
struct Report<'a> {
    valid: bool,
    scheme: &'a str,
    /// Which of the secrets matched, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signed_at: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

pub fn run(command: &Command, out: &mut Out) -> Outcome {
    let public_keys = secrets(&command.public_keys)?;
    let mut chosen = command.choice.find_for(&public_keys, out.color)?;
    if let Some(both) = command.tolerance {
        let window = Tolerance { past: Some(both), future: Some(both) };
        let message = || format!("`--tolerance`: signatures of scheme `{}` bear no time", chosen.scheme.name);
        chosen.scheme = Arc::new(chosen.scheme.within(window).ok_or_else(|| Failure::usage(message()))?);
    }
    let keys = match (chosen.scheme.is_asymmetric(), public_keys.is_empty()) {
        (true, false) => public_keys,
        (false, true) => secrets(&command.secrets)?,
        (true, true) => {
            let message = format!("scheme `{}` is verified with a public key", chosen.scheme.name);
            return Err(Failure::usage(message).help("give it with --public-key-file"));
        }
        (false, false) => {
            let message =
                format!("scheme `{}` is verified with a shared secret, not with a public key", chosen.scheme.name);
            return Err(Failure::usage(message).help("give its secret with --secret-file"));
        }
    };
    let unreadable = |error| Failure::usage(format!("{}: {error:#}", command.request.display())).help(FORM);
    let recorded = Recorded::read(&command.request).map_err(unreadable)?;
    let (headers, body) = (recorded.headers(), recorded.body().map_err(unreadable)?);
    let request = Request {
        method: &recorded.method,
        url: recorded.url.as_deref(),
        headers: &headers,
        body: &body,
        settings: &chosen.settings,
    };
    let now = command.at.map_or(out.now, |seconds| Timestamp(seconds.saturating_mul(1_000)));
    let judged = chosen.scheme.verify(&request, &keys, now);
    report(&chosen.scheme.name, &judged, out)?;
    Ok(if judged.is_ok() { Exit::Done } else { Exit::Failed })
}

fn report(scheme: &str, judged: &Result<Verified, Refusal>, out: &mut Out) -> std::io::Result<()> {
    let verified = judged.as_ref().ok();
    let report = Report {
        valid: judged.is_ok(),
        scheme,
        secret: verified.map(|verified| verified.key + 1),
        signed_at: verified.and_then(|verified| verified.timestamp).map(Time),
        reason: judged.as_ref().err().map(Refusal::to_string),
    };
    if out.format != Format::Table {
        return out.json(&report);
    }
    let line = match &report.reason {
        Some(reason) => format!("{}: {reason}", out.paint("refused", Tone::Bad)),
        None => {
            let at = report.signed_at.map(|at| format!(", signed at {}", out.time(at))).unwrap_or_default();
            format!("{}: scheme {scheme}{at}", out.paint("valid", Tone::Good))
        }
    };
    out.line(line)
}

#[cfg(test)]
mod tests {
    use super::super::output::capture;
    use super::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    fn outcome(request: &str, secret: &str, at: i64) -> (Outcome, String) {
        let folder = tempfile::tempdir().expect("a folder");
        let (file, key) = (folder.path().join("r.json"), folder.path().join("s"));
        std::fs::write(&file, request).expect("written");
        std::fs::write(&key, secret).expect("written");
        let command = Command {
            choice: Choice::default(),
            request: file,
            secrets: vec![key],
            public_keys: Vec::new(),
            tolerance: None,
            at: Some(at),
        };
        let (mut out, captured) = capture::out(Format::Table);
        let outcome = run(&command, &mut out);
        (outcome, captured.text())
    }

    fn signed(body: &str) -> String {
        let signer = crate::signature::StandardSigner::new(&[crate::secret::Secret::new(SECRET)]).expect("a key");
        let signature = signer.sign("evt_1", Timestamp(1_700_000_000_000), body.as_bytes());
        serde_json::json!({
            "method": "POST", "url": "http://localhost/hooks", "body": body,
            "headers": {"Webhook-Id": "evt_1", "Webhook-Timestamp": "1700000000", "Webhook-Signature": signature},
        })
        .to_string()
    }

    #[test]
    fn a_signed_request_is_valid_and_a_changed_one_is_refused_with_the_reason() {
        let (exit, text) = outcome(&signed("{}"), SECRET, 1_700_000_010);
        assert_eq!(exit, Ok(Exit::Done));
        assert_eq!(text, "valid: scheme standard-webhooks, signed at 2023-11-14 22:13:20 UTC\n");

        let (exit, text) = outcome(&signed("{}").replace("\"{}\"", "\"{ }\""), SECRET, 1_700_000_010);
        assert_eq!(exit, Ok(Exit::Failed));
        assert!(text.starts_with("refused: the signature does not match"), "{text}");

        let (exit, text) = outcome(&signed("{}"), SECRET, 1_700_100_000);
        assert_eq!(exit, Ok(Exit::Failed));
        assert!(text.contains("too old"), "{text}");
    }

    #[test]
    fn a_file_that_is_no_request_is_a_wrong_command_not_a_verdict() {
        for request in ["not json", r#"{"headers": 5}"#, r#"{"body_base64": "%"}"#, r#"{"url": "no"}"#] {
            let (outcome, _) = outcome(request, SECRET, 0);
            assert_eq!(outcome.expect_err(request).exit, Exit::Usage, "{request}");
        }
    }

    #[test]
    fn every_recorded_request_is_judged_by_the_command_as_by_its_providers_library() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).expect("written");
            path
        };
        let text = include_str!("../../tests/fixtures/vectors/verify.json");
        let mut cases: Vec<serde_json::Value> = serde_json::from_str(text).expect("the cases are JSON");
        let more = include_str!("../../tests/fixtures/vectors/more.json");
        let more: Vec<serde_json::Value> = serde_json::from_str(more).expect("the cases are JSON");
        cases.extend(more.into_iter().filter(|case| case["tolerance"].is_object()));
        let schemes = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/vectors/schemes.toml");
        let mut wrong = Vec::new();
        for case in &cases {
            let part = |value: &serde_json::Value, name: &str| value[name].as_str().unwrap_or_default().to_owned();
            let chain: String = ["certificate_pem", "intermediate_pem", "trusted_roots_pem"]
                .iter()
                .map(|name| part(&case["config"], name))
                .collect();
            let secrets: Vec<&str> = match case["secrets"].as_array() {
                Some(several) => several.iter().filter_map(serde_json::Value::as_str).collect(),
                None => case["secret"].as_str().into_iter().collect(),
            };
            let public = [part(case, "public_key"), chain].into_iter().find(|key| !key.is_empty());
            let command = Command {
                choice: Choice {
                    provider: Some(schemes.into()),
                    scheme: Some(part(case, "scheme")),
                    settings: ["webhook_id", "public_key"]
                        .iter()
                        .filter_map(|name| Some(((*name).to_owned(), case["config"][name].as_str()?.into())))
                        .collect(),
                },
                request: write("request.json", &case.to_string()),
                secrets: secrets.iter().enumerate().map(|(n, s)| write(&format!("secret-{n}"), s)).collect(),
                public_keys: public.iter().filter(|_| secrets.is_empty()).map(|key| write("public", key)).collect(),
                tolerance: case["tolerance"]["past"].as_str().map(|text| humantime::parse_duration(text).expect("one")),
                at: case["now"].as_i64(),
            };
            let (mut out, captured) = capture::out(Format::Table);
            let exit = run(&command, &mut out);
            let wanted = if case["expect"] == "accept" { Exit::Done } else { Exit::Failed };
            if case["secret"] == "" {
                assert!(exit.is_err(), "{}: an empty secret is none", case["id"]);
                continue;
            }
            if exit != Ok(wanted) {
                wrong.push(format!("{}: {exit:?} {}", case["id"], captured.text()));
            }
            // A reason is a sentence, and tells nothing of the secret.
            let told = captured.text();
            assert!(told.len() > 20 && !secrets.iter().any(|s| s.len() > 4 && told.contains(s)), "{told}");
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        assert!(cases.len() >= 373, "only {} cases", cases.len());
    }
}
