//! What `native` sends for the last event of a test: the recorded request again, and something that its own scheme verifies.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use url::Url;

use super::bench::{Bench, inbound_of};
use crate::client::Outgoing;
use crate::deliver::{Emission, emit};
use crate::model::{Event, Timestamp};
use crate::provider::ProviderTest;
use crate::recorded::Recorded;
use crate::secret::Secret;
use crate::signature::{KeyEncoding, Request};
use crate::store::{ClaimedDelivery, DeliveryId};

impl Bench {
    /// What `native` sends for the last event is the recorded request: its body, and the headers that are named.
    pub(super) async fn native(&self, beside: &Path, file: &Path, test: &ProviderTest) -> anyhow::Result<()> {
        let wanted = Recorded::read(&beside.join(file))?;
        let url: Url = wanted.url.as_deref().unwrap_or("https://handler.example/hook").parse()?;
        let secret = test.secrets.iter().find(|(name, _)| name == "webhook").map_or("test", |(_, value)| value);
        let event = self.last_event().await?.context("there is no event to emit")?;
        let delivery = delivery_of(event, beside, test)?;
        let sent = self.emit(&delivery, test, &Secret::new(secret), &url)?;
        let body = String::from_utf8_lossy(&sent.body);
        let expected = wanted.body()?;
        if sent.body != expected {
            bail!("  the body is\n    {body}\n  expected was\n    {}", String::from_utf8_lossy(&expected));
        }
        for (name, value) in wanted.headers() {
            let got = sent.headers.get(&name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
            if got.as_deref() != Some(value.as_str()) {
                bail!("  header `{name}` is {got:?}, expected was `{value}`");
            }
        }
        Ok(())
    }

    /// What `native` would send for the last event is verified by the scheme that signed it. Where the provider signs with a
    /// private key there is none to try with.
    pub(super) async fn emission_is_verified(&self, beside: &Path, test: &ProviderTest) -> anyhow::Result<()> {
        let native = self.source.provider.native.as_ref();
        let named = test.scheme.as_deref().or_else(|| native.and_then(|native| native.scheme.as_deref()));
        let schemes = self.source.provider.webhook.iter().flat_map(|webhook| &webhook.schemes);
        let scheme = schemes.into_iter().find(|scheme| named.is_none_or(|name| scheme.name == name));
        let Some(scheme) = scheme.filter(|scheme| !scheme.is_asymmetric()) else { return Ok(()) };
        let Some(event) = self.last_event().await?.filter(|event| event.data.is_some()) else { return Ok(()) };
        if native.is_none_or(|native| native.impossible.is_some()) {
            return Ok(());
        }
        let secret = match scheme.key_encoding {
            KeyEncoding::Hex => "00ff",
            KeyEncoding::Whsec => "whsec_AQID",
            _ => "test",
        };
        let (secret, url) = (Secret::new(secret), Url::parse("https://handler.example/hook")?);
        let delivery = delivery_of(event, beside, test)?;
        let sent = self.emit(&delivery, test, &secret, &url)?;
        let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let headers: Vec<(String, String)> =
            sent.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
        let request = Request {
            method: "POST",
            url: Some(sent.url.as_str()),
            headers: &headers,
            body: &sent.body,
            settings: &self.source.settings,
        };
        match scheme.verify(&request, &[secret], test.now.unwrap_or(Timestamp(0))) {
            Ok(_) => Ok(()),
            Err(refusal) => bail!("  what `native` sends would be refused by scheme `{}`: {refusal}", scheme.name),
        }
    }

    fn emit(
        &self,
        delivery: &ClaimedDelivery,
        test: &ProviderTest,
        secret: &Secret,
        url: &Url,
    ) -> anyhow::Result<Outgoing> {
        let secrets = std::slice::from_ref(secret);
        let emission = Emission { source: &self.source, scheme: test.scheme.as_deref(), secrets, url, signed_url: url };
        let sent = emit(&emission, delivery, test.now.unwrap_or(Timestamp(0)));
        sent.map_err(|error| anyhow::anyhow!("  nothing is emitted in native form: {error}"))
    }
}

/// A first attempt to deliver an event, with the real webhook that led to it.
fn delivery_of(event: Event, beside: &Path, test: &ProviderTest) -> anyhow::Result<ClaimedDelivery> {
    let recorded = test.request.as_ref().map(|request| Recorded::read(&beside.join(request))).transpose()?;
    let inbound = recorded.as_ref().map(inbound_of).transpose()?.map(Arc::new);
    Ok(ClaimedDelivery {
        id: DeliveryId(1),
        lease: 1,
        handler: "test".into(),
        event: Arc::new(event),
        inbound,
        counted: 0,
        attempts: 0,
        first_due_at: Timestamp(0),
        replay: false,
        strain: 0,
    })
}
