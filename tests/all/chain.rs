//! Two daemons in a chain: the outer one polls, the inner one asks it for its events. Both are killed at any moment, over and over, under
//! load: every change arrives once, under one id, each key in order, and with the id that the outer one gave it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::rig::{Daemon, World};
use crate::tls::Authority;

const KILLS: u32 = 30;

const OUTER: &str = r#"schema = 1
data_dir = "data"
min_free = "1MiB"
[admin]
listen = "off"
[pull]
listen = "{pull}"
[defaults.stream]
every = "200ms"
[sources.shop]
provider = "./shop.toml"
base_url = "http://{api}/api"
[handlers.core]
pull   = true
secret = { file = "whsec" }
"#;

const INNER: &str = r#"schema = 1
data_dir = "data"
min_free = "1MiB"
[admin]
listen = "off"
[sources.dmz]
provider = "ringback"
base_url = "http://{pull}"
settings = { handler = "core" }
secrets  = { token = { file = "whsec" } }
streams.events = { every = "200ms" }
[handlers.ledger]
url    = "http://{api}/hooks/ledger"
secret = { file = "whsec" }
format = "native"
retry  = { schedule = ["100ms", "100ms", "200ms", "200ms", "200ms", "200ms", "200ms", "200ms", "200ms", "200ms", "200ms", "200ms", "1s", "1s"] }
"#;

/// The same two over TLS: the inner one is known by its certificate alone.
const OUTER_TLS: (&str, &str) =
    ("pull   = true\nsecret = { file = \"whsec\" }\n", "pull   = { client = \"core.bank.example\" }\n");
const INNER_TLS: (&str, &str) = (
    "secrets  = { token = { file = \"whsec\" } }\n",
    "tls      = { ca_file = \"ca.pem\", cert = \"core.pem\", key = { file = \"core.key\" } }\n",
);

fn daemon(api: std::net::SocketAddr, pull: &str, config: &str) -> Daemon {
    let daemon = Daemon::new(api);
    let text = config.replace("{api}", &api.to_string()).replace("{pull}", pull);
    std::fs::write(daemon.path("config.toml"), text).expect("written");
    daemon
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chain_of_two_daemons_killed_at_random_loses_doubles_and_reorders_nothing() {
    carry(KILLS, |api, pull| (daemon(api, pull, OUTER), daemon(api, pull, INNER))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chain_over_tls_in_which_the_asker_is_known_by_its_certificate_carries_the_same() {
    let authority = Authority::new("bank");
    let make = |api, pull: &str| {
        let listen = "listen = \"{pull}\"\n";
        let tls = format!(
            "{listen}tls = {{ cert = \"core.pem\", key = {{ file = \"core.key\" }}, client_ca = \"ca.pem\" }}\n"
        );
        let outer = OUTER.replace(OUTER_TLS.0, OUTER_TLS.1).replace(listen, &tls);
        let inner = INNER.replace(INNER_TLS.0, INNER_TLS.1).replace("http://{pull}", "https://{pull}");
        let daemons = (daemon(api, pull, &outer), daemon(api, pull, &inner));
        for (daemon, name) in [(&daemons.0, "127.0.0.1"), (&daemons.1, "core.bank.example")] {
            authority.issue(&[name]).write(&daemon.path("core.pem"), &daemon.path("core.key"));
            std::fs::write(daemon.path("ca.pem"), authority.pem()).expect("written");
        }
        daemons
    };
    carry(KILLS / 3, make).await;
}

/// Kills both at any moment, so many times in all, and looks at what arrived.
async fn carry(kills: u32, make: impl FnOnce(std::net::SocketAddr, &str) -> (Daemon, Daemon)) {
    let seed = std::env::var("RINGBACK_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()) * 2_654_435_761);
    println!("RINGBACK_TEST_SEED={seed}");
    let world = World::new(seed);
    let api = world.serve().await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port");
    let (mut outer, mut inner) = make(api, &free.to_string());
    outer.start();
    inner.start();
    world.first_look(&outer).await;
    let done = Arc::new(AtomicBool::new(false));
    let (changing, stop) = (world.clone(), done.clone());
    let changes = tokio::spawn(async move {
        let mut beat = tokio::time::interval(Duration::from_millis(5));
        while !stop.load(Ordering::Relaxed) {
            beat.tick().await;
            changing.lock().change();
        }
    });
    for _ in 0..kills {
        let pause = 150 + world.lock().roll(700);
        let which = world.lock().roll(3);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        if which != 0 {
            outer.kill();
            outer.start();
        }
        if which != 1 {
            inner.kill();
            inner.start();
        }
    }
    done.store(true, Ordering::Relaxed);
    changes.await.expect("changes were made");
    let faults = world.settle(Duration::from_secs(60)).await;
    let (made, arrived) = world.counts();
    println!("{kills} kills, {made} changes, {arrived} arrived");
    assert!(made > 15 * kills as usize, "too little happened: {made} changes");
    assert!(
        faults.is_empty(),
        "seed {seed}: {} faults:\n{}\nouter:\n{}\ninner:\n{}",
        faults.len(),
        faults.join("\n"),
        outer.log(),
        inner.log()
    );
}
