//! Killed at any moment, over and over, under load: every change arrives, none twice under two ids, none invented, each key in order.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use standardwebhooks::Webhook;

use crate::rig::{Daemon, SECRET, World};

const KILLS: u32 = 50;
const POSTERS: u64 = 4;

/// Posts signed webhooks one after another, each until it is answered 2xx.
async fn post_webhooks(poster: u64, world: World, to: std::net::SocketAddr, done: Arc<AtomicBool>) -> u64 {
    let client = reqwest::Client::builder().timeout(Duration::from_secs(2)).build().expect("a client");
    let mut answered = 0;
    while !done.load(Ordering::Relaxed) {
        let id = format!("msg_{poster}_{answered}");
        let version = 1_000_000_000 * poster + answered;
        let body = format!(r#"{{"type":"invoice.paid","timestamp":"2026-01-01T00:00:00Z","version":{version}}}"#);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
        let signature =
            Webhook::new(SECRET).and_then(|key| key.sign(&id, now as i64, body.as_bytes())).expect("signed");
        // Noted before it is sent: it may be delivered before its answer is seen.
        world.lock().note("messages", id.clone(), version, false);
        loop {
            let request = client
                .post(format!("http://{to}/webhooks/partner"))
                .header("webhook-id", &id)
                .header("webhook-timestamp", now.to_string())
                .header("webhook-signature", &signature)
                .header("content-type", "application/json");
            match request.body(body.clone()).send().await {
                Ok(answer) if answer.status().is_success() => break,
                Ok(answer) if answer.status() == 401 => world.lock().faults.push(format!("{id} was refused")),
                _ => {}
            }
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        answered += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    answered
}

async fn make_changes(world: World, done: Arc<AtomicBool>) {
    let mut beat = tokio::time::interval(Duration::from_millis(5));
    while !done.load(Ordering::Relaxed) {
        beat.tick().await;
        world.lock().change();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_kills_under_load_lose_and_invent_nothing() {
    let seed = std::env::var("RINGBACK_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()) * 2_654_435_761);
    println!("RINGBACK_TEST_SEED={seed}");
    let world = World::new(seed);
    let mut daemon = Daemon::new(world.serve().await);
    daemon.start();
    world.first_look(&daemon).await;
    let done = Arc::new(AtomicBool::new(false));
    let changes = tokio::spawn(make_changes(world.clone(), done.clone()));
    let posters: Vec<_> = (1..=POSTERS)
        .map(|poster| tokio::spawn(post_webhooks(poster, world.clone(), daemon.receive, done.clone())))
        .collect();
    for _ in 0..KILLS {
        let pause = 150 + world.lock().roll(700);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        daemon.kill();
        daemon.start();
    }
    done.store(true, Ordering::Relaxed);
    changes.await.expect("changes were made");
    let mut answered = 0;
    for poster in posters {
        answered += poster.await.expect("webhooks were posted");
    }
    // Five errors in a row are rare, not impossible: the breaker then leaves the handler alone for thirty seconds.
    let faults = world.settle(Duration::from_secs(75)).await;
    let (made, arrived) = world.counts();
    println!("{KILLS} kills, {made} changes ({answered} by webhook), {arrived} arrived");
    assert!(answered > 100 && made > 1000, "too little happened: {made} changes, {answered} webhooks");
    assert!(faults.is_empty(), "seed {seed}: {} faults:\n{}\n{}", faults.len(), faults.join("\n"), daemon.log());
}
