//! `[sources.*]` of the configuration.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Network, Place, ProviderRef, PublicKeyRef, Source, SourceWebhook, Tls, parts};
use crate::model::SourceName;
use crate::secret::SecretRef;
use crate::settings::read_stream_settings;
use crate::shape::{Table, Value};

/// Reads every source of a file.
pub fn read_all(table: &Table<'_, '_>, base: &Path, network: &Network) -> Vec<Source> {
    let Some(sources) = table.take("sources").and_then(|v| v.table()) else { return Vec::new() };
    sources.entries().into_iter().filter_map(|(name, value)| read(name, &value, base, network)).collect()
}

/// Names that may stand in addresses, metrics and ids.
pub fn name_is_good(value: &Value<'_, '_>, name: &str, what: &str) -> bool {
    let good = !name.is_empty()
        && name.len() <= 64
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
    if !good || name == "ringback" {
        let message = format!("`{name}` cannot be the name of a {what}");
        let help = "letters, digits, `-` and `_`, at most 64; `ringback` itself is taken";
        value.reading.fault(value.key_span.clone(), message, Some(help.into()));
    }
    good && name != "ringback"
}

fn read(name: String, value: &Value<'_, '_>, base: &Path, network: &Network) -> Option<Source> {
    let good = name_is_good(value, &name, "source");
    let table = value.table()?;
    let provider =
        table.require("provider", "a built-in provider (`ringback provider list`) or the path of your own file");
    let mut secrets = BTreeMap::new();
    if let Some(table) = table.take("secrets").and_then(|v| v.table()) {
        for (key, value) in table.entries() {
            if let Some(secret) = parts::secret(&value, base) {
                secrets.insert(key, secret);
            }
        }
    }
    let settings = table.take("settings").and_then(|v| v.table()).map(|t| t.entries()).unwrap_or_default();
    let mut streams = BTreeMap::new();
    if let Some(table) = table.take("streams").and_then(|v| v.table()) {
        for (key, value) in table.entries() {
            if let Some(stream) = value.table() {
                streams.insert(key, read_stream_settings(&stream));
                stream.finish();
            }
        }
    }
    let source = Source {
        provider: provider.as_ref().and_then(|v| provider_ref(v, base)).unwrap_or(ProviderRef::BuiltIn(String::new())),
        base_url: table.take("base_url").and_then(|v| parts::url(&v)),
        secrets,
        settings: settings.into_iter().map(|(key, value)| (key, value.json())).collect(),
        only: table.take("only").and_then(|v| v.texts()),
        enabled: table.take("enabled").and_then(|v| v.boolean()).unwrap_or(true),
        proxy: table.take("proxy").and_then(|v| parts::proxy(&v, base)).unwrap_or_else(|| network.proxy.clone()),
        tls: table.take("tls").and_then(|v| parts::tls(&v, base)).unwrap_or_else(Tls::default),
        keep: table.take("keep").and_then(|v| v.duration()),
        renamed_from: table.take("renamed_from").and_then(|v| v.filled_text()).map(SourceName::from),
        webhook: table.take("webhook").and_then(|v| webhook(&v, base)),
        streams,
        place: Place { file: value.reading.file.clone(), span: value.key_span.clone() },
        name: SourceName::from(name),
    };
    table.finish();
    good.then_some(source)
}

fn provider_ref(value: &Value<'_, '_>, base: &Path) -> Option<ProviderRef> {
    let text = value.filled_text()?;
    let is_path = text.contains('/') || text.ends_with(".toml");
    Some(if is_path { ProviderRef::File(base.join(text)) } else { ProviderRef::BuiltIn(text) })
}

/// A path, the key itself, or a place as for secrets.
fn public_key(value: &Value<'_, '_>, base: &Path) -> Option<PublicKeyRef> {
    if value.is_table() {
        return parts::secret(value, base).map(PublicKeyRef::Place);
    }
    let text = value.filled_text()?;
    let ending = Path::new(&text).extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    let is_key = text.contains("-----BEGIN") || text.starts_with('{') || text.starts_with("whpk_");
    let names_file = ["./", "../", "/"].iter().any(|start| text.starts_with(start))
        || ["pem", "crt", "cer", "pub", "key", "json", "jwk", "jwks", "txt"].contains(&ending);
    if !is_key && (names_file || base.join(&text).is_file()) {
        return Some(PublicKeyRef::Place(SecretRef::File(base.join(text))));
    }
    Some(PublicKeyRef::Text(text))
}

fn webhook(value: &Value<'_, '_>, base: &Path) -> Option<SourceWebhook> {
    let table = value.table()?;
    let public_keys = table.take("public_key").map(Value::one_or_list).unwrap_or_default();
    let webhook = SourceWebhook {
        secrets: table.take("secret").map(|v| parts::secrets(v, base)).unwrap_or_default(),
        public_keys: public_keys.iter().filter_map(|value| public_key(value, base)).collect(),
        scheme: table.take("scheme").and_then(|v| v.filled_text()),
        url: table.take("url").and_then(|v| parts::url(&v)),
        tolerance: table.take("tolerance").and_then(|v| v.tolerance()),
        subscribe: table.take("subscribe").and_then(|v| v.boolean()).unwrap_or(false),
    };
    table.finish();
    Some(webhook)
}
