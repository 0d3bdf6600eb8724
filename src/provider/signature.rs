//! `[[webhook.signature]]` → a scheme (rows 72–80). What a scheme does with it is the room `signature`.

use std::sync::Arc;
use std::time::Duration;

use super::language::{Names, Place, plain_template, word};
use crate::path::Path;
use crate::shape::{Table, Value, nearest};
use crate::signature::{
    Algorithm, Encoding, KeyEncoding, Scheme, SchemeKind, SignaturePlace, TimestampPlace, TimestampSpec, TimestampUnit,
    ValuePattern,
};
use crate::template::Template;

const TOLERANCE: Duration = Duration::from_secs(5 * 60);

/// The list of schemes; their names differ.
pub(super) fn read_schemes(table: &Table<'_, '_>, provider: &str, names: &Names) -> Vec<Arc<Scheme>> {
    let list = table.take("signature").map(Value::one_or_list).unwrap_or_default();
    let mut schemes: Vec<Arc<Scheme>> = Vec::new();
    for value in &list {
        let Some((scheme, name_span)) = read_scheme(value, provider, names) else { continue };
        if schemes.iter().any(|other| other.name == scheme.name) {
            let message = format!("two signatures are named `{}`", scheme.name);
            value.reading.fault(name_span, message, Some("give each a name of its own".into()));
            continue;
        }
        schemes.push(Arc::new(scheme));
    }
    schemes
}

fn read_scheme(value: &Value<'_, '_>, provider: &str, names: &Names) -> Option<(Scheme, std::ops::Range<usize>)> {
    let table = value.table()?;
    let name_value = table.take("name");
    let name_span = name_value.as_ref().map_or(value.span.clone(), |name| name.span.clone());
    let name = name_value.map_or(Some(provider.to_owned()), |name| name.filled_text());
    let kinds = [
        ("hmac", SchemeKind::Hmac),
        ("digest", SchemeKind::Digest),
        ("token", SchemeKind::Token),
        ("basic", SchemeKind::Basic),
    ];
    let kind = match table.take("type") {
        Some(kind) => word(&kind, &kinds, &["ed25519", "ecdsa", "rsa", "jwt"]),
        None => table.require("type", "one of hmac, digest, token, basic").and(None),
    };
    let Some(kind) = kind else {
        // Its other keys may belong to a kind that is not known; one fault is enough.
        table.entries();
        return None;
    };
    ["each", "body_hash", "keys", "certificate"].iter().for_each(|key| table.not_yet(key));
    let algorithm = read_algorithm(&table);
    let encoding = read_encoding(&table);
    let key_encoding = read_key_encoding(&table);
    let place = read_place(&table, kind, value);
    let pattern = read_value(&table);
    let timestamp = read_timestamp(&table);
    let content = read_content(&table, kind, names);
    check_times(value, &table, pattern.as_ref(), &content, timestamp.as_ref());
    check_secret(value, kind, &content);
    table.finish();
    let scheme = Scheme {
        name: name?,
        kind,
        algorithm: algorithm?,
        encoding: encoding?,
        key_encoding: key_encoding?,
        place: place?,
        value: pattern?,
        content,
        timestamp,
    };
    Some((scheme, name_span))
}

fn read_algorithm(table: &Table<'_, '_>) -> Option<Algorithm> {
    let Some(value) = table.take("algorithm") else { return Some(Algorithm::Sha256) };
    if value.is_table() {
        let message = format!("`{}` as a table is not carried out yet by this version of ringback", value.name);
        value.fault(message, Some("name one algorithm, such as \"sha256\""));
        return None;
    }
    value.choice(&[
        ("sha256", Algorithm::Sha256),
        ("sha1", Algorithm::Sha1),
        ("sha384", Algorithm::Sha384),
        ("sha512", Algorithm::Sha512),
    ])
}

fn read_encoding(table: &Table<'_, '_>) -> Option<Encoding> {
    table.take("encoding").map_or(Some(Encoding::Hex), |value| {
        value.choice(&[
            ("hex", Encoding::Hex),
            ("hex_any_case", Encoding::HexAnyCase),
            ("base64", Encoding::Base64),
            ("base64url", Encoding::Base64Url),
        ])
    })
}

fn read_key_encoding(table: &Table<'_, '_>) -> Option<KeyEncoding> {
    let known = [
        ("text", KeyEncoding::Text),
        ("hex", KeyEncoding::Hex),
        ("base64", KeyEncoding::Base64),
        ("whsec", KeyEncoding::Whsec),
        ("sha1", KeyEncoding::Sha1),
    ];
    let later = ["whpk", "pem", "pem_base64", "spki_base64"];
    table.take("key_encoding").map_or(Some(KeyEncoding::Text), |value| word(&value, &known, &later))
}

/// Where the signature stands: exactly one of four keys. Basic authentication has its own header.
fn read_place(table: &Table<'_, '_>, kind: SchemeKind, value: &Value<'_, '_>) -> Option<SignaturePlace> {
    let keys = ["header", "form", "json", "query"];
    let given: Vec<Value<'_, '_>> = keys.iter().filter_map(|key| table.take(key)).collect();
    match given.as_slice() {
        [] if kind == SchemeKind::Basic => Some(SignaturePlace::Header(vec!["Authorization".into()])),
        [] => {
            let message = format!("`{}` does not say where the signature stands", value.name);
            value.fault(message, Some("add header = \"X-Signature\", or form, query or json"));
            None
        }
        [place] if table.has("json") => read_json_path(place).map(SignaturePlace::Json),
        [place] => {
            let names = read_names(place, table.has("header"))?;
            Some(match () {
                () if table.has("header") => SignaturePlace::Header(names),
                () if table.has("form") => SignaturePlace::Form(names),
                () => SignaturePlace::Query(names),
            })
        }
        [first, second, ..] => {
            second.fault(format!("`{}` and `{}` exclude each other; keep one", first.name, second.name), None);
            None
        }
    }
}

fn read_names(value: &Value<'_, '_>, headers: bool) -> Option<Vec<String>> {
    let values = if value.is_list() { value.list()? } else { vec![] };
    let names: Vec<String> = if value.is_list() {
        values.iter().filter_map(Value::filled_text).collect()
    } else {
        vec![value.filled_text()?]
    };
    if names.is_empty() {
        value.fault(format!("`{}` is empty", value.name), None);
        return None;
    }
    for name in &names {
        let stem = name.strip_suffix('*').unwrap_or(name);
        if headers && http::HeaderName::from_bytes(stem.as_bytes()).is_err() {
            value.fault(format!("`{name}` cannot be the name of a header"), Some("`*` may stand at its end"));
            return None;
        }
    }
    Some(names)
}

fn read_json_path(value: &Value<'_, '_>) -> Option<Path> {
    let text = value.text()?;
    let path = Path::parse(&text).filter(|path| path.is_single() && !path.steps.is_empty());
    if path.is_none() {
        value.fault(
            format!("`{}` is `{text}`, which is no plain path to one place", value.name),
            Some("such as \".signature\""),
        );
    }
    path
}

/// The look of the signature.
fn read_value(table: &Table<'_, '_>) -> Option<ValuePattern> {
    let separator = table.take("separator").map(|value| value.text());
    let Some(value) = table.take("value") else {
        return Some(ValuePattern { text: "{{ signature }}".into(), separator: separator.flatten() });
    };
    let template = super::language::check_template(&value)?;
    let known = ["signature", "timestamp"];
    for name in template.names() {
        if name == "algorithm" {
            value.fault("`algorithm` is not carried out yet by this version of ringback", None);
            return None;
        }
        if !known.contains(&name.as_str()) {
            let help = nearest(&name, known.into_iter()).map(|near| format!("did you mean `{near}`?"));
            let help = help.unwrap_or_else(|| "known here: signature, timestamp".into());
            value.fault(format!("`{name}` is not known in this template"), Some(&help));
            return None;
        }
    }
    if template.has_blocks() || !template.names().contains("signature") {
        let message = format!("`{}` must hold {{{{ signature }}}}", value.name);
        value.fault(message, Some("such as \"sha256={{ signature }}\""));
        return None;
    }
    Some(ValuePattern { text: template.text_source().to_owned(), separator: separator.flatten() })
}

/// The signed bytes; a token and basic authentication sign nothing.
fn read_content(table: &Table<'_, '_>, kind: SchemeKind, names: &Names) -> Vec<Template> {
    let Some(value) = table.take("content") else {
        return match kind {
            SchemeKind::Hmac | SchemeKind::Digest => Template::parse("{{ body }}").into_iter().collect(),
            SchemeKind::Token | SchemeKind::Basic => Vec::new(),
        };
    };
    if matches!(kind, SchemeKind::Token | SchemeKind::Basic) {
        value.fault(format!("`{}`: nothing is signed, the secret itself is sent", value.name), Some("remove it"));
        return Vec::new();
    }
    let parts = value.one_or_list();
    parts.iter().filter_map(|value| plain_template(value, Place::Content, names)).collect()
}

/// A plain hash proves something only when the secret is in it.
fn check_secret(value: &Value<'_, '_>, kind: SchemeKind, content: &[Template]) {
    let without = |template: &Template| !template.names().contains("secret");
    if kind == SchemeKind::Digest && content.iter().any(without) {
        let message = format!("`{}`: a digest without {{{{ secret }}}} in its content proves nothing", value.name);
        value.fault(message, Some("add {{ secret }} to content, or use type = \"hmac\""));
    }
}

fn read_timestamp(table: &Table<'_, '_>) -> Option<TimestampSpec> {
    let tolerance = table.take("tolerance");
    let Some(value) = table.take("timestamp") else {
        if let Some(tolerance) = tolerance {
            let message = format!("`{}` is the age of a `timestamp`, which is missing", tolerance.name);
            tolerance.fault(message, Some("add timestamp = { header = \"X-Timestamp\", unit = \"s\" }, or remove it"));
        }
        return None;
    };
    let inner = value.table()?;
    let place = match (inner.take("header"), inner.take("json")) {
        (Some(header), Some(json)) => {
            json.fault(format!("`{}` and `{}` exclude each other; keep one", header.name, json.name), None);
            None
        }
        (Some(header), None) => {
            read_names(&header, true).and_then(|names| names.into_iter().next()).map(TimestampPlace::Header)
        }
        (None, Some(json)) => read_json_path(&json).map(TimestampPlace::Json),
        (None, None) => None,
    };
    let units = [("s", TimestampUnit::Seconds), ("ms", TimestampUnit::Millis), ("rfc3339", TimestampUnit::Rfc3339)];
    let unit = inner.require("unit", "one of s, ms, rfc3339").and_then(|value| value.choice(&units));
    inner.finish();
    let (past, future) = tolerance.map_or(Some((TOLERANCE, TOLERANCE)), |value| read_tolerance(&value))?;
    Some(TimestampSpec { place, unit: unit?, past, future })
}

fn read_tolerance(value: &Value<'_, '_>) -> Option<(Duration, Duration)> {
    if !value.is_table() {
        return value.duration().map(|both| (both, both));
    }
    let table = value.table()?;
    let part = |key: &str| table.take(key).map_or(Some(TOLERANCE), |value| value.duration());
    let both = part("past").zip(part("future"));
    table.finish();
    both
}

/// A timestamp that is signed must be found somewhere, and one that is found must be told how to read.
fn check_times(
    value: &Value<'_, '_>,
    table: &Table<'_, '_>,
    pattern: Option<&ValuePattern>,
    content: &[Template],
    timestamp: Option<&TimestampSpec>,
) {
    let in_value = pattern.and_then(|pattern| Template::parse(&pattern.text).ok());
    let in_value = in_value.is_some_and(|template| template.names().contains("timestamp"));
    let signed = content.iter().any(|template| template.names().contains("timestamp"));
    if (in_value || signed) && !table.has("timestamp") {
        let message = format!("`{}` names {{{{ timestamp }}}}, but has no `timestamp`", value.name);
        value.fault(
            message,
            Some("add timestamp = { unit = \"s\" }, with header or json when it does not stand in value"),
        );
    }
    if timestamp.is_some_and(|timestamp| timestamp.place.is_none()) && !in_value && pattern.is_some() {
        let message = format!("`{}.timestamp` does not say where the time stands", value.name);
        value.fault(message, Some("add header or json to it, or {{ timestamp }} to value"));
    }
}
