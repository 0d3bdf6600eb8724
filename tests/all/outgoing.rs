//! What the daemon calls and what it never calls: the allow-list against every way of writing an address, names that turn to other
//! addresses, and the way through a proxy with its faults told apart from the host's.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{HeaderMap, Method};
use ringback::client::{Bounds, Client, ClientOptions, LookUp, Outgoing, Over, SendError};
use ringback::config::{HostRule, Network, Proxy, Tls};
use ringback::secret::Secret;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

fn options(network: Network, proxy: Proxy) -> ClientOptions {
    ClientOptions {
        network,
        proxy_password: matches!(proxy, Proxy::Url { .. }).then(|| Secret::new("p:w d")),
        proxy,
        tls: Tls::default(),
        connect_timeout: Duration::from_secs(5),
        pool_idle_max: 0,
        unix_socket: None,
    }
}

fn allow(rules: &[HostRule]) -> Network {
    Network { allow: Some(rules.to_vec()), ..Network::default() }
}

fn name(text: &str) -> HostRule {
    HostRule::Name(text.into())
}

fn network(first: [u8; 4], prefix: u8) -> HostRule {
    HostRule::Network(Ipv4Addr::from(first).into(), prefix)
}

async fn get(client: &Client, url: &str) -> Result<u16, SendError> {
    let url = url.parse().unwrap_or_else(|error| panic!("{url}: {error}"));
    let request = Outgoing { method: Method::GET, url, headers: HeaderMap::new(), body: bytes::Bytes::new() };
    let bounds = Bounds { timeout: Duration::from_secs(10), body_max: 1 << 16, over: Over::Cut };
    client.send(request, bounds).await.map(|answer| answer.status)
}

/// A server that notes the head of every request and answers as told.
struct Stub {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Stub {
    async fn listen(ip: [u8; 4], port: u16, answer: &'static str) -> Stub {
        let listener = TcpListener::bind((Ipv4Addr::from(ip), port)).await.expect("a port");
        let address = listener.local_addr().expect("its address");
        let heads: Arc<Mutex<Vec<String>>> = Arc::default();
        let noted = heads.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(talk(stream, noted.clone(), answer));
            }
        });
        Stub { address, heads }
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().expect("no panic inside").clone()
    }
}

async fn talk(mut stream: TcpStream, heads: Arc<Mutex<Vec<String>>>, answer: &'static str) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    heads.lock().expect("no panic inside").push(String::from_utf8_lossy(&head).to_ascii_lowercase());
    let _ = stream.write_all(answer.as_bytes()).await;
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// Every way to write an IPv4 address that a URL parser, a resolver or a gateway may take for it.
fn notations(ip: [u8; 4]) -> Vec<String> {
    let [a, b, c, d] = ip;
    let whole = u32::from_be_bytes(ip);
    let tail = u32::from_be_bytes([0, b, c, d]);
    let low = u16::from_be_bytes([c, d]);
    let (high, low_hex) = (u16::from_be_bytes([a, b]), low);
    let wide = |text: String| -> String {
        text.chars()
            .map(|ch| if ch.is_ascii_digit() { char::from_u32(ch as u32 - 0x30 + 0xff10).unwrap_or(ch) } else { ch })
            .collect()
    };
    vec![
        format!("{a}.{b}.{c}.{d}"),
        format!("{a}.{b}.{c}.{d}."),
        format!("{whole}"),
        format!("0x{whole:x}"),
        format!("0X{whole:08X}"),
        format!("0{whole:o}"),
        format!("0x{a:x}.0x{b:x}.0x{c:x}.0x{d:x}"),
        format!("0{a:o}.0{b:o}.0{c:o}.0{d:o}"),
        format!("{a}.0x{b:x}.0{c:o}.{d}"),
        format!("{a}.{tail}"),
        format!("{a}.{b}.{low}"),
        format!("0x{a:x}.{tail}"),
        format!("%{:02x}{}", format!("{a}").as_bytes()[0], &format!("{a}.{b}.{c}.{d}")[1..]),
        wide(format!("{a}.{b}.{c}.{d}")),
        format!("{a}\u{3002}{b}\u{ff0e}{c}\u{ff61}{d}"),
        format!("[::ffff:{a}.{b}.{c}.{d}]"),
        format!("[::ffff:{high:x}:{low_hex:x}]"),
        format!("[0:0:0:0:0:FFFF:{high:X}:{low_hex:X}]"),
        format!("[::{high:x}:{low_hex:x}]"),
        format!("[64:ff9b::{high:x}:{low_hex:x}]"),
        format!("[64:ff9b:1::{high:x}:{low_hex:x}]"),
        format!("[2002:{high:x}:{low_hex:x}::1]"),
        format!("api.bank.example@{a}.{b}.{c}.{d}"),
        format!("api.bank.example:pw@{whole}"),
    ]
}

/// Hosts that no notation may lead to: this machine, metadata services, and networks beside the allowed one.
const FORBIDDEN: [[u8; 4]; 14] = [
    [127, 0, 0, 1],
    [127, 255, 255, 254],
    [0, 0, 0, 0],
    [169, 254, 169, 254],
    [169, 254, 170, 2],
    [100, 100, 100, 200],
    [168, 63, 129, 16],
    [192, 0, 0, 192],
    [10, 21, 0, 1],
    [10, 19, 255, 255],
    [192, 168, 1, 1],
    [8, 8, 8, 8],
    [224, 0, 0, 1],
    [255, 255, 255, 255],
];

#[tokio::test]
async fn no_way_of_writing_an_address_gets_round_the_allow_list() {
    let trap = Stub::listen([127, 0, 0, 1], 0, OK).await;
    let rules = [name("api.bank.example"), HostRule::Suffix("in.bank.example".into()), network([10, 20, 0, 0], 16)];
    let client = Client::new(&options(allow(&rules), Proxy::None)).expect("a client");
    let mut tried = 0;
    for ip in FORBIDDEN {
        for host in notations(ip) {
            let url = format!("http://{host}:{}/", trap.address.port());
            if url.parse::<url::Url>().is_err() {
                continue;
            }
            let answer = get(&client, &url).await;
            assert!(matches!(answer, Err(SendError::HostRefused(_))), "{url}: {answer:?}");
            tried += 1;
        }
    }
    assert!(tried >= 300, "only {tried} of the notations are addresses at all");
    assert_eq!(trap.heads(), Vec::<String>::new(), "{tried} tricks, and one got through");
}

#[tokio::test]
async fn addresses_that_are_never_called_are_refused_without_an_allow_list_and_in_a_wide_one() {
    let everything = HostRule::Network(Ipv4Addr::UNSPECIFIED.into(), 0);
    for network in [Network::default(), allow(&[everything])] {
        let client = Client::new(&options(network, Proxy::None)).expect("a client");
        for ip in [
            [169, 254, 169, 254],
            [100, 100, 100, 200],
            [168, 63, 129, 16],
            [192, 0, 0, 192],
            [0, 0, 0, 0],
            [224, 0, 0, 1],
        ] {
            for host in notations(ip) {
                let url = format!("http://{host}:80/");
                if url.parse::<url::Url>().is_ok() {
                    let answer = get(&client, &url).await;
                    assert!(matches!(answer, Err(SendError::HostRefused(_))), "{url}: {answer:?}");
                }
            }
        }
        for host in ["[fe80::1]", "[fd00:ec2::254]", "[ff02::1]", "[::]"] {
            let answer = get(&client, &format!("http://{host}/")).await;
            assert!(matches!(answer, Err(SendError::HostRefused(_))), "{host}: {answer:?}");
        }
    }
}

/// Names that look like an allowed one.
#[tokio::test]
async fn a_name_beside_the_list_is_refused_whatever_it_resolves_to() {
    let good = Stub::listen([127, 0, 0, 1], 0, OK).await;
    let rules = [name("api.bank.example"), HostRule::Suffix("in.bank.example".into())];
    let here: LookUp = Arc::new(|_| Box::pin(async { Ok(vec![IpAddr::from([10, 20, 0, 1])]) }));
    let client = Client::with_look_up(&options(allow(&rules), Proxy::None), here).expect("a client");
    for host in [
        "api.bank.example.evil.example",
        "xapi.bank.example",
        "bank.example",
        "in.bank.example",
        "xin.bank.example",
        "api-bank.example",
        "api.bank.example.",
        "evil.example",
        "localhost",
        "api%2ebank.example.evil.example",
        "аpi.bank.example",
    ] {
        let answer = get(&client, &format!("http://{host}:{}/", good.address.port())).await;
        assert!(matches!(answer, Err(SendError::HostRefused(_))), "{host}: {answer:?}");
    }
    assert!(good.heads().is_empty());
}

/// DNS rebinding: the name is on the list, and its address changes with every question.
#[tokio::test]
async fn a_name_that_turns_to_another_address_is_caught_when_it_is_dialled() {
    let good = Stub::listen([127, 0, 0, 1], 0, OK).await;
    let trap = Stub::listen([127, 0, 0, 2], good.address.port(), OK).await;
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = asked.clone();
    let flips: LookUp = Arc::new(move |_| {
        let addresses: [&[[u8; 4]]; 5] = [
            &[[127, 0, 0, 1]],
            &[[127, 0, 0, 2]],
            &[[127, 0, 0, 2], [127, 0, 0, 1]],
            &[[169, 254, 169, 254]],
            &[[0, 0, 0, 0]],
        ];
        let turn = counter.fetch_add(1, Ordering::SeqCst) % addresses.len();
        Box::pin(async move { Ok(addresses[turn].iter().map(|ip| IpAddr::from(*ip)).collect()) })
    });
    let rules = [name("api.bank.example"), network([127, 0, 0, 1], 32)];
    let client = Client::with_look_up(&options(allow(&rules), Proxy::None), flips).expect("a client");
    let url = format!("http://api.bank.example:{}/", good.address.port());
    let (mut answered, mut refused) = (0, 0);
    for _ in 0..1_000 {
        match get(&client, &url).await {
            Ok(200) => answered += 1,
            Err(SendError::HostRefused(_)) => refused += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((answered, refused, asked.load(Ordering::SeqCst)), (400, 600, 1_000));
    assert_eq!((good.heads().len(), trap.heads().len()), (400, 0), "requests that reached the two addresses");
}

fn through(proxy: SocketAddr, no_proxy: &[&str]) -> Proxy {
    Proxy::Url {
        url: format!("http://proxy.bank.example:{}", proxy.port()).parse().expect("an address"),
        user: Some("svc".into()),
        password: None,
        no_proxy: no_proxy.iter().map(|text| (*text).to_owned()).collect(),
    }
}

/// Every name leads to this machine.
fn home() -> LookUp {
    Arc::new(|_| Box::pin(async { Ok(vec![IpAddr::from([127, 0, 0, 1])]) }))
}

#[tokio::test]
async fn the_proxy_is_asked_with_its_password_and_what_no_proxy_names_goes_straight() {
    let (proxy, host) = (Stub::listen([127, 0, 0, 1], 0, OK).await, Stub::listen([127, 0, 0, 1], 0, OK).await);
    let options = options(Network::default(), through(proxy.address, &["*.in.bank.example"]));
    let client = Client::with_look_up(&options, home()).expect("a client");
    assert_eq!(get(&client, "http://api.example/a?b=c").await, Ok(200));
    assert_eq!(get(&client, &format!("http://core.in.bank.example:{}/x", host.address.port())).await, Ok(200));
    let [head] = proxy.heads().try_into().expect("one request at the proxy");
    assert!(head.starts_with("get http://api.example/a?b=c http/1.1\r\n"), "{head}");
    // base64 of `svc:p:w d`, in the lower case of the stub's notes.
    assert!(head.contains("proxy-authorization: basic c3zjona6dybk\r\n"), "{head}");
    let [head] = host.heads().try_into().expect("one request at the host");
    assert!(head.starts_with("get /x http/1.1\r\n") && !head.contains("proxy-authorization"), "{head}");
}

#[tokio::test]
async fn the_allow_list_holds_for_names_that_a_proxy_would_resolve_and_not_for_the_proxy_itself() {
    let proxy = Stub::listen([127, 0, 0, 1], 0, OK).await;
    let network = allow(&[name("api.example"), network([10, 20, 0, 0], 16)]);
    let client = Client::with_look_up(&options(network, through(proxy.address, &[])), home()).expect("a client");
    for url in ["http://evil.example/", "http://10.21.0.1/", "https://evil.example/", "http://169.254.169.254/"] {
        let answer = get(&client, url).await;
        assert!(matches!(answer, Err(SendError::HostRefused(_))), "{url}: {answer:?}");
    }
    assert!(proxy.heads().is_empty());
    assert_eq!(get(&client, "http://api.example/").await, Ok(200));
    assert_eq!(get(&client, "http://10.20.3.4/").await, Ok(200));
}

#[tokio::test]
async fn the_proxys_faults_are_told_apart_from_the_hosts() {
    let refuses = "HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n";
    let wants = "HTTP/1.1 407 Proxy Authentication Required\r\nproxy-authenticate: Basic\r\ncontent-length: 0\r\n\r\n";
    let gone = TcpListener::bind("127.0.0.1:0").await.and_then(|listener| listener.local_addr()).expect("a port");
    for (answer, url) in [
        (Some(refuses), "https://api.example/"),
        (Some(wants), "https://api.example/"),
        (Some(wants), "http://api.example/"),
        (Some("nonsense"), "https://api.example/"),
        (None, "https://api.example/"),
        (None, "http://api.example/"),
    ] {
        let address = match answer {
            Some(answer) => Stub::listen([127, 0, 0, 1], 0, answer).await.address,
            None => gone,
        };
        let client =
            Client::with_look_up(&options(Network::default(), through(address, &[])), home()).expect("a client");
        let said = get(&client, url).await;
        let Err(SendError::Proxy(reason)) = &said else { panic!("{answer:?} for {url}: {said:?}") };
        assert!(reason.contains("proxy.bank.example"), "{reason}");
        assert!(!reason.contains("p:w d"), "{reason}");
    }
    // Through a proxy that works, what the host answers is the host's.
    let busy = Stub::listen([127, 0, 0, 1], 0, "HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n").await;
    let client =
        Client::with_look_up(&options(Network::default(), through(busy.address, &[])), home()).expect("a client");
    assert_eq!(get(&client, "http://api.example/").await, Ok(503));
    // Without one, nobody but the host is to blame.
    let client = Client::with_look_up(&options(Network::default(), Proxy::None), home()).expect("a client");
    let said = get(&client, &format!("http://api.example:{}/", gone.port())).await;
    assert!(matches!(said, Err(SendError::Unreachable(_))), "{said:?}");
}

/// SOCKS5 (RFC 1928) with the name resolved by the proxy.
#[tokio::test]
async fn a_socks_proxy_gets_the_name_and_carries_the_request() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its address");
    let served = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a client");
        let mut greeting = [0; 2];
        stream.read_exact(&mut greeting).await.expect("a greeting");
        let mut methods = vec![0; usize::from(greeting[1])];
        stream.read_exact(&mut methods).await.expect("methods");
        stream.write_all(&[5, 0]).await.expect("sent");
        let mut request = [0; 5];
        stream.read_exact(&mut request).await.expect("a request");
        assert_eq!(request[..4], [5, 1, 0, 3], "connect, by name");
        let mut host = vec![0; usize::from(request[4]) + 2];
        stream.read_exact(&mut host).await.expect("a host");
        stream.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await.expect("sent");
        talk(stream, Arc::default(), OK).await;
        String::from_utf8_lossy(&host[..host.len() - 2]).into_owned()
    });
    let url = format!("socks5h://proxy.bank.example:{}", address.port()).parse().expect("an address");
    let proxy = Proxy::Url { url, user: None, password: None, no_proxy: Vec::new() };
    let network = allow(&[name("api.example")]);
    let client = Client::with_look_up(&options(network, proxy), home()).expect("a client");
    assert_eq!(get(&client, "http://api.example/").await, Ok(200));
    assert_eq!(served.await.expect("it served"), "api.example");
    assert!(matches!(get(&client, "http://evil.example/").await, Err(SendError::HostRefused(_))));
}

/// `socks5` and `socks4` resolve here: the name is judged with the address that goes to the proxy, as if it were dialled.
#[tokio::test]
async fn a_name_that_turns_to_a_forbidden_address_does_not_reach_a_socks_proxy() {
    for scheme in ["socks5", "socks4"] {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("its address").port();
        // The proxy itself is on no list: the configuration names it.
        let url = format!("{scheme}://proxy.bank.example:{port}").parse().expect("an address");
        let proxy = Proxy::Url { url, user: None, password: None, no_proxy: Vec::new() };
        let network = allow(&[name("api.example")]);
        let client = Client::with_look_up(&options(network, proxy), home()).expect("a client");
        let called = get(&client, "http://api.example/");
        let said = tokio::select! {
            said = called => said,
            _ = listener.accept() => panic!("{scheme}: the proxy was called"),
        };
        assert!(matches!(&said, Err(SendError::HostRefused(_))), "{scheme}: {said:?}");
    }
}
