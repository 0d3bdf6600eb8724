//! The body of an event as handlers get it: `format = "standard"`. Spliced from stored parts, byte for byte the same each time.

use std::io::Write as _;

use crate::model::Event;

/// Renders the JSON body of an event. The record's bytes go in as they were received.
pub fn standard(event: &Event) -> Vec<u8> {
    let size = event.data.as_ref().map_or(4, |d| d.len()) + event.previous.as_ref().map_or(0, |p| p.len());
    let mut body = Vec::with_capacity(size + 512);
    body.extend_from_slice(b"{\"type\":");
    text(&mut body, &event.event_type);
    let _ = write!(body, ",\"timestamp\":\"{}\"", event.time);
    if let Some(data) = &event.data {
        body.extend_from_slice(b",\"data\":");
        body.extend_from_slice(data);
    }
    if let Some(previous) = &event.previous {
        body.extend_from_slice(b",\"previous\":");
        body.extend_from_slice(previous);
    }
    if let Some(changed) = &event.changed {
        body.extend_from_slice(b",\"changed\":");
        body.extend_from_slice(changed);
    }
    body.extend_from_slice(b",\"source\":");
    text(&mut body, event.stream.source.as_str());
    body.extend_from_slice(b",\"stream\":");
    text(&mut body, &event.stream.stream);
    body.extend_from_slice(b",\"key\":");
    text(&mut body, event.key.as_str());
    let _ = write!(body, ",\"revision\":{}", event.revision);
    if event.first_sight {
        body.extend_from_slice(b",\"first_sight\":true");
    }
    if event.data.is_none() {
        body.extend_from_slice(b",\"truncated\":true");
    }
    if event.test {
        body.extend_from_slice(b",\"test\":true");
    }
    let _ = write!(body, ",\"seen\":{{\"at\":\"{}\",\"by\":\"{}\"}}}}", event.seen_at, event.seen_by.as_str());
    body
}

fn text(body: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(body, text).expect("text is always JSON, and a Vec takes every write");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ChangeKind, SeenBy, StreamName, Timestamp};

    fn event() -> Event {
        Event {
            id: "evt_1".into(),
            event_type: "payment.settled".into(),
            kind: ChangeKind::Updated,
            stream: StreamName::new("core", "payments"),
            key: "P-\"1".into(),
            revision: 3,
            time: Timestamp(1_763_630_644_000),
            seen_at: Timestamp(1_763_630_647_412),
            seen_by: SeenBy::Poll,
            data: Some(r#"{"sum":10.50}"#.into()),
            previous: Some(r#"{"status":"PENDING"}"#.into()),
            changed: Some(r#"["/status"]"#.into()),
            first_sight: false,
            test: false,
        }
    }

    #[test]
    fn the_body_has_the_documented_shape_and_the_records_own_bytes() {
        let body = String::from_utf8(standard(&event())).expect("text");
        assert_eq!(
            body,
            concat!(
                r#"{"type":"payment.settled","timestamp":"2025-11-20T09:24:04Z","data":{"sum":10.50},"#,
                r#""previous":{"status":"PENDING"},"changed":["/status"],"source":"core","stream":"payments","key":"P-\"1","#,
                r#""revision":3,"seen":{"at":"2025-11-20T09:24:07.412Z","by":"poll"}}"#
            )
        );
    }

    #[test]
    fn a_record_over_the_cap_is_said_to_be_missing() {
        let body =
            String::from_utf8(standard(&Event { data: None, first_sight: true, test: true, ..event() })).expect("text");
        let json: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        assert!(json.get("data").is_none());
        assert_eq!(
            (&json["truncated"], &json["first_sight"], &json["test"]),
            (&true.into(), &true.into(), &true.into())
        );
    }
}
