//! Registering our address for real webhooks at providers, and again before a registration ends: `webhook.subscribe`. How it stands
//! is a row in the store, so that a restart registers nothing twice. It asks by the source's own credential and budget.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tracing::{info, warn};
use url::Url;

use super::auth::{Access, Credential, Holder, Pass};
use super::limits::{self, Budget};
use super::mask::Mask;
use super::request::{self, RequestFault};
use super::run::Stop;
use super::sink::Fetch;
use super::verdict::{self, Cause, Failure, Verdict};
use super::{Poller, Shared};
use crate::client::{Bounds, Incoming, Over};
use crate::ingest;
use crate::jq::{Jq, Json, Vars};
use crate::model::{ProblemKind, Timestamp};
use crate::provider::Request;
use crate::secret::Secret;
use crate::source::Source;
use crate::store::Wake;
use crate::template::Context;
use crate::worker::{Progress, Step, StepError};

const BOUNDS: Bounds = Bounds { timeout: Duration::from_secs(30), body_max: 1 << 20, over: Over::Error };
/// After a failure that may pass it is tried again after this, then after twice as long, …
const AGAIN: Duration = Duration::from_secs(60);
/// … up to this; a refusal needs a person, and is tried again as rarely.
const SELDOM: Duration = Duration::from_secs(3600);
/// So many failures in a row are a problem, also of those that may pass.
const PATIENCE: u32 = 3;
/// At least this often it is looked whether something is due: the wall may be set.
const LOOK: Duration = Duration::from_secs(3600);

/// A source whose webhook is registered by ourselves.
pub(super) struct Registration {
    pub source: Arc<Source>,
    pub client: Arc<dyn Fetch>,
    pub credential: Result<Credential, RequestFault>,
    pub holder: Arc<Holder>,
    pub budget: Arc<Budget>,
    pub mask: Mask,
    pub request: Request,
    pub url: Url,
    pub secret: Option<Secret>,
    pub every: Option<Duration>,
}

/// How it stands with a registration, as stored.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Standing {
    /// A hash over what is registered: another address or secret is registered at once.
    what: String,
    registered_at: Option<i64>,
    /// None: not before something changes.
    due_at: Option<i64>,
    failures: u32,
}

/// Registers what is due. Made by [`Poller::registrar`].
#[derive(Clone)]
pub struct Registrar(Arc<Shared>);

impl Poller {
    /// The loop beside polling that registers webhooks.
    pub fn registrar(&self) -> Registrar {
        Registrar(self.0.clone())
    }
}

/// What the loop knows between two looks.
pub(super) struct Looks {
    bell: watch::Sender<u64>,
    /// A look is under way.
    busy: AtomicBool,
    /// None: at once.
    next: Mutex<Option<Timestamp>>,
}

impl Looks {
    pub fn new() -> Looks {
        Looks { bell: watch::Sender::new(0), busy: AtomicBool::new(false), next: Mutex::new(None) }
    }

    /// Other sources were loaded: they are looked at now.
    pub fn anew(&self) {
        *self.next() = None;
        self.ring();
    }

    fn next(&self) -> MutexGuard<'_, Option<Timestamp>> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ring(&self) {
        self.bell.send_modify(|rings| *rings = rings.wrapping_add(1));
    }
}

impl Step for Registrar {
    /// Begins a look at every registration when one is due. It runs beside the loop: providers take their time, and a loop that waits
    /// for one is taken for dead.
    async fn step(&self) -> Result<Progress, StepError> {
        let looks = &self.0.looks;
        if self.0.loaded.load().registrations.is_empty() || looks.busy.load(Ordering::SeqCst) {
            return Ok(Progress::Idle { until: None });
        }
        let next = *looks.next();
        if next.is_some_and(|next| next > self.0.clock.now()) {
            return Ok(Progress::Idle { until: next });
        }
        looks.busy.store(true, Ordering::SeqCst);
        let registrar = self.clone();
        let mut runs = self.0.runs.lock().unwrap_or_else(PoisonError::into_inner);
        runs.spawn(async move {
            let _done = Done(registrar.0.clone());
            registrar.look_at_all().await;
        });
        Ok(Progress::Idle { until: None })
    }
}

/// The look has ended, however it ended.
struct Done(Arc<Shared>);

impl Drop for Done {
    fn drop(&mut self) {
        self.0.looks.busy.store(false, Ordering::SeqCst);
        self.0.looks.ring();
    }
}

impl Registrar {
    /// Rings when other sources were loaded, and when a look has ended.
    pub fn wake(&self) -> Wake {
        Wake::new(self.0.looks.bell.subscribe())
    }

    async fn look_at_all(&self) {
        let loaded = self.0.loaded.load_full();
        let mut next = self.0.clock.now().plus(LOOK);
        // Whatever is loaded meanwhile sets it to None again.
        *self.0.looks.next() = Some(next);
        for registration in &loaded.registrations {
            match self.look(registration).await {
                Ok(due) => next = due.map_or(next, |due| due.min(next)),
                Err(error) => {
                    warn!(source.name = %registration.source.name, "a registration could not be looked at: {error}");
                    next = next.min(self.0.clock.now().plus(AGAIN));
                }
            }
        }
        let mut known = self.0.looks.next();
        *known = known.map(|_| next);
    }

    /// Registers if that is due; gives when it is due next.
    async fn look(&self, registration: &Registration) -> Result<Option<Timestamp>, StepError> {
        let (store, name) = (&self.0.store, &registration.source.name);
        let stored = store.registration(name).await.map_err(StepError::new)?;
        let known: Standing = stored.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        let (what, now) = (registration.what(), self.0.clock.now());
        let known =
            if known.what == what { known } else { Standing { what, due_at: Some(now.0), ..Standing::default() } };
        // A time further ahead than any rule gives was made under another clock.
        let latest = now.plus(registration.every.unwrap_or(SELDOM).max(SELDOM));
        let due = known.due_at.map(|at| Timestamp(at.min(latest.0)));
        if due.is_none_or(|due| due > now) {
            return Ok(due);
        }
        let standing = match self.register(registration).await {
            Ok(()) => {
                info!(source.name = %name, "the webhook of {name} is registered at the provider");
                store.close_problem(ProblemKind::WebhookRefused, name.as_str()).await.map_err(StepError::new)?;
                let now = self.0.clock.now();
                let due_at = registration.every.map(|every| now.plus(every).0);
                Standing { registered_at: Some(now.0), due_at, failures: 0, ..known }
            }
            Err(Stop::Waits(until)) => Standing { due_at: Some(until.0), ..known },
            Err(stop) => self.failed(registration, known, stop).await?,
        };
        let text = serde_json::to_string(&standing).map_err(StepError::new)?;
        store.put_registration(name, text).await.map_err(StepError::new)?;
        Ok(standing.due_at.map(Timestamp))
    }

    async fn failed(&self, registration: &Registration, known: Standing, stop: Stop) -> Result<Standing, StepError> {
        let name = &registration.source.name;
        let failure = match stop {
            Stop::Failed(failure) => failure,
            _ => Failure::new(Cause::Passing { after: None }, "the store is busy"),
        };
        let failures = known.failures.saturating_add(1);
        let (wait, lasting) = match failure.cause {
            Cause::Passing { after } | Cause::RateLimited { after } => {
                let grown = AGAIN.saturating_mul(1 << (failures - 1).min(6)).min(SELDOM);
                (grown.max(after.unwrap_or_default()), failures >= PATIENCE)
            }
            Cause::Refused | Cause::Expired | Cause::Held | Cause::Lasting(_) => (SELDOM, true),
        };
        let reason = registration.mask.text(&failure.message);
        warn!(source.name = %name, "the webhook of {name} could not be registered: {reason}");
        if lasting {
            let message = format!(
                "its webhook could not be registered at the provider (`webhook.subscribe`): {reason}. Polls go on; it is tried again \
                 in {}",
                humantime::format_duration(wait)
            );
            let open = self.0.store.open_problem(ProblemKind::WebhookRefused, name.as_str(), &message).await;
            open.map_err(StepError::new)?;
        }
        Ok(Standing { due_at: Some(self.0.clock.now().plus(wait).0), failures, ..known })
    }

    /// One registration, with one renewal of the credential.
    async fn register(&self, registration: &Registration) -> Result<(), Stop> {
        let access = registration.access(&self.0);
        access.not_refused()?;
        let (mut pass, mut first) = (access.pass(None).await?, true);
        loop {
            let request = registration.build(&pass, self.0.clock.now())?;
            let permits = limits::enter(std::slice::from_ref(&registration.budget), &self.0.clock).await?;
            access.store_budget(&registration.budget).await?;
            let sent = registration.client.fetch(request, BOUNDS).await;
            drop(permits);
            let answer = sent.map_err(verdict::unsent)?;
            let failure = match registration.judge(&answer, self.0.clock.now()) {
                Verdict::Failed(failure) => failure,
                Verdict::Page | Verdict::Empty | Verdict::Gone | Verdict::NotModified => {
                    access.heed_cookies(&answer, &pass);
                    return Ok(());
                }
            };
            if failure.cause != Cause::Refused {
                access.heed_cookies(&answer, &pass);
            }
            let renewed = match failure.cause {
                Cause::Refused if first => access.renewed(&pass, &answer).await?,
                _ => None,
            };
            match renewed {
                Some(renewed) => (pass, first) = (renewed, false),
                None => return Err(failure.into()),
            }
        }
    }
}

impl Registration {
    /// What must be registered anew when it differs.
    fn what(&self) -> String {
        let secret = self.secret.as_ref().map(Secret::expose).unwrap_or_default();
        let parts = [format!("{:?}", self.request), self.url.to_string(), secret.to_owned()];
        let mut hash = Sha256::new();
        for part in parts {
            hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            hash.update(part.as_bytes());
        }
        hex::encode(&hash.finalize()[..16])
    }

    fn access<'a>(&'a self, shared: &'a Shared) -> Access<'a> {
        let Registration { source, client, credential, holder, budget, mask, .. } = self;
        let (store, clock) = (&*shared.store, &shared.clock);
        Access { source, client, credential, holder, budget, mask, store, clock, insist: false, dry: false }
    }

    fn build(&self, pass: &Pass, now: Timestamp) -> Result<crate::client::Outgoing, RequestFault> {
        let credential = self.credential.as_ref().map_err(Clone::clone)?;
        let (source, mut context) = (&self.source, Context::new());
        request::set_own(&mut context, source);
        context.set_time("now", now, &source.provider.time_format, source.provider.timezone);
        context.set("url", self.url.as_str());
        context.set("nonce", request::nonce()?);
        if let Some(secret) = &self.secret {
            context.set("secret", secret.expose());
        }
        if let Some(token) = &pass.token {
            context.set("token", token.expose());
        }
        if let Some(signer) = credential.signer() {
            let unsigned = request::build_own(source, &self.request, &context, Some("signature"))?;
            context.set("signature", signer.sign(&unsigned, &context)?);
        }
        let mut request = request::build_own(source, &self.request, &context, None)?;
        credential.apply(&mut request, pass, now)?;
        Ok(request)
    }

    fn judge(&self, answer: &Incoming, now: Timestamp) -> Verdict {
        let when = |jq: &Jq| {
            let kind = answer.headers.get(http::header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
            let json = self.source.provider.answer.read(&answer.body, kind)?.json;
            let input = Json::parse(&json).map_err(|reason| format!("the answer is not JSON: {reason}"))?;
            let settings = Json::from(&self.source.settings);
            let vars = Vars { settings, headers: ingest::headers(&answer.headers), ..Vars::default() };
            jq.truth(&input, &vars).map_err(|error| error.to_string())
        };
        verdict::judge(&self.source.provider.response_actions, answer, verdict::Asked::default(), now, when)
    }
}
