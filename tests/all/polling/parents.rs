//! Parents and children: one listing for each parent, each with a mark of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ringback::store::PollResult;

use super::kit::*;

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
parent  = {{ stream = "accounts", carry = {{ id = ".id" }}, when = '.text != "closed"' }}
path    = "/accounts/{{{{ parent.id }}}}/items"
query   = {{ since = "{{{{ cursor }}}}" }}
records = ".items"
key     = ".id"
{child}
"#
    )
}

const CHANGED: &str = "detect = \"changed\"\ncursor = { field = \".at\" }";
const SNAPSHOT: &str = "detect = \"snapshot\"\ndeletes = { confirm_after = 1, max_percent = 100 }";

/// Accounts with shelves of their own.
#[derive(Clone)]
struct Bank {
    accounts: Shelf,
    items: Vec<(&'static str, Shelf)>,
}

impl Bank {
    fn new() -> Bank {
        let accounts = Shelf::of(&[("A", 0), ("B", 0)]);
        Bank {
            accounts,
            items: vec![("A", Shelf::of(&[("1", -5_000)])), ("B", Shelf::of(&[("1", -3_000)])), ("C", Shelf::of(&[]))],
        }
    }

    fn of(&self, account: &str) -> &Shelf {
        &self.items.iter().find(|(name, _)| *name == account).expect("an account").1
    }

    fn answer(&self, asked: &Asked) -> Answer {
        match asked.path.split('/').nth(2) {
            None => ok(list(&self.accounts.json(|_| true))),
            Some(account) if self.accounts.all().iter().any(|(id, _)| id == account) => {
                ok(list(&self.of(account).since(asked)))
            }
            Some(_) => status(404),
        }
    }

    async fn world(&self, child: &str) -> World {
        let bank = self.clone();
        let streams = if child.contains("cursor") {
            streams(child)
        } else {
            streams(child).replace("query   = { since = \"{{ cursor }}\" }\n", "")
        };
        let world = World::new(&streams, move |asked| bank.answer(asked)).await;
        world.poll_stream("accounts").await;
        world.polls().await;
        world
    }
}

async fn children(world: &World) -> Vec<String> {
    world.events().await.into_iter().filter(|event| event.starts_with("s.")).collect()
}

#[tokio::test]
async fn children_wait_for_the_first_look_at_their_parents_and_are_unique_within_them() {
    let bank = Bank::new();
    let shown = bank.clone();
    let world = World::new(&streams(CHANGED), move |asked| shown.answer(asked)).await;
    let report = world.poll().await;
    assert_eq!(report.result, PollResult::Deferred, "nobody knows yet which parents there are");
    assert_eq!(world.asked().len(), 0);
    world.poll_stream("accounts").await;
    world.polls().await;
    bank.of("A").put("1", -1_000, "changed");
    bank.of("B").put("2", -1_000, "a");
    world.polls().await;
    assert_eq!(children(&world).await, ["s.updated A/1", "s.created B/2"]);
}

#[tokio::test]
async fn each_parent_has_a_cursor_of_its_own_over_restarts() {
    let bank = Bank::new();
    let world = bank.world(CHANGED).await;
    world.asked();
    let world = world.restart().await;
    world.polls().await;
    assert_eq!(world.asked_for("since"), ["2026-01-05T11:59:55Z", "2026-01-05T11:59:57Z"]);
}

#[tokio::test]
async fn pitfall_29_a_failed_parent_deletes_no_children_and_takes_nothing_from_the_others() {
    for child in [CHANGED, SNAPSHOT] {
        let bank = Bank::new();
        let world = bank.world(child).await;
        let failing = bank.clone();
        world.answers(move |asked| if asked.path.contains("/A/") { status(403) } else { failing.answer(asked) });
        bank.of("B").put("2", -1_000, "a");
        bank.of("B").remove("1");
        bank.of("A").put("2", -2_000, "a");
        let report = world.poll().await;
        assert_eq!(report.result, PollResult::Failed);
        let error = report.error.unwrap_or_default();
        assert!(error.contains("1 of 2 parents") && error.contains("`A`"), "{error}");
        let mut expected = vec!["s.created B/2"];
        if child == SNAPSHOT {
            expected.push("s.deleted B/1");
        }
        assert_eq!(children(&world).await, expected);
        assert_eq!(world.problems().await, ["auth.failed core"].map(str::to_owned), "{child}");
        // Well again: nothing of A was skipped meanwhile.
        let well = bank.clone();
        world.answers(move |asked| well.answer(asked));
        world.polls().await;
        assert_eq!(children(&world).await.last().map(String::as_str), Some("s.created A/2"), "{child}");
        assert_eq!(world.problems().await, Vec::<String>::new());
    }
}

#[tokio::test]
async fn pitfall_29_a_parent_that_vanished_deletes_no_children_and_a_new_one_is_listed() {
    let bank = Bank::new();
    let world = bank.world(SNAPSHOT).await;
    // Gone at the provider, its own stream has not noticed yet: 404 for its listing.
    bank.accounts.remove("A");
    world.polls().await;
    world.poll_stream("accounts").await;
    bank.accounts.put("C", 0, "a");
    bank.of("C").put("9", -1_000, "a");
    world.poll_stream("accounts").await;
    world.polls().await;
    assert_eq!(children(&world).await, ["s.created C/9"]);
    assert_eq!(world.status_of("s").await.records, 3, "what is known of A's children stays");
    // It comes back as it was, without one of its children: now that is seen.
    bank.accounts.put("A", 0, "a");
    bank.of("A").remove("1");
    bank.of("A").put("5", -1_000, "a");
    world.poll_stream("accounts").await;
    world.polls().await;
    assert_eq!(children(&world).await, ["s.created C/9", "s.created A/5", "s.deleted A/1"]);
}

#[tokio::test]
async fn a_parent_that_its_rule_leaves_out_is_not_listed_and_loses_nothing() {
    let bank = Bank::new();
    let world = bank.world(SNAPSHOT).await;
    bank.accounts.put("A", 0, "closed");
    world.poll_stream("accounts").await;
    world.asked();
    world.polls().await;
    assert_eq!(world.asked().len(), 1);
    assert_eq!(children(&world).await, Vec::<String>::new());
}

#[tokio::test]
async fn no_id_of_a_parent_can_pass_for_that_of_another() {
    let bank = Bank::new();
    bank.accounts.put("A/1", 0, "a");
    let shown = bank.clone();
    let streams = streams(SNAPSHOT).replace("query   = { since = \"{{ cursor }}\" }\n", "");
    let world = World::new(&streams, move |asked| match asked.path.as_str() {
        "/accounts/A%2F1/items" => ok(r#"{"items":[{"id":"x"}]}"#),
        _ => shown.answer(asked),
    })
    .await;
    world.poll_stream("accounts").await;
    world.polls().await;
    let failing = bank.clone();
    world.answers(move |asked| if asked.path.contains("A%2F1") { status(403) } else { failing.answer(asked) });
    world.poll().await;
    assert_eq!(children(&world).await, Vec::<String>::new(), "x of A/1 is no child of A");
}

#[tokio::test]
async fn r1_4_a_run_that_had_its_time_goes_on_with_the_next_parent() {
    let clock = ringback::clock::Clock::manual(START);
    let (time, slow) = (clock.clone(), Arc::new(AtomicUsize::new(0)));
    let seconds = slow.clone();
    let streams = r#"
[streams.s]
parent  = { values = ["a", "b", "c", "d", "e"] }
path    = "/{{ parent.value }}"
records = "."
key     = ".id"
first_run = "send-all"
"#;
    let world = World::at_clock(clock, Wish::default(), streams, move |_| {
        time.advance(Duration::from_secs(seconds.load(Ordering::SeqCst) as u64));
        ok(r#"[{"id":1}]"#)
    })
    .await;
    slow.store(290, Ordering::SeqCst);
    let paths = |world: &World| world.asked().iter().map(|asked| asked.path.clone()).collect::<Vec<_>>();
    assert_eq!(world.poll().await.result, PollResult::Deferred);
    assert_eq!(paths(&world), ["/a", "/b", "/c"]);
    let world = world.restart().await;
    world.polls().await;
    assert_eq!(paths(&world), ["/d", "/e"]);
    assert_eq!(world.events().await.len(), 5);
    slow.store(0, Ordering::SeqCst);
    world.polls().await;
    assert_eq!(paths(&world).len(), 5, "and the round begins anew");
}

/// Found by a seed: one parent fails, and the next stops the whole run. The part that goes on behind both is no look at all of them.
#[tokio::test]
async fn r4_1_a_first_look_goes_on_behind_a_parent_that_failed_and_does_not_end_with_the_last_one() {
    let bank = Bank::new();
    let failing = bank.clone();
    let world = World::new(&streams(CHANGED), move |asked| match () {
        () if asked.path.contains("/A/") => status(403),
        () if asked.path.contains("/B/") => status(429),
        () => failing.answer(asked),
    })
    .await;
    world.poll_stream("accounts").await;
    world.poll().await;
    let well = bank.clone();
    world.answers(move |asked| well.answer(asked));
    for _ in 0..3 {
        world.clock.advance(Duration::from_secs(3_600));
        world.poll().await;
    }
    assert_eq!(world.state().await.phase, ringback::store::Phase::Live);
    assert_eq!(children(&world).await, Vec::<String>::new(), "what A had before is no news");
}

#[tokio::test]
async fn a_baseline_ends_only_when_every_parent_was_listed() {
    let bank = Bank::new();
    let failing = bank.clone();
    let world =
        World::new(
            &streams(CHANGED),
            move |asked| if asked.path.contains("/B/") { status(403) } else { failing.answer(asked) },
        )
        .await;
    world.poll_stream("accounts").await;
    world.poll().await;
    assert_eq!(world.state().await.phase, ringback::store::Phase::Baseline);
    let well = bank.clone();
    world.answers(move |asked| well.answer(asked));
    world.polls().await;
    assert_eq!(children(&world).await, Vec::<String>::new(), "what B had is no news");
    bank.of("B").put("2", -1_000, "a");
    world.polls().await;
    assert_eq!(children(&world).await, ["s.created B/2"]);
}

#[tokio::test]
async fn a_childs_absence_is_asked_after_by_its_own_key_and_its_own_parent() {
    let bank = Bank::new();
    bank.of("A").put("2", -1_000, "a");
    let world = bank
        .world(&SNAPSHOT.replace(
            "confirm_after = 1,",
            "confirm_after = 1, confirm = { path = \"/accounts/{{ parent.id }}/items/{{ key }}\" },",
        ))
        .await;
    bank.of("A").remove("2");
    let shown = bank.clone();
    world.answers(move |asked| match asked.path.as_str() {
        "/accounts/A/items/2" => status(404),
        _ => shown.answer(asked),
    });
    world.asked();
    world.polls().await;
    assert_eq!(children(&world).await, ["s.deleted A/2"]);
}

#[tokio::test]
async fn a_dry_run_knows_children_by_their_parents() {
    let bank = Bank::new();
    let world = bank.world(CHANGED).await;
    bank.of("B").put("2", -1_000, "a");
    let look = world.poller.poll_once(&stream("s"), ringback::poll::Mode::DryRun).await.expect("looked");
    assert_eq!(look.report.map(|report| (report.created, report.updated)), Some((1, 0)));
}

#[tokio::test]
async fn pitfall_15_one_parents_cursor_that_is_too_old_is_told_and_its_children_are_listed_and_compared() {
    let bank = Bank::new();
    let world = bank.world(CHANGED).await;
    let shown = bank.clone();
    world.answers(move |asked| {
        if asked.path.contains("/A/") && asked.get("since").is_some() { status(410) } else { shown.answer(asked) }
    });
    bank.of("A").put("2", -4_000, "a");
    bank.of("B").put("2", -2_000, "a");
    world.polls().await;
    assert_eq!(children(&world).await, ["s.created A/2", "s.created B/2"], "no flood of what was known");
    assert_eq!(world.problems().await, ["history.gap core/s"]);
    assert!(world.says("history.gap").await.contains("`A`"));
    world.asked();
    let well = bank.clone();
    world.answers(move |asked| well.answer(asked));
    world.polls().await;
    assert_eq!(world.asked_for("since"), ["2026-01-05T11:59:56Z", "2026-01-05T11:59:58Z"]);
}
