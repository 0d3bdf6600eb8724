//! Reaching the daemon over its control socket, or the database read-only when no daemon runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use url::Url;

use super::Global;
use super::exit::{Exit, Failure};
use super::output::Out;
use crate::admin::{shape, view, why};
use crate::clock::Clock;
use crate::config::Config;
use crate::model::{Key, StreamName};
use crate::store::Store;
use crate::store::sqlite::SqliteStore;

/// The database's file in `data_dir`.
pub const DATABASE: &str = "ringback.db";
/// Where the socket is when systemd runs the daemon: commands have no `$RUNTIME_DIRECTORY`.
const SYSTEM_SOCKET: &str = "/run/ringback/ringback.sock";
const SYSTEM_CONFIG: &str = "/etc/ringback/config.toml";
const LOCAL_CONFIG: &str = "config.toml";
/// Longer than the longest wait of `tail`.
const TIMEOUT: Duration = Duration::from_secs(45);
/// A poll may run for ten minutes.
pub const POLL_TIMEOUT: Duration = Duration::from_secs(11 * 60);

/// The configuration's file: the one named, else one here, else the system's.
pub fn config_path(global: &Global) -> PathBuf {
    match &global.config {
        Some(path) => path.clone(),
        None if !Path::new(LOCAL_CONFIG).exists() && Path::new(SYSTEM_CONFIG).exists() => SYSTEM_CONFIG.into(),
        None => LOCAL_CONFIG.into(),
    }
}

/// Reads the configuration; its faults are the failure.
pub fn config(global: &Global, color: bool) -> Result<Config, Failure> {
    match crate::config::load(&config_path(global)) {
        Ok((config, _)) => Ok(config),
        Err(faults) => Err(Failure::faults(&faults, color)),
    }
}

/// A daemon that can be asked.
pub struct Daemon {
    client: reqwest::Client,
    base: String,
    /// For messages.
    pub place: String,
}

/// A place where a daemon may answer.
#[derive(Clone, Debug, PartialEq)]
enum Address {
    Socket(PathBuf),
    Http(Url),
}

impl Address {
    fn parse(text: &str) -> Address {
        match Url::parse(text) {
            Ok(url) if matches!(url.scheme(), "http" | "https") => Address::Http(url),
            _ => Address::Socket(text.strip_prefix("unix:").unwrap_or(text).into()),
        }
    }
}

impl Daemon {
    fn at(address: &Address) -> Result<Daemon, Failure> {
        let builder = reqwest::Client::builder().no_proxy().timeout(TIMEOUT).connect_timeout(Duration::from_secs(5));
        let (builder, base, place) = match address {
            Address::Socket(path) => {
                (builder.unix_socket(path.clone()), "http://ringback".into(), path.display().to_string())
            }
            Address::Http(url) => {
                let base = url.as_str().trim_end_matches('/').to_owned();
                (builder, base.clone(), base)
            }
        };
        let client = builder.build().map_err(|error| Failure::new(Exit::Failed, format!("no HTTP client: {error}")))?;
        Ok(Daemon { client, base, place })
    }

    pub async fn get<T: DeserializeOwned>(&self, path: &str, query: &[(String, String)]) -> Result<T, Failure> {
        self.ask::<T, ()>(Method::GET, path, query, None, TIMEOUT).await
    }

    pub async fn post<T: DeserializeOwned, B: Serialize>(&self, path: &str, body: &B) -> Result<T, Failure> {
        self.ask(Method::POST, path, &[], Some(body), TIMEOUT).await
    }

    /// Like [`Daemon::post`], for what may take this long.
    pub async fn post_within<T: DeserializeOwned, B: Serialize>(
        &self,
        path: &str,
        body: &B,
        timeout: Duration,
    ) -> Result<T, Failure> {
        self.ask(Method::POST, path, &[], Some(body), timeout).await
    }

    async fn ask<T: DeserializeOwned, B: Serialize>(
        &self,
        method: Method,
        path: &str,
        query: &[(String, String)],
        body: Option<&B>,
        timeout: Duration,
    ) -> Result<T, Failure> {
        let mut url = Url::parse(&format!("{}/api/v1/{path}", self.base))
            .map_err(|error| Failure::usage(format!("`{}` is no address of a daemon: {error}", self.base)))?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let mut request = self.client.request(method, url).timeout(timeout);
        if let Some(body) = body {
            let text = serde_json::to_string(body).expect("an order can be written as JSON");
            request = request.header("content-type", "application/json").body(text);
        }
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        let bytes = response.bytes().await.map_err(|error| self.unreachable(&error))?;
        if !status.is_success() {
            return Err(refused(status, &bytes));
        }
        serde_json::from_slice(&bytes).map_err(|error| {
            Failure::new(Exit::Failed, format!("the daemon at {} answered what is not understood: {error}", self.place))
                .help("is it another version? `ringback status` shows its own")
        })
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        let mut cause: &dyn std::error::Error = error;
        while let Some(deeper) = cause.source() {
            cause = deeper;
        }
        let denied =
            cause.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::PermissionDenied);
        let help = if denied {
            "the socket is for the daemon's user and group: ask as root or join the group"
        } else {
            "is it running? start it with `ringback run`, or name its socket with --socket"
        };
        Failure::new(Exit::Unreachable, format!("the daemon cannot be reached at {}: {cause}", self.place)).help(help)
    }
}

fn refused(status: StatusCode, body: &[u8]) -> Failure {
    let exit = match status {
        StatusCode::NOT_FOUND => Exit::Nothing,
        StatusCode::BAD_REQUEST => Exit::Usage,
        StatusCode::UNPROCESSABLE_ENTITY => Exit::Configuration,
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::CONFLICT | StatusCode::REQUEST_TIMEOUT => Exit::Temporary,
        _ => Exit::Failed,
    };
    match serde_json::from_slice::<shape::Refusal>(body) {
        Ok(refusal) => Failure::new(exit, refusal.error).help(refusal.help),
        Err(_) => Failure::new(exit, format!("the daemon answered {status}")),
    }
}

/// A segment of a path.
pub fn segment(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// Whatever serializes to an object, as query pairs; absent members are left out.
pub fn pairs<T: Serialize>(query: &T) -> Vec<(String, String)> {
    let value = serde_json::to_value(query).expect("a query can be written as JSON");
    let members = value.as_object().cloned().unwrap_or_default();
    let text = |value: serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    members.into_iter().map(|(name, value)| (name, text(value))).collect()
}

/// Finds a daemon that answers; acting commands need one.
pub async fn daemon(global: &Global, out: &Out) -> Result<Daemon, Failure> {
    let (addresses, _) = addresses(global, out.color)?;
    first_that_answers(&addresses).await
}

async fn first_that_answers(addresses: &[Address]) -> Result<Daemon, Failure> {
    let mut first = None;
    for address in addresses {
        let daemon = Daemon::at(address)?;
        // Any answer of the API will do; this one is cheap.
        match daemon.get::<serde_json::Value>("inbox", &[]).await {
            Err(failure) if failure.exit == Exit::Unreachable => first = first.or(Some(failure)),
            Err(_) | Ok(_) => return Ok(daemon),
        }
    }
    Err(first.unwrap_or_else(|| Failure::new(Exit::Unreachable, "no place of a daemon is known")))
}

/// Where a daemon may answer, and the database to read when none does.
fn addresses(global: &Global, color: bool) -> Result<(Vec<Address>, Option<PathBuf>), Failure> {
    if let Some(socket) = &global.socket {
        let database = config(global, color).ok().map(|config| config.data_dir.join(DATABASE));
        return Ok((vec![Address::parse(socket)], database));
    }
    let config = config(global, color)?;
    let mut addresses = vec![Address::Socket(config.admin.socket.clone())];
    // A configuration that was named may be another daemon's than the system's.
    if global.config.is_none() || config_path(global) == Path::new(SYSTEM_CONFIG) {
        addresses.push(Address::Socket(SYSTEM_SOCKET.into()));
    }
    Ok((addresses, Some(config.data_dir.join(DATABASE))))
}

/// Reads through the daemon, or from the database.
pub enum Reader {
    Daemon(Daemon),
    Database(Arc<dyn Store>),
}

impl Reader {
    /// The daemon when one answers; else the database, and a remark on stderr that says so.
    pub async fn open(global: &Global, out: &Out) -> Result<Reader, Failure> {
        let (addresses, database) = addresses(global, out.color)?;
        let failure = match first_that_answers(&addresses).await {
            Ok(daemon) => return Ok(Reader::Daemon(daemon)),
            Err(failure) => failure,
        };
        let Some(database) = database else { return Err(failure) };
        if !database.exists() {
            let message = format!("{}; and there is no database at {} yet", failure.message, database.display());
            return Err(Failure { message, ..failure });
        }
        let store = SqliteStore::open_read_only(&database, Clock::system())?;
        out.remark(format!("the daemon is not running: read from {}", database.display()));
        Ok(Reader::Database(Arc::new(store)))
    }

    pub async fn status(&self, out: &Out) -> Result<shape::Status, Failure> {
        match self {
            Reader::Daemon(daemon) => daemon.get("status", &[]).await,
            Reader::Database(store) => Ok(view::status(&**store, out.now, false).await?),
        }
    }

    pub async fn problems(&self) -> Result<Vec<shape::Problem>, Failure> {
        match self {
            Reader::Daemon(daemon) => daemon.get("problems", &[]).await,
            Reader::Database(store) => Ok(view::problems(&**store).await?),
        }
    }

    pub async fn streams(&self) -> Result<Vec<shape::Stream>, Failure> {
        match self {
            Reader::Daemon(daemon) => daemon.get("streams", &[]).await,
            Reader::Database(store) => Ok(view::streams(&**store).await?),
        }
    }

    pub async fn handlers(&self) -> Result<Vec<shape::Handler>, Failure> {
        match self {
            Reader::Daemon(daemon) => daemon.get("handlers", &[]).await,
            Reader::Database(store) => Ok(view::handlers(&**store).await?),
        }
    }

    pub async fn events(&self, query: &shape::EventQuery) -> Result<shape::EventPage, Failure> {
        match self {
            Reader::Daemon(daemon) => daemon.get("events", &pairs(query)).await,
            Reader::Database(store) => {
                let filter = view::filter(query, &[]).map_err(Failure::usage)?;
                Ok(view::events(&**store, filter).await?)
            }
        }
    }

    pub async fn event(&self, id: &str) -> Result<shape::EventDetail, Failure> {
        match self {
            Reader::Daemon(daemon) => daemon.get(&format!("events/{}", segment(id)), &[]).await,
            Reader::Database(store) => view::event(&**store, id).await?.ok_or_else(|| {
                Failure::new(Exit::Nothing, format!("there is no event `{id}`"))
                    .help("`ringback event list` shows the latest ones")
            }),
        }
    }

    /// What is known of one key and what was decided about it.
    pub async fn why(&self, stream: &StreamName, key: &str) -> Result<shape::Why, Failure> {
        match self {
            Reader::Daemon(daemon) => {
                let path = format!("streams/{}/{}/why", segment(stream.source.as_str()), segment(&stream.stream));
                daemon.get(&path, &[("key".to_owned(), key.to_owned())]).await
            }
            Reader::Database(store) => {
                let found = why::of_key(&**store, stream, &Key::from(key)).await?;
                found.ok_or_else(|| {
                    Failure::new(Exit::Nothing, format!("there is no stream `{stream}`"))
                        .help("`ringback source list` shows them")
                })
            }
        }
    }

    /// Lines after a position (or the newest ones), waiting up to `wait` seconds for the first.
    pub async fn tail(&self, after: Option<&str>, lines: usize, wait: u64) -> Result<shape::TailPage, Failure> {
        match self {
            Reader::Daemon(daemon) => {
                let mut query = vec![("lines".to_owned(), lines.to_string()), ("wait".to_owned(), wait.to_string())];
                query.extend(after.map(|after| ("after".to_owned(), after.to_owned())));
                daemon.get("tail", &query).await
            }
            Reader::Database(store) => Ok(view::tail(&**store, after, lines).await?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_of_a_daemon_is_a_path_or_an_address() {
        let socket = |path: &str| Address::Socket(path.into());
        for (text, want) in [
            ("/run/ringback/ringback.sock", socket("/run/ringback/ringback.sock")),
            ("unix:/run/r.sock", socket("/run/r.sock")),
            ("data/r.sock", socket("data/r.sock")),
            ("http://127.0.0.1:8420", Address::Http(Url::parse("http://127.0.0.1:8420").expect("an address"))),
        ] {
            assert_eq!(Address::parse(text), want);
        }
    }

    #[test]
    fn a_query_leaves_out_what_is_not_asked() {
        let query = shape::EventQuery {
            event_type: Some("payment.*".into()),
            since: Some(shape::Time(crate::model::Timestamp(0))),
            limit: Some(5),
            ..Default::default()
        };
        let want = [("type", "payment.*"), ("since", "1970-01-01T00:00:00Z"), ("limit", "5")];
        assert_eq!(pairs(&query), want.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[tokio::test]
    async fn a_daemon_that_is_not_there_is_named_with_its_socket() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("ringback.sock");
        let failure = first_that_answers(&[Address::Socket(path.clone())]).await.err().expect("nobody is there");
        assert_eq!(failure.exit, Exit::Unreachable);
        assert!(failure.message.contains(&path.display().to_string()), "{}", failure.message);
    }

    #[test]
    fn a_refusal_becomes_its_exit_code_with_the_daemon_s_own_words() {
        let body = br#"{"error":"there is no event `x`","help":"look again"}"#;
        for (status, exit) in
            [(404, Exit::Nothing), (400, Exit::Usage), (422, Exit::Configuration), (503, Exit::Temporary)]
        {
            let failure = refused(StatusCode::from_u16(status).expect("a status"), body);
            assert_eq!((failure.exit, failure.message.as_str()), (exit, "there is no event `x`"));
        }
        assert_eq!(refused(StatusCode::BAD_GATEWAY, b"<html>").exit, Exit::Failed);
    }
}
