//! Listings that look whole and are not: links that only count pages, a later page that is said to be none, listings that go on at
//! another time or another host.

use std::time::Duration;

use ringback::clock::Clock;
use ringback::store::PollResult;

use super::kit::*;

/// Such a record does not move, it goes.
const GONE: i64 = i64::MAX / 4;

/// A list in pages of ten whose links to the next page name its number, under another path, as code hosts give them. `writes`: how
/// the link writes what was asked.
fn linked(shelf: &Shelf, moves: &Shelf, writes: fn(&str) -> String) -> impl Fn(&Asked) -> Answer + Send + Sync + use<> {
    let (shelf, moves) = (shelf.clone(), moves.clone());
    move |asked| {
        let number = asked.number("page").unwrap_or(1);
        let records = shelf.since(asked);
        let left = records.len() as i64 > number * 10;
        let records: Vec<String> = records.into_iter().skip((number as usize - 1) * 10).take(10).collect();
        // Between two pages these are changed: they move to the end, and all behind them one place to the front.
        for (id, time) in moves.all() {
            if shelf.all().len() > 10 {
                moves.remove(&id);
                shelf.remove(&id);
                if time != GONE {
                    shelf.put(&id, time, "changed");
                }
            }
        }
        let asked_for: Vec<&str> = asked.query_string.split('&').filter(|part| !part.starts_with("page=")).collect();
        let next = format!("/repositories/1300192/items?{}&page={}", writes(&asked_for.join("&")), number + 1);
        if left {
            ok(format!(r#"{{"items":[{}],"next":"{next}"}}"#, records.join(",")))
                .with("link", format!("<{next}>; rel=\"next\""))
        } else {
            ok(list(&records))
        }
    }
}

fn streams(pagination: &str, more: &str) -> String {
    let since = if more.contains("cursor") { "since = \"{{ cursor }}\", " } else { "" };
    format!(
        "[streams.s]\npath = \"/repos/o/r/items\"\nquery = {{ {since}per_page = \"{{{{ page.size }}}}\" }}\nrecords = \".items\"\nkey = \".id\"\n\
         pagination = {{ {pagination}, size = 10 }}\n{more}\n"
    )
}

const LINKS: [&str; 2] = ["type = \"link_header\"", "type = \"next_url\", next = \".next\""];

#[tokio::test]
async fn r1_5_nothing_slips_between_links_that_only_count_pages() {
    let as_asked: fn(&str) -> String = str::to_owned;
    // A link may write what was asked in its own way; then the file says that it counts.
    let in_its_own_way: fn(&str) -> String = |query| query.replace("Z&", "%2B00:00&");
    for kind in LINKS {
        for (order, numbered, writes) in [
            (", order = \"asc\"", "", as_asked),
            ("", "", as_asked),
            (", order = \"asc\"", ", numbered = true", in_its_own_way),
        ] {
            let (shelf, moves) = (Shelf::of(&[("known", -9_000_000)]), Shelf::default());
            let streams = streams(&format!("{kind}{numbered}"), &format!("cursor = {{ field = \".at\"{order} }}"));
            let world = World::new(&streams, linked(&shelf, &moves, writes)).await;
            world.polls().await;
            (0..12).for_each(|n| shelf.put(&format!("r{n:02}"), -100_000 + n * 1_000, "a"));
            moves.put("r02", -500, "");
            world.polls().await;
            world.polls_what_is_due().await;
            let events = world.events().await;
            let told = (0..12).filter(|n| events.iter().any(|event| event.ends_with(&format!("r{n:02}")))).count();
            assert_eq!(told, 12, "{kind} {order}: {events:?}");
        }
    }
}

#[tokio::test]
async fn pitfall_17_a_record_that_slipped_between_two_counting_links_is_not_reported_as_deleted() {
    for kind in LINKS {
        let (shelf, moves) = (Shelf::default(), Shelf::default());
        (0..15).for_each(|n| shelf.put(&format!("r{n:02}"), -100_000 + n * 1_000, "a"));
        let snapshot = "detect = \"snapshot\"\ndeletes = { confirm_after = 1, max_percent = 100 }";
        let world = World::new(&streams(kind, snapshot), linked(&shelf, &moves, str::to_owned)).await;
        world.polls_what_is_due().await;
        // The eleventh record slips onto the page that was read.
        moves.put("r02", GONE, "");
        shelf.put("r13", -400, "changed");
        world.polls().await;
        let deleted: Vec<String> = world.events().await.into_iter().filter(|event| event.contains("deleted")).collect();
        assert_eq!(deleted, Vec::<String>::new(), "{kind}");
    }
}

#[tokio::test]
async fn r1_5_links_with_tokens_are_followed_and_a_run_over_them_is_made_once() {
    let shelf = Shelf::default();
    (0..25).for_each(|n| shelf.put(&format!("r{n:02}"), -100_000 + n * 1_000, "a"));
    let streams = streams(LINKS[0], "cursor = { field = \".at\" }\nfirst_run = \"send-all\"");
    let world = World::new(&streams, move |asked| {
        let after: usize = asked.get("after").and_then(|token| token.strip_prefix("tok9x")?.parse().ok()).unwrap_or(0);
        let records: Vec<String> = shelf.json(|_| true).into_iter().skip(after).take(10).collect();
        let answer = ok(list(&records));
        if after + 10 < 25 {
            answer.with("link", format!("<?after=tok9x{}>; rel=\"next\"", after + 10))
        } else {
            answer
        }
    })
    .await;
    world.polls().await;
    assert_eq!(world.polls_what_is_due().await, 0, "a token cannot slip");
    assert_eq!(world.asked_for("after"), ["-", "tok9x10", "tok9x20"]);
    assert_eq!((world.events().await.len(), world.mark().await), (25, Some(-76_000)));
}

#[tokio::test]
async fn pitfall_29_a_later_page_that_is_said_to_be_none_proves_nothing_of_what_is_absent() {
    for total in ["", ", total = \".total\""] {
        let streams = format!(
            "[streams.s]\npath = \"/items\"\nquery = {{ token = \"{{{{ page.token }}}}\" }}\nrecords = \".items\"\nkey = \".id\"\ndetect = \"snapshot\"\n\
             deletes = {{ confirm_after = 1, max_percent = 100 }}\nresponse_actions = [{{ status = [404], action = \"empty\" }}]\n\
             pagination = {{ type = \"token\", next = \".next\"{total} }}\n"
        );
        let first = r#"{"items":[{"id":1},{"id":2}],"next":"t","total":3}"#;
        let world = World::new(&streams, move |asked| match asked.get("token") {
            None => ok(first),
            Some(_) => ok(r#"{"items":[{"id":3}],"total":3}"#),
        })
        .await;
        world.polls().await;
        world.answers(move |asked| if asked.get("token").is_some() { status(404) } else { ok(first) });
        world.polls().await;
        world.polls().await;
        assert_eq!(world.events().await, Vec::<String>::new(), "{total}");
        world.answers(|_| ok(r#"{"items":[{"id":1},{"id":2}],"total":2}"#));
        world.polls().await;
        assert_eq!(world.events().await, ["s.deleted 3"], "{total}");
    }
}

/// The provider is so slow that a run has its time after three pages.
async fn slow(streams: &str, answers: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> World {
    let clock = Clock::manual(START);
    let time = clock.clone();
    World::at_clock(clock, Wish::default(), streams, move |asked| {
        time.advance(Duration::from_secs(240));
        answers(asked)
    })
    .await
}

#[tokio::test]
async fn r1_4_a_numbered_listing_that_goes_on_with_its_last_short_page_is_whole() {
    let streams = "[streams.s]\npath = \"/items\"\nquery = { page = \"{{ page.number }}\" }\nrecords = \".items\"\nkey = \".id\"\n\
                   pagination = { type = \"page\", size = 2, total = \".total\" }\nfirst_run = \"send-all\"\nstable = true";
    let world = slow(streams, |asked| {
        let ids = (1..=7).skip((asked.number("page").unwrap_or(1) as usize - 1) * 2).take(2);
        let records: Vec<String> = ids.map(|id| format!(r#"{{"id":{id}}}"#)).collect();
        ok(format!(r#"{{"items":[{}],"total":7}}"#, records.join(",")))
    })
    .await;
    assert_eq!(world.poll().await.result, PollResult::Deferred);
    world.polls().await;
    assert_eq!(world.asked_for("page"), ["1", "2", "3", "4"]);
    assert_eq!(world.events().await.len(), 7);
    assert!(!world.problems().await.contains(&"page.clamped core/s".to_owned()));
}

#[tokio::test]
async fn pitfall_26_a_listing_that_stopped_at_a_former_host_begins_anew_at_the_present_one() {
    let streams = "[streams.s]\npath = \"/items\"\nrecords = \".items\"\nkey = \".id\"\nfirst_run = \"send-all\"\n\
                   pagination = { type = \"next_url\", next = \".next\" }";
    let endless = |asked: &Asked| {
        let token = asked.number("token").unwrap_or(0) + 1;
        ok(format!(r#"{{"items":[{{"id":{token}}}],"next":"/items?token={token}7"}}"#))
    };
    let old = slow(streams, endless).await;
    assert_eq!(old.poll().await.result, PollResult::Deferred);
    let elsewhere = World::new(streams, |_| ok(r#"{"items":[{"id":1}]}"#)).await;
    let (from, to) = (old.base.clone(), elsewhere.base.clone());
    assert!(!old.asked().is_empty());
    let moved = old.restart_with(move |_, text| text.replace(&from, &to)).await;
    moved.polls().await;
    assert_eq!(moved.asked().len(), 0, "the credential went to the former host");
    assert_eq!(elsewhere.asked_for("token"), ["-"]);
}
