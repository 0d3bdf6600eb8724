//! What was got for a credential, held in one place for all streams that use it: a token, a session's cookies, a digest's challenge.
//! What must outlive a restart is kept sealed in the store, before it is used.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, header};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use super::digest::Challenge;
use crate::clock::Clock;
use crate::model::{ProblemKind, Timestamp};
use crate::poll::verdict::{Cause, Failure};
use crate::seal::Sealer;
use crate::secret::Secret;
use crate::store::Store;

/// The longest wait between two tries of a login that fails for a while.
const REST_MAX: Duration = Duration::from_secs(300);
/// A session holds so many cookies, each of at most so many bytes, as browsers do.
const COOKIES: usize = 50;
const COOKIE_MAX: usize = 4096;
/// So many tokens are masked after another has taken their place.
const LEARNED: usize = 8;

/// What one credential has got. Prints nothing.
pub(in crate::poll) struct Holder {
    pub key: String,
    store: Arc<dyn Store>,
    clock: Clock,
    /// Whoever logs in has it; the others wait and find what was got.
    pub flight: Semaphore,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    kept: Kept,
    /// Raised with every login: tells a token that was refused from the one that took its place.
    pub(super) generation: u64,
    /// What an earlier process kept has been read.
    restored: bool,
    /// It is to be kept and is not yet on disk, so it must not be used.
    unsaved: bool,
    failures: u32,
    /// The login failed for a while and is not tried again until then.
    rests: Option<(Timestamp, Failure)>,
    challenge: Option<Challenge>,
    count: u32,
    learned: Vec<String>,
}

/// What is kept of a credential over restarts, sealed.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Kept {
    pub token: Option<String>,
    pub cookies: Vec<(String, String)>,
    /// A hash over what it was asked for with: other scopes make a token useless, and a refresh token not.
    pub detail: String,
    /// From then on another one is got.
    pub renew_at: Option<i64>,
    pub got_at: i64,
    /// In place of the configured one.
    pub refresh_token: Option<String>,
    /// A token was asked for, and what came was not stored.
    pub asking: bool,
}

impl Kept {
    fn is_something(&self) -> bool {
        self.token.is_some() || !self.cookies.is_empty()
    }
}

/// What one request goes out with.
#[derive(Clone, Default)]
pub(in crate::poll) struct Pass {
    pub(super) generation: u64,
    pub got_at: Option<Timestamp>,
    pub token: Option<Secret>,
    pub cookies: Vec<(String, String)>,
    pub(super) challenge: Option<(Challenge, u32)>,
}

impl Holder {
    pub fn new(key: &str, store: Arc<dyn Store>, clock: Clock) -> Holder {
        let (key, flight) = (key.to_owned(), Semaphore::new(1));
        Holder { key, store, clock, flight, held: Mutex::default() }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is at hand and still good, unless it is what was `refused`.
    pub(super) fn at_hand(&self, detail: &str, refused: Option<&Pass>, now: Timestamp) -> Option<Pass> {
        let held = self.held();
        let fits = held.kept.is_something() && held.kept.detail == detail && !held.unsaved;
        let in_time = held.kept.renew_at.is_none_or(|at| now.0 < at);
        let another = refused.is_none_or(|refused| refused.generation != held.generation);
        (fits && in_time && another).then(|| held.pass())
    }

    pub(super) fn kept(&self) -> Kept {
        self.held().kept.clone()
    }

    /// Why a login is not tried now.
    pub(super) fn rests(&self, now: Timestamp) -> Option<Failure> {
        self.held().rests.as_ref().filter(|(until, _)| *until > now).map(|(_, failure)| failure.clone())
    }

    /// A login failed, which may go well later: the others need not find out one by one.
    pub(super) fn failed(&self, failure: &Failure, now: Timestamp) {
        let asked = match failure.cause {
            Cause::Passing { after } | Cause::RateLimited { after } => after,
            Cause::Refused | Cause::Expired | Cause::Held | Cause::Lasting(_) => return,
        };
        let mut held = self.held();
        let own = Duration::from_secs(1 << held.failures.min(9)).min(REST_MAX);
        held.failures = held.failures.saturating_add(1);
        held.rests = Some((now.plus(asked.unwrap_or_default().max(own)), failure.clone()));
    }

    /// Reads what an earlier process kept, once.
    pub(super) async fn restore(&self, sealer: Option<&Sealer>, needed: bool) -> Result<(), Failure> {
        if self.held().restored {
            return Ok(());
        }
        let stored = self.store.token(&self.key).await.map_err(|error| passing(error.to_string()))?;
        if let Some(sealed) = stored {
            let open = sealer.and_then(|sealer| sealer.open(&self.key, &sealed));
            match open.and_then(|plain| serde_json::from_slice::<Kept>(&plain).ok()) {
                Some(kept) => {
                    let mut held = self.held();
                    held.learn(&kept);
                    held.generation += 1;
                    held.kept = kept;
                }
                // The configured refresh token was used up when this one was got: showing it again may cost the whole grant.
                None if needed => {
                    let message = "the stored refresh token cannot be opened with this `state_key`; give the former key back, or \
                                   authorize again and put the new refresh token into the source's `secrets`";
                    return Err(Failure::new(Cause::Lasting(ProblemKind::AuthFailed), message));
                }
                None => {}
            }
        }
        self.held().restored = true;
        Ok(())
    }

    /// Says on disk that a token is being asked for with what is kept: a crash from here on may cost the refresh token, and then the
    /// next process can say why.
    pub(super) async fn note_asking(&self, sealer: &Sealer, refresh_token: &str) -> Result<(), Failure> {
        let kept = Kept { asking: true, refresh_token: Some(refresh_token.to_owned()), ..self.kept() };
        self.store(sealer, &kept).await
    }

    /// Takes over what was got. `must`: it has to be on disk before it is used.
    pub(super) async fn take(&self, sealer: Option<&Sealer>, kept: Kept, must: bool) -> Result<Pass, Failure> {
        {
            let mut held = self.held();
            held.learn(&kept);
            held.generation += 1;
            (held.failures, held.rests) = (0, None);
            (held.kept, held.unsaved) = (kept, must && sealer.is_some());
        }
        self.save(sealer, must).await?;
        Ok(self.held().pass())
    }

    /// Whether something waits to be stored before it may be used.
    pub(super) fn is_unsaved(&self) -> bool {
        self.held().unsaved
    }

    pub(super) async fn save(&self, sealer: Option<&Sealer>, must: bool) -> Result<Pass, Failure> {
        if let Some(sealer) = sealer {
            let kept = self.kept();
            match self.store(sealer, &kept).await {
                Ok(()) => self.held().unsaved = false,
                Err(failure) if must => return Err(failure),
                // It can be got again.
                Err(_) => {}
            }
        }
        Ok(self.held().pass())
    }

    async fn store(&self, sealer: &Sealer, kept: &Kept) -> Result<(), Failure> {
        let plain = serde_json::to_vec(kept).map_err(|error| passing(error.to_string()))?;
        let sealed = sealer.seal(&self.key, &plain).ok_or_else(|| passing("the system gives no random bytes"))?;
        self.store
            .put_token(&self.key, Bytes::from(sealed))
            .await
            .map_err(|error| passing(format!("the token must be stored before it is used, and cannot be: {error}")))
    }

    /// The session is over.
    pub(super) async fn forget(&self, sealer: Option<&Sealer>) {
        self.held().kept = Kept { refresh_token: self.kept().refresh_token, ..Kept::default() };
        let _ = self.save(sealer, false).await;
    }

    /// The next pass of a digest; the first goes without.
    pub(super) fn digest_pass(&self) -> Pass {
        let mut held = self.held();
        held.count = held.count.saturating_add(1);
        let challenge = held.challenge.clone().map(|challenge| (challenge, held.count));
        Pass { generation: held.generation, challenge, ..Pass::default() }
    }

    /// A request was answered with a challenge. None: it was answered already, and the password is wrong.
    pub(super) fn challenged(&self, refused: &Pass, headers: &HeaderMap) -> Option<Pass> {
        let challenge = Challenge::read(headers)?;
        if refused.challenge.is_some() && !challenge.stale {
            return None;
        }
        {
            let mut held = self.held();
            held.generation += 1;
            (held.challenge, held.count) = (Some(challenge), 0);
        }
        Some(self.digest_pass())
    }

    /// Cookies that answers set are part of the session, unless another has taken its place.
    pub(super) fn see_cookies(&self, headers: &HeaderMap, pass: &Pass) {
        self.held().see_cookies(headers, pass);
    }

    /// The wall was set by so much.
    pub fn clock_stepped(&self, millis: i64) {
        let mut held = self.held();
        held.kept.got_at = held.kept.got_at.saturating_add(millis);
        held.kept.renew_at.iter_mut().for_each(|at| *at = at.saturating_add(millis));
        held.rests.iter_mut().for_each(|(until, _)| until.0 = until.0.saturating_add(millis));
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The text with `***` for every token that was got.
    pub fn masked(&self, text: String) -> String {
        self.held().learned.iter().fold(text, |text, word| text.replace(word.as_str(), "***"))
    }
}

impl Held {
    fn pass(&self) -> Pass {
        Pass {
            generation: self.generation,
            got_at: Some(Timestamp(self.kept.got_at)),
            token: self.kept.token.as_deref().map(Secret::new),
            cookies: self.kept.cookies.clone(),
            challenge: None,
        }
    }

    fn see_cookies(&mut self, headers: &HeaderMap, pass: &Pass) {
        let set = set_cookies(headers);
        if set.is_empty() || pass.generation != self.generation {
            return;
        }
        put_cookies(&mut self.kept.cookies, set);
        let kept = self.kept.clone();
        self.learn(&kept);
    }

    fn learn(&mut self, kept: &Kept) {
        let cookies = kept.cookies.iter().map(|(_, value)| value);
        let found = kept.token.iter().chain(&kept.refresh_token).chain(cookies);
        let words = found.filter(|word| word.len() >= 4).flat_map(|word| crate::poll::mask::writings(word));
        let mut all: Vec<String> = words.chain(std::mem::take(&mut self.learned)).collect();
        all.dedup();
        all.truncate(LEARNED * 8);
        self.learned = all;
    }
}

/// Puts cookies that an answer set in place of those of the same names. The latest stay where there are too many.
pub(super) fn put_cookies(cookies: &mut Vec<(String, String)>, set: Vec<(String, Option<String>)>) {
    for (name, value) in set {
        cookies.retain(|(known, _)| *known != name);
        cookies.extend(value.filter(|value| name.len() + value.len() <= COOKIE_MAX).map(|value| (name, value)));
    }
    let most = cookies.len().saturating_sub(COOKIES);
    cookies.drain(..most);
}

/// Names and values that an answer sets; None: it is removed.
pub(super) fn set_cookies(headers: &HeaderMap) -> Vec<(String, Option<String>)> {
    let lines = headers.get_all(header::SET_COOKIE).iter().filter_map(|line| line.to_str().ok());
    let read = |line: &str| {
        let mut parts = line.split(';').map(str::trim);
        let (name, value) = parts.next()?.split_once('=')?;
        let gone = parts.any(|part| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            name.eq_ignore_ascii_case("max-age") && value.trim().parse::<i64>().is_ok_and(|age| age <= 0)
        });
        let value = value.trim();
        (!name.trim().is_empty())
            .then(|| (name.trim().to_owned(), (!gone && !value.is_empty()).then(|| value.to_owned())))
    };
    lines.filter_map(read).collect()
}

fn passing(message: impl Into<String>) -> Failure {
    Failure::new(Cause::Passing { after: None }, message)
}

impl std::fmt::Debug for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn cookies_are_read_with_their_removal() {
        let mut headers = HeaderMap::new();
        for line in ["a=1; Path=/; HttpOnly", "b=x=y==", "c=; Path=/", "d=4; Max-Age=0", "e=5; max-age=60", "odd", "=v"]
        {
            headers.append(header::SET_COOKIE, HeaderValue::from_static(line));
        }
        let found = set_cookies(&headers);
        let found: Vec<_> = found.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect();
        assert_eq!(found, [("a", Some("1")), ("b", Some("x=y==")), ("c", None), ("d", None), ("e", Some("5"))]);
    }

    fn setting(lines: &[String]) -> HeaderMap {
        let value = |line: &String| HeaderValue::from_str(line).expect("a header's value");
        lines.iter().map(|line| (header::SET_COOKIE, value(line))).collect()
    }

    #[test]
    fn a_late_answer_of_a_former_session_sets_no_cookies_of_the_present_one() {
        let mut held = Held { generation: 1, ..Held::default() };
        let former = held.pass();
        held.see_cookies(&setting(&["sid=1".into()]), &former);
        assert_eq!(held.kept.cookies, [("sid".to_owned(), "1".to_owned())]);
        held.generation += 1;
        held.kept.cookies = vec![("sid".into(), "2".into())];
        held.see_cookies(&setting(&["sid=old".into()]), &former);
        assert_eq!(held.kept.cookies, [("sid".to_owned(), "2".to_owned())]);
        let present = held.pass();
        held.see_cookies(&setting(&["sid=3".into()]), &present);
        assert_eq!(held.kept.cookies, [("sid".to_owned(), "3".to_owned())]);
    }

    #[test]
    fn a_session_holds_no_more_cookies_than_a_browser_would() {
        let mut cookies = Vec::new();
        put_cookies(&mut cookies, set_cookies(&setting(&[format!("large={}", "x".repeat(5_000))])));
        assert!(cookies.is_empty());
        for n in 0..200 {
            put_cookies(&mut cookies, set_cookies(&setting(&[format!("c{n}=1")])));
        }
        assert_eq!((cookies.len(), cookies[0].0.as_str()), (50, "c150"));
    }
}
