//! Certificates that do not hold much longer: in our files, and as servers show them. The clock is the test's own.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringback::app::{self, Certificates};
use ringback::certificate::Presented;
use ringback::clock::Clock;
use ringback::config::{self, Config};
use ringback::metrics::Metrics;
use ringback::model::{Problem, ProblemKind, Timestamp};
use ringback::source;
use ringback::store::Store;
use ringback::store::sqlite::SqliteStore;

use super::outgoing::get;
use super::{ALL, Authority, Date, Stub, acceptor};
#[cfg(all(feature = "nats", feature = "kafka"))]
use crate::ways::Bridge;

const LISTENER: &str = "[receive.tls]\ncert = \"own.pem\"\nkey = { file = \"own.key\" }\nclient_ca = \"ca.pem\"\n";
const PROVIDER: &str = "schema = 1\nbase_url = \"http://localhost\"\n[streams.payments]\npath = \"/p\"\nkey = \".id\"\ndetect = \"snapshot\"\n";
const DAY: Duration = Duration::from_secs(86_400);

/// A folder with a configuration, a store, and a clock that a test moves.
struct Room {
    folder: tempfile::TempDir,
    store: Arc<dyn Store>,
    clock: Clock,
    metrics: Metrics,
}

impl Room {
    fn new(now: &str, config: &str) -> Room {
        let folder = tempfile::tempdir().expect("a folder");
        let clock = Clock::manual(at(now));
        let store = Arc::new(SqliteStore::open(&folder.path().join("t.db"), clock.clone()).expect("a store"));
        std::fs::write(folder.path().join("config.toml"), format!("schema = 1\n{config}")).expect("written");
        Room { folder, store, clock, metrics: Metrics::new() }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn config(&self) -> Config {
        config::load(&self.path("config.toml")).unwrap_or_else(|faults| panic!("{faults:?}")).0
    }

    fn issue(&self, authority: &Authority, term: (Date, Date)) {
        authority
            .sign_for(&["hooks.bank.example"], Some("Hooks"), term)
            .write(&self.path("own.pem"), &self.path("own.key"));
    }

    fn moves_to(&self, now: &str) {
        self.clock.advance(at(now).since(self.clock.now()));
    }

    async fn look(&self, certificates: &Certificates) -> Vec<Problem> {
        certificates.look(&*self.store, self.clock.now(), &self.metrics).await.expect("looked");
        let problems = self.store.problems().await.expect("read").into_iter();
        problems.filter(|problem| problem.kind == ProblemKind::CertificateExpiring).collect()
    }

    /// Looks until what it finds is so: a changed file is noticed within a second.
    async fn becomes(&self, certificates: &Certificates, is_so: impl Fn(&[Problem]) -> bool) {
        let begun = Instant::now();
        loop {
            let found = self.look(certificates).await;
            if is_so(&found) {
                return;
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "it never comes to be so: {found:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Midnight of a day.
fn at(day: &str) -> Timestamp {
    let day: chrono::NaiveDate = day.parse().expect("a day");
    day.and_time(chrono::NaiveTime::MIN).and_utc().into()
}

#[tokio::test]
async fn a_certificate_of_ours_is_told_of_before_its_end_and_no_more_once_its_file_is_replaced() {
    let bank = Authority::new("bank");
    let room = Room::new("2030-06-01", LISTENER);
    std::fs::write(room.path("ca.pem"), bank.pem()).expect("written");
    room.issue(&bank, ((2030, 1, 1), (2031, 1, 1)));
    let certificates = Certificates::new(&room.config(), Presented::default());
    assert_eq!(room.look(&certificates).await, [], "half a year is left");
    assert_eq!(certificates.faults(room.clock.now()).len(), 0);

    room.moves_to("2030-12-11");
    let found = room.look(&certificates).await;
    let own = room.path("own.pem").display().to_string();
    let [problem] = &found[..] else { panic!("{found:?}") };
    assert_eq!((&problem.subject, problem.opened_at), (&own, at("2030-12-11")));
    let told = "the certificate of `Hooks` expires at 2031-01-01T00:00:00Z (`receive.tls.cert`). Put a renewed one";
    assert!(problem.message.starts_with(told), "{}", problem.message);
    assert!(
        room.metrics
            .render()
            .contains("ringback_certificate_expiry_timestamp_seconds{key=\"receive.tls.cert\"} 1924992000")
    );
    assert_eq!(room.look(&certificates).await[0].count, 1, "what stays so is not written at each look");
    room.clock.advance(DAY);
    assert_eq!(room.look(&certificates).await[0].count, 2, "but each day");

    room.moves_to("2031-01-02");
    // As after a restart: what was open is known.
    let certificates = Certificates::new(&room.config(), Presented::default());
    let found = room.look(&certificates).await;
    assert!(found.len() == 1 && found[0].message.contains("expired at 2031-01-01T00:00:00Z"), "{found:?}");
    assert_eq!(found[0].opened_at, at("2030-12-11"));

    room.issue(&bank, ((2031, 1, 5), (2032, 1, 1)));
    room.becomes(&certificates, |found| found[0].message.contains("holds only from 2031-01-05T00:00:00Z on")).await;
    room.issue(&bank, ((2031, 1, 1), (2032, 1, 1)));
    room.becomes(&certificates, |found| found.is_empty()).await;
}

#[tokio::test]
async fn an_authority_that_was_renewed_beside_its_old_certificate_is_no_problem_and_an_old_one_alone_is() {
    let (old, new) = (Authority::until("bank", (2030, 6, 10)), Authority::until("bank", (2040, 1, 1)));
    let room = Room::new("2030-06-01", "[network]\nca_file = \"ca.pem\"\n");
    std::fs::write(room.path("ca.pem"), old.pem()).expect("written");
    let certificates = Certificates::new(&room.config(), Presented::default());
    let found = room.look(&certificates).await;
    assert!(found.len() == 1 && found[0].message.contains("`bank` expires at 2030-06-10"), "{found:?}");
    assert!(found[0].message.contains("(`network.ca_file`)"), "{found:?}");
    std::fs::write(room.path("ca.pem"), old.pem() + &new.pem()).expect("written");
    room.becomes(&certificates, |found| found.is_empty()).await;
}

#[tokio::test]
async fn a_certificate_that_a_server_shows_is_told_of_until_the_server_shows_a_newer_one() {
    let bank = Authority::new("bank");
    let term = ((2000, 1, 1), (2100, 1, 1));
    let stub = Stub::listen(acceptor(&bank.sign_for(&["localhost"], None, term), None, ALL)).await;
    let base = format!("https://localhost:{}", stub.port);
    let keys =
        format!("[sources.core]\nprovider = \"./p.toml\"\nbase_url = \"{base}\"\ntls = {{ ca_file = \"ca.pem\" }}\n");
    let room = Room::new("2099-12-26", &keys);
    std::fs::write(room.path("p.toml"), PROVIDER).expect("written");
    std::fs::write(room.path("ca.pem"), bank.pem()).expect("written");
    let parts = || {
        let config = room.config();
        let (sources, _) = source::join_all(&config, true).unwrap_or_else(|faults| panic!("{faults:?}"));
        app::sources_and_handlers(&config, sources).unwrap_or_else(|faults| panic!("{faults:?}"))
    };
    let first = parts();
    assert_eq!(room.look(&first.certificates).await, [], "nobody was asked yet");
    assert_eq!(get(&*first.fetchers[0].1, &base).await, Ok(200));
    assert_eq!(first.certificates.faults(room.clock.now()).len(), 0, "no file is at fault");
    let found = room.look(&first.certificates).await;
    let [problem] = &found[..] else { panic!("{found:?}") };
    assert_eq!(problem.subject, format!("localhost:{}", stub.port));
    let told = "as this server shows it, the certificate of `localhost` expires at 2100-01-01T00:00:00Z. Whoever runs";
    assert!(problem.message.starts_with(told), "{}", problem.message);

    // Over a reload it stays known, until the server is asked again.
    let second = parts();
    assert_eq!(room.look(&second.certificates).await.len(), 1);
    *stub.acceptor.lock().expect("lock") = acceptor(&bank.issue(&["localhost"]), None, ALL);
    assert_eq!(get(&*second.fetchers[0].1, &base).await, Ok(200));
    assert_eq!(room.look(&second.certificates).await, []);

    // A server that is not asked any more says nothing more.
    *stub.acceptor.lock().expect("lock") = acceptor(&bank.sign_for(&["localhost"], None, term), None, ALL);
    let third = parts();
    assert_eq!(get(&*third.fetchers[0].1, &base).await, Ok(200));
    assert_eq!(room.look(&third.certificates).await.len(), 1);
    let fourth = parts();
    assert_eq!(room.look(&fourth.certificates).await.len(), 1);
    room.clock.advance(DAY * 9);
    assert_eq!(room.look(&fourth.certificates).await, []);
    assert_eq!(room.look(&third.certificates).await, [], "nor does what it showed long ago");
}

/// A server that speaks first as NATS does, or not, then TLS, and then says nothing.
#[cfg(all(feature = "nats", feature = "kafka"))]
async fn mute(acceptor: tokio_rustls::TlsAcceptor, first: &'static str) -> u16 {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                stream.write_all(first.as_bytes()).await.ok()?;
                acceptor.accept(stream).await.ok()?.read_to_end(&mut Vec::new()).await.ok()
            });
        }
    });
    port
}

#[cfg(all(feature = "nats", feature = "kafka"))]
#[tokio::test]
async fn a_brokers_certificate_is_known_from_the_handshake_on() {
    let bank = Authority::new("bank");
    let info = "INFO {\"server_id\":\"x\",\"server_name\":\"x\",\"version\":\"2.10.0\",\"go\":\"\",\"host\":\"127.0.0.1\",\"port\":1,\
                \"max_payload\":1048576,\"proto\":1,\"headers\":true,\"tls_required\":true}\r\n";
    for (first, keys) in [
        ("", "kafka = { brokers = [\"tls://localhost:{port}\"], topic = \"t\" }"),
        (info, "nats = { url = \"tls://localhost:{port}\", subject = \"s\" }"),
    ] {
        let term = ((2000, 1, 1), (2100, 1, 1));
        let port = mute(acceptor(&bank.sign_for(&["localhost"], None, term), None, ALL), first).await;
        let room = Room::new("2099-12-26", "");
        std::fs::write(room.path("ca.pem"), bank.pem()).expect("written");
        let ca = room.path("ca.pem");
        let keys = format!("{keys}\ntimeout = \"2s\"\ntls = {{ ca_file = \"{}\" }}", ca.display());
        let bridge = Bridge::start(&keys.replace("{port}", &port.to_string()), "").await;
        bridge.happens("a").await;
        room.becomes(&bridge.certificates, |found| {
            found.iter().any(|problem| problem.subject == format!("localhost:{port}"))
        })
        .await;
    }
}

#[test]
fn check_warns_of_what_expires() {
    let bank = Authority::new("bank");
    let room = Room::new("2030-01-01", LISTENER);
    std::fs::write(room.path("ca.pem"), bank.pem()).expect("written");
    room.issue(&bank, ((2000, 1, 1), (2001, 1, 1)));
    let check = |path: &Path| {
        let done = Command::new(env!("CARGO_BIN_EXE_ringback")).args(["check", "--strict", "-c"]).arg(path).output();
        let done = done.expect("it runs");
        (done.status.code(), String::from_utf8_lossy(&done.stderr).into_owned())
    };
    let (code, said) = check(&room.path("config.toml"));
    assert!(
        code == Some(3) && said.contains("expired at 2001-01-01T00:00:00Z (`receive.tls.cert`)"),
        "{code:?} {said}"
    );
    assert!(said.contains("own.pem") && said.contains("Put a renewed one"), "{said}");
    room.issue(&bank, ((2000, 1, 1), (3000, 1, 1)));
    assert_eq!(check(&room.path("config.toml")), (Some(0), String::new()));
}
