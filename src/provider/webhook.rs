//! How real webhooks are read (rows 69–71, 81–83), what native format sends (86–87), and the file's own tests (88–90).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::language::{Names, Place, check_jq, check_jqs, moment};
use super::request::{read_body, read_headers, read_request};
use super::signature::read_schemes;
use super::{
    Answer, Detect, Handshake, HandshakeAnswer, Message, Native, OnWebhook, ProviderTest, Request, Stream, Webhook,
};
use crate::jq::Jq;
use crate::path::{Path, Step};
use crate::shape::{Table, Value, nearest};
use crate::signature::Scheme;

/// Nothing is registered again more often.
const RENEWAL_MIN: Duration = Duration::from_secs(60);

/// How long a provider may send a message again, when the file does not say.
const REDELIVERS: Duration = Duration::from_secs(7 * 24 * 3600);

/// `[webhook]`.
pub(super) fn read_webhook(
    table: &Table<'_, '_>,
    provider: &str,
    names: &Names,
    streams: &[Stream],
) -> Option<Webhook> {
    let value = table.take("webhook")?;
    let webhook = value.table()?;
    let (mut schemes, keys) = read_schemes(&webhook, provider, names);
    if !webhook.has("signature") {
        let message = format!("`{}` has no signature: anybody could send", value.name);
        let help = "say how real webhooks are signed with [[webhook.signature]]";
        value.reading.fault(value.key_span.clone(), message, Some(help.into()));
    }
    let messages = webhook.take("messages").and_then(|value| value.list()).unwrap_or_default();
    if messages.is_empty() {
        let message = format!("`{}` has no messages: what arrives leads to no event", value.name);
        let help = "route it to a stream with [[webhook.messages]]";
        value.reading.warning(value.key_span.clone(), message, Some(help.into()));
    }
    let messages: Vec<Message> = messages.iter().filter_map(|value| read_message(value, streams)).collect();
    let handshakes = read_handshakes(&webhook, names, &schemes);
    let once = headers_read(&messages, &handshakes, streams);
    schemes.iter_mut().for_each(|scheme| Arc::make_mut(scheme).once = once.clone());
    let read = Webhook {
        setup: webhook.take("setup").and_then(|value| value.filled_text()),
        exclusive: webhook.take("exclusive").and_then(|value| value.boolean()).unwrap_or(false),
        redelivers: webhook.take("redelivers").and_then(|value| value.duration()).unwrap_or(REDELIVERS),
        subscribe: webhook.take("subscribe").and_then(|value| read_subscribe(&value, names)),
        renew_every: webhook.take("renew_every").and_then(|value| read_renewal(&webhook, &value)),
        answer: read_answer(&webhook),
        handshakes,
        schemes,
        keys,
        messages,
    };
    webhook.finish();
    Some(read)
}

/// The headers that decide what a request is and which message it repeats, in lower case: there must be one of each.
fn headers_read(messages: &[Message], handshakes: &[Handshake], streams: &[Stream]) -> Vec<String> {
    let mut jqs: Vec<&Jq> = Vec::new();
    for message in messages {
        let own = [&message.when, &message.records, &message.id, &message.event_type, &message.time];
        jqs.extend(own.into_iter().chain([&message.version, &message.deleted]).flatten());
        let of_stream = streams.iter().filter(|stream| stream.name == message.stream).flat_map(|stream| &stream.key);
        jqs.extend(message.key.iter().chain(of_stream));
    }
    for handshake in handshakes {
        jqs.extend([&handshake.when, &handshake.accept].into_iter().flatten());
    }
    let mut names: Vec<String> = jqs.into_iter().flat_map(|jq| headers_named(jq.text())).collect();
    names.sort();
    names.dedup();
    names
}

/// The names in `$headers["x"]`, `$headers.["x"]`, `$headers."x"` and `$headers.x`.
fn headers_named(text: &str) -> Vec<String> {
    let named = |rest: &str| -> Option<String> {
        let rest = rest.trim_start();
        let rest = rest.strip_prefix('.').unwrap_or(rest).trim_start();
        let rest = rest.strip_prefix('[').unwrap_or(rest).trim_start();
        let name = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split('"').next()?,
            None => &rest[..rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len())],
        };
        http::HeaderName::from_bytes(name.as_bytes()).ok().map(|name| name.to_string())
    };
    text.split("$headers").skip(1).filter_map(named).collect()
}

fn read_subscribe(value: &Value<'_, '_>, names: &Names) -> Option<Request> {
    let table = value.table()?;
    let request = read_request(&table, Place::Subscribe, names);
    let said = table.has("path") || table.has("url");
    table.finish();
    if !said {
        value.fault(format!("`{}` does not say where to", value.name), Some("give it path or url"));
        return None;
    }
    if !super::request::templates(&request).iter().any(|template| template.variables().contains("url")) {
        let help = "put {{ url }} where the provider takes the address";
        value.fault(format!("`{}` does not tell the provider our address", value.name), Some(help));
    }
    Some(request)
}

fn read_renewal(webhook: &Table<'_, '_>, value: &Value<'_, '_>) -> Option<Duration> {
    let every = value.duration()?;
    if !webhook.has("subscribe") {
        value.fault(format!("`{}` goes with `subscribe`, which is missing", value.name), None);
    }
    if every < RENEWAL_MIN {
        value.fault(format!("`{}` is shorter than a minute", value.name), Some("such as renew_every = \"24h\""));
    }
    Some(every)
}

fn read_answer(webhook: &Table<'_, '_>) -> Answer {
    let mut answer = Answer { status: 200, headers: Vec::new(), body: String::new() };
    let Some(table) = webhook.take("answer").and_then(|value| value.table()) else { return answer };
    let status = table.take("status").and_then(|value| value.integer(200..=299));
    answer.status = status.and_then(|status| u16::try_from(status).ok()).unwrap_or(200);
    answer.body = table.take("body").and_then(|value| value.text()).unwrap_or_default();
    if let Some(headers) = table.take("headers").and_then(|value| value.table()) {
        for (name, value) in headers.entries() {
            let text = crate::request::header_name(&name, &value).and_then(|()| value.text());
            answer.headers.extend(text.map(|text| (name, text)));
        }
    }
    table.finish();
    answer
}

fn read_handshakes(webhook: &Table<'_, '_>, names: &Names, schemes: &[Arc<Scheme>]) -> Vec<Handshake> {
    let list = webhook.take("handshakes").map(Value::one_or_list).unwrap_or_default();
    list.iter().filter_map(|value| read_handshake(value, names, schemes)).collect()
}

fn read_handshake(value: &Value<'_, '_>, names: &Names, schemes: &[Arc<Scheme>]) -> Option<Handshake> {
    let table = value.table()?;
    let jq = |key: &str| table.take(key).and_then(|value| check_jq(&value));
    let methods = ["POST", "GET", "HEAD", "PUT", "OPTIONS"].map(|method| (method, method));
    let method = table.take("method").map_or(Some("POST"), |value| value.choice(&methods)).unwrap_or("POST");
    let signed = table.take("signed").map_or(Some(method == "POST"), |value| value.boolean()).unwrap_or(true);
    let refuse = table.take("refuse").and_then(|value| value.integer(400..=499)).and_then(|n| u16::try_from(n).ok());
    let fetch = table.take("fetch");
    let hosts = table.take("host").map(Value::one_or_list).unwrap_or_default();
    let mut hosts: Vec<String> = hosts.iter().filter_map(Value::filled_text).collect();
    if hosts.is_empty() {
        // A confirmation comes from where the certificate comes from.
        hosts.extend(schemes.iter().filter_map(|s| s.certificate.as_ref()).flat_map(|c| c.hosts.iter().cloned()));
    }
    let fetched = fetch.as_ref().and_then(|value| super::language::template(value, Place::Handshake, names));
    if let Some(fetch) = &fetch
        && (hosts.is_empty() || !signed)
    {
        let message = format!("`{}` would let anybody make us call an address", fetch.name);
        fetch.fault(message, Some("name its hosts with host = [\"…\"], and leave `signed` true"));
    }
    let answer = read_handshake_answer(&table, names);
    let (when, accept) = (jq("when"), jq("accept"));
    table.finish();
    Some(Handshake {
        method: method.to_owned(),
        when,
        signed,
        accept,
        answer,
        refuse: refuse.unwrap_or(403),
        fetch: fetched,
        hosts,
    })
}

fn read_handshake_answer(table: &Table<'_, '_>, names: &Names) -> HandshakeAnswer {
    let mut answer = HandshakeAnswer { status: 200, headers: Vec::new(), body: None };
    let Some(inner) = table.take("answer").and_then(|value| value.table()) else { return answer };
    let status = inner.take("status").and_then(|value| value.integer(200..=299)).and_then(|n| u16::try_from(n).ok());
    answer.status = status.unwrap_or(200);
    answer.headers =
        inner.take("headers").map(|value| read_headers(&value, Place::Handshake, names)).unwrap_or_default();
    answer.body = read_body(&inner, Place::Handshake, names);
    inner.finish();
    answer
}

fn read_message(value: &Value<'_, '_>, streams: &[Stream]) -> Option<Message> {
    let table = value.table()?;
    let jq = |key: &str| table.take(key).and_then(|value| check_jq(&value));
    let stream = read_stream_name(&table, value, streams);
    let version = jq("version");
    let on_webhook = read_on_webhook(&table, value, stream, version.is_some() || table.has("version"));
    let records = jq("records");
    let mask = match stream {
        Some(stream) if !stream.mask.is_empty() && on_webhook != OnWebhook::Ignore => {
            masked_places(value, stream, records.as_ref())
        }
        _ => Vec::new(),
    };
    let message = Message {
        mask,
        when: jq("when"),
        where_polled: table.take("polled").and_then(|value| read_where_polled(&value, stream, streams)),
        stream: stream.map(|stream| stream.name.clone()).unwrap_or_default(),
        records,
        key: table.take("key").map(check_jqs).unwrap_or_default(),
        version,
        time: jq("time"),
        event_type: jq("type"),
        id: jq("id"),
        on_webhook,
        deleted: jq("deleted"),
    };
    table.finish();
    stream.map(|_| message)
}

/// A stream's masked places as seen from the top of a message's body, which is stored before it is read.
fn masked_places(value: &Value<'_, '_>, stream: &Stream, records: Option<&Jq>) -> Vec<Path> {
    let text = records.map_or("[.]", |jq| jq.text()).trim();
    let one = text.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).and_then(Path::parse);
    let prefix = match (one, Path::parse(text)) {
        (Some(one), _) => Some(one.steps),
        (None, Some(list)) => {
            let mut steps = list.steps;
            if steps.last() != Some(&Step::Each) {
                steps.push(Step::Each);
            }
            Some(steps)
        }
        (None, None) => None,
    };
    let Some(prefix) = prefix else {
        let message = format!(
            "`{}`: stream `{}` has a mask, and where its records stand in this message cannot be told",
            value.name, stream.name
        );
        value.fault(
            message,
            Some("say records as a plain path, such as records = \"[.data]\", so that nothing masked is stored"),
        );
        return Vec::new();
    };
    let below =
        |path: &Path| Path { text: path.text.clone(), steps: prefix.iter().chain(&path.steps).cloned().collect() };
    stream.mask.iter().map(below).collect()
}

/// The stream of a message: named, or the only one there is.
fn read_stream_name<'s>(table: &Table<'_, '_>, value: &Value<'_, '_>, streams: &'s [Stream]) -> Option<&'s Stream> {
    let Some(name) = table.take("stream") else {
        if let [only] = streams {
            return Some(only);
        }
        let known = names_of(streams).join(", ");
        value.fault(
            format!("`{}` does not say which stream it belongs to", value.name),
            Some(&format!("add stream, one of {known}")),
        );
        return None;
    };
    find_stream(&name, streams)
}

/// `polled`: true for the message's own stream, or the name of another.
fn read_where_polled(value: &Value<'_, '_>, own: Option<&Stream>, streams: &[Stream]) -> Option<String> {
    let stream = match value.is_text() {
        true => find_stream(value, streams)?,
        false => own.filter(|_| value.boolean() == Some(true))?,
    };
    if !stream.is_polled() {
        let message = format!("`{}`: stream `{}` is fed by webhooks alone", value.name, stream.name);
        value.fault(message, Some("name a stream with a request, or remove it"));
    }
    Some(stream.name.clone())
}

fn names_of(streams: &[Stream]) -> Vec<&str> {
    streams.iter().map(|stream| stream.name.as_str()).collect()
}

fn find_stream<'s>(value: &Value<'_, '_>, streams: &'s [Stream]) -> Option<&'s Stream> {
    let text = value.text()?;
    let found = streams.iter().find(|stream| stream.name == text);
    if found.is_none() {
        let near = nearest(&text, names_of(streams).into_iter()).map(|near| format!("did you mean `{near}`?"));
        let help = near.unwrap_or_else(|| format!("streams of this file: {}", names_of(streams).join(", ")));
        value.fault(format!("`{}` is `{text}`, which is no stream of this file", value.name), Some(&help));
    }
    found
}

/// A copy without a version cannot be told old from new, so beside a poll it is only a notice. Where the key alone decides
/// (`new`), and where nothing is polled, the copy itself is taken.
fn read_on_webhook(
    table: &Table<'_, '_>,
    value: &Value<'_, '_>,
    stream: Option<&Stream>,
    own_version: bool,
) -> OnWebhook {
    let polled = stream.is_some_and(Stream::is_polled);
    let needs_version =
        stream.is_some_and(|stream| polled && stream.detect != Detect::New && stream.version.is_none() && !own_version);
    let Some(given) = table.take("on_webhook") else {
        return if needs_version { OnWebhook::Poll } else { OnWebhook::Merge };
    };
    let words = [("merge", OnWebhook::Merge), ("poll", OnWebhook::Poll), ("ignore", OnWebhook::Ignore)];
    let on_webhook = given.choice(&words).unwrap_or(OnWebhook::Ignore);
    if on_webhook == OnWebhook::Merge && needs_version {
        let message = format!("`{}`: a copy without a version cannot be told old from new", given.name);
        given.fault(message, Some("add version to the message or to its stream, or use on_webhook = \"poll\""));
    }
    if on_webhook == OnWebhook::Poll && stream.is_some() && !polled {
        let message = format!("`{}`: the stream of `{}` has no request to poll with", given.name, value.name);
        given.fault(message, Some("add path or url to the stream, or use on_webhook = \"merge\""));
    }
    on_webhook
}

/// `[native]`.
pub(super) fn read_native(table: &Table<'_, '_>, names: &Names, webhook: Option<&Webhook>) -> Option<Native> {
    let native = table.take("native")?.table()?;
    let body = read_body(&native, Place::Native, names);
    let headers = native.take("headers").map(|value| read_headers(&value, Place::Native, names)).unwrap_or_default();
    let scheme = native.take("scheme").and_then(|value| {
        let name = value.text()?;
        let known: Vec<&str> = webhook.iter().flat_map(|w| &w.schemes).map(|scheme| scheme.name.as_str()).collect();
        if !known.contains(&name.as_str()) {
            let near = nearest(&name, known.iter().copied()).map(|near| format!("did you mean `{near}`?"));
            let help = near.unwrap_or_else(|| format!("signatures of this file: {}", known.join(", ")));
            value.fault(format!("`{}` is `{name}`, which is no signature of this file", value.name), Some(&help));
        }
        Some(name)
    });
    let impossible = native.take("impossible").and_then(|value| value.filled_text());
    native.finish();
    Some(Native { body, headers, scheme, impossible })
}

/// `[[tests]]`.
pub(super) fn read_tests(table: &Table<'_, '_>, names: &Names, streams: &[Stream]) -> Vec<ProviderTest> {
    let list = table.take("tests").and_then(|value| value.list()).unwrap_or_default();
    list.iter().filter_map(|value| read_test(value, names, streams)).collect()
}

fn read_test(value: &Value<'_, '_>, names: &Names, streams: &[Stream]) -> Option<ProviderTest> {
    let test = value.table()?;
    let name = test.require("name", "say in a few words what the test shows").and_then(|value| value.filled_text());
    let stream = match test.take("stream") {
        Some(value) => find_stream(&value, streams).map(|stream| stream.name.clone()),
        None if streams.len() == 1 => streams.first().map(|stream| stream.name.clone()),
        None => None,
    };
    let file = |key: &str| test.take(key).and_then(|value| value.filled_text());
    let read = ProviderTest {
        name: name.unwrap_or_default(),
        stream,
        settings: read_test_settings(&test, names),
        secrets: read_test_secrets(&test),
        now: test.take("now").and_then(|value| moment(&value, None)),
        polls: read_polls(&test),
        expect: test.take("expect").and_then(|value| read_expect(&value)).unwrap_or_default(),
        request: file("request").map(PathBuf::from),
        request_after: read_request_after(&test),
        scheme: file("scheme"),
        verdict: file("verdict"),
        answer: test.take("answer").and_then(|value| value.text()),
        native: file("native").map(PathBuf::from),
    };
    if !test.has("polls") && !test.has("request") && !test.has("native") {
        value.fault(format!("`{}` tests nothing", value.name), Some("give it polls or a request"));
    }
    if test.has("polls") && read.stream.is_none() && !test.has("stream") {
        let help = format!("add stream, one of {}", names_of(streams).join(", "));
        value.fault(format!("`{}` does not say which stream it polls", value.name), Some(&help));
    }
    test.finish();
    Some(read)
}

fn read_test_settings(test: &Table<'_, '_>, names: &Names) -> Vec<(String, serde_json::Value)> {
    let Some(table) = test.take("settings").and_then(|value| value.table()) else { return Vec::new() };
    for (name, value) in table.entries() {
        if !names.settings.contains(&name) {
            let near = nearest(&name, names.settings.iter().map(String::as_str));
            let help = near.map(|near| format!("did you mean `{near}`?"));
            value.reading.fault(
                value.key_span.clone(),
                format!("`{name}` is not among the settings of this file"),
                help,
            );
        }
    }
    table.entries().into_iter().map(|(name, value)| (name, value.json())).collect()
}

fn read_test_secrets(test: &Table<'_, '_>) -> Vec<(String, String)> {
    let Some(table) = test.take("secrets").and_then(|value| value.table()) else { return Vec::new() };
    table.entries().into_iter().filter_map(|(name, value)| Some((name, value.text()?))).collect()
}

/// After how many polls the request arrives.
fn read_request_after(test: &Table<'_, '_>) -> usize {
    let Some(value) = test.take("request_after") else { return 0 };
    if !test.has("polls") || !test.has("request") {
        value.fault(
            format!("`{}` is about a request among polls", value.name),
            Some("give the test both, or remove it"),
        );
    }
    value.integer(0..=1_000).and_then(|count| usize::try_from(count).ok()).unwrap_or(0)
}

/// A poll is a file or a list of files, its pages.
fn read_polls(test: &Table<'_, '_>) -> Vec<Vec<PathBuf>> {
    let polls = test.take("polls").and_then(|value| value.list()).unwrap_or_default();
    let pages = |value: Value<'_, '_>| {
        let pages = value.one_or_list();
        pages.iter().filter_map(Value::filled_text).map(PathBuf::from).collect()
    };
    polls.into_iter().map(pages).collect()
}

fn read_expect(value: &Value<'_, '_>) -> Option<Vec<String>> {
    for item in value.list()? {
        let text = item.text()?;
        if text.split_once(' ').is_none_or(|(event_type, key)| event_type.is_empty() || key.is_empty()) {
            item.fault(
                format!("`{}` is `{text}`, but must be a type and a key", item.name),
                Some("such as \"payment.created P-1\""),
            );
        }
    }
    value.texts()
}

#[cfg(test)]
mod tests {
    use super::headers_named;

    #[test]
    fn the_headers_that_jq_reads_by_name_are_found() {
        for (text, names) in [
            (r#"$headers["x-id"] // $headers["X-Other"]"#, &["x-id", "x-other"][..]),
            (
                r#"$headers.host + $headers."x-a" + $headers.["x-b"] + $headers [ "x-c" ]"#,
                &["host", "x-a", "x-b", "x-c"],
            ),
            (".headers.a + $header", &[]),
            ("$headers | keys", &[]),
            ("$headers", &[]),
        ] {
            assert_eq!(headers_named(text), names, "{text}");
        }
    }
}
