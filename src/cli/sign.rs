//! `ringback sign`: makes a signature by hand, to try a handler or to compare with another program's.

use std::io::Read as _;
use std::path::PathBuf;

use super::{Exit, line, verify};
use crate::clock::Clock;
use crate::model::Timestamp;
use crate::signature::{ID, Request, SIGNATURE, StandardSigner, TIMESTAMP};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Sign as this provider does; default: Standard Webhooks.
    #[arg(long, value_name = "NAME|FILE")]
    provider: Option<String>,
    #[arg(long, requires = "provider")]
    scheme: Option<String>,
    /// A file with the secret; repeat it to sign with several.
    #[arg(long, value_name = "FILE", required = true)]
    secret_file: Vec<PathBuf>,
    /// The body; default: stdin.
    #[arg(long, value_name = "FILE")]
    body: Option<PathBuf>,
    /// The message id (Standard Webhooks).
    #[arg(long, default_value = "msg_test")]
    id: String,
    /// The address that is called, for schemes that cover it.
    #[arg(long)]
    url: Option<url::Url>,
    /// A header that the scheme covers.
    #[arg(long, value_name = "NAME: VALUE")]
    header: Vec<String>,
    #[arg(long, value_name = "NAME=VALUE")]
    setting: Vec<String>,
    /// Sign as of this moment (seconds since 1970).
    #[arg(long, value_name = "UNIX")]
    at: Option<i64>,
}

pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let secrets = verify::load(&args.secret_file)?;
    let mut body = Vec::new();
    match &args.body {
        Some(path) => body = std::fs::read(path)?,
        None => drop(std::io::stdin().read_to_end(&mut body)?),
    }
    let now = args.at.map_or_else(|| Clock::system().now(), |seconds| Timestamp(seconds.saturating_mul(1000)));
    let Some(name) = &args.provider else {
        let signer = StandardSigner::new(&secrets)?;
        line(format!("{ID}: {}", args.id));
        line(format!("{TIMESTAMP}: {}", now.unix_seconds()));
        line(format!("{SIGNATURE}: {}", signer.sign(&args.id, now, &body)));
        return Ok(Exit::Done);
    };
    let provider = verify::find(name)?;
    let scheme = verify::scheme(&provider, args.scheme.as_deref())?;
    let split = |text: &String| text.split_once(':').map(|(n, v)| (n.trim().to_ascii_lowercase(), v.trim().to_owned()));
    let headers: Vec<(String, String)> = args.header.iter().filter_map(split).collect();
    let settings = verify::settings(&args.setting)?;
    let request =
        Request { method: "POST", url: args.url.as_ref(), headers: &headers, body: &body, settings: &settings };
    let added = scheme.sign(&request, &secrets, now)?;
    for (name, value) in &added.headers {
        line(format!("{name}: {value}"));
    }
    for (name, value) in added.form.iter().chain(&added.query) {
        line(format!("{name}={value}"));
    }
    Ok(Exit::Done)
}
