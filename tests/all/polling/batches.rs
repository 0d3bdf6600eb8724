//! Several parents in one request (`parent.batch`): batches of the right size, each with a listing of its own; the marks stay those of
//! the parents.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ringback::store::PollResult;

use super::kit::*;

/// What a bank holds: accounts, and the items of each.
#[derive(Clone, Default)]
struct Bank {
    accounts: Shelf,
    /// Their ids are `ACCOUNT-ITEM`.
    items: Shelf,
}

impl Bank {
    fn of(accounts: &[&str]) -> Bank {
        let bank = Bank::default();
        accounts.iter().for_each(|account| bank.accounts.put(account, 0, "a"));
        bank
    }

    fn put(&self, account: &str, item: &str, time: i64) {
        self.items.put(&format!("{account}-{item}"), time, "a");
    }

    /// The items of the accounts that are asked for. One that there is not makes the bank refuse the whole request.
    fn answer(&self, asked: &Asked) -> Answer {
        if asked.path == "/accounts" {
            return ok(list(&self.accounts.json(|_| true)));
        }
        let since = asked.time("since").map_or(i64::MIN, |time| time - START.0);
        let known = self.accounts.all();
        if accounts_of(asked).iter().any(|account| known.iter().all(|(id, _)| id != account)) {
            return status(404);
        }
        let found = self.items.all().into_iter().filter_map(|(id, time)| {
            let (account, item) = id.split_once('-')?;
            let is_asked = time >= since && accounts_of(asked).iter().any(|asked| asked == account);
            is_asked.then(|| format!(r#"{{"id":"{item}","account":"{account}","at":"{}"}}"#, at(time)))
        });
        ok(list(&found.collect::<Vec<_>>()))
    }

    async fn world(&self, child: &str) -> World {
        let bank = self.clone();
        let world = World::new(&streams(child), move |asked| bank.answer(asked)).await;
        world.poll_stream("accounts").await;
        world.polls().await;
        world.asked();
        world
    }
}

fn accounts_of(asked: &Asked) -> Vec<String> {
    asked.get("accounts").unwrap_or_default().split(',').map(str::to_owned).collect()
}

const BY_CURSOR: &str = "detect = \"changed\"\ncursor = { field = \".at\" }\nquery.since = \"{{ cursor }}\"";
const SNAPSHOT: &str = "detect = \"snapshot\"\ndeletes = { confirm_after = 1, max_percent = 100 }";

fn streams(child: &str) -> String {
    format!(
        r#"
[streams.accounts]
path    = "/accounts"
records = ".items"
key     = ".id"
detect  = "snapshot"
deletes = {{ confirm_after = 1, max_percent = 100 }}

[streams.s]
parent  = {{ stream = "accounts", carry = {{ id = ".id" }}, batch = 2, owner = {{ id = ".account" }} }}
path    = "/items"
query.accounts = "{{{{ parent.id | join(',') }}}}"
records = ".items"
key     = ".id"
{child}
"#
    )
}

async fn children(world: &World) -> Vec<String> {
    world.events().await.into_iter().filter(|event| event.starts_with("s.")).collect()
}

#[tokio::test]
async fn each_request_names_as_many_parents_as_the_file_says_and_records_are_those_of_their_parent() {
    let bank = Bank::of(&["A", "B", "C", "D", "E"]);
    let world = bank.world(BY_CURSOR).await;
    world.polls().await;
    assert_eq!(world.asked_for("accounts"), ["A,B", "C,D", "E"]);
    for account in ["A", "B", "E"] {
        bank.put(account, "1", -1_000);
    }
    world.polls().await;
    assert_eq!(children(&world).await, ["s.created A/1", "s.created B/1", "s.created E/1"], "one id, three records");
}

#[tokio::test]
async fn a_list_of_values_is_asked_for_in_batches_as_a_repeated_parameter_and_jq_sees_the_list() {
    let streams = r#"
[streams.s]
parent  = { values = ["a", "b", "c"], batch = 2 }
path    = "/items"
query.account = "{{ parent.value }}"
records = '[$parent.value[] | { id: . }]'
key     = ".id"
first_run = "send-all"
"#;
    let world = World::new(streams, |_| ok("{}")).await;
    world.polls().await;
    let asked: Vec<String> = world.asked().iter().map(|asked| asked.query_string.clone()).collect();
    assert_eq!(asked, ["account=a&account=b", "account=c"]);
    assert_eq!(world.events().await, ["s.created a", "s.created b", "s.created c"], "keys as the records have them");
}

#[tokio::test]
async fn a_batch_that_fails_takes_nothing_from_the_others_and_loses_nothing() {
    for child in [BY_CURSOR, SNAPSHOT] {
        let bank = Bank::of(&["A", "B", "C", "D"]);
        bank.put("A", "1", -9_000);
        bank.put("C", "1", -9_000);
        let world = bank.world(child).await;
        let failing = bank.clone();
        let refuses = move |asked: &Asked| asked.get("accounts").is_some_and(|accounts| accounts.contains('A'));
        world.answers(move |asked| if refuses(asked) { status(403) } else { failing.answer(asked) });
        bank.items.remove("A-1");
        bank.items.remove("C-1");
        bank.put("B", "2", -8_000);
        bank.put("D", "2", -1_000);
        let report = world.poll().await;
        assert_eq!(report.result, PollResult::Failed);
        let error = report.error.unwrap_or_default();
        assert!(error.contains("2 of 4 parents") && error.contains("`A` to `B`"), "{error}");
        let mut expected = vec!["s.created D/2"];
        if child == SNAPSHOT {
            expected.push("s.deleted C/1");
        }
        assert_eq!(children(&world).await, expected, "{child}");
        let well = bank.clone();
        world.answers(move |asked| well.answer(asked));
        world.polls().await;
        let found = children(&world).await;
        assert!(found.contains(&"s.created B/2".to_owned()), "older than what the others showed meanwhile: {found:?}");
        assert_eq!(found.contains(&"s.deleted A/1".to_owned()), child == SNAPSHOT, "{found:?}");
    }
}

#[tokio::test]
async fn a_parent_that_vanished_is_told_from_the_others_of_its_batch_and_deletes_no_children() {
    let bank = Bank::of(&["A", "B", "C", "D"]);
    for account in ["A", "B", "C", "D"] {
        bank.put(account, "1", -9_000);
    }
    let world = bank.world(SNAPSHOT).await;
    // Gone at the provider; its own stream has not noticed yet.
    bank.accounts.remove("A");
    bank.items.remove("A-1");
    bank.items.remove("B-1");
    bank.put("D", "2", -1_000);
    world.polls().await;
    assert_eq!(world.asked_for("accounts"), ["A,B", "A", "B", "C,D"]);
    assert_eq!(children(&world).await, ["s.created D/2", "s.deleted B/1"]);
    world.poll_stream("accounts").await;
    world.asked();
    world.polls().await;
    assert_eq!(world.asked_for("accounts"), ["B,C", "D"], "the batches are made anew");
    assert_eq!(world.status_of("s").await.records, 4, "what is known of A's children stays");
}

#[tokio::test]
async fn each_parent_keeps_its_own_mark_and_a_batch_asks_from_the_one_furthest_behind() {
    let bank = Bank::of(&["A", "B", "C", "D"]);
    bank.put("A", "1", -90_000);
    bank.put("B", "1", -60_000);
    bank.put("C", "1", -30_000);
    let world = bank.world(BY_CURSOR).await;
    let world = world.restart().await;
    world.polls().await;
    // A and B were listed as one: everything up to B's record has been seen of both.
    assert_eq!(world.asked_for("since"), ["2026-01-05T11:59:00Z", "2026-01-05T11:59:30Z"]);
    // A goes: the batches are B,C and D, and nothing of B is skipped for what C had shown.
    bank.accounts.remove("A");
    world.poll_stream("accounts").await;
    bank.put("B", "2", -45_000);
    world.asked();
    world.polls().await;
    assert_eq!(world.asked_for("since"), ["2026-01-05T11:59:00Z", "2026-01-05T11:59:30Z"]);
    assert_eq!(children(&world).await, ["s.created B/2"]);
}

#[tokio::test]
async fn a_new_parent_is_asked_for_by_itself_so_that_the_others_do_not_come_once_more() {
    let bank = Bank::of(&["A", "C"]);
    bank.put("A", "1", -90_000);
    let world = bank.world(BY_CURSOR).await;
    bank.accounts.put("B", 0, "a");
    bank.put("B", "1", -300_000);
    world.poll_stream("accounts").await;
    world.asked();
    world.polls().await;
    let asked = world.asked();
    let asked: Vec<_> = asked.iter().map(|asked| (asked.get("accounts"), asked.get("since"))).collect();
    assert_eq!(asked, [(Some("A,C"), Some("2026-01-05T11:58:30Z")), (Some("B"), None)]);
    assert_eq!(children(&world).await, ["s.created B/1"]);
    world.polls().await;
    assert_eq!(world.asked_for("accounts"), ["A,B", "C"], "from now on it is one of them");
}

#[tokio::test]
async fn r1_4_a_run_that_was_stopped_between_two_batches_goes_on_with_the_next_one() {
    let bank = Bank::of(&["A", "B", "C", "D", "E"]);
    for account in ["A", "C", "E"] {
        bank.put(account, "1", -9_000);
    }
    let clock = ringback::clock::Clock::manual(START);
    let (time, slow) = (clock.clone(), Arc::new(AtomicUsize::new(0)));
    let (seconds, shown) = (slow.clone(), bank.clone());
    let world = World::at_clock(clock, Wish::default(), &streams(BY_CURSOR), move |asked| {
        time.advance(Duration::from_secs(seconds.load(Ordering::SeqCst) as u64));
        shown.answer(asked)
    })
    .await;
    world.poll_stream("accounts").await;
    world.asked();
    slow.store(310, Ordering::SeqCst);
    assert_eq!(world.poll().await.result, PollResult::Deferred);
    assert_eq!(world.asked_for("accounts"), ["A,B", "C,D"]);
    let world = world.restart().await;
    world.polls().await;
    assert_eq!(world.asked_for("accounts"), ["E"]);
    assert_eq!(world.state().await.phase, ringback::store::Phase::Live, "the three parts were one whole look");
    assert_eq!(children(&world).await, Vec::<String>::new());
    slow.store(0, Ordering::SeqCst);
    bank.put("B", "2", -1_000);
    world.polls().await;
    assert_eq!(children(&world).await, ["s.created B/2"]);
}

#[tokio::test]
async fn a_record_that_names_no_parent_of_its_batch_is_set_aside_and_the_others_count() {
    let bank = Bank::of(&["A", "B"]);
    let world = bank.world(BY_CURSOR).await;
    let records: Vec<String> =
        (0..20).map(|n| format!(r#"{{"id":"{n}","account":"A","at":"{}"}}"#, at(-1_000))).collect();
    world.answers(move |asked| match asked.path.as_str() {
        "/accounts" => status(500),
        _ => {
            let stranger = format!(r#"{{"id":"9","account":"Z","at":"{}"}}"#, at(-1_000));
            ok(list(&[records.clone(), vec![stranger]].concat()))
        }
    });
    world.polls().await;
    assert_eq!(children(&world).await.len(), 20);
    let said = world.says("record.unreadable").await;
    assert!(said.contains("names no parent that was asked for"), "{said}");
}

#[tokio::test]
async fn a_childs_absence_is_asked_after_by_the_parent_that_its_record_named() {
    let bank = Bank::of(&["A", "B"]);
    bank.put("A", "1", -9_000);
    bank.put("B", "2", -9_000);
    let confirm = "confirm_after = 1, confirm = { path = \"/items/{{ parent.id }}/{{ key }}\" },";
    let world = bank.world(&SNAPSHOT.replace("confirm_after = 1,", confirm)).await;
    bank.items.remove("B-2");
    bank.put("B", "3", -1_000);
    let shown = bank.clone();
    world.answers(move |asked| match asked.path.as_str() {
        "/items/B/2" => status(404),
        path if path.starts_with("/items/") => status(500),
        _ => shown.answer(asked),
    });
    world.polls().await;
    assert_eq!(children(&world).await, ["s.created B/3", "s.deleted B/2"]);
}

#[tokio::test]
async fn a_dry_run_knows_the_children_of_a_batch_by_their_parents() {
    let bank = Bank::of(&["A", "B"]);
    bank.put("A", "1", -9_000);
    let world = bank.world(BY_CURSOR).await;
    bank.put("B", "1", -1_000);
    let look = world.poller.poll_once(&stream("s"), ringback::poll::Mode::DryRun).await.expect("looked");
    assert_eq!(look.report.map(|report| (report.created, report.updated)), Some((1, 0)));
}
