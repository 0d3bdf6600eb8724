//! Mail over TLS: from the first byte and by STARTTLS, against a server of the test's own; a wrong authority; and a server that does not
//! want TLS, to which neither password nor message is shown.

use std::sync::{Arc, Mutex};

use ringback::model::{AttemptResult, DeliveryState, ErrorClass};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::{ALL, Authority, acceptor};
use crate::ways::Bridge;

/// When TLS begins.
#[derive(Clone, Copy, PartialEq)]
enum Begins {
    AtOnce,
    WhenAsked,
    /// It is offered, and refused when asked for.
    Refused,
    Never,
}

#[derive(Clone)]
struct Office {
    begins: Begins,
    acceptor: TlsAcceptor,
    /// What came in clear text, and what under TLS.
    clear: Arc<Mutex<Vec<String>>>,
    secured: Arc<Mutex<Vec<String>>>,
}

impl Office {
    async fn open(begins: Begins, acceptor: TlsAcceptor) -> (Office, u16) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let office = Office { begins, acceptor, clear: Arc::default(), secured: Arc::default() };
        let serving = office.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serving.clone().serve(stream));
            }
        });
        (office, port)
    }

    async fn serve(self, stream: TcpStream) -> Option<()> {
        if self.begins == Begins::AtOnce {
            let stream = self.acceptor.accept(stream).await.ok()?;
            self.talk(stream, true, true).await?;
            return Some(());
        }
        let stream = self.talk(stream, false, true).await?;
        let stream = self.acceptor.accept(stream).await.ok()?;
        self.talk(stream, true, false).await?;
        Some(())
    }

    /// Talks until TLS is to begin; gives the stream back then.
    async fn talk<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S, secured: bool, greets: bool) -> Option<S> {
        let mut stream = BufReader::new(stream);
        if greets {
            stream.write_all(b"220 post.example ready\r\n").await.ok()?;
        }
        let (mut line, mut inside) = (String::new(), false);
        loop {
            line.clear();
            if stream.read_line(&mut line).await.ok()? == 0 {
                return None;
            }
            let said = line.trim_end().to_owned();
            let noted = if secured { &self.secured } else { &self.clear };
            noted.lock().expect("lock").push(said.clone());
            let answer = match said.split(' ').next().unwrap_or_default() {
                "." if inside => {
                    inside = false;
                    "250 taken"
                }
                _ if inside => continue,
                "EHLO" if secured || self.begins == Begins::Never => "250-post.example\r\n250 AUTH PLAIN LOGIN",
                "EHLO" => "250-post.example\r\n250-STARTTLS\r\n250 AUTH PLAIN LOGIN",
                "STARTTLS" if self.begins == Begins::WhenAsked => {
                    stream.write_all(b"220 go ahead\r\n").await.ok()?;
                    return Some(stream.into_inner());
                }
                "STARTTLS" => "454 not now",
                "AUTH" => "235 welcome",
                "DATA" => {
                    inside = true;
                    "354 go on"
                }
                "QUIT" => "221 bye",
                _ => "250 good",
            };
            stream.write_all(format!("{answer}\r\n").as_bytes()).await.ok()?;
        }
    }
}

/// A daemon that sends mail to this server, with a password and a certificate of its own.
async fn sender(scheme: &str, port: u16, trusted: &Authority, own: &Authority) -> (Bridge, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("ca.pem"), trusted.pem()).expect("written");
    std::fs::write(at("password"), "hunter2").expect("written");
    own.issue(&["ringback.bank.example"]).write(&at("own.pem"), &at("own.key"));
    let here = folder.path().display();
    let keys = format!(
        "mail = {{ server = \"{scheme}://localhost:{port}\", from = \"ringback@bank.example\", to = \"ops@bank.example\", subject = \"{{{{ event.key }}}}\", \
         user = \"svc\", password = {{ file = \"{here}/password\" }} }}\n\
         tls = {{ ca_file = \"{here}/ca.pem\", cert = \"{here}/own.pem\", key = {{ file = \"{here}/own.key\" }} }}"
    );
    (Bridge::start(&keys, "").await, folder)
}

#[tokio::test]
async fn a_message_goes_under_tls_from_the_first_byte_or_from_starttls_on_with_both_certificates() {
    let bank = Authority::new("bank");
    for (scheme, begins) in [("smtps", Begins::AtOnce), ("smtp", Begins::WhenAsked)] {
        let (office, port) = Office::open(begins, acceptor(&bank.issue(&["localhost"]), Some(&bank), ALL)).await;
        let (bridge, _folder) = sender(scheme, port, &bank, &bank).await;
        bridge.happens("a").await;
        let (state, attempts) = bridge.attempts("a", 1).await;
        assert_eq!(state, DeliveryState::Delivered, "{scheme}: {:?}", attempts[0].error);
        let secured = office.secured.lock().expect("lock").join("\n");
        assert!(secured.contains("Subject: a") && secured.contains("AUTH PLAIN"), "{scheme}: {secured}");
        let clear = office.clear.lock().expect("lock").clone();
        assert!(clear.iter().all(|line| line.starts_with("EHLO") || line == "STARTTLS"), "{scheme}: {clear:?}");
    }
}

#[tokio::test]
async fn a_server_of_another_authority_or_one_that_wants_no_tls_sees_neither_password_nor_message() {
    let (bank, other) = (Authority::new("bank"), Authority::new("other"));
    let tls = (AttemptResult::Unreachable, ErrorClass::Tls);
    for (scheme, begins, authority, expected, why) in [
        ("smtps", Begins::AtOnce, &other, tls, "invalid peer certificate"),
        ("smtp", Begins::WhenAsked, &other, tls, "invalid peer certificate"),
        ("smtp", Begins::Refused, &bank, (AttemptResult::Refused, ErrorClass::Mail), "454"),
        ("smtp", Begins::Never, &bank, (AttemptResult::Broken, ErrorClass::Mail), "STARTTLS is not supported"),
    ] {
        let (office, port) = Office::open(begins, acceptor(&authority.issue(&["localhost"]), None, ALL)).await;
        let (bridge, _folder) = sender(scheme, port, &bank, &bank).await;
        bridge.happens("a").await;
        let (_, attempts) = bridge.attempts("a", 1).await;
        let error = attempts[0].error.clone().unwrap_or_default();
        assert_eq!((attempts[0].result, attempts[0].detail.class), (expected.0, Some(expected.1)), "{error}");
        assert!(error.starts_with("localhost") && error.contains(why), "{why}: {error}");
        let lines = [&office.clear, &office.secured].map(|lines| lines.lock().expect("lock").clone()).concat();
        let harmless = |line: &String| line.starts_with("EHLO") || line == "STARTTLS" || line == "QUIT";
        assert!(lines.iter().all(harmless), "{why}: {lines:?}");
    }
}
