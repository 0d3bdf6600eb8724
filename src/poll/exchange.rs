//! One exchange with the provider, within every budget: asked again where something would be lost, judged, and heeded for what it says
//! beside its page. Also the requests for single records whose absence is doubted.

use std::cell::OnceCell;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use url::Url;

use super::auth::Pass;
use super::limits;
use super::listing;
use super::pagination::PageValues;
use super::request::RequestFault;
use super::run::{Asked, Polled, Run, Stop};
use super::sink::SinkRun;
use super::verdict::{self, Cause, Failure, Verdict};
use super::{pace, request};
use crate::answer::{Decoded, FormatKind};
use crate::client::{Bounds, Incoming, Outgoing, Over, SendError};
use crate::ingest;
use crate::jq::{Jq, Json, Vars};
use crate::model::Timestamp;
use crate::provider::Request;
use crate::source::SourceStream;
use crate::template::Context;

/// One request, its answer included.
const REQUEST: Duration = Duration::from_secs(30);
/// An answer after decompression.
const BODY_MAX: usize = 16 * 1024 * 1024;
/// How often a page after the first is asked for again when it fails: what was listed so far shall not be in vain. The first
/// page has nothing to lose and waits for the next poll.
const AGAIN: u32 = 2;
/// How long a credential keeps quiet when the provider says "too many" but not for how long.
const QUIET: Duration = Duration::from_secs(30);

impl Run<'_> {
    /// Asks for each record that would be reported as deleted (`deletes.confirm`): only an answer that it is gone is believed.
    pub(super) async fn confirm(&mut self, sink: &mut dyn SinkRun) -> Result<(), Stop> {
        let Some(confirm) = &self.polled.stream.spec.confirm else { return Ok(()) };
        for (key, body) in sink.absent().await? {
            let gone = if self.overdue() { false } else { self.is_gone(confirm, key.as_str(), body).await? };
            if !gone {
                sink.spare(&key);
            }
        }
        Ok(())
    }

    async fn is_gone(&mut self, confirm: &Request, key: &str, body: Option<Bytes>) -> Result<bool, Stop> {
        let (source, stream) = (&self.polled.source, &self.polled.stream);
        // A child is named by its own key, and by what its parent hands down.
        let parent = key.split_once('/').and_then(|(first, _)| self.parents.get(first));
        let key = parent.map_or(key, |_| &key[key.find('/').map_or(0, |at| at + 1)..]);
        self.frozen.parent = parent.cloned();
        let mut context = request::context(source, stream, &self.frozen, &PageValues::default(), self.clock.now());
        context.set("key", key);
        if let Some(body) = body {
            context.set_received("record", body);
        }
        let request = Unbuilt { context, address: None, confirm: Some(confirm), conditions: Vec::new() };
        let (verdict, answer) = self.ask_once(&request).await?;
        // 403 says that we may not look, and 5xx nothing at all.
        Ok(match (verdict, answer) {
            (Verdict::Gone | Verdict::Empty, _) => true,
            (Verdict::Failed(failure), Some((answer, _))) => {
                matches!(answer.status, 404 | 410) && matches!(failure.cause, Cause::Lasting(_) | Cause::Expired)
            }
            _ => false,
        })
    }

    /// Asks until there is an answer that can be read, or a reason to give up. None: a listing without records.
    pub(super) async fn ask(
        &mut self,
        request: &Unbuilt<'_>,
        something_to_lose: bool,
    ) -> Result<Option<(Incoming, Url)>, Stop> {
        let again = if something_to_lose { AGAIN } else { 0 };
        let mut tries = 0;
        loop {
            let failure = match self.ask_once(request).await? {
                (Verdict::Page, Some(answer)) => return Ok(Some(answer)),
                (Verdict::Page | Verdict::Empty, _) => return Ok(None),
                (Verdict::Gone, _) => return Err(Stop::Gone),
                (Verdict::NotModified, _) => return Err(Stop::NotModified),
                (Verdict::Failed(failure), _) => failure,
            };
            let wait = match failure.cause {
                Cause::Passing { after } => after.unwrap_or(Duration::from_secs(1 << tries)),
                // The budget keeps quiet for as long as the provider asked.
                Cause::RateLimited { .. } => Duration::ZERO,
                Cause::Refused | Cause::Expired | Cause::Held | Cause::Lasting(_) => return Err(failure.into()),
            };
            if tries == again || wait > limits::WAIT_MAX {
                return Err(failure.into());
            }
            tries += 1;
            self.clock.sleep_until(self.clock.now().plus(wait)).await;
        }
    }

    /// One exchange, and a second one where the credential could be renewed after it was refused.
    async fn ask_once(&mut self, request: &Unbuilt<'_>) -> Result<(Verdict, Answer), Stop> {
        // What is not sent spends nothing.
        self.access().not_refused()?;
        let (mut pass, mut first) = (self.access().pass(None).await?, true);
        loop {
            let (verdict, answer) = self.exchange(request, &pass).await?;
            let Verdict::Failed(Failure { cause: Cause::Refused, .. }) = &verdict else { return Ok((verdict, answer)) };
            let renewed = match &answer {
                Some((answer, _)) if first => self.access().renewed(&pass, answer).await?,
                _ => None,
            };
            let Some(renewed) = renewed else {
                let verdict = self.refused(verdict);
                self.store_budgets().await?;
                return Ok((verdict, answer));
            };
            (pass, first) = (renewed, false);
        }
    }

    /// The refusal is final: nothing is asked with the credential any more.
    fn refused(&self, verdict: Verdict) -> Verdict {
        let Verdict::Failed(mut failure) = verdict else { return verdict };
        if matches!(&self.polled.credential, Ok(credential) if credential.is_some()) {
            self.polled.budget.refuse(&failure.message);
        } else {
            failure.message.push_str(" (the source sends no credential: does the provider file need an `auth`?)");
        }
        Verdict::Failed(failure)
    }

    /// One exchange, within the budget.
    async fn exchange(&mut self, unbuilt: &Unbuilt<'_>, pass: &Pass) -> Result<(Verdict, Answer), Stop> {
        let polled = self.polled;
        let permits = limits::enter(&polled.budgets(), self.clock).await?;
        // Asked again after the wait: another stream may have met a refusal meanwhile, and banks lock accounts.
        self.access().not_refused()?;
        // On disk before it is sent: no restart forgets a request that the provider has counted.
        self.store_budgets().await?;
        let request = unbuilt.build(polled, pass, self.clock.now())?;
        let (method, asked_url, url) = (request.method.to_string(), request.url.clone(), polled.mask.url(&request.url));
        let (begun, sent_at) = (tokio::time::Instant::now(), self.clock.now());
        let refusals = polled.budget.refusals();
        let sending = polled.client.fetch(request, polled.bounds());
        let sent = match &polled.parking {
            Some(parking) => parking.wait(sending).await,
            None => sending.await,
        };
        drop(permits);
        if let Ok(answer) = &sent {
            self.heed(&answer.headers, sent_at);
        }
        let answer = sent.as_ref().ok();
        self.asked.push(Asked {
            method,
            url,
            status: answer.map(|answer| answer.status),
            records: None,
            bytes: answer.map_or(0, |answer| answer.body.len()),
            took: begun.elapsed(),
        });
        let (verdict, answer) = self.judge(sent);
        match (&verdict, &answer) {
            (Verdict::Failed(Failure { cause: Cause::Refused, .. }), _) | (_, None) => {}
            (_, Some(answer)) => self.access().heed_cookies(answer, pass),
        }
        if matches!(verdict, Verdict::Page | Verdict::Empty | Verdict::NotModified) {
            polled.budget.accept(refusals);
            self.accepted = true;
        }
        self.store_budgets().await?;
        Ok((verdict, answer.map(|answer| (answer, asked_url))))
    }

    /// What every answer says beside its page: the provider's time, what is left of the quota, its least interval.
    fn heed(&mut self, headers: &HeaderMap, sent_at: Timestamp) {
        let (polled, now) = (self.polled, self.clock.now());
        polled.clock.see(headers, sent_at, now);
        polled.budget.heed(&polled.source.provider.limits, headers, now);
        if let (Some(own), Some(limits)) = (&polled.own_budget, &polled.stream.spec.limits) {
            own.heed(limits, headers, now);
        }
        let limits = [Some(&polled.source.provider.limits), polled.stream.spec.limits.as_ref()];
        let names = limits.into_iter().flatten().filter_map(|limits| limits.pace.as_deref());
        self.pace = names.filter_map(|name| pace::interval(headers, name)).max().or(self.pace);
    }

    async fn store_budgets(&self) -> Result<(), Stop> {
        for budget in self.polled.budgets() {
            self.access().store_budget(&budget).await?;
        }
        Ok(())
    }

    fn judge(&self, sent: Result<Incoming, SendError>) -> (Verdict, Option<Incoming>) {
        let polled = self.polled;
        let masked = |failure: Failure| Failure { message: polled.mask.text(&failure.message), ..failure };
        let answer = match sent {
            Ok(answer) => answer,
            Err(error) => return (Verdict::Failed(masked(verdict::unsent(error))), None),
        };
        let now = self.clock.now();
        let rules = polled.stream.spec.response_actions.iter().chain(&polled.source.provider.response_actions);
        let decoded = OnceCell::new();
        let decode = || decoded.get_or_init(|| polled.stream.spec.answer.read(&answer.body, kind_of(&answer.headers)));
        let when = |jq: &Jq| asked_of(jq, decode(), &answer.headers, &polled.stream, &self.frozen.parent);
        // Only a SOAP answer says so beside its status.
        let fault = match polled.stream.spec.answer.kind {
            FormatKind::Soap => decode().as_ref().ok().and_then(|decoded| decoded.fault.as_deref()),
            _ => None,
        };
        let (conditional, parent) = (!self.conditions.is_empty(), self.frozen.parent.is_some());
        let asked = verdict::Asked { conditional, parent, fault };
        let mut verdict = verdict::judge(rules, &answer, asked, now, when);
        if let Verdict::Failed(failure) = &mut verdict {
            *failure = masked(failure.clone());
            match &mut failure.cause {
                Cause::RateLimited { after } => polled.budget.quiet_until(now.plus(after.unwrap_or(QUIET))),
                // Also when a webhook or a person asks for a look sooner.
                Cause::Passing { after: Some(after) } => polled.budget.quiet_until(now.plus(*after)),
                Cause::Passing { after: None } | Cause::Refused | Cause::Expired | Cause::Held | Cause::Lasting(_) => {}
            }
        }
        (verdict, Some(answer))
    }
}

fn kind_of(headers: &HeaderMap) -> Option<&str> {
    headers.get(http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok())
}

/// An answer, and the address that was asked.
type Answer = Option<(Incoming, Url)>;

/// A request before the credential is on it: built anew for every try, as tokens and times change.
pub(super) struct Unbuilt<'r> {
    pub context: Context,
    /// The provider's own link to the next page, in place of path and query.
    pub address: Option<Url>,
    /// In place of the stream's request.
    pub confirm: Option<&'r Request>,
    pub conditions: Vec<(HeaderName, HeaderValue)>,
}

impl Unbuilt<'_> {
    fn build(&self, polled: &Polled, pass: &Pass, now: Timestamp) -> Result<Outgoing, RequestFault> {
        let credential = polled.credential.as_ref().map_err(Clone::clone)?;
        let mut context = self.context.clone();
        let zone = polled.stream.spec.timezone.or(polled.source.provider.timezone);
        context.set_time("now", now, &polled.stream.spec.time_format, zone);
        if let Some(token) = &pass.token {
            context.set("token", token.expose());
        }
        context.set("nonce", request::nonce()?);
        if let Some(signer) = credential.signer() {
            let unsigned = self.assemble(polled, &context, Some("signature"))?;
            context.set("signature", signer.sign(&unsigned, &context)?);
        }
        let mut request = self.assemble(polled, &context, None)?;
        credential.apply(&mut request, pass, now)?;
        Ok(request)
    }

    fn assemble(&self, polled: &Polled, context: &Context, without: Option<&str>) -> Result<Outgoing, RequestFault> {
        let (source, stream) = (&polled.source, &polled.stream);
        let mut request = match self.confirm {
            Some(confirm) => request::build_confirm(source, confirm, context, without),
            None => request::build(source, stream, context, self.address.as_ref(), without),
        }?;
        request.headers.extend(self.conditions.iter().cloned());
        Ok(request)
    }

    /// Where it leads, whoever asks.
    pub fn address(&self, polled: &Polled) -> Result<Url, RequestFault> {
        let mut context = self.context.clone();
        context.set("token", "-");
        request::address(&polled.source, &polled.stream, &context)
    }
}

impl Polled {
    fn bounds(&self) -> Bounds {
        let timeout = REQUEST.saturating_add(self.stream.spec.long_poll.unwrap_or_default());
        Bounds { timeout, body_max: BODY_MAX, over: Over::Error }
    }
}

/// A rule's `when`, asked of an answer's body.
fn asked_of(
    jq: &Jq,
    decoded: &Result<Decoded, String>,
    headers: &HeaderMap,
    stream: &SourceStream,
    parent: &Option<Json>,
) -> Result<bool, String> {
    let json = &decoded.as_ref().map_err(Clone::clone)?.json;
    let input = Json::parse(json).map_err(|reason| format!("the answer is not JSON: {reason}"))?;
    let settings = Json::from(&*stream.settings);
    let parent = listing::parent_vars(parent);
    let vars = Vars { settings, parent, headers: ingest::headers(headers), ..Vars::default() };
    jq.truth(&input, &vars).map_err(|error| error.to_string())
}
