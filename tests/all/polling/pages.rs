//! Pages, slices, links and caps.

use std::time::Duration;

use super::kit::*;

/// Numbered pages of ten, asked by cursor where there is one.
fn numbered(kind: &str, cursor: &str, more: &str) -> String {
    let number = if kind == "page" { "page = \"{{ page.number }}\"" } else { "offset = \"{{ page.offset }}\"" };
    let since = if cursor.is_empty() { "" } else { "since = \"{{ cursor }}\", " };
    format!(
        "[streams.s]\npath = \"/items\"\nquery = {{ {since}{number} }}\nrecords = \".items\"\nkey = \".id\"\n\
         pagination = {{ type = \"{kind}\", size = 10 }}\n{cursor}\n{more}\n"
    )
}

fn shelf_of(count: i64) -> Shelf {
    let shelf = Shelf::default();
    (0..count).for_each(|n| shelf.put(&format!("r{n:03}"), -1_000_000 + n * 1_000, "a"));
    shelf
}

fn page(records: Vec<String>, asked: &Asked) -> Answer {
    let first = asked.number("offset").or(asked.number("page").map(|page| (page - 1) * 10)).unwrap_or(0) as usize;
    ok(list(&records.into_iter().skip(first).take(10).collect::<Vec<_>>()))
}

#[tokio::test]
async fn r1_5_numbered_pages_in_order_of_the_cursor_are_stepped_through_by_it_so_that_nothing_slips() {
    let shelf = shelf_of(45);
    let world = {
        let shelf = shelf.clone();
        World::new(
            &numbered("page", "cursor = { field = \".at\", order = \"asc\" }", "first_run = \"send-all\""),
            move |asked| {
                // Records that were listed already go from the front: every number behind them shifts.
                let answer = page(shelf.since(asked), asked);
                if let Some(first) = shelf.all().first().filter(|_| asked.get("since").is_some()) {
                    shelf.remove(&first.0);
                }
                answer
            },
        )
        .await
    };
    world.polls().await;
    assert_eq!(world.events().await.len(), 45);
    let pages = world.asked_for("page");
    assert!(pages.iter().all(|page| page == "1" || page == "2"), "numbers only inside one tick: {pages:?}");
}

#[tokio::test]
async fn r1_5_what_comes_in_after_a_short_page_is_not_jumped_over_by_the_next_number() {
    let shelf = shelf_of(2);
    let filled = shelf.clone();
    let streams = numbered("page", "cursor = { field = \".at\", order = \"asc\" }", "first_run = \"send-all\"");
    let world = World::new(&streams, move |asked| {
        let answer = page(filled.since(asked), asked);
        // After the first answer the list fills up: page 2 of the same question would begin with the eleventh record.
        (2..14).for_each(|n| filled.put(&format!("r{n:03}"), -1_000_000 + n * 1_000, "a"));
        answer
    })
    .await;
    world.polls().await;
    assert_eq!(world.events().await.len(), 14);
}

/// Two pages are one tick. Between them a record leaves the tick: the one behind it slips onto the page that was read.
#[tokio::test]
async fn r1_5_the_mark_waits_while_a_tick_is_counted_through_and_what_slipped_is_found() {
    let shelf = Shelf::default();
    shelf.put("known", -9_000, "a");
    let (shown, moved) = (shelf.clone(), std::sync::atomic::AtomicBool::new(false));
    let streams = numbered("page", "cursor = { field = \".at\", order = \"asc\" }", "version = \".at\"");
    let world = World::new(&streams, move |asked| {
        let answer = page(shown.since(asked), asked);
        // A row of the tick that is being counted through moves out of it: t09 slips onto the page that was read.
        let counted = asked.get("since").is_some_and(|since| since.contains("59:55"));
        if counted && asked.number("page") == Some(1) && !moved.swap(true, std::sync::atomic::Ordering::SeqCst) {
            shown.put("t00", -1_000, "b");
        }
        answer
    })
    .await;
    world.polls().await;
    (0..12).for_each(|n| shelf.put(&format!("t{n:02}"), -5_000, "a"));
    // Ticks behind it that are complete on the page after: a mark that went on to them would leave the row behind for good.
    (0..3).for_each(|n| shelf.put(&format!("u{n}"), -4_000 + n * 1_000, "a"));
    world.polls().await;
    world.polls_what_is_due().await;
    let told: std::collections::BTreeSet<String> = world.events().await.into_iter().collect();
    assert!(told.contains("s.updated t00"), "{told:?}");
    assert_eq!(told.len(), 16, "what slipped onto a page that was read is found: {told:?}");
}

#[tokio::test]
async fn r1_5_a_step_back_to_the_filters_whole_second_is_no_disorder() {
    let shelf = Shelf::default();
    shelf.put("known", -9_000_000, "a");
    // Four records in each second, and a filter in whole seconds: each step shows some of the last second's records again.
    let shown = shelf.clone();
    let streams = numbered("page", "cursor = { field = \".at\", order = \"asc\" }", "");
    let world = World::new(&streams, move |asked| page(shown.since(asked), asked)).await;
    world.polls().await;
    world.asked();
    (0..40).for_each(|n| shelf.put(&format!("r{n:03}"), -100_000 + n * 250, "a"));
    world.polls().await;
    assert_eq!(world.events().await.len(), 40);
    let pages = world.asked_for("page");
    assert!(pages[..pages.len() - 1].iter().all(|page| page == "1"), "every page but the last by a step: {pages:?}");
}

#[tokio::test]
async fn r1_5_a_tick_larger_than_a_page_is_read_by_numbers_and_left_by_the_cursor() {
    let shelf = Shelf::default();
    (0..25).for_each(|n| shelf.put(&format!("t{n}"), -5_000, "a"));
    (0..5).for_each(|n| shelf.put(&format!("u{n}"), -1_000, "a"));
    let world = {
        let shelf = shelf.clone();
        let streams = numbered("offset", "cursor = { field = \".at\", order = \"asc\" }", "first_run = \"send-all\"");
        World::new(&streams, move |asked| page(shelf.since(asked), asked)).await
    };
    world.polls().await;
    assert_eq!(world.events().await.len(), 30);
}

#[tokio::test]
async fn r1_5_a_run_over_shifting_numbers_is_made_again_until_nothing_unknown_comes() {
    let shelf = shelf_of(25);
    let stolen = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let world = {
        let (shelf, stolen) = (shelf.clone(), stolen.clone());
        World::new(
            &numbered("page", "cursor = { field = \".at\" }", "detect = \"new\"\nfirst_run = \"send-all\""),
            move |asked| {
                let answer = page(shelf.since(asked), asked);
                if asked.number("page") == Some(1) && !stolen.swap(true, std::sync::atomic::Ordering::SeqCst) {
                    // r010 moves to the page that was read already.
                    shelf.remove("r000");
                }
                answer
            },
        )
        .await
    };
    assert_eq!(world.polls_what_is_due().await, 3, "at once, until one of them brings nothing unknown");
    assert_eq!(world.events().await.len(), 25, "the record that slipped away was found");
    assert_eq!(world.mark().await, Some(-976_000));
    world.asked();
    world.polls().await;
    assert_eq!(world.asked_for("page"), ["1", "2"], "nothing unknown: not again");
}

#[tokio::test]
async fn r1_5_a_run_that_may_have_shifted_does_not_move_the_mark_and_one_declared_stable_does() {
    for (stable, runs) in [("", 2), ("stable = true", 1)] {
        let shelf = shelf_of(25);
        let streams = numbered("page", "cursor = { field = \".at\" }", &format!("first_run = \"send-all\"\n{stable}"));
        let world = World::new(&streams, move |asked| page(shelf.since(asked), asked)).await;
        world.polls().await;
        assert_eq!(world.mark().await.is_some(), runs == 1, "{stable}");
        assert_eq!(world.polls_what_is_due().await, runs - 1);
        assert_eq!(world.mark().await, Some(-976_000), "{stable}");
        assert_eq!(world.events().await.len(), 25, "and nothing twice");
    }
}

#[tokio::test]
async fn pitfall_17_a_record_that_slipped_between_two_pages_is_not_reported_as_deleted() {
    let shelf = shelf_of(25);
    let streams = numbered("page", "", "detect = \"snapshot\"\ndeletes = { confirm_after = 1 }");
    let world = {
        let shelf = shelf.clone();
        World::new(&streams, move |asked| page(shelf.json(|_| true), asked)).await
    };
    world.polls_what_is_due().await;
    assert_eq!(world.problems().await, Vec::<String>::new());
    let slipped = shelf.clone();
    world.answers(move |asked| {
        let answer = page(slipped.json(|_| true), asked);
        if asked.number("page") == Some(1) {
            // A record goes from the front, one comes at the end; r010 is on no page of this run.
            slipped.remove("r000");
            slipped.put("z", 0, "a");
        }
        answer
    });
    world.polls().await;
    assert_eq!(world.events().await, ["s.created z"], "a run with changes may have shifted: it judges no absence");
    let whole = shelf.clone();
    world.answers(move |asked| page(whole.json(|_| true), asked));
    world.polls().await;
    assert_eq!(world.events().await, ["s.created z", "s.deleted r000"]);
}

#[tokio::test]
async fn pitfall_22_the_last_link_is_kept_over_runs_and_an_empty_page_that_always_links_on_ends_the_run() {
    let streams = r#"
[streams.s]
path       = "/logs"
query      = { limit = 2 }
records    = ".items"
key        = ".id"
detect     = "new"
first_run  = "send-all"
cursor     = { type = "link" }
pagination = { type = "link_header" }
"#;
    let shelf = Shelf::of(&[("a", 1), ("b", 2), ("c", 3)]);
    let shown = shelf.clone();
    let world = World::new(streams, move |asked| {
        let after = asked.number("after").unwrap_or(0);
        let records: Vec<String> = shown.json(|time| time > after).into_iter().take(2).collect();
        let last =
            shown.all().into_iter().filter(|(_, time)| *time > after).take(2).last().map_or(after, |(_, time)| time);
        // Like a system log: there is always a next link.
        ok(list(&records)).with("link", format!("</logs?limit=2&after={last}>; rel=\"next\""))
    })
    .await;
    world.polls().await;
    assert_eq!(world.events().await, ["s.created a", "s.created b", "s.created c"]);
    world.asked();
    shelf.put("d", 4, "a");
    let world = world.restart().await;
    world.polls().await;
    assert_eq!(world.events().await.last().map(String::as_str), Some("s.created d"));
    assert_eq!(world.asked_for("after"), ["3", "4"], "from the kept link, not from the beginning");
}

#[tokio::test]
async fn pitfall_26_a_kept_link_is_not_followed_to_a_host_that_the_source_no_longer_names() {
    let streams = r#"
[streams.s]
path       = "/logs"
records    = ".items"
key        = ".id"
cursor     = { type = "link" }
pagination = { type = "next_url", next = ".next" }
"#;
    let wish = || Wish {
        provider: "secrets.key = \"a key\"\nauth = { type = \"bearer\", token = \"{{ secrets.key }}\" }".into(),
        source: "secrets = { key = { file = \"secret\" } }".into(),
        ..Wish::default()
    };
    let old = World::wishing(wish(), streams, |_| ok(r#"{"items":[],"next":"/logs?after=7"}"#)).await;
    old.polls().await;
    let elsewhere = World::wishing(wish(), streams, |_| ok(r#"{"items":[]}"#)).await;
    let (from, to) = (old.base.clone(), elsewhere.base.clone());
    old.asked();
    let moved = old.restart_with(move |_, text| text.replace(&from, &to)).await;
    moved.polls().await;
    assert_eq!(moved.asked().len(), 0, "the credential went to the old host");
    assert_eq!(elsewhere.asked_for("after"), ["-"], "the listing begins anew at the new one");
}

#[tokio::test]
async fn pitfall_26_a_next_link_or_a_redirect_to_another_host_gets_no_request_at_all() {
    let thief = World::new("[streams.s]\npath = \"/\"\nkey = \".id\"", |_| ok("[]")).await;
    let there = thief.base.clone();
    let streams = "[streams.s]\npath = \"/items\"\nrecords = \".items\"\nkey = \".id\"\npagination = { type = \"next_url\", next = \".next\" }";
    let world = {
        let there = there.clone();
        World::new(streams, move |_| ok(format!(r#"{{"items":[],"next":"{there}/items"}}"#))).await
    };
    world.poll().await;
    assert_eq!(world.problems().await, ["host.refused core/s"]);
    world.answers(move |_| status(307).with("location", format!("{there}/items")));
    world.poll().await;
    assert_eq!(thief.asked().len(), 0);
}

const WINDOW: &str = r#"
[streams.s]
path    = "/items"
query   = { from = "{{ window.start }}", to = "{{ window.end }}" }
records = ".items"
key     = ".id"
created = ".at"
first_run = "send-all"
window  = { step = "10d" }
cursor  = { field = ".at", start = "35d" }
"#;

const DAY: i64 = 86_400_000;

fn between(shelf: &Shelf, asked: &Asked) -> Vec<String> {
    let (from, to) = (asked.time("from").expect("from"), asked.time("to").expect("to"));
    assert!(to - from <= 10 * DAY, "a longer range than the API takes");
    shelf.json(|time| (from..=to).contains(&(time + START.0)))
}

#[tokio::test]
async fn slices_of_a_window_reach_from_the_start_to_now_and_settled_ones_are_not_asked_for_again() {
    let shelf = Shelf::of(&[("a", -30 * DAY), ("edge", -25 * DAY), ("b", -DAY)]);
    let shown = shelf.clone();
    let world = World::new(WINDOW, move |asked| ok(list(&between(&shown, asked)))).await;
    world.polls().await;
    assert_eq!(world.events().await.len(), 3, "one on the edge of two slices is told once");
    let days = |world: &World| -> Vec<i64> {
        world.asked().iter().map(|asked| (asked.time("from").expect("from") - START.0) / DAY).collect()
    };
    assert_eq!(days(&world), [-35, -25, -15, -5]);
    world.polls().await;
    assert_eq!(days(&world), [-1]);
    // Nothing for long: what lies a whole slice back is not asked for for ever.
    world.clock.advance(Duration::from_secs(40 * 86_400));
    world.polls().await;
    assert_eq!(days(&world).len(), 5);
    world.polls().await;
    assert_eq!(days(&world).len(), 2);
}

#[tokio::test]
async fn r1_1_slices_end_where_the_providers_clock_stands_and_not_ours() {
    let shelf = Shelf::default();
    shelf.put("early", -400_000, "a");
    let shown = shelf.clone();
    let streams = WINDOW.replace("10d", "1m").replace("35d", "10m");
    let world = World::new(&streams, move |asked| ok(list(&between(&shown, asked)))).await;
    // Its clock is five minutes behind, which nobody knows before the first answer.
    world.provider_clock_is_ahead_by(-300_000);
    world.polls().await;
    let mark = world.mark().await.unwrap_or(i64::MIN);
    assert!(mark <= -300_000, "past the provider's own clock: {mark}");
    shelf.put("written next", -290_000, "a");
    world.clock.advance(Duration::from_secs(20));
    world.polls().await;
    assert!(world.events().await.contains(&"s.created written next".to_owned()), "{:?}", world.events().await);
}

#[tokio::test]
async fn pitfall_24_a_slice_over_the_providers_result_cap_is_halved_until_it_fits() {
    let shelf = Shelf::default();
    (0..60).for_each(|n| shelf.put(&format!("r{n:02}"), -9 * DAY + n * 60_000, "a"));
    let streams = WINDOW.replace("35d", "10d") + "pagination = { type = \"token\", next = \".next\", split_at = 20 }\n";
    let streams =
        streams.replace("to = \"{{ window.end }}\"", "to = \"{{ window.end }}\", token = \"{{ page.token }}\"");
    let shown = shelf.clone();
    let world = World::new(&streams, move |asked| {
        let first = asked.number("token").unwrap_or(0) as usize;
        // The provider shows twenty, says that there is no more, and is silent about the rest.
        let records: Vec<String> = between(&shown, asked).into_iter().take(20).skip(first).take(10).collect();
        let next = if first == 0 && records.len() == 10 { r#","next":"10""# } else { "" };
        ok(format!(r#"{{"items":[{}]{next}}}"#, records.join(",")))
    })
    .await;
    world.polls().await;
    assert_eq!(world.events().await.len(), 60);
}

#[tokio::test]
async fn pitfall_24_a_result_cap_over_a_sorted_listing_is_passed_by_the_cursor_and_in_one_tick_it_is_a_problem() {
    let streams =
        numbered("page", "cursor = { field = \".at\", order = \"asc\" }", "stable = true\nfirst_run = \"send-all\"")
            .replace("size = 10 }", "size = 10, split_at = 20 }");
    let capped = |shelf: &Shelf, asked: &Asked| {
        let shown: Vec<String> = shelf.since(asked).into_iter().take(20).collect();
        page(shown, asked)
    };
    let shelf = shelf_of(55);
    let shown = shelf.clone();
    let world = World::new(&streams, move |asked| capped(&shown, asked)).await;
    world.polls().await;
    assert_eq!(world.events().await.len(), 55);
    let tick = Shelf::default();
    (0..30).for_each(|n| tick.put(&format!("t{n}"), -1_000, "a"));
    world.answers(move |asked| capped(&tick, asked));
    let report = world.poll().await;
    assert!(report.error.is_some_and(|error| error.contains("cap of 20")));
    assert_eq!(world.problems().await, ["page.clamped core/s"]);
}

#[tokio::test]
async fn pitfall_25_a_page_that_is_refused_begins_the_next_run_at_the_mark_and_not_in_the_middle() {
    let streams = "[streams.s]\npath = \"/items\"\nquery = { token = \"{{ page.token }}\" }\nrecords = \".items\"\nkey = \".id\"\n\
                   pagination = { type = \"token\", next = \".next\" }";
    let world = World::new(streams, |asked| match asked.get("token") {
        None => ok(r#"{"items":[{"id":1}],"next":"t"}"#),
        Some(_) => status(400),
    })
    .await;
    world.poll().await;
    world.poll().await;
    assert_eq!(world.asked_for("token"), ["-", "t", "-", "t"]);
}

/// Five pages of two, the provider so slow that a run has its time after three.
async fn slow(detect: &str, first_run: &str) -> World {
    let streams = format!(
        "[streams.s]\npath = \"/items\"\nquery = {{ token = \"{{{{ page.token }}}}\" }}\nrecords = \".items\"\nkey = \".id\"\n\
         pagination = {{ type = \"token\", next = \".next\" }}\nfirst_run = \"{first_run}\"\n{detect}"
    );
    let clock = ringback::clock::Clock::manual(START);
    let time = clock.clone();
    World::at_clock(clock, Wish::default(), &streams, move |asked| {
        time.advance(Duration::from_secs(240));
        let page = asked.number("token").unwrap_or(0);
        let next = if page < 4 { format!(r#","next":"{}""#, page + 1) } else { String::new() };
        ok(format!(r#"{{"items":[{{"id":"{page}a"}},{{"id":"{page}b"}}]{next}}}"#))
    })
    .await
}

#[tokio::test]
async fn r1_4_a_run_that_had_its_time_goes_on_where_it_stopped_also_in_another_process() {
    for (detect, first_run, events) in
        [("", "send-all", 10), ("", "baseline", 0), ("detect = \"snapshot\"", "send-all", 10)]
    {
        let world = slow(detect, first_run).await;
        let report = world.poll().await;
        assert_eq!(report.result, ringback::store::PollResult::Deferred, "{:?}", report.error);
        assert_eq!(world.asked_for("token"), ["-", "1", "2"]);
        assert_eq!(world.due_in("s").await, Duration::ZERO);
        let world = world.restart().await;
        world.polls().await;
        assert_eq!(world.asked_for("token"), ["3", "4"], "{detect} {first_run}");
        assert_eq!(world.events().await.len(), events);
        assert_eq!(world.status_of("s").await.records, 10);
        assert_eq!(world.state().await.phase, ringback::store::Phase::Live);
    }
}

#[tokio::test]
async fn r1_4_a_resumed_run_judges_no_deletes() {
    let world = slow("detect = \"snapshot\"\ndeletes = { confirm_after = 1 }", "send-all").await;
    world.poll().await;
    world.polls().await;
    // The next look is paused after its first pages; what it then does not see may have been on those.
    world.poll().await;
    world.answers(|_| ok(r#"{"items":[]}"#));
    world.polls().await;
    assert!(world.events().await.iter().all(|event| !event.contains("deleted")));
}

#[tokio::test]
async fn r1_4_a_resume_point_that_the_provider_has_forgotten_is_dropped() {
    let world = slow("", "send-all").await;
    world.poll().await;
    world.asked();
    world.answers(|asked| if asked.get("token").is_some() { status(400) } else { ok(r#"{"items":[{"id":"whole"}]}"#) });
    world.poll().await;
    world.polls().await;
    assert_eq!(world.asked_for("token"), ["3", "-"]);
    assert_eq!(world.events().await, ["s.created whole"]);
}

#[tokio::test]
async fn r1_4_no_more_changes_than_allowed_go_out_of_one_run_and_none_is_dropped() {
    for (cursor, size) in [("", 25), ("cursor = { field = \".at\", order = \"asc\" }\nstable = true", 25)] {
        let shelf = shelf_of(1);
        let shown = shelf.clone();
        let streams = numbered("page", cursor, "max_per_run = 10");
        let world = World::new(&streams, move |asked| page(shown.since(asked), asked)).await;
        world.polls_what_is_due().await;
        (0..size).for_each(|n| shelf.put(&format!("n{n:02}"), n * 1_000 - 60_000, "a"));
        let mut sent = Vec::new();
        for _ in 0..6 {
            world.clock.advance(Duration::from_secs(90));
            world.poll().await;
            sent.push(world.events().await.len());
        }
        assert_eq!(sent.last(), Some(&25), "{cursor}: {sent:?}");
        assert!(sent[0] <= 20 && sent.windows(2).all(|pair| pair[1] - pair[0] <= 20), "{cursor}: {sent:?}");
        assert!(sent[0] < 25, "{cursor}: {sent:?}");
        let mut events = world.events().await;
        events.sort();
        events.dedup();
        assert_eq!(events.len(), 25, "each once");
    }
}

#[tokio::test]
async fn r1_5_a_listing_of_one_short_page_cannot_shift_and_is_made_once() {
    let shelf = shelf_of(5);
    let streams = numbered("page", "", "detect = \"snapshot\"");
    let shown = shelf.clone();
    let world = World::new(&streams, move |asked| page(shown.json(|_| true), asked)).await;
    assert_eq!(world.polls_what_is_due().await, 1);
    shelf.put("new", 0, "a");
    world.polls().await;
    assert_eq!(world.polls_what_is_due().await, 0);
    assert_eq!(world.events().await, ["s.created new"]);
}

#[tokio::test]
async fn r1_4_a_quota_that_is_spent_in_the_middle_of_a_listing_is_waited_for_there() {
    let streams = "[streams.s]\npath = \"/items\"\nquery = { token = \"{{ page.token }}\" }\nrecords = \".items\"\nkey = \".id\"\n\
                   pagination = { type = \"token\", next = \".next\" }\nfirst_run = \"send-all\"\nlimits = { rate = \"2/1h\" }";
    let mut world = World::new(streams, |asked| {
        let page = asked.number("token").unwrap_or(0);
        let next = if page < 4 { format!(r#","next":"{}""#, page + 1) } else { String::new() };
        ok(format!(r#"{{"items":[{{"id":{page}}}]{next}}}"#))
    })
    .await;
    let mut runs = 0;
    while world.poll().await.result != ringback::store::PollResult::Ok {
        assert_eq!(world.due_in("s").await, Duration::from_secs(3_600));
        world.clock.advance(Duration::from_secs(3_600));
        world = world.restart().await;
        runs += 1;
        assert!(runs < 5, "a listing of five pages never ends with two requests an hour");
    }
    assert_eq!(world.asked_for("token"), ["-", "1", "2", "3", "4"]);
    assert_eq!(world.events().await.len(), 5);
}

#[tokio::test]
async fn r1_4_the_mark_of_a_run_in_two_parts_is_the_furthest_that_either_part_saw() {
    let streams = "[streams.s]\npath = \"/items\"\nquery = { since = \"{{ cursor }}\", token = \"{{ page.token }}\" }\n\
                   records = \".items\"\nkey = \".id\"\ndetect = \"new\"\ncursor = { field = \".at\", order = \"desc\" }\n\
                   pagination = { type = \"token\", next = \".next\" }";
    let clock = ringback::clock::Clock::manual(START);
    let time = clock.clone();
    let world = World::at_clock(clock, Wish::default(), streams, move |asked| {
        time.advance(Duration::from_secs(240));
        let page = asked.number("token").unwrap_or(0);
        let next = if page < 4 { format!(r#","next":"{}""#, page + 1) } else { String::new() };
        ok(format!(r#"{{"items":[{{"id":{page},"at":"{}"}}]{next}}}"#, at(-1_000 * (page + 1))))
    })
    .await;
    world.poll().await;
    assert_eq!(world.mark().await, None, "nothing is passed before all of it is on disk");
    let world = world.restart().await;
    world.polls().await;
    assert_eq!(world.mark().await, Some(-1_000), "newest first: the first part saw it");
}
