//! `ringback provider new`: asks once, and writes a first provider file from the answer.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use url::Url;

use super::super::Global;
use super::super::exit::{Exit, Failure, Outcome};
use super::super::output::Out;
use super::super::reach::config_path;
use crate::answer::UNPACKED_MAX;
use crate::client::{Bounds, Client, ClientOptions, Incoming, Outgoing, Over};
use crate::config::{self, Network, Proxy, Tls};
use crate::provider;
use crate::shape::SourceFile;
use crate::skeleton::{self, Answered};

const TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Args, Clone, Debug, PartialEq)]
pub struct New {
    /// What the provider is to be called
    #[arg(value_name = "NAME")]
    pub name: String,
    /// A list of the API, asked once with GET
    #[arg(long, value_name = "URL")]
    pub url: Url,
    /// A header for this one request; `@FILE` takes the value from a file. No value is written into the provider file
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = header_of)]
    pub headers: Vec<(String, String)>,
    /// Where the file is written; without it providers/NAME.toml, or NAME.toml where there is no such folder
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
}

fn header_of(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("write it as NAME: VALUE")?;
    let (name, value) = (name.trim(), value.trim());
    HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("`{name}` cannot be the name of a header"))?;
    let value = match value.strip_prefix('@') {
        Some(path) => std::fs::read_to_string(path).map_err(|error| format!("{path} cannot be read: {error}"))?,
        None => value.to_owned(),
    };
    HeaderValue::from_str(value.trim_end()).map_err(|_| format!("the value of `{name}` holds a line break"))?;
    Ok((name.to_owned(), value.trim_end().to_owned()))
}

pub async fn run(command: &New, global: &Global, out: &mut Out) -> Outcome {
    let path = place(command)?;
    if !command.url.username().is_empty() || command.url.password().is_some() {
        return Err(Failure::usage("the address holds a user or password")
            .help("give them by --header 'Authorization: @FILE', so that they stand in no history"));
    }
    let answer = ask(command, global, out.color).await?;
    let text = |name: HeaderName| {
        let fields: Vec<&str> = answer.headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
        Some(fields.join(", ")).filter(|fields| !fields.is_empty())
    };
    let sent = command.headers.iter().map(|(name, value)| match value.get(..6) {
        Some(start) if name.eq_ignore_ascii_case("authorization") && start.eq_ignore_ascii_case("basic ") => {
            "Authorization: Basic".to_owned()
        }
        _ => name.clone(),
    });
    let answered = Answered {
        url: command.url.clone(),
        headers: sent.collect(),
        content_type: text(header::CONTENT_TYPE),
        link: text(header::LINK),
        body: answer.body,
    };
    let draft = skeleton::write(&command.name, &answered).map_err(|reason| {
        Failure::new(Exit::Failed, reason).help("is this the address of the API, or of a page for people?")
    })?;
    // What is written can be read: a draft with a fault would be a poor beginning.
    let (provider, _) =
        provider::read(SourceFile::new(&path, draft.clone())).map_err(|faults| Failure::faults(&faults, out.color))?;
    write_new(&path, &draft)?;
    out.line(format!("{} is written. Read it: every line is a guess.", path.display()))?;
    let stream = provider.streams.first().map_or("", |stream| stream.name.as_str());
    out.remark(format!(
        "next: add [sources.{0}] with provider = \"{1}\" to the configuration, then `ringback poll {0}/{stream} --dry-run`",
        command.name,
        path.display()
    ));
    Ok(Exit::Done)
}

fn place(command: &New) -> Result<PathBuf, Failure> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if command.name.is_empty() || command.name.starts_with('.') || !command.name.chars().all(plain) {
        return Err(Failure::usage(format!("`{}` cannot be a provider's name", command.name))
            .help("use letters, digits, `-`, `_` and `.`"));
    }
    let file = format!("{}.toml", command.name);
    let folder = Path::new("providers");
    let path = command.file.clone().unwrap_or_else(|| if folder.is_dir() { folder.join(&file) } else { file.into() });
    if path.exists() {
        return Err(there_already(&path));
    }
    Ok(path)
}

fn there_already(path: &Path) -> Failure {
    Failure::usage(format!("{} is there already", path.display()))
        .help("nothing was overwritten; choose another name or --file")
}

/// Somebody else may have written it meanwhile.
fn write_new(path: &Path, text: &str) -> Result<(), Failure> {
    use std::io::Write as _;
    let failed =
        |error: std::io::Error| Failure::new(Exit::Failed, format!("{} cannot be written: {error}", path.display()));
    match std::fs::OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(mut file) => file.write_all(text.as_bytes()).map_err(failed),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Err(there_already(path)),
        Err(error) => Err(failed(error)),
    }
}

/// One request, in the way that the configuration sends them where there is one.
async fn ask(command: &New, global: &Global, color: bool) -> Result<Incoming, Failure> {
    let path = config_path(global);
    let network = if global.config.is_some() || path.exists() {
        config::load(&path).map_err(|faults| Failure::faults(&faults, color))?.0.network
    } else {
        Network { proxy: Proxy::None, ca_files: Vec::new(), allow: None, hosts: BTreeMap::new() }
    };
    let failed = |reason: String| Failure::new(Exit::Failed, reason);
    let proxy_password = match &network.proxy {
        Proxy::Url { password: Some(place), .. } => Some(place.load().map_err(|error| failed(error.to_string()))?),
        Proxy::Url { password: None, .. } | Proxy::None | Proxy::Environment => None,
    };
    let options = ClientOptions {
        proxy: network.proxy.clone(),
        network,
        proxy_password,
        tls: Tls::default(),
        connect_timeout: Duration::from_secs(5),
        pool_idle_max: 1,
        unix_socket: None,
    };
    let mut headers = HeaderMap::new();
    for (name, value) in &command.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value)) {
            headers.append(name, value);
        }
    }
    let request = Outgoing { method: Method::GET, url: command.url.clone(), headers, body: Default::default() };
    let bounds = Bounds { timeout: TIMEOUT, body_max: UNPACKED_MAX, over: Over::Error };
    let answer = Client::new(&options)
        .map_err(failed)?
        .send(request, bounds)
        .await
        .map_err(|error| failed(error.to_string()))?;
    match answer.status {
        200..=299 => Ok(answer),
        401 | 403 => Err(failed(format!("the API answered {}: it wants a credential", answer.status))
            .help("--header 'Authorization: Bearer …', or --header 'X-Api-Key: @FILE'")),
        status => Err(failed(format!("the API answered {status}"))
            .help("try the address in another way first; it must answer 200")),
    }
}
