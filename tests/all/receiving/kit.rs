//! A receiver behind a real listener, with a real store, and a client that writes the very bytes of a request.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ringback::clock::Clock;
use ringback::ingest::Ingest;
use ringback::metrics::Metrics;
use ringback::model::Timestamp;
use ringback::receive::inbox::Inbox;
use ringback::receive::{Limits, Receiver, serve};
use ringback::secret::Secret;
use ringback::signature::Request;
use ringback::source::Sources;
use ringback::store::sqlite::SqliteStore;
use ringback::store::{ClaimedInbound, Setup, Store, StreamSetup};
use ringback::subscription::Subscriptions;
use ringback::worker::Step;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub const NOW: Timestamp = Timestamp(1_760_000_000_000);

const PROVIDER: &str = r##"
schema   = 1
base_url = "http://127.0.0.1:1"

[streams.orders]
path    = "/orders"
key     = ".id"
version = { field = ".v", type = "number" }

[streams.pushes]
key    = ".id"
detect = "new"

[streams.pulses]
detect = "new"

[webhook]
answer = { status = 202, headers = { X-Taken = "yes" }, body = "taken" }

[[webhook.signature]]
name   = "plain"
type   = "hmac"
header = "X-Signature"
value  = "sha256={{ signature }}"

[[webhook.signature]]
name      = "timed"
type      = "hmac"
header    = "X-Signature"
value     = "t={{ timestamp }},v1={{ signature }}"
separator = ","
content   = "{{ timestamp }}.{{ body }}"
timestamp = { unit = "s" }

[[webhook.signature]]
name   = "token"
type   = "token"
header = "X-Token"

[[webhook.signature]]
name         = "whsec"
type         = "hmac"
header       = "X-Signature"
key_encoding = "whsec"

[[webhook.messages]]
when    = '$headers["x-kind"] == "order"'
stream  = "orders"
records = "[.order]"
id      = '$headers["x-delivery"]'

[[webhook.messages]]
when       = '$query.kind == "changed"'
stream     = "orders"
id         = '$headers["x-delivery"]'
on_webhook = "poll"

[[webhook.messages]]
when    = '$form.kind == "pushed"'
stream  = "pushes"
records = "[$form.payload | fromjson]"
id      = '$headers["x-delivery"]'

[[webhook.messages]]
when    = '.event == "pulse"'
stream  = "pulses"
id      = '$headers["x-delivery"]'

[[webhook.messages]]
when    = '.event == "pulses"'
stream  = "pulses"
records = ".items"

[[webhook.messages]]
when    = '.event | startswith("push")'
stream  = "pushes"
records = ".items"
id      = '$headers["x-delivery"]'
"##;

/// Sources by the scheme they use; all know the secrets `new` and `old`.
const CONFIG: &str = r#"
schema = 1
[sources.plain]
provider = "./provider.toml"
webhook  = { scheme = "plain", secret = [{ file = "new" }, { file = "old" }] }
[sources.timed]
provider = "./provider.toml"
webhook  = { scheme = "timed", secret = { file = "new" } }
[sources.token]
provider = "./provider.toml"
webhook  = { scheme = "token", secret = { file = "new" } }
[sources.whsec]
provider = "./provider.toml"
webhook  = { scheme = "whsec", secret = { file = "new" } }
[sources.closed]
provider = "./provider.toml"
"#;

/// What a test may say of its gate.
pub struct Wish {
    pub limits: Limits,
    pub rate: &'static str,
    pub max_body: usize,
    /// A store that cannot write.
    pub broken: bool,
    /// Where the clock stands.
    pub now: Timestamp,
}

impl Default for Wish {
    fn default() -> Wish {
        Wish { limits: Limits::default(), rate: "100000/s", max_body: 1 << 20, broken: false, now: NOW }
    }
}

pub struct Gate {
    pub folder: TempDir,
    pub address: SocketAddr,
    pub store: Arc<dyn Store>,
    pub receiver: Arc<Receiver>,
    pub clock: Clock,
    pub metrics: Metrics,
    pub sources: Sources,
    pub cancel: CancellationToken,
    pub serving: JoinHandle<()>,
    pub inbox: Inbox,
}

impl Gate {
    pub async fn open() -> Gate {
        Gate::with(Wish::default()).await
    }

    pub async fn with(wish: Wish) -> Gate {
        let files = [("provider.toml", PROVIDER), ("new", "new secret\n"), ("old", "old secret\n")];
        Gate::of(wish, CONFIG, &files.map(|(name, text)| (name, text.to_owned()))).await
    }

    /// A gate of another configuration, with the files that it names.
    pub async fn of(wish: Wish, config: &str, files: &[(&str, String)]) -> Gate {
        let folder = tempfile::tempdir().expect("a folder");
        let config = format!("{config}\n[receive]\nrate = \"{}\"\n", wish.rate);
        std::fs::write(folder.path().join("config.toml"), config).expect("written");
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).expect("written");
        }
        let shown = |faults: Vec<_>| -> String { ringback::shape::render(&faults, false) };
        let loaded = ringback::config::load(&folder.path().join("config.toml")).map_err(shown);
        let config = loaded.unwrap_or_else(|faults| panic!("{faults}")).0;
        let joined = ringback::source::join_all(&config, true).map_err(shown);
        let sources = joined.unwrap_or_else(|faults| panic!("{faults}")).0;
        let (file, clock, metrics) = (folder.path().join("ringback.db"), Clock::manual(wish.now), Metrics::new());
        let writing = SqliteStore::open(&file, clock.clone()).expect("the store opens");
        writing.register(setup(&sources)).await.expect("registered");
        let store: Arc<dyn Store> = if wish.broken {
            drop(writing);
            Arc::new(SqliteStore::open_read_only(&file, clock.clone()).expect("the store opens"))
        } else {
            Arc::new(writing)
        };
        let none = Arc::new(Subscriptions::new([]));
        let ingest = Ingest::new(store.clone(), none, clock.clone(), metrics.clone());
        let inbox = Inbox::new(store.clone(), ingest, sources.clone(), metrics.clone());
        let receiver =
            Receiver::new(&sources, store.clone(), clock.clone(), metrics.clone(), config.receive.rate, wish.max_body);
        let receiver = Arc::new(receiver);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address");
        let cancel = CancellationToken::new();
        let serving = tokio::spawn(serve(receiver.clone(), listener.into(), wish.limits, cancel.clone()));
        Gate { folder, address, store, receiver, clock, metrics, sources, cancel, serving, inbox }
    }

    pub async fn connect(&self) -> Client {
        Client(TcpStream::connect(self.address).await.expect("a connection"))
    }

    /// One request on a connection of its own.
    pub async fn post(&self, target: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut client = self.connect().await;
        client.send(&request("POST", target, headers, body)).await;
        client.answer().await
    }

    /// One request of any method.
    pub async fn send(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut client = self.connect().await;
        client.send(&request(method, target, headers, body)).await;
        client.answer_to(method).await
    }

    /// Posts to `plain` with a right signature.
    pub async fn signed(&self, target: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let signature = self.signature("plain", "new secret", body, NOW);
        let all: Vec<(&str, &str)> = headers.iter().copied().chain([("x-signature", signature.as_str())]).collect();
        self.post(target, &all, body).await
    }

    /// The value of `x-signature` as the provider of this source would send it.
    pub fn signature(&self, source: &str, secret: &str, body: &str, at: Timestamp) -> String {
        let source = &self.sources[source];
        let scheme = source.webhook.as_ref().and_then(|webhook| webhook.scheme.clone()).expect("a scheme");
        let request =
            Request { method: "POST", url: None, headers: &[], body: body.as_bytes(), settings: &source.settings };
        let added = scheme.sign(&request, &[Secret::new(secret)], at).expect("signed");
        added.headers.last().expect("a header").1.clone()
    }

    pub async fn stored(&self) -> Vec<ClaimedInbound> {
        self.store.claim_inbounds(Duration::from_secs(1), 100).await.expect("claimed")
    }

    pub async fn take_in(&self) {
        self.inbox.step().await.expect("the step");
    }

    /// How often webhooks of a source came to this.
    pub fn count(&self, source: &str, result: &str) -> u64 {
        let line = format!("webhooks_received_total{{source=\"{source}\",result=\"{result}\"}} ");
        let text = self.metrics.render();
        let found = text.lines().find_map(|found| found.split_once(line.as_str()));
        found.map_or(0, |(_, count)| count.parse().expect("a count"))
    }
}

fn setup(sources: &Sources) -> Setup {
    let mut setup = Setup::default();
    for stream in sources.values().flat_map(|source| &source.streams) {
        setup
            .streams
            .push(StreamSetup { first_due_in: Duration::from_secs(3600), ..ringback::ingest::stream_setup(stream) });
    }
    setup
}

pub fn request(method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> String {
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("{method} {target} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n{headers}\r\n{body}", body.len())
}

pub struct Client(pub TcpStream);

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    head: String,
    pub body: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

impl Client {
    pub async fn send(&mut self, bytes: &str) {
        self.0.write_all(bytes.as_bytes()).await.expect("sent");
    }

    /// The next answer; it must come within seconds.
    pub async fn answer(&mut self) -> Answer {
        let read = tokio::time::timeout(Duration::from_secs(20), self.read()).await;
        read.expect("an answer in time").expect("an answer and no closed connection")
    }

    /// Whether the connection is closed without an answer.
    pub async fn is_closed(&mut self) -> bool {
        let mut byte = [0];
        let read = tokio::time::timeout(Duration::from_secs(20), self.0.read(&mut byte)).await;
        matches!(read, Ok(Ok(0) | Err(_)))
    }

    pub async fn answer_to(&mut self, method: &str) -> Answer {
        let read = tokio::time::timeout(Duration::from_secs(20), self.read_to(method == "HEAD")).await;
        read.expect("an answer in time").expect("an answer and no closed connection")
    }

    async fn read(&mut self) -> Option<Answer> {
        self.read_to(false).await
    }

    /// An answer to HEAD tells the length of a body that does not come.
    async fn read_to(&mut self, without_body: bool) -> Option<Answer> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.0.read_u8().await.ok()?);
        }
        let head = String::from_utf8(head).ok()?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        let mut answer = Answer { status, head, body: String::new() };
        let length = answer.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
        let length = if without_body { 0 } else { length };
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).await.ok()?;
        answer.body = String::from_utf8(body).ok()?;
        Some(answer)
    }
}
