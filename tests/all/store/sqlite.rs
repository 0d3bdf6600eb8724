//! What only a database file can get wrong: who may open it, in what state, and that nothing is ever made anew over it.

use std::path::Path;
use std::time::Duration;

use ringback::clock::Clock;
use ringback::store::sqlite::{OpenError, SqliteStore};
use ringback::store::*;
use rusqlite::Connection;

use super::kit::*;

fn refused(path: &Path) -> (u8, String) {
    match SqliteStore::open(path, Clock::system()) {
        Ok(_) => panic!("{} was opened", path.display()),
        Err(error) => (error.exit_code(), error.to_string()),
    }
}

/// Refused with 78 and these words, and not a byte of the folder changed.
fn check_untouched(place: &Place, words: &str) {
    let look = || {
        let mut files: Vec<(String, Vec<u8>)> = std::fs::read_dir(place.folder.path())
            .expect("reads")
            .map(|entry| entry.expect("reads").path())
            .filter(|path| path.is_file() && path.extension().is_none_or(|kind| kind != "lock"))
            .map(|path| (path.display().to_string(), std::fs::read(&path).expect("reads")))
            .collect();
        files.sort();
        files
    };
    let before = look();
    let (code, text) = refused(&place.file());
    assert!(text.contains(words), "{text}");
    assert_eq!(code, 78, "{text}");
    assert!(look() == before, "something changed: {text}");
}

#[tokio::test]
async fn a_second_owner_is_refused_and_told_who_the_first_is() {
    let place = Place::new();
    let store = place.ready().await;
    let (code, text) = refused(&place.file());
    assert_eq!(code, 75);
    assert!(text.contains(&std::process::id().to_string()), "{text}");
    drop(store);
    place.open();
}

#[tokio::test]
async fn the_log_of_writes_is_tidied_away_at_the_end() {
    let place = Place::new();
    let store = place.ready().await;
    store.commit(announce(&place.clock, "1", vec![])).await.unwrap();
    store.streams().await.unwrap();
    drop(store);
    assert!(!place.folder.path().join("ringback.db-wal").exists());
    assert!(!place.folder.path().join("ringback.db.new").exists());
}

#[test]
fn a_newer_schema_is_refused() {
    let place = Place::new();
    drop(place.open());
    let conn = Connection::open(place.file()).unwrap();
    conn.pragma_update(None, "user_version", 999).unwrap();
    conn.close().unwrap();
    let (code, text) = refused(&place.file());
    assert!(code == 78 && text.contains("newer version"), "{text}");
    let error = SqliteStore::open_read_only(&place.file(), Clock::system()).err().expect("refused");
    assert!(matches!(error, OpenError::Refused(text) if text.contains("newer version")));
}

#[test]
fn what_is_not_our_whole_database_is_refused_and_untouched() {
    let place = Place::new();
    std::fs::write(place.file(), b"").unwrap();
    check_untouched(&place, "is empty");

    std::fs::write(place.file(), "hello ".repeat(100)).unwrap();
    check_untouched(&place, "not a database");
    std::fs::write(place.file(), b"SQLite").unwrap();
    check_untouched(&place, "not a database");

    std::fs::remove_file(place.file()).unwrap();
    std::fs::write(place.folder.path().join("ringback.db-wal"), b"left behind").unwrap();
    check_untouched(&place, "is missing, but its log");
    std::fs::remove_file(place.folder.path().join("ringback.db-wal")).unwrap();

    Connection::open(place.file()).unwrap().execute_batch("CREATE TABLE theirs (a)").unwrap();
    check_untouched(&place, "another program");
    std::fs::remove_file(place.file()).unwrap();

    drop(place.open());
    let whole = std::fs::read(place.file()).unwrap();
    std::fs::write(place.file(), &whole[..whole.len() / 2]).unwrap();
    check_untouched(&place, "is cut off");
}

#[test]
fn a_folder_in_place_of_the_file_and_a_missing_folder_are_refused() {
    let place = Place::new();
    std::fs::create_dir(place.file()).unwrap();
    assert!(refused(&place.file()).1.contains("is a folder"));
    let (code, text) = refused(&place.folder.path().join("none/ringback.db"));
    assert!(code == 78 && text.contains("none"), "{text}");
}

#[test]
fn a_start_that_was_cut_off_leaves_nothing_in_the_way() {
    let place = Place::new();
    std::fs::write(place.folder.path().join("ringback.db.new"), b"half made").unwrap();
    drop(place.open());
    let conn = Connection::open(place.file()).unwrap();
    let mode: String = conn.query_row("PRAGMA journal_mode", [], |row| row.get(0)).unwrap();
    assert_eq!(mode, "wal");
}

#[tokio::test]
async fn a_command_reads_without_the_daemon_and_beside_it_but_never_writes() {
    let place = Place::new();
    let missing = SqliteStore::open_read_only(&place.file(), place.clock.clone());
    assert!(missing.err().is_some_and(|error| error.exit_code() == 78) && !place.file().exists());
    let store = place.ready().await;
    store.commit(announce(&place.clock, "1", vec![to("x", None)])).await.unwrap();
    let check = async || {
        let reading = SqliteStore::open_read_only(&place.file(), place.clock.clone()).expect("opens");
        assert!(reading.event(&"1".into()).await.unwrap().is_some());
        assert_eq!(reading.streams().await.unwrap().len(), 2);
        assert!(
            matches!(reading.poll_now(&stream("a")).await, Err(StoreError::Busy(text)) if text.contains("read-only"))
        );
        assert!(matches!(reading.put_inbound(inbound(None, "1")).await, Err(StoreError::Busy(_))));
    };
    check().await;
    drop(store);
    check().await;
}

#[tokio::test]
async fn after_a_failed_write_everything_fails_and_says_why() {
    let place = Place::new();
    let store = place.ready().await;
    // A table that is gone stands for any error of the database's own.
    let conn = Connection::open(place.file()).unwrap();
    conn.execute_batch("DROP TABLE inbound_body").unwrap();
    let failed = store.put_inbound(inbound(None, "1")).await;
    assert!(matches!(&failed, Err(StoreError::Broken(text)) if text.contains("inbound_body")), "{failed:?}");
    let reason = tokio::time::timeout(Duration::from_secs(5), store.broken()).await.expect("told");
    assert!(reason.contains("inbound_body"), "{reason}");
    assert!(matches!(store.ping().await, Err(StoreError::Broken(_))));
    assert!(matches!(store.streams().await, Err(StoreError::Broken(_))));
    let count: i64 = conn.query_row("SELECT count(*) FROM inbound", [], |row| row.get(0)).unwrap();
    assert_eq!(count, 0, "the transaction is undone");
}
