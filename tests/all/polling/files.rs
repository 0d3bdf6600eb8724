//! Streams that read files in place of an API: what is read and when, what is never read twice, what one bad file may spoil.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ringback::clock::Clock;
use ringback::model::Timestamp;
use ringback::store::PollResult;
use tempfile::TempDir;

use super::kit::{Wish, World, status};

/// A folder that somebody drops files into.
struct Drop {
    folder: TempDir,
}

impl Drop {
    fn new() -> Drop {
        Drop { folder: tempfile::tempdir().expect("a folder") }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Puts a file there that was written so many minutes ago.
    fn put(&self, name: &str, content: impl AsRef<[u8]>, minutes_ago: u64) {
        std::fs::write(self.at(name), content).expect("written");
        let file = std::fs::File::options().append(true).open(self.at(name)).expect("opened");
        let at = std::time::SystemTime::now() - Duration::from_secs(60 * minutes_ago);
        file.set_modified(at).expect("dated");
    }

    fn remove(&self, name: &str) {
        std::fs::remove_file(self.at(name)).expect("removed");
    }

    fn stream(&self, pattern: &str, more: &str) -> String {
        let path = self.folder.path().display();
        format!("[streams.s]\nfiles = \"{path}/{pattern}\"\nkey = \".id\"\n{more}\n")
    }

    /// Time begins now, and the first look is over.
    async fn world(&self, pattern: &str, more: &str) -> World {
        let world = self.fresh(pattern, more, "").await;
        world.polls().await;
        world
    }

    async fn fresh(&self, pattern: &str, more: &str, source: &str) -> World {
        let wish = Wish { source: source.to_owned(), ..Wish::default() };
        World::at_clock(now(), wish, &self.stream(pattern, more), |_| status(500)).await
    }
}

fn now() -> Clock {
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("after 1970");
    Clock::manual(Timestamp(i64::try_from(since.as_millis()).expect("a time")))
}

fn record(id: &str, text: &str) -> String {
    format!("[{{\"id\":\"{id}\",\"text\":\"{text}\"}}]")
}

#[tokio::test]
async fn a_file_is_read_when_it_stands_still_and_only_once() {
    let drop = Drop::new();
    let world = drop.world("*.json", "detect = \"new\"").await;
    drop.put("a.json", record("A", ""), 0);
    let report = world.poll().await;
    assert_eq!(report.result, PollResult::NotModified, "it may still be written: {:?}", report.error);
    drop.put("a.json", "[{\"id\":\"A\"},{\"id\":\"B\"}]", 0);
    world.poll().await;
    assert_eq!(world.events().await, [""; 0], "it grew since the last look");
    world.polls().await;
    assert_eq!(world.events().await, ["s.created A", "s.created B"]);
    let again = world.poll().await;
    assert_eq!((again.result, again.requests.len()), (PollResult::NotModified, 0), "nothing is read again");
}

#[tokio::test]
async fn a_file_that_nobody_touched_for_a_minute_is_read_at_once() {
    let drop = Drop::new();
    let world = drop.world("*.json", "").await;
    drop.put("a.json", record("A", ""), 0);
    world.clock.advance(Duration::from_secs(70));
    world.polls().await;
    assert_eq!(world.events().await, ["s.created A"]);
}

#[tokio::test]
async fn what_lies_there_at_the_first_look_is_the_baseline_and_says_nothing() {
    let drop = Drop::new();
    for n in 0..3 {
        drop.put(&format!("{n}.json"), record(&format!("R{n}"), "a"), 10 - n);
    }
    let world = drop.fresh("*.json", "", "").await;
    world.clock.advance(Duration::from_secs(70));
    world.polls().await;
    assert_eq!(world.events().await, [""; 0]);
    drop.put("new.json", record("N", "a"), 0);
    drop.put("more.json", record("R1", "b"), 0);
    world.clock.advance(Duration::from_secs(70));
    world.polls().await;
    let mut events = world.events().await;
    events.sort();
    assert_eq!(events, ["s.created N", "s.updated R1"]);
}

#[tokio::test]
async fn files_come_in_the_order_of_their_time_so_that_the_newest_statement_counts() {
    let drop = Drop::new();
    let world = drop.world("*.json", "types = { updated = \"s.updated\" }").await;
    drop.put("a.json", record("P", "settled"), 1);
    drop.put("b.json", record("P", "pending"), 2);
    world.clock.advance(Duration::from_secs(70));
    world.polls().await;
    assert_eq!(world.events().await, ["s.created P", "s.updated P"]);
    world.polls_nothing().await;
    assert_eq!(world.events().await.len(), 2, "no older copy comes back");
}

#[tokio::test]
async fn a_changed_file_is_read_again_and_a_vanished_one_deletes_nothing() {
    let drop = Drop::new();
    let world = drop.world("*.json", "").await;
    drop.put("a.json", "[{\"id\":\"A\",\"n\":1},{\"id\":\"B\",\"n\":1}]", 5);
    world.clock.advance(Duration::from_secs(70));
    world.polls().await;
    drop.put("a.json", "[{\"id\":\"A\",\"n\":2}]", 0);
    world.clock.advance(Duration::from_secs(70));
    world.polls().await;
    assert_eq!(world.events().await, ["s.created A", "s.created B", "s.updated A"]);
    drop.remove("a.json");
    world.polls_nothing().await;
    assert_eq!(world.events().await.len(), 3);
    assert_eq!(world.problems().await, [""; 0]);
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_a_problem_and_the_others_go_on() {
    let drop = Drop::new();
    let world = drop.world("*.json", "").await;
    drop.put("1-bad.json", "[{\"id\":", 9);
    drop.put("2-html.json", "<html>no</html>", 8);
    drop.put("3-good.json", record("A", ""), 7);
    std::os::unix::fs::symlink("/etc/hostname", drop.at("4-link.json")).expect("linked");
    world.clock.advance(Duration::from_secs(70));
    let report = world.poll().await;
    assert_eq!(report.result, PollResult::Failed);
    assert_eq!(world.events().await, ["s.created A"]);
    let said = world.says("answer.unreadable").await;
    assert!(said.contains("3 of 4 new files") && said.contains("1-bad.json"), "{said}");
    for name in ["1-bad.json", "2-html.json", "4-link.json"] {
        drop.remove(name);
    }
    world.polls_nothing().await;
    assert_eq!(world.problems().await, [""; 0], "moved away, and over");
}

#[tokio::test]
async fn a_restart_reads_nothing_twice_and_forgets_no_file() {
    let drop = Drop::new();
    let world = drop.world("*.json", "").await;
    drop.put("a.json", record("A", "1"), 5);
    drop.put("b.json", record("A", "2"), 4);
    world.clock.advance(Duration::from_secs(70));
    world.polls().await;
    let world = world.restart().await;
    drop.put("c.json", record("C", ""), 0);
    world.clock.advance(Duration::from_secs(70));
    world.polls().await;
    assert_eq!(world.events().await, ["s.created A", "s.updated A", "s.created C"]);
}

#[tokio::test]
async fn a_reset_stream_takes_its_files_as_the_baseline_once_more() {
    let drop = Drop::new();
    let world = drop.world("*.json", "").await;
    drop.put("a.json", record("A", "1"), 5);
    world.clock.advance(Duration::from_secs(70));
    world.polls().await;
    world.store.reset_stream(&super::kit::stream("s"), false).await.expect("reset");
    let report = world.poll().await;
    assert_eq!(report.requests.len(), 1, "{report:?}");
    assert_eq!(world.events().await, ["s.created A"], "remembered without a word");
}

#[tokio::test]
async fn one_file_that_holds_everything_may_be_a_snapshot_and_its_absence_says_nothing() {
    let drop = Drop::new();
    let more = "detect = \"snapshot\"\ndeletes = { confirm_after = 1, max_percent = 100 }";
    let world = drop.fresh("all.json", more, "streams.s.first_run = \"send-all\"").await;
    let report = world.poll().await;
    assert_eq!(report.result, PollResult::NotModified, "it is not there yet: {:?}", report.error);
    drop.put("all.json", "[{\"id\":\"A\"},{\"id\":\"B\"}]", 5);
    world.clock.advance(Duration::from_secs(70));
    world.polls().await;
    drop.put("all.json", "[{\"id\":\"A\"}]", 0);
    world.clock.advance(Duration::from_secs(70));
    world.polls().await;
    drop.remove("all.json");
    world.polls_nothing().await;
    assert_eq!(world.events().await, ["s.created A", "s.created B", "s.deleted B"]);
}

#[tokio::test]
async fn packed_files_are_unpacked_and_each_member_is_a_page() {
    let drop = Drop::new();
    let world = drop.world("*", "format = \"csv\"").await;
    let packed = {
        use std::io::Write as _;
        let mut packed = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        for (name, text) in [("1.csv", "id\nA\n"), ("2.csv", "id\nB\n")] {
            packed.start_file(name, zip::write::SimpleFileOptions::default()).expect("begun");
            packed.write_all(text.as_bytes()).expect("written");
        }
        packed.finish().expect("packed").into_inner()
    };
    drop.put("day.zip", packed, 5);
    world.clock.advance(Duration::from_secs(70));
    world.polls().await;
    assert_eq!(world.events().await, ["s.created A", "s.created B"]);
}

#[tokio::test]
async fn a_dry_run_reads_the_files_and_remembers_none() {
    let drop = Drop::new();
    let world = drop.world("*.json", "").await;
    drop.put("a.json", record("A", ""), 5);
    world.clock.advance(Duration::from_secs(70));
    for _ in 0..2 {
        let looked =
            world.poller.poll_once(&super::kit::stream("s"), ringback::poll::Mode::DryRun).await.expect("looked");
        assert_eq!(looked.report.map(|report| report.created), Some(1));
    }
    world.polls().await;
    assert_eq!(world.events().await, ["s.created A"]);
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_a_problem_and_nothing_is_forgotten_by_it() {
    let drop = Drop::new();
    let inner = drop.at("in");
    std::fs::create_dir(&inner).expect("made");
    let world = drop.world("in/*.json", "").await;
    drop.put("in/a.json", record("A", ""), 5);
    world.clock.advance(Duration::from_secs(70));
    world.polls().await;
    let away = drop.at("away");
    std::fs::rename(&inner, &away).expect("moved");
    let report = world.poll().await;
    assert_eq!(report.result, PollResult::Failed);
    assert!(report.error.expect("why").contains("cannot be read"));
    std::fs::rename(&away, &inner).expect("moved back");
    let again = world.poll().await;
    assert_eq!((again.result, again.requests.len()), (PollResult::NotModified, 0));
}

#[tokio::test]
async fn the_name_of_the_file_is_known_to_jq() {
    let drop = Drop::new();
    let more = "format = \"csv\"\nrecords = 'map(. + {day: ($headers[\"file-name\"] | .[0:10])})'";
    let more = more.replace("key", "");
    let world = drop.world("*.csv", &more).await;
    drop.put("2026-01-05 rates.csv", "id,rate\nEUR,1.5\n", 5);
    world.clock.advance(Duration::from_secs(70));
    world.polls().await;
    let event =
        world.store.events(ringback::store::EventFilter { limit: 1, ..Default::default() }).await.expect("events");
    let event = world.store.event(&event.events[0].id).await.expect("read").expect("it is there");
    let data = String::from_utf8(event.event.data.expect("data").to_vec()).expect("text");
    assert!(data.contains(r#""day":"2026-01-05""#) && data.contains(r#""rate":"1.5""#), "{data}");
}

#[test]
fn check_says_what_is_wrong_with_the_names_of_files() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let provider =
        "schema = 1\nsettings.files = \"which files\"\n[streams.s]\nfiles = \"{{ settings.files }}\"\nkey = \".id\"\n";
    std::fs::write(at("p.toml"), provider).expect("written");
    let join = |files: &str| {
        let config = format!("schema = 1\n[sources.core]\nprovider = \"./p.toml\"\nsettings.files = \"{files}\"\n");
        std::fs::write(at("config.toml"), config).expect("written");
        let Ok((config, _)) = ringback::config::load(Path::new(&at("config.toml"))) else { panic!("a configuration") };
        ringback::source::join_all(&config, false).map(|_| ()).map_err(|faults| faults[0].message.clone())
    };
    assert_eq!(join("/in/camt/*.xml"), Ok(()), "no base_url is needed");
    for (files, reason) in [("in/*.xml", "begin with `/`"), ("/in/../*.xml", "`..`"), ("/in/[a.xml", "no pattern")] {
        let error = join(files).expect_err(files);
        assert!(error.contains(reason) && error.contains("`files` of stream `s`"), "{error}");
    }
}
