//! `ringback verify`: judges a recorded request by a provider's signature scheme, as the receive listener would.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, bail};

use super::{Exit, line};
use crate::clock::Clock;
use crate::model::Timestamp;
use crate::provider::{self, Provider};
use crate::recorded::Recorded;
use crate::secret::{Secret, SecretRef};
use crate::signature::{Request, Scheme};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A built-in provider, or the path of a provider file.
    #[arg(long, value_name = "NAME|FILE")]
    provider: String,
    /// Which signature scheme, where the provider has several; default: its first.
    #[arg(long)]
    scheme: Option<String>,
    /// JSON with `method`, `url`, `headers`, and `body` or `body_base64`.
    #[arg(long, value_name = "FILE")]
    request: PathBuf,
    /// A file with the secret; repeat it during rotation.
    #[arg(long, value_name = "FILE")]
    secret_file: Vec<PathBuf>,
    /// A setting of the source, as the provider file names it.
    #[arg(long, value_name = "NAME=VALUE")]
    setting: Vec<String>,
    /// A public key, for asymmetric schemes (not carried out yet by this version).
    #[arg(long, value_name = "FILE")]
    public_key_file: Option<PathBuf>,
    /// Judge the time as of this moment (seconds since 1970).
    #[arg(long, value_name = "UNIX")]
    at: Option<i64>,
}

pub fn run(args: &Args) -> anyhow::Result<Exit> {
    if args.public_key_file.is_some() {
        bail!("--public-key-file: asymmetric schemes are not carried out yet by this version of ringback");
    }
    let provider = find(&args.provider)?;
    let scheme = scheme(&provider, args.scheme.as_deref())?;
    let recorded = Recorded::read(&args.request)?;
    let secrets = load(&args.secret_file)?;
    let settings = settings(&args.setting)?;
    let (headers, body) = (recorded.headers(), recorded.body()?);
    let request = Request {
        method: &recorded.method,
        url: recorded.url.as_ref(),
        headers: &headers,
        body: &body,
        settings: &settings,
    };
    let now = args.at.map_or_else(|| Clock::system().now(), |seconds| Timestamp(seconds.saturating_mul(1000)));
    match scheme.verify(&request, &secrets, now) {
        Ok(verified) => {
            let key = if secrets.len() > 1 { format!(" by secret {}", verified.key + 1) } else { String::new() };
            let at = verified.timestamp.map(|at| format!(", signed at {at}")).unwrap_or_default();
            line(format!("valid: {}{key}{at}", scheme.name));
            Ok(Exit::Done)
        }
        Err(refusal) => {
            line(format!("refused: {refusal}"));
            Ok(Exit::Failed)
        }
    }
}

/// A built-in provider by name, or a file by its path.
pub fn find(name: &str) -> anyhow::Result<Provider> {
    let read = if name.contains('/') || name.ends_with(".toml") {
        provider::load(std::path::Path::new(name))
    } else {
        match provider::built_in(name) {
            Some(file) => provider::read(file),
            None => bail!(
                "there is no built-in provider `{name}`; `ringback provider list` shows them, a file is given by its path"
            ),
        }
    };
    read.map(|(provider, _)| provider)
        .map_err(|faults| anyhow::anyhow!("{name} cannot be read:\n{}", crate::shape::render(&faults, false)))
}

pub fn scheme(provider: &Provider, name: Option<&str>) -> anyhow::Result<Arc<Scheme>> {
    let schemes = provider.webhook.as_ref().map(|webhook| webhook.schemes.as_slice()).unwrap_or_default();
    let found = match name {
        None => schemes.first(),
        Some(name) => schemes.iter().find(|scheme| scheme.name == name),
    };
    let known: Vec<&str> = schemes.iter().map(|scheme| scheme.name.as_str()).collect();
    found.cloned().with_context(|| {
        format!("provider `{}` has no such signature scheme; it has: {}", provider.name, known.join(", "))
    })
}

pub fn load(files: &[PathBuf]) -> anyhow::Result<Vec<Secret>> {
    files.iter().map(|path| SecretRef::File(path.clone()).load().map_err(Into::into)).collect()
}

pub fn settings(pairs: &[String]) -> anyhow::Result<serde_json::Map<String, serde_json::Value>> {
    let mut settings = serde_json::Map::new();
    for pair in pairs {
        let (name, value) = pair.split_once('=').with_context(|| format!("--setting {pair}: write NAME=VALUE"))?;
        settings.insert(name.to_owned(), value.into());
    }
    Ok(settings)
}
