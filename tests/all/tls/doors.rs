//! Listeners that come and go with a reload.

use std::net::SocketAddr;
use std::time::Duration;

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
    let free = || std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port");
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
