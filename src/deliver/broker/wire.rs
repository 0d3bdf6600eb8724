//! One connection to a Kafka broker: dialled by an address that was judged, with TLS and SASL, and asked one thing at a time.
//!
//! The requests are written by the protocol's library. Its reader takes the counts in an answer for memory to set aside at once, so the
//! few answers that are needed are read here, within their bytes. The versions asked for are those that every Kafka from 2.1 on knows.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, RequestHeader, SaslAuthenticateRequest, SaslHandshakeRequest};
use kafka_protocol::protocol::{Encodable, StrBytes};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::message::Failure;
use super::scram::{Exchange, Hash};
use super::way::Way;
use crate::certificate::Presented;
use crate::client::tls;
use crate::config::{BrokerAddress, Mechanism};
use crate::fresh::Fresh;
use crate::model::{ErrorClass, Timings};
use crate::secret::Secret;

const CONNECT: Duration = Duration::from_secs(5);
/// No answer of those that are asked for comes near it; a server of another protocol would.
const ANSWER_MAX: usize = 16 << 20;
const CLIENT: &str = concat!("ringback/", env!("CARGO_PKG_VERSION"));

trait Pipe: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Pipe for T {}

/// A connection that was let in.
pub struct Connection {
    pipe: Box<dyn Pipe>,
    /// As people know the broker.
    name: String,
    asked: i32,
    /// When it was last of use.
    pub used: Instant,
}

/// How connections are made.
pub struct Dial {
    pub way: Way,
    /// None: without TLS.
    pub tls: Option<Fresh<tls::Trust>>,
    pub server_name: Option<String>,
    pub presented: Presented,
    pub login: Option<(String, Secret, Mechanism)>,
}

/// A request without the number that its connection gives it.
#[derive(Clone)]
pub struct Request {
    key: ApiKey,
    version: i16,
    body: Bytes,
}

impl Request {
    /// The versions in use are older than the headers that can grow.
    pub fn new(key: ApiKey, version: i16, body: &impl Encodable) -> Result<Request, Failure> {
        let mut bytes = BytesMut::new();
        body.encode(&mut bytes, version).map_err(unwritten)?;
        Ok(Request { key, version, body: bytes.freeze() })
    }
}

/// What the library will not write.
pub fn unwritten(error: impl std::fmt::Display) -> Failure {
    Failure::own(ErrorClass::Unsendable, format!("the message cannot be written for Kafka: {error}"))
}

impl Dial {
    /// Connects, and shows who we are.
    pub async fn to(&self, broker: &BrokerAddress, timings: &mut Timings) -> Result<Connection, Failure> {
        let began = Instant::now();
        let addresses = self.way.to(&broker.host).await?;
        timings.dns = Some(began.elapsed());
        let mut last = Failure::unreachable(ErrorClass::Dns, format!("`{}` has no address", broker.host));
        for address in addresses {
            match tokio::time::timeout(CONNECT, self.reach(broker, address, timings)).await {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(failure)) => last = failure,
                Err(_) => {
                    let error = format!("{broker} did not take a connection within {CONNECT:?}");
                    last = Failure::unreachable(ErrorClass::Connect, error);
                }
            }
        }
        Err(last)
    }

    async fn reach(
        &self,
        broker: &BrokerAddress,
        address: IpAddr,
        timings: &mut Timings,
    ) -> Result<Connection, Failure> {
        let began = Instant::now();
        let unreachable = |class, error| Failure::unreachable(class, format!("{broker} cannot be reached: {error}"));
        let tcp = TcpStream::connect(SocketAddr::new(address, broker.port)).await;
        let tcp = tcp.map_err(|error| unreachable(ErrorClass::Connect, error.to_string()))?;
        timings.connect = Some(began.elapsed());
        let _ = tcp.set_nodelay(true);
        let pipe: Box<dyn Pipe> = match &self.tls {
            None => Box::new(tcp),
            Some(trust) => {
                let name = self.server_name.clone().unwrap_or_else(|| broker.host.clone());
                let name = ServerName::try_from(name).map_err(|e| unreachable(ErrorClass::Tls, e.to_string()))?;
                let began = Instant::now();
                let made = TlsConnector::from(trust.get().config.clone()).connect(name, tcp).await;
                timings.tls = Some(began.elapsed());
                let made = made.map_err(|error| unreachable(ErrorClass::Tls, error.to_string()))?;
                if let Some(shown) = made.get_ref().1.peer_certificates().and_then(<[_]>::first) {
                    self.presented.note(&broker.to_string(), shown);
                }
                Box::new(made)
            }
        };
        let mut connection = Connection { pipe, name: broker.to_string(), asked: 0, used: Instant::now() };
        if let Some((user, password, mechanism)) = &self.login {
            // Until it let us in, whatever goes wrong speaks of the broker.
            connection.log_in(user, password, *mechanism).await.map_err(|failure| Failure {
                tried: Failure::unreachable(failure.class, String::new()).tried,
                ..failure
            })?;
        }
        Ok(connection)
    }
}

impl Connection {
    /// Asks, and gives the answer's body.
    pub async fn ask(&mut self, request: &Request) -> Result<Bytes, Failure> {
        self.asked = self.asked.wrapping_add(1);
        let header = RequestHeader::default()
            .with_request_api_key(request.key as i16)
            .with_request_api_version(request.version)
            .with_correlation_id(self.asked)
            .with_client_id(Some(StrBytes::from_static_str(CLIENT)));
        let mut frame = BytesMut::from(&[0; 4][..]);
        header.encode(&mut frame, 1).map_err(unwritten)?;
        frame.extend_from_slice(&request.body);
        let length = i32::try_from(frame.len() - 4).map_err(unwritten)?;
        frame[..4].copy_from_slice(&length.to_be_bytes());
        let answer = self.exchange(&frame).await.map_err(|error| match tls::failed(&error) {
            // With TLS 1.3 a server refuses a client's certificate after the handshake.
            true => Failure::unreachable(ErrorClass::Tls, format!("{}: {error}", self.name)),
            false => Failure::broken(format!("{} closed the connection before it answered: {error}", self.name)),
        })?;
        let mut reader = Reader(answer);
        if reader.i32() != Some(self.asked) {
            return Err(not_understood(&self.name));
        }
        self.used = Instant::now();
        Ok(reader.0)
    }

    async fn exchange(&mut self, frame: &[u8]) -> std::io::Result<Bytes> {
        self.pipe.write_all(frame).await?;
        self.pipe.flush().await?;
        let length = usize::try_from(self.pipe.read_i32().await?).unwrap_or(usize::MAX);
        if length > ANSWER_MAX {
            return Err(std::io::Error::other("what it answered is not Kafka's"));
        }
        let mut answer = vec![0; length];
        self.pipe.read_exact(&mut answer).await?;
        Ok(answer.into())
    }

    async fn log_in(&mut self, user: &str, password: &Secret, mechanism: Mechanism) -> Result<(), Failure> {
        let (name, hash) = match mechanism {
            Mechanism::Plain => ("PLAIN", None),
            Mechanism::ScramSha256 => ("SCRAM-SHA-256", Some(Hash::Sha256)),
            Mechanism::ScramSha512 => ("SCRAM-SHA-512", Some(Hash::Sha512)),
        };
        let shake = SaslHandshakeRequest::default().with_mechanism(StrBytes::from_static_str(name));
        let answer = self.ask(&Request::new(ApiKey::SaslHandshake, 1, &shake)?).await?;
        if Reader(answer).i16().ok_or_else(|| not_understood(&self.name))? != 0 {
            return Err(self.shut_out(&format!("it does not take logins by {name}: see `mechanism`")));
        }
        let Some(hash) = hash else {
            self.authenticate(format!("\0{user}\0{}", password.expose())).await?;
            return Ok(());
        };
        let mut nonce = [0; 18];
        getrandom::fill(&mut nonce).map_err(|error| self.shut_out(&error.to_string()))?;
        let exchange = Exchange::new(hash, user, hex::encode(nonce));
        let first = self.authenticate(exchange.first()).await?;
        let (last, expected) = exchange.last(&first, password.expose()).map_err(|error| self.shut_out(&error))?;
        if self.authenticate(last).await? != expected {
            return Err(self.shut_out("it does not know the password itself: it is not the server it should be"));
        }
        Ok(())
    }

    async fn authenticate(&mut self, said: String) -> Result<String, Failure> {
        let request = SaslAuthenticateRequest::default().with_auth_bytes(said.into_bytes().into());
        let mut answer = Reader(self.ask(&Request::new(ApiKey::SaslAuthenticate, 0, &request)?).await?);
        let (Some(code), Some(reason)) = (answer.i16(), answer.text()) else { return Err(not_understood(&self.name)) };
        if code != 0 {
            let reason = reason.unwrap_or_else(|| format!("error {code}"));
            return Err(self.shut_out(&format!("{reason}: check `user` and `password`")));
        }
        let bytes = answer.bytes().ok_or_else(|| not_understood(&self.name))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn shut_out(&self, reason: &str) -> Failure {
        Failure::unreachable(ErrorClass::Broker, format!("{} does not let us in: {reason}", self.name))
    }
}

/// An answer that is none.
pub fn not_understood(name: &str) -> Failure {
    Failure::broken(format!("{name} gave an answer that is not Kafka's"))
}

/// An answer's bytes, read from the front; None where they end.
pub struct Reader(pub Bytes);

impl Reader {
    fn take(&mut self, count: usize) -> Option<Bytes> {
        (count <= self.0.len()).then(|| self.0.split_to(count))
    }

    pub fn i8(&mut self) -> Option<i8> {
        Some(i8::from_be_bytes(self.take(1)?.as_ref().try_into().ok()?))
    }

    pub fn i16(&mut self) -> Option<i16> {
        Some(i16::from_be_bytes(self.take(2)?.as_ref().try_into().ok()?))
    }

    pub fn i32(&mut self) -> Option<i32> {
        Some(i32::from_be_bytes(self.take(4)?.as_ref().try_into().ok()?))
    }

    pub fn i64(&mut self) -> Option<i64> {
        Some(i64::from_be_bytes(self.take(8)?.as_ref().try_into().ok()?))
    }

    /// A text, or that there is none.
    pub fn text(&mut self) -> Option<Option<String>> {
        let length = self.i16()?;
        let Ok(length) = usize::try_from(length) else { return Some(None) };
        Some(Some(String::from_utf8(self.take(length)?.to_vec()).ok()?))
    }

    pub fn bytes(&mut self) -> Option<Bytes> {
        let length = self.i32()?;
        self.take(usize::try_from(length).ok()?)
    }

    /// Each of a list.
    pub fn each<T>(&mut self, mut read: impl FnMut(&mut Reader) -> Option<T>) -> Option<Vec<T>> {
        let mut found = Vec::new();
        // Grown as they come: a count may lie, its bytes may not.
        for _ in 0..self.i32()? {
            found.push(read(self)?);
        }
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_lies_about_its_length_ends_where_its_bytes_do() {
        let reader = |bytes: &[u8]| Reader(Bytes::copy_from_slice(bytes));
        assert_eq!(reader(&[0x7f, 0xff, 0xff, 0xff, 1]).each(Reader::i16), None);
        assert_eq!(reader(&[0xff, 0xff, 0xff, 0xff]).each(Reader::i16), Some(Vec::new()), "none is written as -1");
        assert_eq!(reader(&[0, 5, b'a']).text(), None);
        assert_eq!(reader(&[0xff, 0xff]).text(), Some(None));
        assert_eq!(reader(&[0, 1, 0xc3]).text(), None);
        assert_eq!(reader(&[0xff, 0xff, 0xff, 0xfe]).bytes(), None);
        assert_eq!(reader(&[0, 0, 0, 1, 9]).bytes(), Some(Bytes::from_static(&[9])));
    }
}
