//! What the daemon talks to while it is measured: an API of numbered records and a handler that counts. Hand-written HTTP/1.1 over
//! prepared bytes, so that little of the two cores goes to this side.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

pub const PAGE: u64 = 1_000;

/// What the API shows and how many events the handler has taken.
#[derive(Default)]
pub struct World {
    pub records: AtomicU64,
    /// Shown in every record: raising it changes all of them.
    pub version: AtomicU64,
    pub taken: AtomicU64,
    pub wanted: AtomicU64,
    pub all_taken: Notify,
    /// The handler answers 503 and asks for a second's rest.
    pub down: AtomicBool,
    /// By a handler's path: microseconds from the answer that brought a change until its event was here.
    pub late: Mutex<BTreeMap<String, Vec<u64>>>,
}

impl World {
    /// From now on, this many more events are waited for by [`World::all_taken`].
    pub fn want(&self, events: u64) {
        self.taken.store(0, Ordering::Relaxed);
        self.wanted.store(events, Ordering::Relaxed);
    }
}

/// Microseconds on one clock for both sides.
fn now() -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    START.elapsed().as_micros() as u64
}

pub async fn serve(world: Arc<World>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = stream.set_nodelay(true);
            tokio::spawn(talk(world.clone(), stream));
        }
    });
    address
}

/// Answers one connection until it closes.
async fn talk(world: Arc<World>, mut stream: TcpStream) {
    let (mut buffer, mut filled) = (vec![0_u8; 64 * 1024], 0);
    let mut answer = Vec::new();
    loop {
        let Some((head, body)) = request_lengths(&buffer[..filled]) else {
            match stream.read(&mut buffer[filled..]).await {
                Ok(0) | Err(_) => return,
                Ok(read) => filled += read,
            }
            continue;
        };
        while filled < head + body {
            match stream.read(&mut buffer[filled..]).await {
                Ok(0) | Err(_) => return,
                Ok(read) => filled += read,
            }
        }
        answer.clear();
        if buffer.starts_with(b"POST /ill/") {
            return be_ill(stream, &buffer[b"POST /ill/".len()..head]).await;
        }
        reply(&world, &buffer[..head], &buffer[head..head + body], &mut answer);
        if stream.write_all(&answer).await.is_err() {
            return;
        }
        buffer.copy_within(head + body..filled, 0);
        filled -= head + body;
    }
}

/// The bytes of the head and of the body of the first request, once the head is whole.
fn request_lengths(bytes: &[u8]) -> Option<(usize, usize)> {
    let head = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&bytes[..head]).expect("a head in ASCII").to_ascii_lowercase();
    let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
    Some((head, length.map_or(0, |length| length.trim().parse().expect("a number"))))
}

/// A handler in trouble: it never answers, it resets the connection, or its answer has a gigabyte.
async fn be_ill(mut stream: TcpStream, how: &[u8]) {
    if how.starts_with(b"hang") {
        tokio::time::sleep(Duration::from_secs(3600)).await;
    } else if how.starts_with(b"reset") {
        let _ = stream.set_zero_linger();
    } else {
        let zeros = vec![b' '; 1 << 20];
        let mut sent = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1073741824\r\n\r\n").await;
        for _ in 0..1024 {
            if sent.is_err() {
                return;
            }
            sent = stream.write_all(&zeros).await;
        }
    }
}

fn reply(world: &World, head: &[u8], body: &[u8], answer: &mut Vec<u8>) {
    if head.starts_with(b"POST") {
        if world.down.load(Ordering::Relaxed) {
            answer.extend_from_slice(b"HTTP/1.1 503 Busy\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n");
            return;
        }
        if let Some(sent) = sent_at(body) {
            let path = String::from_utf8_lossy(head.split(|byte| *byte == b' ').nth(1).unwrap_or_default());
            let late = now() - sent;
            world.late.lock().expect("whole").entry(path.into_owned()).or_default().push(late);
        }
        answer.extend_from_slice(b"HTTP/1.1 204 No Content\r\n\r\n");
        if world.taken.fetch_add(1, Ordering::Relaxed) + 1 == world.wanted.load(Ordering::Relaxed) {
            world.all_taken.notify_one();
        }
        return;
    }
    let target = head.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
    let text = String::from_utf8_lossy(target);
    if text.starts_with("/now") {
        let body = format!(r#"{{"data":[{{"id":"one","updated":0,"sent_at":{},{FILLER}}}],"more":false}}"#, now());
        answer.extend_from_slice(
            format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            )
            .as_bytes(),
        );
        return;
    }
    let page = text.split("page=").nth(1).and_then(|page| page.split('&').next()).and_then(|page| page.parse().ok());
    let body = page_of(world, page.unwrap_or(1));
    answer.extend_from_slice(
        format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len())
            .as_bytes(),
    );
    answer.extend_from_slice(&body);
}

fn page_of(world: &World, page: u64) -> Vec<u8> {
    let (total, version) = (world.records.load(Ordering::Relaxed), world.version.load(Ordering::Relaxed));
    let to = (page * PAGE).min(total);
    let mut body = Vec::with_capacity(1_100 * PAGE as usize);
    body.extend_from_slice(b"{\"data\":[");
    for number in (page - 1) * PAGE..to {
        if number > (page - 1) * PAGE {
            body.push(b',');
        }
        record(&mut body, number, version);
    }
    body.extend_from_slice(format!("],\"more\":{}}}", to < total).as_bytes());
    body
}

/// When the record of an event left the API.
fn sent_at(body: &[u8]) -> Option<u64> {
    const FIELD: &[u8] = b"\"sent_at\":";
    let from = memchr::memmem::find(body, FIELD)? + FIELD.len();
    let digits = body[from..].iter().take_while(|byte| byte.is_ascii_digit());
    Some(digits.fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
}

const FILLER: &str = r#""memo":"Invoice \"A/17\"\n second line, müller & söhne","payer":{"name":"Acme Trading Ltd","account":"DE89370400440532013000","address":{"street":"Long Street 17","city":"Kyiv","zip":"01001"}},"payee":{"name":"Globex Corporation","account":"GB29NWBK60161331926819","address":{"street":"Short Street 4","city":"London","zip":"EC1A 1BB"}},"labels":["urgent","reviewed","batch-7","q4","export"],"lines":[{"sku":"A-1","quantity":3,"price":"12.50"},{"sku":"B-22","quantity":1,"price":"99.00"},{"sku":"C-333","quantity":12,"price":"0.75"},{"sku":"D-4444","quantity":2,"price":"18.20"}],"risk":{"score":0.17,"flags":[],"model":"v3"},"meta":{"origin":"branch-12","channel":"online","trace":"7f3a9c1e5b2d4f60","note":"nothing to add to this payment, it is like the others","checked_by":"clerk-0042","device":"terminal-9","session":"c0ffee00c0ffee00"}"#;

/// About 1,044 bytes: nested, with escapes and letters outside ASCII.
fn record(to: &mut Vec<u8>, number: u64, version: u64) {
    use std::io::Write;
    // Keys in no order, as providers give them.
    let key = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    write!(
        to,
        r#"{{"id":"pay_{key:016x}{number:04}","updated":{},"version":{version},"amount":{}.{:02},"currency":"EUR",{FILLER}}}"#,
        number + version * 10_000_000,
        number % 9_000,
        number % 100,
    )
    .expect("memory");
}
