//! The smallest configuration around a provider file that one of its tests can run under.

use std::path::Path;

use anyhow::Context as _;
use toml::{Table, Value};

use crate::provider::{Provider, ProviderTest};
use crate::recorded::Recorded;

/// As TOML, with the test's settings and secrets; what is not given becomes `test`. Secrets are written to files in `folder`.
pub(super) fn config_of(
    provider: &Provider,
    file: &Path,
    test: &ProviderTest,
    folder: &Path,
) -> anyhow::Result<String> {
    let beside = file.parent().unwrap_or(Path::new(""));
    let around = Around { provider, beside, test, folder };
    let mut source = Table::new();
    source.insert("provider".into(), text(&std::path::absolute(file)?.to_string_lossy()));
    source.insert("secrets".into(), around.secrets()?.into());
    source.insert("settings".into(), around.settings()?.into());
    source.insert("streams".into(), around.streams().into());
    if let Some(webhook) = around.webhook()? {
        source.insert("webhook".into(), webhook.into());
    }
    let sources = table([("test", source.into())]);
    Ok(toml::to_string(&table([("schema", 1.into()), ("sources", sources.into())]))?)
}

fn text(text: &str) -> Value {
    Value::String(text.to_owned())
}

fn table<const N: usize>(members: [(&str, Value); N]) -> Table {
    members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

struct Around<'a> {
    provider: &'a Provider,
    beside: &'a Path,
    test: &'a ProviderTest,
    folder: &'a Path,
}

impl Around<'_> {
    fn given(&self, secret: &str) -> &str {
        self.test.secrets.iter().find(|(name, _)| name == secret).map_or("test", |(_, value)| value)
    }

    fn secret(&self, name: &str, value: &str) -> anyhow::Result<Value> {
        let file = format!("{name}.secret");
        std::fs::write(self.folder.join(&file), value)?;
        Ok(table([("file", text(&file))]).into())
    }

    fn secrets(&self) -> anyhow::Result<Table> {
        let names = self.provider.secrets.iter().map(|spec| spec.name.clone());
        names.map(|name| Ok((name.clone(), self.secret(&name, self.given(&name))?))).collect()
    }

    fn settings(&self) -> anyhow::Result<Table> {
        let needed = self.provider.settings.iter().filter(|spec| spec.default.is_none());
        let mut settings: Table = needed.map(|spec| (spec.name.clone(), text("http://test.invalid"))).collect();
        for (name, value) in &self.test.settings {
            settings.insert(name.clone(), Value::try_from(value).context("a test's setting")?);
        }
        Ok(settings)
    }

    /// The stream that is polled, with all its records announced. With a request and no polls the source only receives.
    fn streams(&self) -> Table {
        if self.test.polls.is_empty() && self.test.request.is_some() {
            let polled = self.provider.streams.iter().filter(|stream| stream.is_polled());
            return polled.map(|s| (s.name.clone(), table([("enabled", false.into())]).into())).collect();
        }
        let stream = || table([("enabled", true.into()), ("first_run", text("send-all"))]);
        self.test.stream.iter().map(|name| (name.clone(), stream().into())).collect()
    }

    fn webhook(&self) -> anyhow::Result<Option<Table>> {
        let (Some(request), Some(webhook)) = (&self.test.request, &self.provider.webhook) else { return Ok(None) };
        let named = self.test.scheme.as_ref();
        let scheme = webhook.schemes.iter().find(|scheme| named.is_none_or(|name| scheme.name == *name));
        let scheme = scheme.context("the test names no signature scheme of this provider")?;
        // A public key may be many lines long: it stands in a file as well as in the test.
        let value = match self.given("webhook").strip_prefix("file:") {
            Some(path) => std::fs::read_to_string(self.beside.join(path)).with_context(|| format!("read {path}"))?,
            None => self.given("webhook").to_owned(),
        };
        let word = if scheme.is_asymmetric() { "public_key" } else { "secret" };
        let mut table = table([(word, self.secret("webhook", &value)?), ("scheme", text(&scheme.name))]);
        if let Some(url) = Recorded::read(&self.beside.join(request)).ok().and_then(|recorded| recorded.url) {
            table.insert("url".into(), text(url.split('?').next().unwrap_or_default()));
        }
        Ok(Some(table))
    }
}
