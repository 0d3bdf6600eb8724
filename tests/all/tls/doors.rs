//! Listeners that come and go with a reload.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

use crate::rig::{Daemon, World};

const CONFIG: &str = r#"schema = 1
data_dir = "data"
min_free = "1MiB"
[admin]
listen = "off"
[receive]
listen = "{receive}"
[pull]
listen = "{pull}"
[sources.shop]
provider = "./shop.toml"
base_url = "http://{api}/api"
"#;
const HANDLER: &str = "[handlers.core]\npull = true\nsecret = { file = \"whsec\" }\n";
const WEBHOOK: &str =
    "[sources.partner]\nprovider = \"standard-webhooks\"\nwebhook = { secret = { file = \"whsec\" } }\n";

fn configure(daemon: &Daemon, api: SocketAddr, pull: SocketAddr, more: &[&str]) {
    let text = CONFIG.replace("{api}", &api.to_string()).replace("{receive}", &daemon.receive.to_string());
    let text = text.replace("{pull}", &pull.to_string()) + &more.concat();
    std::fs::write(daemon.path("config.toml"), text).expect("written");
}

const OWN: &str = r#"schema = 1
data_dir = "data"
min_free = "1MiB"
[admin]
listen = "{admin}"
{hosts}
[receive]
listen = "{receive}"
{bounds}
[sources.partner]
provider = "standard-webhooks"
webhook = { secret = { file = "whsec" } }
"#;

fn free() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port")
}

/// The status of an answer to this request.
async fn ask(address: SocketAddr, request: &str) -> Option<u16> {
    let mut stream = tokio::net::TcpStream::connect(address).await.ok()?;
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).await.ok()?;
    line.split(' ').nth(1)?.parse().ok()
}

async fn is_answered(address: SocketAddr, request: &str, status: u16) {
    let (begun, mut last) = (std::time::Instant::now(), None);
    while last != Some(status) {
        assert!(begun.elapsed() < Duration::from_secs(15), "{request:.60}: {last:?}, not {status}");
        tokio::time::sleep(Duration::from_millis(20)).await;
        last = ask(address, request).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_moves_the_dashboard_and_metrics_takes_bounds_over_and_names_what_needs_a_restart() {
    let mut daemon = Daemon::new(free());
    let (first, second, metrics, receive) = (free(), free(), free(), daemon.receive);
    let write = |daemon: &Daemon, admin: SocketAddr, hosts: &str, bounds: &str, more: &str| {
        let text = OWN.replace("{admin}", &admin.to_string()).replace("{receive}", &receive.to_string());
        let text = text.replace("{hosts}", hosts).replace("{bounds}", bounds) + more;
        std::fs::write(daemon.path("config.toml"), text).expect("written");
    };
    write(&daemon, first, "", "", "");
    daemon.start();
    daemon.says("ready:").await;
    let by_name = "GET / HTTP/1.1\r\nhost: ringback.bank.example\r\n\r\n";
    is_answered(first, by_name, 421).await;
    let long = "x".repeat(2000);
    let post = format!("POST /webhooks/partner HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n{long}", long.len());
    is_answered(receive, &post, 401).await;

    let hosts = "hosts = [\"ringback.bank.example\"]";
    let metrics_too = format!("[metrics]\nlisten = \"{metrics}\"\n");
    write(&daemon, second, hosts, "max_body = \"1KiB\"", &metrics_too);
    daemon.signal("-HUP");
    is_answered(second, by_name, 200).await;
    becomes(first, false).await;
    is_answered(metrics, "GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n", 200).await;
    is_answered(receive, &post, 413).await;

    write(&daemon, second, hosts, "rate = \"1/24h\"", "[log]\nlevel = \"debug\"\n");
    daemon.signal("-HUP");
    becomes(metrics, false).await;
    daemon.says("needs a restart: `log.level`").await;
    is_answered(receive, &post, 429).await;
    daemon.signal("-TERM");
    assert!(daemon.end(Duration::from_secs(20)).await.success(), "{}", daemon.log());
}

async fn is_open(address: SocketAddr) -> bool {
    tokio::net::TcpStream::connect(address).await.is_ok()
}

async fn becomes(address: SocketAddr, open: bool) {
    let begun = std::time::Instant::now();
    while is_open(address).await != open {
        assert!(begun.elapsed() < Duration::from_secs(15), "{address} does not become open = {open}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_opens_closes_and_moves_listeners_and_one_that_cannot_be_opened_changes_nothing() {
    let api = World::new(23).serve().await;
    let mut daemon = Daemon::new(api);
    let (pull, moved, receive) = (free(), free(), daemon.receive);
    configure(&daemon, api, pull, &[]);
    daemon.start();
    daemon.says("ready:").await;
    assert!(!is_open(pull).await && !is_open(receive).await, "nobody may use them");
    let reload = |pull: SocketAddr, more: &[&str]| {
        configure(&daemon, api, pull, more);
        daemon.signal("-HUP");
    };
    reload(pull, &[HANDLER, WEBHOOK]);
    becomes(pull, true).await;
    becomes(receive, true).await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    reload(taken.local_addr().expect("bound"), &[HANDLER]);
    daemon.says("the old one goes on").await;
    daemon.says("(`pull.listen`)").await;
    assert!(is_open(pull).await && is_open(receive).await, "what there was stays");
    reload(moved, &[HANDLER]);
    becomes(moved, true).await;
    becomes(pull, false).await;
    becomes(receive, false).await;
    reload(moved, &[]);
    becomes(moved, false).await;
}
