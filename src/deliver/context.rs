//! What templates see of an event that goes out: those of a provider's own form, and those of a handler.

use url::Url;

use crate::model::Timestamp;
use crate::secret::Secret;
use crate::source::Source;
use crate::store::ClaimedDelivery;
use crate::template::{Context, TimeFormat};

/// The event of a delivery, for the attempt that is made now. `url`: the address that the handler believes it has.
pub fn of(delivery: &ClaimedDelivery, url: &Url, source: Option<&Source>, now: Timestamp) -> Context {
    let event = &delivery.event;
    let mut context = Context::new();
    if let Some(data) = &event.data {
        context.set_received("record", data.clone());
    }
    context.set("event.id", event.id.to_string()).set("event.type", event.event_type.clone());
    context.set("event.kind", event.kind.as_str()).set("event.source", event.stream.source.to_string());
    context.set("event.stream", event.stream.stream.to_string()).set("event.key", event.key.to_string());
    context.set("event.revision", event.revision).set("attempt", delivery.attempts + 1);
    context.set_time("event.time", event.time, &TimeFormat::Rfc3339, None);
    context.set_time("now", now, &TimeFormat::Rfc3339, None);
    context.set("url", url.as_str().to_owned());
    for (name, json) in [("previous", &event.previous), ("changed", &event.changed)] {
        if let Some(json) = json.as_ref().and_then(|json| crate::jq::Json::parse(json).ok()) {
            context.set_json(name, &json);
        }
    }
    for (name, value) in source.map(|source| &source.settings).into_iter().flatten() {
        context.set_value(&format!("settings.{name}"), value);
    }
    if let Some(inbound) = &delivery.inbound {
        context.set_received("inbound.body", inbound.body.clone());
        let headers = inbound.headers.clone();
        context.set_lookup("inbound.headers", move |name| {
            headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.clone())
        });
    }
    context
}

/// The first of the secrets as `secret`.
pub fn set_secret(context: &mut Context, secrets: &[Secret]) {
    if let Some(secret) = secrets.first() {
        context.set("secret", secret.expose().to_owned());
    }
}
