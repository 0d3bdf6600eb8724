//! Real webhooks of XML: read as the answers of their stream are, so that a poll of the same records finds no difference.

use ringback::store::EventFilter;

use super::kit::{Gate, NOW, Wish};

const CONFIG: &str =
    "schema = 1\n[sources.hook]\nprovider = \"./provider.toml\"\nwebhook = { secret = { file = \"s\" } }\n";

fn provider(format: &str, records: &str, key: &str, message: &str) -> String {
    format!(
        "schema = 1\nbase_url = \"https://provider.example\"\n[streams.s]\npath = \"/s\"\nformat = \"{format}\"\nrecords = \"{records}\"\n\
         key = \"{key}\"\ndetect = \"new\"\ntypes = {{ created = \"s.made\" }}\n[webhook]\nanswer = {{ headers = {{ Content-Type = \"text/xml\" }}, body = \"<Ack>true</Ack>\" }}\n\
         [[webhook.signature]]\ntype = \"token\"\nheader = \"X-Token\"\n[[webhook.messages]]\nstream = \"s\"\n{message}\n"
    )
}

async fn told(file: String, kind: &str, body: &str) -> (u16, String, Vec<String>) {
    let gate = Gate::of(Wish::default(), CONFIG, &[("provider.toml", file), ("s", "word".into())]).await;
    let answer = gate.post("/webhooks/hook", &[("x-token", "word"), ("content-type", kind)], body).await;
    gate.take_in().await;
    let page = gate.store.events(EventFilter { limit: 100, ..EventFilter::default() }).await.expect("events");
    let events = page.events.iter().rev().map(|event| format!("{} {}", event.event_type, event.key)).collect();
    let inbox = gate.store.inbox().await.expect("the inbox");
    (answer.status, format!("{} pending, {} unreadable", inbox.pending, inbox.unreadable), events)
}

const SOAP: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/"><soapenv:Body>
 <notifications xmlns="http://soap.example/outbound">
  <OrganizationId>00D1</OrganizationId>
  <Notification><Id>04l1</Id><sObject><Id>0031</Id><Name>Jörg &amp; Co</Name></sObject></Notification>
  <Notification><Id>04l2</Id><sObject><Id>0032</Id><Name>B</Name></sObject></Notification>
 </notifications>
</soapenv:Body></soapenv:Envelope>"#;

#[tokio::test]
async fn an_outbound_message_in_soap_holds_records() {
    let file = provider(
        "soap",
        ".notifications.Notification",
        ".sObject.Id",
        "when = \".notifications.OrganizationId == \\\"00D1\\\"\"\nrecords = \".notifications.Notification\"",
    );
    let (status, inbox, events) = told(file, "text/xml; charset=utf-8", SOAP).await;
    assert_eq!((status, inbox.as_str()), (200, "0 pending, 0 unreadable"));
    assert_eq!(events, ["s.made 0031", "s.made 0032"]);
}

#[tokio::test]
async fn a_feed_that_a_hub_pushes_is_read_as_one_that_is_polled() {
    let file = provider("feed", ".entries", ".id", "records = \".entries\"");
    let body = r#"<feed xmlns="http://www.w3.org/2005/Atom"><title>t</title><updated>2026-01-05T12:00:00Z</updated>
        <entry><id>tag:1</id><title>One</title><updated>2026-01-05T12:00:00Z</updated></entry></feed>"#;
    let (status, inbox, events) = told(file, "application/atom+xml", body).await;
    assert_eq!((status, inbox.as_str()), (200, "0 pending, 0 unreadable"));
    assert_eq!(events, ["s.made tag:1"]);
}

#[tokio::test]
async fn xml_that_is_cut_off_is_kept_as_unreadable_and_json_is_read_beside_it() {
    let file = || provider("soap", ".n", ".id", "records = \".n\"");
    let (status, inbox, events) = told(file(), "text/xml", &SOAP[..300]).await;
    assert_eq!((status, inbox.as_str(), events.len()), (200, "0 pending, 1 unreadable", 0));
    let (status, inbox, events) = told(file(), "application/json", r#"{"n":[{"id":"1"}]}"#).await;
    assert_eq!((status, inbox.as_str()), (200, "0 pending, 0 unreadable"));
    assert_eq!(events, ["s.made 1"]);
}

#[tokio::test]
async fn a_hubs_message_of_a_shipped_file_makes_the_poll_come_at_once() {
    let file = include_str!("../../../providers/youtube.toml").to_owned();
    let config = "schema = 1\n[sources.hook]\nprovider = \"./provider.toml\"\nsecrets = { api_key = { file = \"s\" } }\n\
                  settings = { playlist = \"UU1\" }\nwebhook = { secret = { file = \"s\" } }\n";
    let gate = Gate::of(Wish::default(), config, &[("provider.toml", file), ("s", "hub-secret".into())]).await;
    let due = async || {
        let streams = gate.store.streams().await.expect("streams");
        streams.into_iter().find(|status| *status.state.name.stream == *"videos").and_then(|status| status.next_poll_at)
    };
    // A poll that went well: the next one is a quarter of an hour away.
    let name = ringback::model::StreamName::new("hook", "videos");
    let claim = gate.store.claim_stream(ringback::store::Which::Named(name), std::time::Duration::from_secs(9)).await;
    let lease = claim.expect("asked").expect("it is free").lease;
    let end = ringback::store::PollEnd {
        next_in: std::time::Duration::from_secs(900),
        result: ringback::store::PollResult::Ok,
        records: 0,
        changes: 0,
        pages: 1,
        duration: std::time::Duration::ZERO,
        error: None,
        memory: None,
    };
    gate.store.finish_poll(&lease, end).await.expect("finished");
    assert_eq!(due().await.map(|at| at.since(NOW).as_secs()), Some(900));
    let body = "<feed xmlns=\"http://www.w3.org/2005/Atom\"><entry><id>yt:video:VID9</id></entry></feed>";
    use hmac::{KeyInit as _, Mac as _};
    let mut mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(b"hub-secret").expect("any key");
    mac.update(body.as_bytes());
    let signature = format!("sha256={}", hex::encode(mac.finalize().into_bytes()));
    assert_eq!(gate.post("/webhooks/hook", &[("x-hub-signature", &signature)], body).await.status, 200);
    gate.take_in().await;
    assert!(due().await.is_some_and(|at| at <= NOW), "{:?}", due().await);
}
