//! Which pass a request goes out with, and what is done when the provider does not take it: one renewal, then it is final.

use std::sync::Arc;
use std::time::Duration;

use super::Credential;
use super::holder::Pass;
use super::login::Errand;
use crate::client::Incoming;
use crate::poll::limits;
use crate::poll::run::{Polled, Run, Stop};
use crate::poll::verdict::{Cause, Failure};

/// What was got so lately and is refused would be refused again: banks lock accounts that log in and in.
const FRESH: Duration = Duration::from_secs(30);

impl Run<'_> {
    /// What the next request goes out with. `refused`: the provider did not take this one.
    pub(in crate::poll) async fn pass(&mut self, refused: Option<&Pass>) -> Result<Pass, Stop> {
        let polled = self.polled;
        let grantor = match polled.credential.as_ref().map_err(Clone::clone)? {
            Credential::Got(grantor) => grantor,
            Credential::Digest { .. } => return Ok(polled.holder.digest_pass()),
            _ => return Ok(Pass::default()),
        };
        if let Some(pass) = polled.holder.at_hand(&grantor.detail, refused, self.clock.now()) {
            return Ok(pass);
        }
        let _flight = polled.holder.flight.acquire().await.map_err(|_| unready())?;
        // Another stream may have got one meanwhile, or met a refusal.
        self.not_refused()?;
        let restored = polled.holder.restore(polled.source.sealer.as_ref(), grantor.rotates()).await;
        self.heed_login(restored.map(|()| Pass::default()))?;
        if let Some(pass) = polled.holder.at_hand(&grantor.detail, refused, self.clock.now()) {
            return Ok(pass);
        }
        if let Some(failure) = polled.holder.rests(self.clock.now()).filter(|_| !self.insist) {
            return Err(failure.into());
        }
        let mut permits = Vec::new();
        if grantor.asks_the_same_host(&polled.source) {
            permits = limits::enter(&[polled.budget.clone()], self.clock).await?;
            self.store_budgets().await?;
        }
        // On a task of its own: what the provider gave must be stored, also when this run is cut off.
        let errand = polled.errand(grantor.clone());
        let got = tokio::spawn(errand.run()).await.unwrap_or_else(|_| Err(broken_off()));
        drop(permits);
        if let Err(failure) = &got {
            polled.holder.failed(failure, self.clock.now());
        }
        let got = self.heed_login(got);
        self.store_budgets().await?;
        got
    }

    /// A refusal of the login concerns all streams of the credential.
    fn heed_login(&self, got: Result<Pass, Failure>) -> Result<Pass, Stop> {
        got.map_err(|failure| {
            if failure.cause == Cause::Refused {
                self.polled.budget.set_refused(Some(failure.message.clone()));
            }
            Stop::from(failure)
        })
    }

    /// Another pass in place of one that was refused. None: that is final.
    pub(in crate::poll) async fn renewed(&mut self, refused: &Pass, answer: &Incoming) -> Result<Option<Pass>, Stop> {
        let polled = self.polled;
        match polled.credential.as_ref().map_err(Clone::clone)? {
            Credential::Digest { .. } => Ok(polled.holder.challenged(refused, &answer.headers)),
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

    /// Cookies of answers belong to the session.
    pub(in crate::poll) fn heed_cookies(&self, answer: &Incoming) {
        if let Ok(Credential::Got(grantor)) = &self.polled.credential
            && grantor.keeps_cookies()
        {
            self.polled.holder.see_cookies(&answer.headers);
        }
    }
}

impl Polled {
    fn errand(&self, grantor: super::login::Grantor) -> Errand {
        Errand {
            source: self.source.clone(),
            grantor,
            client: self.client.clone(),
            holder: Arc::clone(&self.holder),
            mask: self.mask.clone(),
        }
    }

    /// Ends the session at the provider, where there is one to end.
    pub(in crate::poll) async fn log_out(&self) {
        if let Ok(Credential::Got(grantor)) = &self.credential
            && grantor.logs_out()
        {
            self.errand(grantor.clone()).log_out().await;
        }
    }
}

fn unready() -> Failure {
    Failure::new(Cause::Passing { after: None }, "the daemon stops")
}

fn broken_off() -> Failure {
    Failure::new(Cause::Passing { after: None }, "the login was broken off")
}
