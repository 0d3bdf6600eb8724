//! What may be asked, and how often: by declared rates, by the provider's headers, by its Retry-After.

use std::time::Duration;

use ringback::store::PollResult;

use super::kit::*;

const HOUR: Duration = Duration::from_secs(3600);

fn stream_with(limits: &str) -> String {
    format!("[streams.s]\npath = \"/items\"\nrecords = \".items\"\nkey = \".id\"\n{limits}\n")
}

fn empty(_: &Asked) -> Answer {
    ok(r#"{"items":[]}"#)
}

#[tokio::test]
async fn r10_3_four_reads_in_24_hours_stay_four_over_restarts_and_a_clock_that_is_set() {
    let mut world = World::new(&stream_with("limits = { rate = \"4/24h\" }"), empty).await;
    let mut sent: Vec<u32> = Vec::new();
    for hour in 0..72 {
        if world.poll().await.result == PollResult::Ok {
            sent.push(hour);
        }
        match hour % 7 {
            // The process ends; a person sets the clock back while it is down, and forward while it runs.
            1 => world = world.restart().await,
            3 => {
                world.clock.set_wall(-5 * 3_600_000);
                world.clock.look();
                world = world.restart().await;
            }
            5 => {
                world.clock.set_wall(26 * 3_600_000);
                let step = world.clock.look().expect("it was set");
                world.poller.clock_stepped(step);
            }
            _ => {}
        }
        world.clock.advance(HOUR);
    }
    assert_eq!(world.asked().len(), sent.len());
    assert_eq!(sent, [0, 1, 2, 3, 24, 25, 26, 27, 48, 49, 50, 51]);
}

#[tokio::test]
async fn r10_3_a_request_is_counted_before_it_is_sent_so_that_a_crash_does_not_give_it_back() {
    let world = World::new(&stream_with("limits = { rate = \"1/24h\" }"), |_| status(500)).await;
    assert_eq!(world.poll().await.result, PollResult::Failed);
    let world = world.restart().await;
    let report = world.poll().await;
    assert_eq!(report.result, PollResult::Deferred, "{:?}", report.error);
    assert_eq!(world.asked().len(), 1);
    assert!(world.due_in("s").await >= Duration::from_secs(86_400 - 1));
}

#[tokio::test]
async fn each_consent_has_the_streams_limits_for_itself_and_shares_the_credentials() {
    let wish = |provider_limits: &str| {
        Wish {
        provider: format!("settings.consent = \"which consent\"\n{provider_limits}"),
        source: "settings = { consent = \"one\" }\n[sources.other]\nprovider = \"./provider.toml\"\nsettings = { consent = \"two\" }".into(),
        ..Wish::default()
    }
    };
    for (provider_limits, own, other_waits) in
        [("", "limits = { rate = \"1/24h\" }", false), ("limits = { rate = \"1/24h\" }", "", true)]
    {
        let world = World::wishing(wish(provider_limits), &stream_with(own), empty).await;
        world.polls().await;
        assert_eq!(world.poll().await.result, PollResult::Deferred);
        let other = ringback::model::StreamName::new("other", "s");
        let report = world.poller.poll_once(&other, ringback::poll::Mode::Normal).await.expect("polled");
        assert_eq!(report.result == PollResult::Deferred, other_waits, "{provider_limits}{own}");
    }
}

#[tokio::test]
async fn pitfall_55_retry_after_is_obeyed_in_both_forms_with_a_cap_and_over_a_restart() {
    for (value, seconds) in
        [("120".to_owned(), 120), ("Mon, 05 Jan 2026 12:05:00 GMT".to_owned(), 300), ("99999999".to_owned(), 86_400)]
    {
        let world = World::new(&stream_with(""), move |_| status(429).with("retry-after", value.clone())).await;
        world.poll().await;
        assert_eq!(world.due_in("s").await, Duration::from_secs(seconds));
        let world = world.restart().await;
        world.answers(empty);
        world.asked();
        assert_eq!(world.polls_what_is_due().await, 0);
        assert_eq!(world.poll().await.result, PollResult::Deferred, "the credential keeps quiet");
        world.clock.advance(Duration::from_secs(seconds));
        world.polls().await;
        assert_eq!(world.asked().len(), 1);
    }
}

#[tokio::test]
async fn pitfall_55_a_spent_quota_is_left_alone_until_its_reset_and_shown() {
    let limits = "limits = { remaining = \"X-Left\", reset = \"X-Reset\", reset_unit = \"unix\", stop_below = 1 }";
    let wish = Wish { provider: limits.into(), ..Wish::default() };
    let world = World::wishing(wish, &stream_with(""), |_| {
        empty_with(&[("x-left", "2".to_owned()), ("x-reset", (START.0 / 1000 + 1_800).to_string())])
    })
    .await;
    world.polls().await;
    let metrics = world.metrics.render();
    assert!(metrics.contains("ringback_quota_remaining{source=\"core\",stream=\"s\"} 2"), "{metrics}");
    world.answers(|_| empty_with(&[("x-left", "1".to_owned()), ("x-reset", (START.0 / 1000 + 1_800).to_string())]));
    world.polls().await;
    let report = world.poll().await;
    assert_eq!(report.result, PollResult::Deferred, "the reserve is not touched");
    assert_eq!(world.due_in("s").await, Duration::from_secs(1_800));
    assert_eq!(world.problems().await, ["quota.exhausted core/s"], "late by it: a person must know");
    world.clock.advance(Duration::from_secs(1_800));
    world.polls().await;
    assert_eq!(world.problems().await, Vec::<String>::new());
}

fn empty_with(headers: &[(&'static str, String)]) -> Answer {
    headers.iter().fold(ok(r#"{"items":[]}"#), |answer, (name, value)| answer.with(name, value.clone()))
}

#[tokio::test]
async fn the_providers_own_least_interval_is_kept_also_when_a_webhook_asks_sooner() {
    let wish = Wish { provider: "limits = { pace = \"X-Poll-Interval\" }".into(), ..Wish::default() };
    let world =
        World::wishing(wish, &stream_with("every = \"10s\""), |_| empty_with(&[("x-poll-interval", "300".to_owned())]))
            .await;
    world.polls().await;
    assert_eq!(world.due_in("s").await, Duration::from_secs(300));
    world.clock.advance(Duration::from_secs(60));
    world.store.poll_now(&stream("s")).await.expect("asked for");
    world.asked();
    assert_eq!(world.polls_what_is_due().await, 1);
    assert_eq!(world.asked().len(), 0);
    assert_eq!(world.due_in("s").await, Duration::from_secs(240));
}

#[tokio::test]
async fn pitfall_56_a_refused_credential_is_asked_once_and_is_a_problem_until_it_is_taken_again() {
    let wish = Wish {
        provider: "secrets.key = \"a key\"\nauth = { type = \"bearer\", token = \"{{ secrets.key }}\" }".into(),
        source: "secrets = { key = { file = \"secret\" } }".into(),
        ..Wish::default()
    };
    let world = World::wishing(wish, &stream_with(""), |_| status(401)).await;
    for _ in 0..5 {
        world.polls_what_is_due().await;
        world.clock.advance(HOUR);
    }
    assert_eq!(world.asked().len(), 1, "banks lock accounts");
    assert_eq!(world.problems().await, ["auth.failed core", "stream.late core/s"]);
    world.answers(empty);
    world.polls().await;
    assert_eq!(world.problems().await, Vec::<String>::new());
}

#[tokio::test]
async fn pitfall_56_what_is_not_sent_because_the_credential_was_refused_spends_nothing() {
    let wish = Wish {
        provider: "secrets.key = \"a key\"\nauth = { type = \"bearer\", token = \"{{ secrets.key }}\" }".into(),
        source: "secrets = { key = { file = \"secret\" } }".into(),
        ..Wish::default()
    };
    let world = World::wishing(wish, &stream_with("limits = { rate = \"4/24h\" }"), |_| status(401)).await;
    for _ in 0..10 {
        world.polls_what_is_due().await;
        world.clock.advance(Duration::from_secs(600));
    }
    world.answers(empty);
    world.polls().await;
    world.polls().await;
    assert_eq!(world.asked().len(), 3);
}
