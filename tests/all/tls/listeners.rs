//! Our own listeners over TLS: real webhooks, and handlers that ask, known by a certificate or by their secret.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method};
use ringback::client::{Bounds, Client, ClientOptions, Outgoing, Over};
use ringback::config::{ListenTls, Network, Proxy, Tls};
use ringback::listener::{Clients, Socket, Tls as OwnTls, serve_router};
use ringback::metrics::Metrics;
use ringback::pull::{Desk, Readers};
use ringback::receive::{Limits, serve};
use ringback::secret::{Secret, SecretRef};
use tokio_util::sync::CancellationToken;

use super::{Authority, Issued};
use crate::receiving::kit::{Gate, NOW};
use crate::ways::Bridge;

const ORDER: &str = r#"{"order":{"id":1,"v":1}}"#;

/// Files of one side.
struct Folder(tempfile::TempDir);

impl Folder {
    fn of(issued: &Issued, authority: &Authority) -> Folder {
        let folder = Folder(tempfile::tempdir().expect("a folder"));
        folder.put(issued);
        std::fs::write(folder.path("ca.pem"), authority.pem()).expect("written");
        folder
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    fn put(&self, issued: &Issued) {
        issued.write(&self.path("own.pem"), &self.path("own.key"));
    }

    /// As a listener that asks for certificates of the authority.
    fn listens(&self, clients: Clients) -> OwnTls {
        let given = ListenTls {
            cert: self.path("own.pem"),
            key: SecretRef::File(self.path("own.key")),
            client_ca: vec![self.path("ca.pem")],
        };
        OwnTls::new(Some(&given), clients).expect("TLS")
    }

    /// As one that calls and trusts the authority, with its certificate or without.
    fn calls(&self, shows: bool) -> Client {
        let own = shows.then(|| self.path("own.pem"));
        let key = shows.then(|| SecretRef::File(self.path("own.key")));
        let tls = Tls { ca_files: vec![self.path("ca.pem")], cert: own, key, ..Tls::default() };
        let options = ClientOptions {
            network: Network::default(),
            proxy: Proxy::None,
            proxy_password: None,
            tls,
            connect_timeout: Duration::from_secs(5),
            pool_idle_max: 0,
            unix_socket: None,
        };
        Client::new(&options).expect("a client")
    }
}

async fn ask(
    client: &Client,
    method: Method,
    url: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Result<(u16, String), String> {
    let mut all = HeaderMap::new();
    for (name, value) in headers {
        all.insert(http::HeaderName::try_from(*name).expect("a name"), value.parse().expect("a value"));
    }
    let url = url.parse().expect("an address");
    let request = Outgoing { method, url, headers: all, body: bytes::Bytes::copy_from_slice(body.as_bytes()) };
    let bounds = Bounds { timeout: Duration::from_secs(10), body_max: 1 << 16, over: Over::Error };
    let answer = client.send(request, bounds).await.map_err(|error| error.to_string())?;
    Ok((answer.status, String::from_utf8_lossy(&answer.body).into_owned()))
}

async fn socket() -> (Socket, u16) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    (listener.into(), port)
}

#[tokio::test]
async fn a_webhook_comes_under_tls_from_who_shows_a_certificate_and_a_new_one_of_ours_needs_no_restart() {
    let (bank, later) = (Authority::new("bank"), Authority::new("the bank's next"));
    let gate = Gate::open().await;
    let (ours, theirs) =
        (Folder::of(&bank.issue(&["localhost"]), &bank), Folder::of(&bank.issue(&["pay.example"]), &bank));
    let (socket, port) = socket().await;
    let socket = socket.with_tls(ours.listens(Clients::MustShow));
    tokio::spawn(serve(gate.receiver.clone(), socket, Limits::default(), gate.cancel.clone()));
    let url = format!("https://localhost:{port}/webhooks/plain");
    let signature = gate.signature("plain", "new secret", ORDER, NOW);
    let post = async |client: &Client, url: &str| {
        ask(client, Method::POST, url, &[("x-signature", &signature)], ORDER).await.map(|(status, _)| status)
    };
    assert_eq!(post(&theirs.calls(true), &url).await, Ok(202));
    assert_eq!(gate.stored().await.len(), 1);
    let stranger = Folder::of(&later.issue(&["pay.example"]), &bank);
    for (who, told) in [
        ("without a certificate", post(&theirs.calls(false), &url).await),
        ("with another authority's", post(&stranger.calls(true), &url).await),
        ("in clear text", post(&theirs.calls(true), &url.replace("https", "http")).await),
    ] {
        assert!(told.is_err(), "{who}: {told:?}");
    }
    assert!(gate.stored().await.is_empty(), "nothing of these was taken");
    // Who trusts only the next authority is answered once the certificate is exchanged.
    let next = Folder::of(&bank.issue(&["pay.example"]), &later);
    assert!(post(&next.calls(true), &url).await.is_err());
    ours.put(&later.issue(&["localhost"]));
    let mut status = Err("not asked".into());
    for _ in 0..100 {
        status = post(&next.calls(true), &url).await;
        if status.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(status, Ok(202));
}

#[tokio::test]
async fn the_public_keys_of_handlers_stand_where_webhooks_arrive_only_if_asked_for() {
    let gate = Gate::open().await;
    const PATH: &str = "/.well-known/webhook-keys";
    assert_eq!(gate.send("GET", PATH, &[], "").await.status, 404);
    let mut readers = Readers::default();
    let (private, public) = ringback::signature::fresh_pair().expect("random bytes");
    readers.publish(&"ledger".into(), &[Secret::new(private)]);
    gate.receiver.show_keys(Some(readers.document()));
    let answer = gate.send("GET", PATH, &[], "").await;
    let shown: serde_json::Value = serde_json::from_str(&answer.body).expect("JSON");
    assert_eq!((answer.status, &shown["keys"][0]["key"]), (200, &public.into()));
    assert_eq!(gate.send("POST", PATH, &[], "").await.status, 404);
}

#[tokio::test]
async fn a_reader_is_known_by_its_certificate_or_by_its_secret() {
    let (bank, other) = (Authority::new("bank"), Authority::new("other"));
    let bridge = Bridge::start("pull = true\nsecret = { file = \"s.whsec\" }", "").await;
    let mut readers = Readers::default();
    readers.admit(&"h".into(), vec![Secret::new("token")], vec!["core.bank.example".into()]);
    let desk = Arc::new(Desk::new(bridge.store.clone(), Metrics::new(), readers));
    let ours = Folder::of(&bank.issue(&["localhost"]), &bank);
    let (socket, port) = socket().await;
    let socket = socket.with_tls(ours.listens(Clients::MayShow));
    tokio::spawn(serve_router(socket, ringback::pull::router(desk), CancellationToken::new()));
    let core = Folder::of(&bank.issue(&["core.bank.example"]), &bank);
    let named = Folder::of(&bank.sign(&[], Some("core.bank.example")), &bank);
    let guest = Folder::of(&bank.issue(&["guest.bank.example"]), &bank);
    let forger = Folder::of(&other.issue(&["core.bank.example"]), &bank);
    let url = format!("https://localhost:{port}/pull/h");
    for (who, client, token, status) in [
        ("by its certificate", core.calls(true), None, Some(200)),
        ("by the common name", named.calls(true), None, Some(200)),
        ("by its secret", core.calls(false), Some("token"), Some(200)),
        ("another certificate and the secret", guest.calls(true), Some("token"), Some(200)),
        ("another certificate", guest.calls(true), None, Some(401)),
        ("nothing", core.calls(false), None, Some(401)),
        ("a wrong secret", core.calls(false), Some("wrong"), Some(401)),
        ("a certificate of another authority", forger.calls(true), None, None),
        ("that and the secret", forger.calls(true), Some("token"), None),
    ] {
        let bearer = token.map(|token| format!("Bearer {token}"));
        let headers: Vec<_> = bearer.iter().map(|value| ("authorization", value.as_str())).collect();
        let answer = ask(&client, Method::GET, &url, &headers, "").await;
        assert_eq!(answer.as_ref().ok().map(|(status, _)| *status), status, "{who}: {answer:?}");
    }
}

#[test]
fn a_listener_whose_files_are_of_no_use_says_which() {
    let bank = Authority::new("bank");
    let folder = Folder::of(&bank.issue(&["localhost"]), &bank);
    std::fs::write(folder.path("empty.pem"), "").expect("written");
    bank.issue(&["localhost"]).write(&folder.path("second.pem"), &folder.path("second.key"));
    for (cert, key, ca, told) in [
        ("missing.pem", "own.key", "ca.pem", "missing.pem: cannot be read"),
        ("empty.pem", "own.key", "ca.pem", "empty.pem: holds no PEM certificates"),
        ("own.pem", "own.pem", "ca.pem", "holds no PEM private key"),
        ("own.pem", "second.key", "ca.pem", "its key do not fit"),
        ("own.pem", "own.key", "empty.pem", "empty.pem: holds no PEM certificates"),
    ] {
        let key = SecretRef::File(folder.path(key));
        let given = ListenTls { cert: folder.path(cert), key, client_ca: vec![folder.path(ca)] };
        let error = OwnTls::new(Some(&given), Clients::MustShow).err().unwrap_or_default();
        assert!(error.contains(told), "{cert} {ca}: {error}");
    }
}
