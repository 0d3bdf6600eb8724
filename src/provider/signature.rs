//! `[[webhook.signature]]` → a scheme (rows 72–80). What a scheme does with it is the room `signature`.

use std::sync::Arc;
use std::time::Duration;

use super::KeysSpec;
use super::language::{Names, Place, plain_template};
use super::request::{read_request, templates};
use crate::jq::Jq;
use crate::path::Path;
use crate::shape::{Table, Value, nearest};
use crate::signature::{
    Algorithm, BodyHash, CertificatePlace, CertificateSpec, Encoding, HashPlace, KeyEncoding, KeyIdPlace, NamePattern,
    NamedAlgorithm, NamedPlace, Scheme, SchemeKind, SignaturePlace, TimestampPlace, TimestampSpec, TimestampUnit,
    ValuePattern,
};
use crate::template::Template;

const ALGORITHMS: [(&str, Algorithm); 4] = [
    ("sha256", Algorithm::Sha256),
    ("sha1", Algorithm::Sha1),
    ("sha384", Algorithm::Sha384),
    ("sha512", Algorithm::Sha512),
];

const TOLERANCE: Duration = Duration::from_secs(5 * 60);

/// The list of schemes; their names differ.
pub(super) fn read_schemes(
    table: &Table<'_, '_>,
    provider: &str,
    names: &Names,
) -> (Vec<Arc<Scheme>>, Vec<(String, KeysSpec)>) {
    let list = table.take("signature").map(Value::one_or_list).unwrap_or_default();
    let (mut schemes, mut all_keys): (Vec<Arc<Scheme>>, Vec<(String, KeysSpec)>) = Default::default();
    for value in &list {
        let Some((scheme, keys, name_span)) = read_scheme(value, provider, names) else { continue };
        if schemes.iter().any(|other| other.name == scheme.name) {
            let message = format!("two signatures are named `{}`", scheme.name);
            value.reading.fault(name_span, message, Some("give each a name of its own".into()));
            continue;
        }
        all_keys.extend(keys.map(|keys| (scheme.name.clone(), keys)));
        schemes.push(Arc::new(scheme));
    }
    (schemes, all_keys)
}

fn read_scheme(
    value: &Value<'_, '_>,
    provider: &str,
    names: &Names,
) -> Option<(Scheme, Option<KeysSpec>, std::ops::Range<usize>)> {
    let table = value.table()?;
    let name_value = table.take("name");
    let name_span = name_value.as_ref().map_or(value.span.clone(), |name| name.span.clone());
    let name = name_value.map_or(Some(provider.to_owned()), |name| name.filled_text());
    let kinds = [
        ("hmac", SchemeKind::Hmac),
        ("digest", SchemeKind::Digest),
        ("token", SchemeKind::Token),
        ("basic", SchemeKind::Basic),
        ("ed25519", SchemeKind::Ed25519),
        ("ecdsa", SchemeKind::Ecdsa),
        ("rsa", SchemeKind::Rsa),
        ("jwt", SchemeKind::Jwt),
    ];
    let kind = match table.take("type") {
        Some(kind) => kind.choice(&kinds),
        None => table.require("type", "one of hmac, digest, token, basic, ed25519, ecdsa, rsa, jwt").and(None),
    };
    let Some(kind) = kind else {
        // Its other keys may belong to a kind that is not known; one fault is enough.
        table.entries();
        return None;
    };
    let keys = table.take("keys").and_then(|value| read_keys(&value, kind, names));
    let pattern = read_value(&table, names);
    let (algorithm, named) = read_algorithm(&table, kind, pattern.as_ref())?;
    let encoding = read_encoding(&table);
    let key_encoding = read_key_encoding(&table, kind);
    let place = read_place(&table, kind, value);
    let each = table.take("each").and_then(|value| super::language::check_jq(&value));
    let timestamp = read_timestamp(&table, kind);
    let body_hash = table.take("body_hash").and_then(|value| read_body_hash(&value));
    let certificate = table.take("certificate").and_then(|value| read_certificate(&value, kind));
    let content = read_content(&table, kind, names);
    let accept = table.take("accept").and_then(|value| super::language::check_jq(&value));
    check_times(value, &table, pattern.as_ref(), &content, timestamp.as_ref());
    check_secret(value, kind, &content);
    table.finish();
    let scheme = Scheme {
        name: name?,
        kind,
        algorithm,
        named,
        encoding: encoding?,
        key_encoding: key_encoding?,
        place: place?,
        each,
        value: pattern?,
        content,
        body_hash,
        timestamp,
        certificate,
        fetched: keys.as_ref().map(|(_, place)| place.clone()),
        accept,
        once: Vec::new(),
    };
    Some((scheme, keys.map(|(keys, _)| keys), name_span))
}

/// The algorithm to sign with, and how a request names its own where it does.
fn read_algorithm(
    table: &Table<'_, '_>,
    kind: SchemeKind,
    pattern: Option<&ValuePattern>,
) -> Option<(Algorithm, Option<NamedAlgorithm>)> {
    let in_value = pattern.is_some_and(|pattern| {
        Template::parse(&pattern.text).is_ok_and(|template| template.names().contains("algorithm"))
    });
    let Some(value) = table.take("algorithm") else {
        return Some(if in_value { named_in_value(Algorithm::Sha256) } else { (Algorithm::Sha256, None) });
    };
    if value.is_table() {
        return read_named(&value, in_value).map(|(algorithm, named)| (algorithm, Some(named)));
    }
    if kind == SchemeKind::Jwt {
        // The kind of the key decides; the words only document it.
        return value.choice(&[("ES256", ()), ("RS256", ()), ("EdDSA", ())]).map(|()| (Algorithm::Sha256, None));
    }
    let algorithm = value.choice(&ALGORITHMS)?;
    if kind == SchemeKind::Ecdsa && algorithm != Algorithm::Sha256 {
        value.fault(format!("`{}`: ecdsa is P-256 with sha256", value.name), Some("remove it"));
        return None;
    }
    Some(if in_value { named_in_value(algorithm) } else { (algorithm, None) })
}

/// Named in the signature's value by our own names, all of which count.
fn named_in_value(first: Algorithm) -> (Algorithm, Option<NamedAlgorithm>) {
    let map = ALGORITHMS.iter().map(|(name, algorithm)| ((*name).to_owned(), *algorithm)).collect();
    (first, Some(NamedAlgorithm { place: NamedPlace::Value, map, otherwise: None }))
}

fn read_named(value: &Value<'_, '_>, in_value: bool) -> Option<(Algorithm, NamedAlgorithm)> {
    let table = value.table()?;
    let header =
        table.take("header").and_then(|value| read_names(&value, true)).and_then(|names| names.into_iter().next());
    let json = table.take("json").and_then(|value| read_json_path(&value));
    let separator = table.take("separator").and_then(|value| value.text());
    let pattern = match table.take("pattern") {
        None => NamePattern::Whole,
        Some(value) => read_name_pattern(&value, separator)?,
    };
    let place = match (header, json) {
        (Some(header), None) => NamedPlace::Header(header, pattern),
        (None, Some(path)) => NamedPlace::Json(path),
        (None, None) if in_value => NamedPlace::Value,
        _ => {
            let message = format!("`{}` does not say where the algorithm is named", value.name);
            value.fault(message, Some("give it one of header and json, or put {{ algorithm }} into `value`"));
            return None;
        }
    };
    let otherwise = table.take("default").and_then(|value| value.choice(&ALGORITHMS));
    let mut map = Vec::new();
    for (name, value) in table.require("map", "which names count: { HMAC_SHA256 = \"sha256\" }")?.table()?.entries() {
        map.push((name, value.choice(&ALGORITHMS)?));
    }
    table.finish();
    let first = otherwise.or(map.first().map(|(_, algorithm)| *algorithm));
    let Some(first) = first else {
        value.fault(format!("`{}.map` is empty", value.name), None);
        return None;
    };
    // An empty name is what a request without one means.
    let absent = map.iter().position(|(name, _)| name.is_empty()).map(|at| map.remove(at).1);
    Some((first, NamedAlgorithm { place, map, otherwise: otherwise.or(absent) }))
}

/// A look with `{{ algorithm }}`, or a regular expression whose first group is the name.
fn read_name_pattern(value: &Value<'_, '_>, separator: Option<String>) -> Option<NamePattern> {
    let text = value.filled_text()?;
    if text.contains("{{") {
        let separator = separator.or_else(|| Some(",".into()));
        return Some(NamePattern::Template(ValuePattern { text, separator }));
    }
    let quoted = serde_json::Value::from(text).to_string();
    match Jq::parse(&format!("match({quoted}) | .captures[0].string")) {
        Ok(jq) => Some(NamePattern::Regex(jq)),
        Err(_) => value.wrong("a look with {{ algorithm }}, or a regular expression with one group"),
    }
}

fn read_body_hash(value: &Value<'_, '_>) -> Option<BodyHash> {
    let table = value.table()?;
    let place = |key: &str| table.take(key).and_then(|value| value.filled_text());
    let place = match (place("query"), place("header"), place("claim")) {
        (Some(name), None, None) => HashPlace::Query(name),
        (None, Some(name), None) => HashPlace::Header(name),
        (None, None, Some(name)) => HashPlace::Claim(name),
        _ => {
            let message = format!("`{}` must say in one place where the hash stands", value.name);
            value.fault(message, Some("give it one of query, header and claim"));
            return None;
        }
    };
    let algorithm = table.take("algorithm").map_or(Some(Algorithm::Sha256), |value| value.choice(&ALGORITHMS));
    let encoding = read_encoding(&table);
    table.finish();
    Some(BodyHash { place, algorithm: algorithm?, encoding: encoding? })
}

fn read_certificate(value: &Value<'_, '_>, kind: SchemeKind) -> Option<CertificateSpec> {
    let table = value.table()?;
    if !matches!(kind, SchemeKind::Rsa | SchemeKind::Ecdsa) {
        value.fault(format!("`{}` belongs to type = \"rsa\" or \"ecdsa\"", value.name), Some("remove it"));
    }
    let header =
        table.take("header").and_then(|value| read_names(&value, true)).and_then(|names| names.into_iter().next());
    let json = table.take("json").and_then(|value| read_json_path(&value));
    let place = match (header, json) {
        (Some(header), None) => Some(CertificatePlace::Header(header)),
        (None, Some(path)) => Some(CertificatePlace::Json(path)),
        _ => {
            let message = format!("`{}` does not say where its address stands", value.name);
            value.fault(message, Some("give it one of header and json"));
            None
        }
    };
    let host = table.require("host", "the hosts it may come from, such as \"*.example.com\"; `*` is one label");
    let hosts = host.map(|host| host.one_or_list().iter().filter_map(Value::filled_text).collect::<Vec<_>>());
    let path = table.take("path").and_then(|value| value.filled_text());
    let name = table.take("name").and_then(|value| value.filled_text());
    table.finish();
    Some(CertificateSpec { place: place?, hosts: hosts?, path, name })
}

/// Where public keys come from, and where a request names the one that it means.
fn read_keys(value: &Value<'_, '_>, kind: SchemeKind, names: &Names) -> Option<(KeysSpec, KeyIdPlace)> {
    let table = value.table()?;
    if !matches!(kind, SchemeKind::Jwt | SchemeKind::Rsa | SchemeKind::Ecdsa | SchemeKind::Ed25519) {
        value.fault(format!("`{}` belongs to jwt, rsa, ecdsa and ed25519", value.name), Some("remove it"));
        return None;
    }
    let request = read_request(&table, Place::Keys, names);
    let read = table.take("read").and_then(|value| super::language::check_jq(&value));
    let place = match table.take("id") {
        Some(id) => read_key_id(&id)?,
        None if kind == SchemeKind::Jwt => KeyIdPlace::Token,
        None => KeyIdPlace::Nowhere,
    };
    let said = table.has("path") || table.has("url");
    table.finish();
    if !said {
        value.fault(format!("`{}` does not say where to", value.name), Some("give it path or url"));
        return None;
    }
    let named = templates(&request).iter().any(|template| template.names().contains("key_id"));
    if named && place == KeyIdPlace::Nowhere {
        let help = "say where the request names its key: id = { header = \"X-Key-Id\" }";
        value.fault(format!("`{}` names `key_id`, which is not known", value.name), Some(help));
    }
    let by_id = named || read.as_ref().is_some_and(|read| read.text().contains("$key"));
    Some((KeysSpec { request, read, by_id }, place))
}

fn read_key_id(value: &Value<'_, '_>) -> Option<KeyIdPlace> {
    let table = value.table()?;
    let header =
        table.take("header").and_then(|value| read_names(&value, true)).and_then(|names| names.into_iter().next());
    let json = table.take("json").and_then(|value| read_json_path(&value));
    table.finish();
    match (header, json) {
        (Some(header), None) => Some(KeyIdPlace::Header(header)),
        (None, Some(path)) => Some(KeyIdPlace::Json(path)),
        _ => {
            let message = format!("`{}` does not say where the id stands", value.name);
            value.fault(message, Some("give it one of header and json"));
            None
        }
    }
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

fn read_key_encoding(table: &Table<'_, '_>, kind: SchemeKind) -> Option<KeyEncoding> {
    let usual = match kind {
        SchemeKind::Hmac | SchemeKind::Digest | SchemeKind::Token | SchemeKind::Basic => KeyEncoding::Text,
        SchemeKind::Ed25519 | SchemeKind::Ecdsa | SchemeKind::Rsa => KeyEncoding::Pem,
        SchemeKind::Jwt => KeyEncoding::Jwk,
    };
    let Some(value) = table.take("key_encoding") else { return Some(usual) };
    let encoding = value.choice(&[
        ("text", KeyEncoding::Text),
        ("hex", KeyEncoding::Hex),
        ("base64", KeyEncoding::Base64),
        ("whsec", KeyEncoding::Whsec),
        ("sha1", KeyEncoding::Sha1),
        ("whpk", KeyEncoding::Whpk),
        ("pem", KeyEncoding::Pem),
        ("pem_base64", KeyEncoding::PemBase64),
        ("spki_base64", KeyEncoding::SpkiBase64),
        ("jwk", KeyEncoding::Jwk),
    ])?;
    let shared = usual == KeyEncoding::Text;
    let fits = match encoding {
        KeyEncoding::Text | KeyEncoding::Whsec | KeyEncoding::Sha1 => shared,
        KeyEncoding::Hex | KeyEncoding::Base64 => shared || kind == SchemeKind::Ed25519,
        KeyEncoding::Whpk => kind == SchemeKind::Ed25519,
        KeyEncoding::Pem | KeyEncoding::PemBase64 | KeyEncoding::SpkiBase64 | KeyEncoding::Jwk => !shared,
    };
    if !fits {
        value.fault(format!("`{}`: a key of this type is not written so", value.name), None);
        return None;
    }
    Some(encoding)
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
fn read_value(table: &Table<'_, '_>, names: &Names) -> Option<ValuePattern> {
    let separator = table.take("separator").map(|value| value.text());
    let Some(value) = table.take("value") else {
        return Some(ValuePattern { text: "{{ signature }}".into(), separator: separator.flatten() });
    };
    let template = super::language::check_template(&value)?;
    let known = ["signature", "timestamp", "algorithm"];
    for name in template.names() {
        let setting = name.strip_prefix("settings.").is_some_and(|name| names.settings.iter().any(|n| n == name));
        if !setting && !known.contains(&name.as_str()) {
            let help = nearest(&name, known.into_iter()).map(|near| format!("did you mean `{near}`?"));
            let help =
                help.unwrap_or_else(|| "known here: signature, timestamp, algorithm, and settings of this file".into());
            value.fault(format!("`{name}` is not known in this template"), Some(&help));
            return None;
        }
    }
    if template.has_blocks() || !template.names().contains("signature") {
        let message = format!("`{}` must hold {{{{ signature }}}}", value.name);
        value.fault(message, Some("such as \"sha256={{ signature }}\""));
        return None;
    }
    let pattern = ValuePattern { text: template.text_source().to_owned(), separator: separator.flatten() };
    if let Some(fault) = pattern.fault() {
        value.fault(format!("`{}` {fault}", value.name), None);
        return None;
    }
    Some(pattern)
}

/// The signed bytes; a token and basic authentication sign nothing.
fn read_content(table: &Table<'_, '_>, kind: SchemeKind, names: &Names) -> Vec<Template> {
    let Some(value) = table.take("content") else {
        return match kind {
            SchemeKind::Hmac | SchemeKind::Digest | SchemeKind::Ed25519 | SchemeKind::Ecdsa | SchemeKind::Rsa => {
                Template::parse("{{ body }}").into_iter().collect()
            }
            SchemeKind::Token | SchemeKind::Basic | SchemeKind::Jwt => Vec::new(),
        };
    };
    let nothing = match kind {
        SchemeKind::Token | SchemeKind::Basic => "nothing is signed, the secret itself is sent",
        SchemeKind::Jwt => "a token says itself what is signed",
        SchemeKind::Hmac | SchemeKind::Digest | SchemeKind::Ed25519 | SchemeKind::Ecdsa | SchemeKind::Rsa => "",
    };
    if !nothing.is_empty() {
        value.fault(format!("`{}`: {nothing}", value.name), Some("remove it"));
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

fn read_timestamp(table: &Table<'_, '_>, kind: SchemeKind) -> Option<TimestampSpec> {
    let tolerance = table.take("tolerance");
    let Some(value) = table.take("timestamp") else {
        if let Some(tolerance) = tolerance {
            let message = format!("`{}` is the age of a `timestamp`, which is missing", tolerance.name);
            tolerance.fault(message, Some("add timestamp = { header = \"X-Timestamp\", unit = \"s\" }, or remove it"));
        }
        return None;
    };
    let inner = value.table()?;
    let claim = inner.take("claim").and_then(|value| value.filled_text());
    let claim = claim.or_else(|| (kind == SchemeKind::Jwt).then(|| "iat".to_owned()));
    let place = match (inner.take("header"), inner.take("json")) {
        (None, None) if claim.is_some() => claim.map(TimestampPlace::Claim),
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
    let given = match tolerance {
        Some(value) => Some(value.tolerance()?),
        None => None,
    };
    let side = |given: Option<Duration>| given.unwrap_or(TOLERANCE);
    let (past, future) = (side(given.and_then(|given| given.past)), side(given.and_then(|given| given.future)));
    Some(TimestampSpec { place, unit: unit?, past, future })
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
