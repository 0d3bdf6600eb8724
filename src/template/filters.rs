//! The filters and functions of templates: a closed set, the same in every place a template may stand.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use chrono_tz::Tz;
use hmac::{Hmac, KeyInit, Mac};
use md5::Md5;
use minijinja::value::{Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior};
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha384, Sha512};

use super::TimeFormat;
use super::render::{invalid, percent_encoded, text, to_bytes, write_json};
use super::value::Moment;
use crate::model::Timestamp;

/// Steps that one template may take: a loop over a large body ends here.
const FUEL: u64 = 1_000_000;

/// The language of our templates.
pub(super) fn environment() -> Environment<'static> {
    let mut env = Environment::empty();
    env.set_undefined_behavior(UndefinedBehavior::SemiStrict);
    env.set_fuel(Some(FUEL));
    env.set_debug(false);
    env.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    env.set_formatter(|out, _, value| out.write_str(&text(value)?).map_err(Error::from));
    if let Ok(syntax) = minijinja::syntax::SyntaxConfig::builder().keep_trailing_newline(true).build() {
        env.set_syntax(syntax);
    }
    env.add_test("defined", |value: &Value| !value.is_undefined());
    env.add_test("undefined", |value: &Value| value.is_undefined());
    env.add_test("none", |value: &Value| value.is_none());
    env.add_filter("date", date);
    env.add_filter("plus", |value: &Value, by: &str| shift(value, by, Timestamp::plus));
    env.add_filter("minus", |value: &Value, by: &str| shift(value, by, Timestamp::minus));
    env.add_filter("json", |value: &Value| {
        let mut json = String::new();
        write_json(&mut json, value).map(|()| json)
    });
    env.add_filter("xml", |value: &Value| text(value).map(|text| xml(&text)));
    env.add_filter("base64", |value: &Value| to_bytes(value).map(|bytes| STANDARD.encode(bytes)));
    env.add_filter("base64url", |value: &Value| to_bytes(value).map(|bytes| URL_SAFE_NO_PAD.encode(bytes)));
    env.add_filter("hex", |value: &Value| to_bytes(value).map(hex::encode));
    env.add_filter("urlencode", |value: &Value| text(value).map(|text| percent_encoded(&text)));
    env.add_filter("hash", |value: &Value, algorithm: &str| hash(&to_bytes(value)?, algorithm).map(Value::from_bytes));
    env.add_filter("hmac", |value: &Value, algorithm: &str, key: &Value| {
        hmac(&to_bytes(value)?, algorithm, &to_bytes(key)?).map(Value::from_bytes)
    });
    env.add_filter("crc32", |value: &Value| to_bytes(value).map(|bytes| crc32(&bytes)));
    env.add_filter("join", join);
    env.add_filter("lower", |value: &Value| text(value).map(|text| text.to_lowercase()));
    env.add_filter("upper", |value: &Value| text(value).map(|text| text.to_uppercase()));
    env.add_filter(
        "default",
        |value: &Value, other: &Value| {
            if value.is_undefined() || value.is_none() { other.clone() } else { value.clone() }
        },
    );
    env.add_function("uuid", uuid);
    env
}

/// The items of a list, as text with this between them.
fn join(list: &Value, between: &str) -> Result<String, Error> {
    if !matches!(list.kind(), ValueKind::Seq | ValueKind::Iterable) {
        return Err(invalid("`join` is for lists"));
    }
    let items: Result<Vec<String>, Error> = list.try_iter()?.map(|item| text(&item)).collect();
    Ok(items?.join(between))
}

/// `date(format)`, `date(format, zone)`.
fn date(value: &Value, format: &str, zone: Option<&str>) -> Result<Value, Error> {
    let moment = moment(value)?;
    let zone = match zone {
        Some(name) => Some(name.parse::<Tz>().map_err(|_| invalid(format!("`{name}` is no time zone")))?),
        None => moment.zone,
    };
    let format = TimeFormat::parse(format).map_err(invalid)?;
    Ok(Value::from_object(Moment { at: moment.at, format, zone }))
}

fn shift(value: &Value, by: &str, shift: fn(Timestamp, std::time::Duration) -> Timestamp) -> Result<Value, Error> {
    let moment = moment(value)?;
    let by = humantime::parse_duration(by).map_err(|_| invalid(format!("`{by}` is no duration such as \"10m\"")))?;
    Ok(Value::from_object(Moment { at: shift(moment.at, by), ..moment }))
}

/// A time; a number is seconds since 1970, text is RFC 3339.
fn moment(value: &Value) -> Result<Moment, Error> {
    if value.is_undefined() {
        return Err(Error::from(ErrorKind::UndefinedError));
    }
    if let Some(moment) = value.downcast_object_ref::<Moment>() {
        return Ok(moment.clone());
    }
    let format = if value.is_number() { TimeFormat::Unix } else { TimeFormat::Rfc3339 };
    let at = format.read(&text(value)?, None).map_err(invalid)?;
    Ok(Moment { at, format, zone: None })
}

fn xml(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&apos;"),
            other => escaped.push(other),
        }
    }
    escaped
}

fn unknown(algorithm: &str) -> Error {
    invalid(format!("`{algorithm}` is no algorithm here; known: sha1, sha256, sha384, sha512"))
}

fn hash(bytes: &[u8], algorithm: &str) -> Result<Vec<u8>, Error> {
    Ok(match algorithm {
        // Old APIs want it as a checksum (`Content-MD5`); nothing is signed with it.
        "md5" => Md5::digest(bytes).to_vec(),
        "sha1" => Sha1::digest(bytes).to_vec(),
        "sha256" => Sha256::digest(bytes).to_vec(),
        "sha384" => Sha384::digest(bytes).to_vec(),
        "sha512" => Sha512::digest(bytes).to_vec(),
        other => return Err(unknown(other)),
    })
}

fn hmac(bytes: &[u8], algorithm: &str, key: &[u8]) -> Result<Vec<u8>, Error> {
    fn sign<M: Mac + KeyInit>(bytes: &[u8], key: &[u8]) -> Result<Vec<u8>, Error> {
        let mut mac = <M as KeyInit>::new_from_slice(key).map_err(|_| invalid("the key has an impossible length"))?;
        mac.update(bytes);
        Ok(mac.finalize().into_bytes().to_vec())
    }
    match algorithm {
        "sha1" => sign::<Hmac<Sha1>>(bytes, key),
        "sha256" => sign::<Hmac<Sha256>>(bytes, key),
        "sha384" => sign::<Hmac<Sha384>>(bytes, key),
        "sha512" => sign::<Hmac<Sha512>>(bytes, key),
        other => Err(unknown(other)),
    }
}

/// CRC-32 as in zip and Ethernet, as a decimal number.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 };
    !bytes.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

/// A random UUID (version 4).
fn uuid() -> Result<String, Error> {
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes).map_err(|error| invalid(format!("no random bytes could be had: {error}")))?;
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let hex = hex::encode(bytes);
    Ok([&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-"))
}
