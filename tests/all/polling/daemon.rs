//! What the whole program does with polls, told against itself.

use std::time::Duration;

use crate::rig::{Daemon, STREAMS, World};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn below_min_free_polls_rest_and_webhooks_are_refused_until_there_is_room() {
    let world = World::new(5);
    let mut daemon = Daemon::new(world.serve().await);
    let roomy = std::fs::read_to_string(daemon.path("config.toml")).expect("its configuration");
    std::fs::write(daemon.path("config.toml"), roomy.replace("\"1MiB\"", "\"900TiB\"")).expect("written");
    daemon.start();
    daemon.says("less than `min_free`").await;
    let post = || reqwest::Client::new().post(format!("http://{}/webhooks/partner", daemon.receive)).body("{}").send();
    assert_eq!(post().await.expect("an answer").status(), 503);
    let polls =
        |world: &World| STREAMS.iter().map(|stream| world.lock().polls.get(*stream).copied().unwrap_or(0)).sum::<u64>();
    // What was under way ends; then five intervals bring nothing.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let before = polls(&world);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(polls(&world), before);
    std::fs::write(daemon.path("config.toml"), roomy).expect("written");
    daemon.signal("-HUP");
    let goes_on = world.until(Duration::from_secs(25), |records| records.polls.values().sum::<u64>() > before).await;
    assert!(goes_on, "polls still rest; its log:\n{}", daemon.log());
    assert_eq!(post().await.expect("an answer").status(), 401, "asked for a signature again");
}
