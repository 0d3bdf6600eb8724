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

/// The same with the event's id as its first member: for ways that have no headers.
pub fn with_id(event: &Event, replay: bool) -> Vec<u8> {
    let mut line = begun(event);
    go_on(line.as_mut(), event, replay);
    line
}

/// The same as one of a page that is asked for: with its position, and what is equal for those that go one after another.
pub fn in_feed(event: &Event, position: i64, order: Option<&str>, replay: bool) -> Vec<u8> {
    let mut line = begun(event);
    let _ = write!(line, ",\"position\":{position}");
    if let Some(order) = order {
        line.extend_from_slice(b",\"order\":");
        text(&mut line, order);
    }
    go_on(line.as_mut(), event, replay);
    line
}

fn begun(event: &Event) -> Vec<u8> {
    let mut line = Vec::with_capacity(event.data.as_ref().map_or(0, |data| data.len()) + 640);
    line.extend_from_slice(b"{\"id\":");
    text(&mut line, event.id.as_str());
    line
}

fn go_on(line: &mut Vec<u8>, event: &Event, replay: bool) {
    if replay {
        line.extend_from_slice(b",\"replay\":true");
    }
    line.push(b',');
    let body = standard(event);
    line.extend_from_slice(body.strip_prefix(b"{").unwrap_or(&body));
}

/// The attributes of a CloudEvent (specification 1.0.2) in the order in which they are written: required ones, optional ones, and our
/// extensions, whose names may hold lower-case letters and digits alone. `previous` is too large for a header and stands in
/// [`cloud_event`] alone.
pub fn attributes(event: &Event) -> Vec<(&'static str, String)> {
    let mut attributes = vec![
        ("specversion", "1.0".to_owned()),
        ("id", event.id.to_string()),
        ("source", format!("/{}/{}", event.stream.source, event.stream.stream)),
        ("type", event.event_type.to_string()),
        ("subject", event.key.to_string()),
        ("time", event.time.to_string()),
        ("revision", event.revision.to_string()),
        ("seenat", event.seen_at.to_string()),
        ("seenby", event.seen_by.as_str().to_owned()),
    ];
    let changed = event.changed.as_deref().and_then(|changed| serde_json::from_slice::<Vec<String>>(changed).ok());
    attributes.extend(changed.map(|paths| ("changed", paths.join(" "))));
    for (name, holds) in [("firstsight", event.first_sight), ("truncated", event.data.is_none()), ("test", event.test)]
    {
        if holds {
            attributes.push((name, "true".to_owned()));
        }
    }
    attributes
}

/// A CloudEvent in the JSON format: the record as `data`, and its old values at the changed places as JSON in `previous`.
pub fn cloud_event(event: &Event) -> Vec<u8> {
    let mut body = Vec::with_capacity(event.data.as_ref().map_or(0, |data| data.len()) + 640);
    for (name, value) in attributes(event) {
        body.extend_from_slice(if body.is_empty() { b"{\"" } else { b",\"" });
        body.extend_from_slice(name.as_bytes());
        body.extend_from_slice(b"\":");
        match name {
            "firstsight" | "truncated" | "test" => body.extend_from_slice(value.as_bytes()),
            _ => text(&mut body, &value),
        }
    }
    if let Some(previous) = event.previous.as_deref().and_then(|previous| std::str::from_utf8(previous).ok()) {
        body.extend_from_slice(b",\"previous\":");
        text(&mut body, previous);
    }
    if let Some(data) = &event.data {
        body.extend_from_slice(b",\"datacontenttype\":\"application/json\",\"data\":");
        body.extend_from_slice(data);
    }
    body.push(b'}');
    body
}

/// An attribute as a header's value: what is not printable ASCII, a quote or a percent sign is percent-encoded (HTTP binding, 3.1.3.2).
pub fn header_value(text: &str) -> String {
    let mut value = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'!' | b'#' | b'$' | b'&'..=b'~' => value.push(char::from(byte)),
            _ => value.push_str(&format!("%{byte:02X}")),
        }
    }
    value
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
    fn a_cloud_event_is_the_record_with_its_attributes_around_it() {
        let body = String::from_utf8(cloud_event(&event())).expect("text");
        assert_eq!(
            body,
            concat!(
                r#"{"specversion":"1.0","id":"evt_1","source":"/core/payments","type":"payment.settled","subject":"P-\"1","#,
                r#""time":"2025-11-20T09:24:04Z","revision":"3","seenat":"2025-11-20T09:24:07.412Z","seenby":"poll","#,
                r#""changed":"/status","previous":"{\"status\":\"PENDING\"}","datacontenttype":"application/json","data":{"sum":10.50}}"#
            )
        );
        let gone = Event { data: None, changed: None, previous: None, first_sight: true, ..event() };
        let json: serde_json::Value = serde_json::from_slice(&cloud_event(&gone)).expect("JSON");
        assert_eq!((&json["truncated"], &json["firstsight"]), (&true.into(), &true.into()));
        assert!(json.get("data").is_none() && json.get("datacontenttype").is_none() && json.get("changed").is_none());
    }

    #[test]
    fn header_values_are_printable_ascii() {
        assert_eq!(header_value("Ї \"a\"%~!/é"), "%D0%87%20%22a%22%25~!/%C3%A9");
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
