//! How the daemon ends and goes on: it stops in order when asked, reads its configuration again whole or not at all, and never runs
//! on with a database that it cannot write.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::rig::{Daemon, World};

const LIMIT: Duration = Duration::from_secs(20);

/// Makes a change every 10 ms until told to stop.
fn changes(world: &World) -> (Arc<AtomicBool>, tokio::task::JoinHandle<()>) {
    let done = Arc::new(AtomicBool::new(false));
    let (world, told) = (world.clone(), done.clone());
    let task = tokio::spawn(async move {
        let mut beat = tokio::time::interval(Duration::from_millis(10));
        while !told.load(Ordering::Relaxed) {
            beat.tick().await;
            world.lock().change();
        }
    });
    (done, task)
}

async fn running(seed: u64) -> (World, Daemon) {
    let world = World::new(seed);
    let mut daemon = Daemon::new(world.serve().await);
    daemon.start();
    world.first_look(&daemon).await;
    (world, daemon)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_under_load_ends_with_0_and_loses_nothing() {
    let (world, mut daemon) = running(7).await;
    let (done, task) = changes(&world);
    for turn in 0..6 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        daemon.signal(if turn % 2 == 0 { "-TERM" } else { "-INT" });
        let status = daemon.end(LIMIT).await;
        assert!(status.success(), "{status}; its log:\n{}", daemon.log());
        daemon.start();
    }
    done.store(true, Ordering::Relaxed);
    task.await.expect("changes were made");
    let faults = world.settle(LIMIT).await;
    let (made, arrived) = world.counts();
    assert!(made > 100, "too little happened: {made} changes");
    assert!(faults.is_empty(), "{made} made, {arrived} arrived; {}\n{}", faults.join("\n"), daemon.log());
}

/// What the service manager has been told so far, one word of each message.
async fn heard(manager: &tokio::net::UnixDatagram, until: &str) -> Vec<String> {
    let (mut words, mut buffer) = (Vec::<String>::new(), [0; 1024]);
    while words.last().is_none_or(|word| word != until) {
        let told = tokio::time::timeout(LIMIT, manager.recv(&mut buffer)).await;
        let length = told.unwrap_or_else(|_| panic!("no {until}: {words:?}")).expect("a message");
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        words.push(text.split('=').next().unwrap_or_default().to_owned());
    }
    words
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_service_manager_is_asked_to_wait_for_a_start_and_for_a_stop() {
    let world = World::new(29);
    let mut daemon = Daemon::new(world.serve().await);
    let socket = daemon.path("notify");
    let manager = tokio::net::UnixDatagram::bind(&socket).expect("bound");
    daemon.start_under(&format!("export NOTIFY_SOCKET={};", socket.display()));
    let start = heard(&manager, "READY").await;
    assert_eq!(start.first().map(String::as_str), Some("EXTEND_TIMEOUT_USEC"), "{start:?}");
    daemon.signal("-TERM");
    heard(&manager, "STOPPING").await;
    assert_eq!(heard(&manager, "EXTEND_TIMEOUT_USEC").await.len(), 1);
    assert!(daemon.end(LIMIT).await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_in_the_first_moments_stops_it_too() {
    let world = World::new(11);
    let mut daemon = Daemon::new(world.serve().await);
    for millis in [10, 20, 40, 80] {
        daemon.start();
        tokio::time::sleep(Duration::from_millis(millis)).await;
        daemon.signal("-TERM");
        let status = daemon.end(LIMIT).await;
        // Before the program has asked for its signals, the kernel ends it: nothing was begun.
        let early = std::os::unix::process::ExitStatusExt::signal(&status) == Some(15);
        assert!(status.success() || early, "{status}; its log:\n{}", daemon.log());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sighup_takes_a_good_configuration_whole_and_a_bad_one_not_at_all() {
    let (world, mut daemon) = running(13).await;
    let (done, task) = changes(&world);
    let called = |handler: &'static str, more: u64| {
        let before = world.lock().calls.get(handler).copied().unwrap_or(0);
        let world = world.clone();
        async move { world.until(LIMIT, |r| r.calls.get(handler).copied().unwrap_or(0) > before + more).await }
    };
    assert!(called("first", 5).await, "{}", daemon.log());

    daemon.configure("second");
    daemon.signal("-HUP");
    daemon.says("the configuration was read again").await;
    assert!(called("second", 5).await, "{}", daemon.log());

    daemon.configure("third\"\nnonsense = \"1");
    daemon.signal("-HUP");
    daemon.says("the old one goes on").await;
    assert!(daemon.log().contains("nonsense"), "the log does not say what is wrong:\n{}", daemon.log());
    assert!(called("second", 5).await, "{}", daemon.log());
    assert_eq!(world.lock().calls.get("third"), None);

    done.store(true, Ordering::Relaxed);
    task.await.expect("changes were made");
    let faults = world.settle(LIMIT).await;
    assert!(faults.is_empty(), "{}\n{}", faults.join("\n"), daemon.log());
    daemon.signal("-TERM");
    assert!(daemon.end(LIMIT).await.success());
}

/// Stands for a full disk: no file may grow beyond 1 MiB.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_cannot_be_written_ends_it_with_its_reason_and_loses_nothing() {
    let world = World::new(17);
    let mut daemon = Daemon::new(world.serve().await);
    daemon.start();
    world.first_look(&daemon).await;
    daemon.signal("-TERM");
    assert!(daemon.end(LIMIT).await.success());

    daemon.start_under("trap '' XFSZ; ulimit -f 2048;");
    let (done, task) = changes(&world);
    let status = daemon.end(Duration::from_secs(60)).await;
    assert_eq!(status.code(), Some(75), "its log:\n{}", daemon.log());
    let log = daemon.log();
    assert!(log.contains("error: the database failed: a write failed") || log.contains("a commit failed"), "{log}");

    daemon.start();
    tokio::time::sleep(Duration::from_millis(500)).await;
    done.store(true, Ordering::Relaxed);
    task.await.expect("changes were made");
    let faults = world.settle(LIMIT).await;
    assert!(faults.is_empty(), "{}\n{}", faults.join("\n"), daemon.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_daemon_over_the_same_database_is_refused_and_harms_nothing() {
    let (world, mut daemon) = running(19).await;
    let second = daemon.second();
    assert_eq!(second.status.code(), Some(75), "{second:?}");
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(said.contains("is in use by another daemon") && said.contains("stop that one first"), "{said}");
    world.lock().change();
    let faults = world.settle(LIMIT).await;
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    daemon.signal("-TERM");
    assert!(daemon.end(LIMIT).await.success(), "{}", daemon.log());
}
