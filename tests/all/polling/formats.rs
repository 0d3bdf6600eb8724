//! Answers that are not JSON: what each becomes, what a page for people or a fault in its place is, what one bad row costs.

use super::kit::{Answer, Asked, Wish, World, ok, status};

async fn world(stream: &str, answers: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> World {
    let wish = Wish { source: "streams.s.first_run = \"send-all\"".into(), ..Wish::default() };
    World::wishing(wish, &format!("[streams.s]\npath = \"/s\"\n{stream}"), answers).await
}

const PAYMENTS: &str =
    "format = \"xml\"\nxml_lists = [\"Payment\"]\nrecords = \".r.Payments.Payment\"\nkey = \".Id\"\n";

#[tokio::test]
async fn xml_is_read_with_one_item_with_several_and_with_none() {
    let world = world(PAYMENTS, |_| ok("<r><Payments/></r>")).await;
    world.polls().await;
    world.answers(|_| ok("<r><Payments><Payment><Id>1</Id></Payment></Payments></r>"));
    world.polls().await;
    let two = "<Payment><Id>1</Id><S>b</S></Payment><Payment><Id>2</Id></Payment>";
    world.answers(move |_| ok(format!("<r><Payments>{two}</Payments></r>")));
    world.polls().await;
    assert_eq!(world.events().await, ["s.created 1", "s.updated 1", "s.created 2"]);
    // Other prefixes, other space, the same records.
    world.answers(|_| {
        ok("<x:r xmlns:x=\"u\">\n <x:Payments>\n  <x:Payment> <x:Id>1</x:Id><x:S>b</x:S> </x:Payment>\n\
            <x:Payment><x:Id>2</x:Id></x:Payment></x:Payments></x:r>")
    });
    world.polls().await;
    assert_eq!(world.events().await.len(), 3, "what only looks different is no change");
}

#[tokio::test]
async fn an_answer_that_is_no_whole_xml_fails_the_poll_and_deletes_nothing() {
    let stream = format!("{PAYMENTS}detect = \"snapshot\"\n");
    let world = world(&stream, |_| ok("<r><Payments><Payment><Id>1</Id></Payment></Payments></r>")).await;
    world.polls().await;
    for (body, reason) in [
        ("<r><Payments>", "cut off"),
        ("<!DOCTYPE r [<!ENTITY x \"y\">]><r><Payments>&x;</Payments></r>", "DOCTYPE"),
        ("<html><body>Please log in</body></html>", "HTML"),
        ("", "no element"),
        ("<r/>", "`records`"),
    ] {
        world.answers(move |_| ok(body));
        let error = world.poll().await.error.unwrap_or_default();
        assert!(error.contains(reason), "{body}: {error}");
    }
    assert_eq!(world.events().await, ["s.created 1"]);
}

const SOAP: &str = "format = \"soap\"\nmethod = \"POST\"\nbody = \"<x/>\"\nrecords = \".List.Item\"\nkey = \".Id\"\nxml_lists = [\"Item\"]\n";

fn envelope(inner: &str) -> String {
    format!("<s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\"><s:Body>{inner}</s:Body></s:Envelope>")
}

fn fault(code: &str) -> String {
    envelope(&format!("<s:Fault><faultcode>s:{code}</faultcode><faultstring>no luck</faultstring></s:Fault>"))
}

#[tokio::test]
async fn a_soap_fault_is_told_with_its_code_whatever_its_status() {
    let world = world(SOAP, |_| ok(envelope("<List><Item><Id>1</Id></Item></List>"))).await;
    world.polls().await;
    assert_eq!(world.events().await, ["s.created 1"]);
    for code in [200, 500] {
        world.answers(move |_| Answer { body: fault("Client"), ..status(code) });
        let error = world.poll().await.error.unwrap_or_default();
        assert!(error.contains("SOAP fault: Client: no luck"), "{error}");
        assert!(
            world.problems().await.contains(&"answer.unreadable core/s".to_owned()),
            "{:?}",
            world.problems().await
        );
    }
}

#[tokio::test]
async fn what_a_fault_means_may_be_declared() {
    let rules = "[[streams.s.response_actions]]\nwhen = '.Fault.code == \"NoData\"'\naction = \"empty\"\n\
        [[streams.s.response_actions]]\nwhen = '.Fault.message == \"no luck\"'\naction = \"retry\"\nmessage = \"busy\"\n";
    let world = world(&format!("{SOAP}{rules}"), |_| Answer { body: fault("NoData"), ..status(500) }).await;
    world.polls().await;
    world.answers(|_| Answer { body: fault("Server"), ..status(500) });
    let report = world.poll().await;
    assert!(report.error.unwrap_or_default().starts_with("busy"));
    assert_eq!(world.problems().await, [""; 0], "it may pass by itself");
}

#[tokio::test]
async fn an_error_told_inside_a_good_status_is_no_empty_list() {
    let rules = "[[streams.s.response_actions]]\nwhen = '.r.error != null'\naction = \"rate_limited\"\n";
    let world = world(&format!("{PAYMENTS}{rules}"), |_| ok("<r><error>slow down</error></r>")).await;
    let report = world.poll().await;
    assert!(report.error.unwrap_or_default().contains("200"), "by the rule");
}

#[tokio::test]
async fn csv_rows_are_records_and_one_bad_row_is_set_aside() {
    let stream = "format = \"csv\"\ncsv = { delimiter = \";\" }\nkey = \".Nr\"\n";
    let rows = |bad: &str| {
        let good: Vec<String> = (1..=12).map(|n| format!("{n};\"{n},50\"")).collect();
        format!("Nr;Betrag\r\n{}\r\n{bad}", good.join("\r\n"))
    };
    let world = world(stream, move |_| ok(rows("13;x;y\r\n"))).await;
    world.polls().await;
    assert_eq!(world.events().await.len(), 12);
    assert_eq!(world.problems().await, ["record.unreadable core/s"]);
    world.answers(move |_| ok(rows("13;\"open\r\n14;x\r\n")));
    assert!(world.poll().await.error.unwrap_or_default().contains("cut off inside a quoted field"));
}

#[tokio::test]
async fn ndjson_feeds_and_text_are_read() {
    let lines = world("format = \"ndjson\"\nkey = \".id\"\n", |_| ok("{\"id\":1}\n{\"id\":2}\n")).await;
    lines.polls().await;
    assert_eq!(lines.events().await, ["s.created 1", "s.created 2"]);
    let feed = world("format = \"feed\"\nkey = \".id\"\ndetect = \"new\"\ntime = \".published\"\n", |_| {
        ok(
            "<rss version=\"2.0\"><channel><item><guid>g</guid><pubDate>Mon, 05 Jan 2026 12:00:00 GMT</pubDate></item></channel></rss>",
        )
    });
    let feed = feed.await;
    feed.polls().await;
    assert_eq!(feed.events().await, ["s.created g"]);
    let text = world(
        "format = \"text\"\nrecords = '[.text | splits(\"\\n\") | select(. != \"\") | {line: .}]'\nkey = \".line\"\n",
        |_| ok("10.0.0.1\n10.0.0.2\n"),
    );
    let text = text.await;
    text.polls().await;
    assert_eq!(text.events().await, ["s.created 10.0.0.1", "s.created 10.0.0.2"]);
}

#[tokio::test]
async fn a_session_is_opened_by_xml_and_its_end_is_told_inside_a_good_answer() {
    let provider = "format = \"xml\"\nxml_lists = [\"Payment\"]\nsecrets.a = \"one\"\n[auth]\ntype = \"session\"\n\
        login = { path = \"/login\", body = \"<login><pass>{{ secrets.a | xml }}</pass></login>\" }\n\
        token_path = \".loginResponse.sessionId\"\nin = \"header\"\nname = \"X-Session-Id\"\n\
        [[response_actions]]\nwhen = '.fault.code == \"SESSION_EXPIRED\"'\naction = \"login\"\n";
    let wish = Wish {
        provider: provider.to_owned(),
        source: "secrets = { a = { file = \"secret\" } }\nstreams.s.first_run = \"send-all\"".into(),
        ..Wish::default()
    };
    let stream = "[streams.s]\npath = \"/s\"\nrecords = \".r.Payments.Payment\"\nkey = \".Id\"\n";
    let logins = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let valid = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(1));
    let (served, open) = (logins.clone(), valid.clone());
    let order = std::sync::atomic::Ordering::SeqCst;
    let world = World::wishing(wish, stream, move |asked| {
        if asked.path == "/login" {
            let n = served.fetch_add(1, order) + 1;
            return ok(format!("<loginResponse><sessionId>{n}</sessionId></loginResponse>"));
        }
        let session = asked.headers.get("x-session-id").and_then(|id| id.to_str().ok()).unwrap_or_default();
        if session != open.load(order).to_string() {
            return ok("<fault><code>SESSION_EXPIRED</code></fault>");
        }
        ok(format!("<r><Payments><Payment><Id>{session}</Id></Payment></Payments></r>"))
    });
    let world = world.await;
    world.polls().await;
    valid.store(2, order);
    world.clock.advance(std::time::Duration::from_secs(3600));
    world.polls().await;
    assert_eq!(world.events().await, ["s.created 1", "s.created 2"]);
    assert_eq!(logins.load(order), 2, "logged in again once");
}

#[tokio::test]
async fn column_arrays_become_records_with_their_own_digits() {
    let stream = "records = \".data\"\nrecords_as = \"columns\"\nkey = \".id\"\n";
    let world = world(stream, |_| ok(r#"{"data":{"id":["a","b"],"n":[1.50,{"x":[2]}]}}"#)).await;
    world.polls().await;
    assert_eq!(world.events().await, ["s.created a", "s.created b"]);
    let record = world.store.bodies(&super::kit::stream("s"), vec!["a".into()], ringback::model::SeenBy::Poll).await;
    assert_eq!(record.expect("read")[0].as_deref(), Some(&br#"{"id":"a","n":1.50}"#[..]));
    world.answers(|_| ok(r#"{"data":{"id":["a","b"],"n":[1]}}"#));
    assert!(world.poll().await.error.unwrap_or_default().contains("column `id` has 2 items, and `n` has 1"));
}
