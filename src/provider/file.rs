//! A whole provider file (rows 1–7): the frame around the other readers.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use super::auth::read_auth;
use super::language::{Names, Place, time_format};
use super::limits::read_limits;
use super::listing::check_parents;
use super::request::{read_answer_format, read_request, read_response_actions, read_url, templates};
use super::stream::{Around, read_stream};
use super::webhook::{read_native, read_tests, read_webhook};
use super::{Auth, Provider, Request, SecretSpec, SettingSpec, Stream, Webhook};
use crate::answer::AnswerFormat;
use crate::settings::read_zone;
use crate::shape::{Fault, Level, Reading, SourceFile, Table, Value};
use crate::template::TimeFormat;

/// Reads the provider file at a path. Ok: the provider and the warnings about it; Err: everything that is wrong with it.
pub fn load(path: &Path) -> Result<(Provider, Vec<Fault>), Vec<Fault>> {
    match SourceFile::read(path) {
        Ok(file) => read(file),
        Err(message) => {
            let file = SourceFile::new(path, "");
            Err(vec![Fault { level: Level::Error, file, span: 0..0, message, help: None }])
        }
    }
}

/// Reads a provider file. Ok: the provider and the warnings about it; Err: everything that is wrong with it.
pub fn read(file: Arc<SourceFile>) -> Result<(Provider, Vec<Fault>), Vec<Fault>> {
    let reading = Reading::new(file);
    let provider = {
        let parsed = reading.parse();
        let table = Table::root(&reading, &parsed);
        let provider = read_provider(&table);
        table.finish();
        provider
    };
    match (provider, reading.failed()) {
        (Some(provider), false) => Ok((provider, reading.into_faults())),
        _ => {
            let mut faults = reading.into_faults();
            faults.sort_by_key(|fault| fault.span.start);
            Err(faults)
        }
    }
}

fn read_provider(table: &Table<'_, '_>) -> Option<Provider> {
    read_schema(table);
    let file = table.reading.file.path.clone();
    let stem = file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let name = table.take("name").and_then(|value| read_name(&value)).unwrap_or(stem);
    let title = table.take("title").and_then(|value| value.filled_text()).unwrap_or_else(|| name.clone());
    let notes = table.take("notes").and_then(|value| value.filled_text());
    let secrets = read_secrets(table);
    let settings = read_settings(table);
    let names = Names {
        secrets: secrets.iter().map(|secret| secret.name.clone()).collect(),
        settings: settings.iter().map(|setting| setting.name.clone()).collect(),
    };
    let base_url = table.take("base_url").and_then(|value| read_url(&value, Place::BaseUrl, &names));
    let timezone = table.take("timezone").and_then(|value| read_zone(&value));
    let format = table.take("time_format").and_then(|value| time_format(&value)).unwrap_or(TimeFormat::Rfc3339);
    let request = table.take("request").and_then(|value| value.table()).map(|inner| {
        let request = read_request(&inner, Place::Request, &names);
        inner.finish();
        request
    });
    let request = request.unwrap_or_default();
    let answer = read_answer_format(table, &AnswerFormat::default());
    let response_actions = read_response_actions(table);
    let auth = read_auth(table, &names);
    let limits = read_limits(table).unwrap_or_default();
    let around = Around {
        names: &names,
        request: &request,
        answer: &answer,
        timezone,
        time_format: format.clone(),
        has_base_url: table.has("base_url"),
    };
    let streams = read_streams(table, &around);
    check_credential(table, &auth, &request, &streams);
    let webhook = read_webhook(table, &name, &names, &streams);
    check_fed(table, &streams, webhook.as_ref());
    check_parents(table, &streams);
    let native = read_native(table, &names, webhook.as_ref());
    let tests = read_tests(table, &names, &streams);
    Some(Provider {
        name,
        title,
        notes,
        file,
        base_url,
        timezone,
        time_format: format,
        secrets,
        settings,
        request,
        answer,
        response_actions,
        auth,
        limits,
        streams,
        webhook,
        native,
        tests,
    })
}

/// What requests say of the credential, and what it gives them, go together.
fn check_credential(table: &Table<'_, '_>, auth: &[Auth], request: &Request, streams: &[Stream]) {
    let of_streams = streams.iter().flat_map(|stream| stream.request.iter().chain(&stream.confirm));
    let all = std::iter::once(request).chain(of_streams);
    let named: BTreeSet<String> = all.flat_map(templates).flat_map(|template| template.names()).collect();
    let value = table.take("auth");
    let fault = |message: &str, help: &str| {
        let span = value.as_ref().map_or(table.span.clone(), |value| value.key_span.clone());
        table.reading.fault(span, message, Some(help.into()));
    };
    let signs = auth.iter().any(|way| matches!(way, Auth::Hmac(_)));
    let gives = |way: &Auth| matches!(way, Auth::OAuth2(_) | Auth::Jwt(_) | Auth::Session(_));
    // A way that could not be read has its own fault.
    if table.reading.failed() {
        return;
    }
    if signs && !named.contains("signature") {
        let help = "write it where the provider looks for it: headers = { X-Signature = \"{{ signature }}\" }";
        fault("`auth` signs requests, but no request says where the signature goes", help);
    }
    if !signs && named.contains("signature") {
        fault("a request names `signature`, but `auth` signs nothing", "use [auth] type = \"hmac\"");
    }
    if named.contains("token") && !auth.iter().any(gives) {
        let help = "only oauth2, jwt and session get a token; name a secret instead";
        fault("a request names `token`, but `auth` gives no `token`", help);
    }
}

fn read_schema(table: &Table<'_, '_>) {
    let Some(value) = table.require("schema", "add schema = 1, the version of this file format") else { return };
    if value.json() != 1 {
        let message = format!("`schema` is {}, but this version of ringback reads schema 1", value.json());
        value.fault(message, None);
    }
}

fn read_name(value: &Value<'_, '_>) -> Option<String> {
    let name = value.filled_text()?;
    if !name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) {
        let message = format!("`{}` is `{name}`, which cannot be a provider's name", value.name);
        value.fault(message, Some("use letters, digits, `-`, `_` and `.`"));
        return None;
    }
    Some(name)
}

/// A name that `{{ secrets.N }}` or `{{ settings.N }}` can say.
fn check_word(name: &str, value: &Value<'_, '_>) {
    let good = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !good {
        let message = format!("`{name}` cannot be named in a template");
        value.reading.fault(value.key_span.clone(), message, Some("use letters, digits and `_`".into()));
    }
}

fn read_secrets(table: &Table<'_, '_>) -> Vec<SecretSpec> {
    let entries = table.take("secrets").and_then(|value| value.table()).map(|inner| inner.entries());
    let read = |(name, value): (String, Value<'_, '_>)| {
        check_word(&name, &value);
        if value.is_text() {
            return Some(SecretSpec { name, help: value.text()?, optional: false });
        }
        let inner = value.table()?;
        let help = inner.take("help").and_then(|value| value.text()).unwrap_or_default();
        let optional = inner.take("optional").and_then(|value| value.boolean()).unwrap_or(false);
        inner.finish();
        Some(SecretSpec { name, help, optional })
    };
    entries.unwrap_or_default().into_iter().filter_map(read).collect()
}

fn read_settings(table: &Table<'_, '_>) -> Vec<SettingSpec> {
    let entries = table.take("settings").and_then(|value| value.table()).map(|inner| inner.entries());
    entries.unwrap_or_default().into_iter().filter_map(|(name, value)| read_setting(name, &value)).collect()
}

fn read_setting(name: String, value: &Value<'_, '_>) -> Option<SettingSpec> {
    check_word(&name, value);
    if value.is_text() {
        return Some(SettingSpec { name, help: value.text()?, default: None, choices: Vec::new() });
    }
    let inner = value.table()?;
    let help = inner.take("help").and_then(|value| value.text()).unwrap_or_default();
    let default = inner.take("default");
    let choices = inner.take("choices").and_then(|value| value.list()).unwrap_or_default();
    let choices: Vec<serde_json::Value> = choices.iter().map(Value::json).collect();
    if let Some(default) = default.as_ref().filter(|default| !choices.is_empty() && !choices.contains(&default.json()))
    {
        default.fault(format!("`{}` is not among the choices", default.name), None);
    }
    inner.finish();
    Some(SettingSpec { name, help, default: default.map(|value| value.json()), choices })
}

fn read_streams(table: &Table<'_, '_>, around: &Around<'_>) -> Vec<Stream> {
    let help = "add [streams.NAME] with path, records and key";
    let Some(streams) = table.require("streams", help).and_then(|value| value.table()) else { return Vec::new() };
    let entries = streams.entries();
    if entries.is_empty() {
        table.reading.fault(streams.span.clone(), "`streams` is empty", Some(help.into()));
    }
    entries.into_iter().filter_map(|(name, value)| read_stream(name, &value, around)).collect()
}

/// A stream that is neither polled nor named by a message never has a record.
fn check_fed(table: &Table<'_, '_>, streams: &[Stream], webhook: Option<&Webhook>) {
    let Some(named) = table.take("streams").and_then(|value| value.table()) else { return };
    let routed = |name: &str| webhook.is_some_and(|w| w.messages.iter().any(|message| message.stream == name));
    let faulty_messages = table.reading.failed() && table.has("webhook");
    for stream in streams.iter().filter(|stream| !stream.is_polled()) {
        if let Some(value) = named.take(&stream.name)
            && !routed(&stream.name)
            && !faulty_messages
        {
            let message = format!("nothing feeds `{}`", value.name);
            let help = "add path, url or files to it, or route webhooks to it with [[webhook.messages]]";
            value.reading.fault(value.key_span.clone(), message, Some(help.into()));
        }
    }
}
