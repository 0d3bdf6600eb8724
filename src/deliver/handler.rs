//! A handler as it works: by what way its events go, what signs them, and whether it may be sent to now.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::HeaderName;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::breaker::Breaker;
use super::custom::Header;
use super::rate::Rate;
use super::standing::Standing;
use super::transport::Transport;
use crate::client::Exchange;
use crate::config;
use crate::model::{SourceName, Timestamp};
use crate::secret::Secret;
use crate::signature::StandardSigner;
use crate::source::Source;

/// A handler as it works.
pub struct Handler {
    pub config: config::Handler,
    pub transport: Transport,
    pub secrets: Vec<Secret>,
    /// Err: why nothing can be signed in the standard format. None: nothing is, for want of a secret that need not be there.
    pub(super) signer: Result<Option<StandardSigner>, String>,
    pub(super) headers: Vec<(HeaderName, Header)>,
    /// `{{ secrets.N }}` of its templates.
    pub(super) named: BTreeMap<String, Secret>,
    /// For templates and `format = "native"`: the sources it hears.
    pub(super) sources: BTreeMap<SourceName, Arc<Source>>,
    pub(super) permits: Arc<Semaphore>,
    rate: Option<Rate>,
    pub(super) breaker: Breaker,
    pub(super) standing: Standing,
}

impl Handler {
    /// Puts a handler together; the error says what is wrong with its configuration.
    pub fn new(
        config: config::Handler,
        client: impl Exchange,
        secrets: Vec<Secret>,
        sources: BTreeMap<SourceName, Arc<Source>>,
    ) -> Result<Handler, String> {
        let transport = Transport::new(&config, client)?;
        Handler::over(config, transport, secrets, sources)
    }

    /// The same over a transport that is there already.
    pub fn over(
        config: config::Handler,
        transport: Transport,
        secrets: Vec<Secret>,
        sources: BTreeMap<SourceName, Arc<Source>>,
    ) -> Result<Handler, String> {
        let signs = match transport {
            Transport::Http(_) => true,
            Transport::Exec(_) | Transport::Broker(_) => !secrets.is_empty(),
            Transport::File(_) | Transport::Mail(_) | Transport::Pull => false,
        };
        let signer = signs.then(|| StandardSigner::new(&secrets)).transpose().map_err(|_| {
            format!(
                "handler `{}`: its secret is not `whsec_` and base64; make one with `ringback secret new`",
                config.name
            )
        });
        if !matches!(config.format, config::Format::Native | config::Format::Custom) {
            signer.as_ref().map_err(Clone::clone)?;
        }
        let headers = config.headers.iter().map(|(name, template)| Header::of(name, template));
        let headers =
            headers.collect::<Result<_, _>>().map_err(|error| format!("handler `{}`: {error}", config.name))?;
        Ok(Handler {
            permits: Arc::new(Semaphore::new(config.concurrency)),
            rate: config.rate.and_then(Rate::new),
            breaker: Breaker::default(),
            standing: Standing::default(),
            config,
            transport,
            secrets,
            signer,
            headers,
            named: BTreeMap::new(),
            sources,
        })
    }

    /// Until when its rate lets nothing go.
    pub(super) fn rests_until(&self, now: Timestamp) -> Option<Timestamp> {
        self.rate.as_ref().and_then(|rate| rate.rests_until(now))
    }

    /// The right to make one attempt now.
    pub(super) fn admit(&self, now: Timestamp) -> Option<OwnedSemaphorePermit> {
        // Permits are only taken by the one loop that claims, and it claims no more than are free.
        let permit = self.permits.clone().try_acquire_owned().ok()?;
        self.rate.as_ref().is_none_or(|rate| rate.take(now)).then_some(permit)
    }

    /// With the secrets that its templates name.
    pub fn with_named(self, named: BTreeMap<String, Secret>) -> Handler {
        Handler { named, ..self }
    }
}
