//! Which pass a request goes out with, and what is done when the provider does not take it: one renewal, then it is final.

use std::sync::Arc;
use std::time::Duration;

use super::Credential;
use super::holder::{Holder, Pass};
use super::login::{Errand, Grantor};
use crate::client::Incoming;
use crate::clock::Clock;
use crate::ingest::IngestError;
use crate::poll::limits::{self, Budget};
use crate::poll::mask::Mask;
use crate::poll::request::RequestFault;
use crate::poll::run::{Polled, Run, Stop};
use crate::poll::sink::Fetch;
use crate::poll::verdict::{Cause, Failure};
use crate::source::Source;
use crate::store::Store;

/// What was got so lately and is refused would be refused again: banks lock accounts that log in and in.
const FRESH: Duration = Duration::from_secs(30);

/// By which a source asks: its credential, what was got for it, and what it may spend.
pub(in crate::poll) struct Access<'a> {
    pub source: &'a Arc<Source>,
    pub client: &'a Arc<dyn Fetch>,
    pub credential: &'a Result<Credential, RequestFault>,
    pub holder: &'a Arc<Holder>,
    pub budget: &'a Arc<Budget>,
    pub mask: &'a Mask,
    pub store: &'a dyn Store,
    pub clock: &'a Clock,
    /// A person asked: a refused credential is tried once more.
    pub insist: bool,
    /// Nothing can be stored, and need not be.
    pub dry: bool,
}

impl Access<'_> {
    /// What the next request goes out with. `refused`: the provider did not take this one.
    pub async fn pass(&self, refused: Option<&Pass>) -> Result<Pass, Stop> {
        let grantor = match self.credential.as_ref().map_err(Clone::clone)? {
            Credential::Got(grantor) => grantor,
            Credential::Digest { .. } => return Ok(self.holder.digest_pass()),
            _ => return Ok(Pass::default()),
        };
        if let Some(pass) = self.holder.at_hand(&grantor.detail, refused, self.clock.now()) {
            return Ok(pass);
        }
        let _flight = self.holder.flight.acquire().await.map_err(|_| passing("the daemon stops"))?;
        // Another stream may have met a refusal meanwhile, or have got what this one waits for.
        self.not_refused()?;
        let restored = self.holder.restore(self.source.sealer.as_ref(), grantor.rotates()).await;
        self.heed(restored)?;
        if let Some(pass) = self.holder.at_hand(&grantor.detail, refused, self.clock.now()) {
            return Ok(pass);
        }
        if let Some(failure) = self.holder.rests(self.clock.now()).filter(|_| !self.insist) {
            return Err(failure.into());
        }
        self.log_in(grantor).await
    }

    async fn log_in(&self, grantor: &Grantor) -> Result<Pass, Stop> {
        let mut permits = Vec::new();
        if grantor.asks_the_same_host(self.source) {
            permits = limits::enter(std::slice::from_ref(self.budget), self.clock).await?;
            self.store_budget(self.budget).await?;
        }
        // On a task of its own: what the provider gave must be stored, also when this run is cut off.
        let got = tokio::spawn(self.errand(grantor).run()).await;
        let got = got.unwrap_or_else(|_| Err(passing("the login was broken off")));
        drop(permits);
        if let Err(failure) = &got {
            self.holder.failed(failure, self.clock.now());
        }
        let got = self.heed(got);
        self.store_budget(self.budget).await?;
        got
    }

    /// A refusal of the login concerns all streams of the credential.
    fn heed<T>(&self, got: Result<T, Failure>) -> Result<T, Stop> {
        got.map_err(|failure| {
            if failure.cause == Cause::Refused {
                self.budget.refuse(&failure.message);
            }
            Stop::from(failure)
        })
    }

    /// Another pass in place of one that was refused. None: that is final.
    pub async fn renewed(&self, refused: &Pass, answer: &Incoming) -> Result<Option<Pass>, Stop> {
        match self.credential.as_ref().map_err(Clone::clone)? {
            Credential::Digest { .. } => Ok(self.holder.challenged(refused, &answer.headers)),
            Credential::Got(_) => {
                let now = self.clock.now();
                if refused.got_at.is_some_and(|at| now.since(at) < FRESH) {
                    return Ok(None);
                }
                self.pass(Some(refused)).await.map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Why nothing may be asked with the credential.
    pub fn not_refused(&self) -> Result<(), Stop> {
        let Some(reason) = self.budget.refused().filter(|_| !self.insist) else { return Ok(()) };
        let message = format!("not asked, because the provider refused the credential: {reason}");
        Err(Failure::new(Cause::Refused, message).into())
    }

    /// On disk before anything is sent: no restart forgets a request that the provider has counted.
    pub async fn store_budget(&self, budget: &Budget) -> Result<(), Stop> {
        if let Some(state) = budget.to_store(self.clock) {
            match self.store.put_budget(&budget.key, state).await {
                // A look at a copy or at a running daemon's file writes nothing.
                Err(_) if self.dry => {}
                other => other.map_err(IngestError::Store)?,
            }
        }
        Ok(())
    }

    /// Cookies of answers belong to the session that was asked with. One that was refused, or has been replaced meanwhile, sets none.
    pub fn heed_cookies(&self, answer: &Incoming, pass: &Pass) {
        if let Ok(Credential::Got(grantor)) = self.credential
            && grantor.keeps_cookies()
        {
            self.holder.see_cookies(&answer.headers, pass);
        }
    }

    fn errand(&self, grantor: &Grantor) -> Errand {
        Errand {
            source: self.source.clone(),
            grantor: grantor.clone(),
            client: self.client.clone(),
            holder: Arc::clone(self.holder),
            mask: self.mask.clone(),
        }
    }

    /// Ends the session at the provider, where there is one to end.
    pub async fn log_out(&self) {
        if let Ok(Credential::Got(grantor)) = self.credential
            && grantor.logs_out()
        {
            self.errand(grantor).log_out().await;
        }
    }
}

impl Polled {
    pub(in crate::poll) fn access<'a>(&'a self, store: &'a dyn Store, clock: &'a Clock) -> Access<'a> {
        let Polled { source, client, credential, holder, budget, mask, .. } = self;
        Access { source, client, credential, holder, budget, mask, store, clock, insist: false, dry: false }
    }
}

impl Run<'_> {
    pub(in crate::poll) fn access(&self) -> Access<'_> {
        let access = self.polled.access(self.store, self.clock);
        Access { insist: self.insist, dry: self.beginning.dry, ..access }
    }
}

fn passing(message: &str) -> Failure {
    Failure::new(Cause::Passing { after: None }, message)
}
