//! Getting a token or a session: the request that asks for it, and what its answer means. Called for one stream at a time, however
//! many wait for it; it goes out by the source's own client.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderValue, Method, header};
use url::Url;

use super::holder::{Holder, Kept, Pass, put_cookies, set_cookies};
use super::{RequestFault, Result, key_of, secret_value, text};
use crate::client::{Bounds, Incoming, Outgoing, Over};
use crate::ingest;
use crate::jq::{Jq, Json, Vars};
use crate::model::{ProblemKind, Timestamp};
use crate::poll::mask::Mask;
use crate::poll::sink::Fetch;
use crate::poll::verdict::{self, Cause, Failure};
use crate::poll::{pace, request};
use crate::provider::{Assertion, Auth, ClientAuth, Grant, JsonTemplate, Lifetime, OAuth2, Param, Session, TokenPlace};
use crate::signature::sign_token;
use crate::source::Source;
use crate::template::{Context, TimeFormat};

/// A login, its answer included. Shorter than what a stop waits for, so that what came is stored.
const BOUNDS: Bounds = Bounds { timeout: Duration::from_secs(15), body_max: 1 << 20, over: Over::Error };
/// Another token is got so long before the one at hand ends, or a tenth of its life, whichever is less.
const MARGIN: Duration = Duration::from_secs(60);
const AT_REST: &str = "it is not tried again until the source's `secrets` are changed, or by `ringback poll`";
/// So much of what a provider says goes into a message.
const SAID_MAX: usize = 200;

/// What gives tokens to a source.
#[derive(Clone)]
pub(in crate::poll) struct Grantor {
    auth: Auth,
    /// Equal for the same grant, whatever is asked of it. Of a refresh token only itself, its client and its place: what was stored
    /// in its stead is found again when anything else changes.
    pub key: String,
    /// A hash over all that it is asked with: whose budget it spends, and what a refusal is about.
    pub detail: String,
    pub place: Option<TokenPlace>,
    /// The source's settings and secrets.
    pub context: Context,
}

impl Grantor {
    pub fn of(source: &Source, context: &Context) -> Result<Grantor> {
        let auth = source.auth.clone();
        let detail = key_of(&[format!("{auth:?}").as_bytes(), named(source).as_bytes()]);
        let (key, place) = match &auth {
            Auth::OAuth2(spec) if spec.grant == Grant::RefreshToken => {
                let mut parts = vec![text(&spec.token_url, "auth.token_url", context)?];
                for (template, place) in
                    [(&spec.client_id, "auth.client_id"), (&spec.refresh_token, "auth.refresh_token")]
                {
                    parts.push(template.as_ref().map_or(Ok(String::new()), |template| text(template, place, context))?);
                }
                let parts: Vec<&[u8]> = parts.iter().map(String::as_bytes).collect();
                (key_of(&parts), Some(spec.place.clone()))
            }
            Auth::OAuth2(spec) => (detail.clone(), Some(spec.place.clone())),
            Auth::Jwt(spec) => (detail.clone(), Some(spec.place.clone())),
            Auth::Session(spec) => (detail.clone(), spec.place.clone()),
            _ => (detail.clone(), None),
        };
        Ok(Grantor { auth, key, detail, place, context: context.clone() })
    }

    /// Whether the grant is used up by using it, so that what takes its place must be stored first.
    pub fn rotates(&self) -> bool {
        self.auth.rotates()
    }

    /// Whether a login is a request to the host that the source polls.
    pub fn asks_the_same_host(&self, source: &Source) -> bool {
        let base = source.base_url.as_ref().map(Url::origin);
        match &self.auth {
            Auth::OAuth2(spec) => {
                let url = spec.token_url.text(&self.context).ok().and_then(|text| Url::parse(&text).ok());
                url.is_some_and(|url| Some(url.origin()) == base)
            }
            Auth::Session(_) => true,
            _ => false,
        }
    }

    /// Whether cookies are part of what was got.
    pub fn keeps_cookies(&self) -> bool {
        matches!(self.auth, Auth::Session(_))
    }

    pub fn logs_out(&self) -> bool {
        matches!(&self.auth, Auth::Session(session) if session.logout.is_some())
    }
}

/// The settings and secrets that the credential names, with their values.
fn named(source: &Source) -> String {
    let mut all = String::new();
    for name in source.auth.templates().iter().flat_map(|template| template.names()) {
        let value = match name.split_once('.') {
            Some(("secrets", name)) => source.secrets.get(name).map(|secret| secret.expose().to_owned()),
            Some(("settings", name)) => source.settings.get(name).map(serde_json::Value::to_string),
            _ => None,
        };
        all.push_str(&serde_json::json!([name, value]).to_string());
    }
    all
}

/// One login, with all it takes.
#[derive(Clone)]
pub(in crate::poll) struct Errand {
    pub source: Arc<Source>,
    pub grantor: Grantor,
    pub client: Arc<dyn Fetch>,
    pub holder: Arc<Holder>,
    pub mask: Mask,
}

impl Errand {
    /// Gets what requests go out with. Whatever came is stored before it is given, where it must be.
    pub async fn run(self) -> std::result::Result<Pass, Failure> {
        let sealer = self.source.sealer.as_ref();
        let must = self.grantor.rotates() && sealer.is_some();
        if self.holder.is_unsaved() {
            return self.holder.save(sealer, must).await;
        }
        let asked_at = self.holder.now();
        let mut context = self.grantor.context.clone();
        let (format, zone) = (&self.source.provider.time_format, self.source.provider.timezone);
        context.set_time("now", asked_at, format, zone);
        let got = match &self.grantor.auth {
            Auth::OAuth2(spec) => self.oauth2(spec, &context, asked_at).await,
            Auth::Session(spec) => self.session(spec, &context, asked_at).await,
            Auth::Jwt(spec) => self_signed(&spec.assertion, &context, asked_at)
                .map(|token| {
                    let renew_at = Some(renew_at(asked_at, spec.assertion.lifetime).0);
                    Kept { token: Some(token), renew_at, ..Kept::default() }
                })
                .map_err(|fault| wrong(&fault)),
            _ => Ok(Kept::default()),
        };
        let kept = got.map_err(|failure| Failure { message: self.mask.text(&failure.message), ..failure })?;
        let kept = Kept { detail: self.grantor.detail.clone(), got_at: asked_at.0, asking: false, ..kept };
        let sealer = if matches!(self.grantor.auth, Auth::Jwt(_)) { None } else { sealer };
        self.holder.take(sealer, kept, must).await
    }

    async fn oauth2(
        &self,
        spec: &OAuth2,
        context: &Context,
        asked_at: Timestamp,
    ) -> std::result::Result<Kept, Failure> {
        let former = self.holder.kept();
        let refresh_token = match &spec.refresh_token {
            Some(_) if former.refresh_token.is_some() => former.refresh_token.clone(),
            Some(configured) => Some(text(configured, "auth.refresh_token", context).map_err(|fault| wrong(&fault))?),
            None => None,
        };
        let request =
            token_request(spec, refresh_token.as_deref(), context, asked_at).map_err(|fault| wrong(&fault))?;
        let place = format!("the login at {}", host(&request.url));
        if let (true, Some(sealer), Some(token)) = (spec.rotates, &self.source.sealer, &refresh_token) {
            self.holder.note_asking(sealer, token).await?;
        }
        let answer = self.client.fetch(request, BOUNDS).await.map_err(|error| unsent(&place, error))?;
        let found = self.judge(&place, &answer, former.asking)?;
        // An answer without one means that the one at hand goes on.
        let came = member(&found, "refresh_token").and_then(|token| token.as_str().map(str::to_owned));
        let came = came.filter(|token| !token.is_empty() && spec.refresh_token.is_some());
        let rotated = came.is_some() && spec.rotates;
        // What was asked with is marked on disk as such, and must stay known there.
        let refresh_token = came.or(former.refresh_token).or_else(|| refresh_token.filter(|_| spec.rotates));
        let read = || {
            let token = self.token(&place, &spec.token_path, &found, &answer)?;
            let lifetime = match lifetime_of(&found, "expires_in") {
                Some(lifetime) => Some(asked_at.plus(lifetime)),
                None => self.ends_at(&place, spec.lifetime.as_ref(), &found, &answer, asked_at)?,
            };
            Ok((token, lifetime))
        };
        let (token, lifetime) = match read() {
            Ok(read) => read,
            Err(failure) => {
                if rotated {
                    // The rest of the answer cannot be used, but the former token is dead.
                    let kept = Kept { refresh_token, ..Kept::default() };
                    self.holder.take(self.source.sealer.as_ref(), kept, true).await?;
                }
                return Err(failure);
            }
        };
        let renew_at = lifetime.map(|end| renew_at(asked_at, end.since(asked_at)).0);
        Ok(Kept { token: Some(token), renew_at, refresh_token, ..Kept::default() })
    }

    async fn session(
        &self,
        spec: &Session,
        context: &Context,
        asked_at: Timestamp,
    ) -> std::result::Result<Kept, Failure> {
        let former = self.holder.kept();
        // A session that ends by its declared life may still be open at the provider.
        if former.renew_at.is_some_and(|at| at <= asked_at.0) && former.detail == self.grantor.detail {
            self.log_out().await;
        }
        let request = request::build_own(&self.source, &spec.login, context, None).map_err(|fault| wrong(&fault))?;
        let place = format!("the login at {}", host(&request.url));
        let answer = self.client.fetch(request, BOUNDS).await.map_err(|error| unsent(&place, error))?;
        let mut cookies = Vec::new();
        put_cookies(&mut cookies, set_cookies(&answer.headers));
        let found = self.judge(&place, &answer, false)?;
        let token = match &spec.token_path {
            Some(path) => Some(self.token(&place, path, &found, &answer)?),
            None if cookies.is_empty() => {
                let message = format!(
                    "{place} set no cookie, and the provider file says no token (`auth.token_path`): nothing shows who asks"
                );
                return Err(Failure::new(Cause::Refused, message));
            }
            None => None,
        };
        let ends = self.ends_at(&place, spec.lifetime.as_ref(), &found, &answer, asked_at)?;
        let renew_at = ends.map(|end| renew_at(asked_at, end.since(asked_at)).0);
        Ok(Kept { token, cookies, renew_at, ..Kept::default() })
    }

    /// Ends the session at the provider, as far as it lets us; it ends by itself if not.
    pub async fn log_out(&self) {
        let Auth::Session(spec) = &self.grantor.auth else { return };
        let Some(logout) = &spec.logout else { return };
        let kept = self.holder.kept();
        if kept.token.is_none() && kept.cookies.is_empty() {
            return;
        }
        let mut context = self.grantor.context.clone();
        let (format, zone) = (&self.source.provider.time_format, self.source.provider.timezone);
        context.set_time("now", self.holder.now(), format, zone);
        if let Some(token) = &kept.token {
            context.set("token", token.as_str());
        }
        let Ok(mut request) = request::build_own(&self.source, logout, &context, None) else { return };
        let pass = Pass { token: kept.token.map(crate::secret::Secret::new), cookies: kept.cookies, ..Pass::default() };
        let credential = super::Credential::Got(self.grantor.clone());
        if credential.apply(&mut request, &pass, self.holder.now()).is_ok() {
            let _ = self.client.fetch(request, BOUNDS).await;
        }
        self.holder.forget(self.source.sealer.as_ref()).await;
    }

    /// What the answer says, or why there is no token.
    fn judge(&self, place: &str, answer: &Incoming, asked_before: bool) -> std::result::Result<Json, Failure> {
        let parsed = self.parsed(answer);
        let after = pace::retry_after(&answer.headers, self.holder.now());
        let error = parsed.as_ref().ok().and_then(error_code);
        let passing = matches!(error.as_deref(), Some("temporarily_unavailable" | "server_error" | "slow_down"));
        let cause = match answer.status {
            200..=299 => {
                // Asking again would show the password again, and a page in words may well say "wrong password".
                return parsed.map_err(|reason| {
                    let message = format!(
                        "{place} gave what cannot be read: {reason}; {AT_REST}. Correct the source's `secrets`, or the login in the provider file"
                    );
                    Failure::new(Cause::Refused, message)
                });
            }
            429 => Cause::RateLimited { after },
            408 | 500..=599 => Cause::Passing { after },
            _ if passing => Cause::Passing { after },
            _ => Cause::Refused,
        };
        let mut message = format!("{place} was answered {}", answer.status);
        if let Some(said) = parsed.ok().as_ref().and_then(said) {
            message.push_str(&format!(" ({said})"));
        }
        message.push_str(match (cause, error.as_deref()) {
            (Cause::Refused, Some("invalid_grant")) if asked_before => {
                ": an earlier renewal was cut off before the new refresh token could be stored; authorize again and put the new one \
                 into the source's `secrets`"
            }
            (Cause::Refused, Some("invalid_grant")) => {
                ": what it was asked with is not valid any more; authorize again, or correct the source's `secrets`"
            }
            (Cause::Refused, _) => "",
            _ => ": it is tried again",
        });
        if cause == Cause::Refused && error.as_deref() != Some("invalid_grant") {
            message.push_str(&format!(": {AT_REST}"));
        }
        Err(Failure::new(cause, message))
    }

    /// An answer as JSON. A token endpoint writes JSON, some of old write a form; a login that only sets cookies writes nothing at all,
    /// and any other login writes as the provider does everywhere.
    fn parsed(&self, answer: &Incoming) -> std::result::Result<Json, String> {
        if answer.body.is_empty() {
            return Ok(Json::from(serde_json::Value::Null));
        }
        let kind = answer.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        if kind.is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded")) {
            let pairs = url::form_urlencoded::parse(&answer.body).into_owned();
            return Ok(Json::object(pairs.map(|(name, value)| (name, Json::from(serde_json::Value::from(value))))));
        }
        let json = match &self.grantor.auth {
            Auth::Session(_) => self.source.provider.answer.read(&answer.body, kind)?.json,
            _ => answer.body.clone(),
        };
        Json::parse(&json).map_err(|reason| format!("it is not JSON: {reason}"))
    }

    fn vars(&self, answer: &Incoming) -> Vars {
        Vars {
            settings: Json::from(&self.source.settings),
            headers: ingest::headers(&answer.headers),
            ..Vars::default()
        }
    }

    fn token(&self, place: &str, path: &Jq, found: &Json, answer: &Incoming) -> std::result::Result<String, Failure> {
        let token =
            path.first(found, &self.vars(answer)).ok().flatten().and_then(|token| token.scalar().ok().flatten());
        token.filter(|token| !token.is_empty()).ok_or_else(|| {
            let said = said(found).map(|said| format!(" ({said})")).unwrap_or_default();
            let message = format!(
                "{place} gave no token at `{}`{said}; correct the source's `secrets`, or `auth.token_path` in the provider file",
                path.text()
            );
            Failure::new(Cause::Refused, message)
        })
    }

    /// When what was got ends, as the file says to find out.
    fn ends_at(
        &self,
        place: &str,
        lifetime: Option<&Lifetime>,
        found: &Json,
        answer: &Incoming,
        asked_at: Timestamp,
    ) -> std::result::Result<Option<Timestamp>, Failure> {
        let jq = match lifetime {
            None => return Ok(None),
            Some(Lifetime::For(lifetime)) => return Ok(Some(asked_at.plus(*lifetime))),
            Some(Lifetime::Answer(jq)) => jq,
        };
        let said = jq.first(found, &self.vars(answer)).ok().flatten().and_then(|said| said.scalar().ok().flatten());
        let Some(said) = said else { return Ok(None) };
        let provider = &self.source.provider;
        if let Ok(number) = said.parse::<f64>() {
            return Ok(Some(moment(number, asked_at)));
        }
        let read = |format: &TimeFormat| format.read(&said, provider.timezone).ok();
        let end = read(&provider.time_format).or_else(|| read(&TimeFormat::Rfc3339));
        end.map(Some).ok_or_else(|| {
            let message = format!(
                "{place} says at `{}` when the token ends, which is neither seconds nor a time; {AT_REST}. Correct `auth.lifetime`",
                jq.text()
            );
            Failure::new(Cause::Refused, message)
        })
    }
}

/// A number is seconds from now, or since 1970 where it is so large, or milliseconds where it is larger still.
fn moment(number: f64, asked_at: Timestamp) -> Timestamp {
    match number {
        seconds if seconds < 1e9 => {
            asked_at.plus(Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX))
        }
        seconds if seconds < 1e11 => Timestamp((seconds * 1000.0) as i64),
        millis => Timestamp(millis.min(i64::MAX as f64) as i64),
    }
}

/// When another one is got, given how long this one holds.
fn renew_at(asked_at: Timestamp, lifetime: Duration) -> Timestamp {
    asked_at.plus(lifetime.saturating_sub(MARGIN.min(lifetime / 10)))
}

/// `expires_in`, as a number or as digits.
fn lifetime_of(found: &Json, name: &str) -> Option<Duration> {
    let seconds: f64 = member(found, name)?.scalar().ok()??.parse().ok()?;
    if !seconds.is_finite() {
        return None;
    }
    Some(Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::from_secs(u64::from(u32::MAX))))
}

fn member(found: &Json, name: &str) -> Option<Json> {
    found.members()?.into_iter().find(|(known, _)| known == name).map(|(_, value)| value)
}

/// The word of an error, as RFC 6749 names it.
fn error_code(found: &Json) -> Option<String> {
    member(found, "error")?.as_str().map(str::to_owned)
}

/// What a provider says of an error, short and in one line.
fn said(found: &Json) -> Option<String> {
    let text = |name: &str| member(found, name).and_then(|value| value.as_str().map(str::to_owned));
    let parts: Vec<String> = ["error", "error_description", "message"].into_iter().filter_map(text).collect();
    let line: String = parts.join(": ").chars().map(|c| if c.is_control() { ' ' } else { c }).take(SAID_MAX).collect();
    (!line.is_empty()).then_some(line)
}

fn token_request(spec: &OAuth2, refresh_token: Option<&str>, context: &Context, now: Timestamp) -> Result<Outgoing> {
    let url = text(&spec.token_url, "auth.token_url", context)?;
    let url = Url::parse(&url).map_err(|_| RequestFault::new("auth.token_url", "what it gives is no URL"))?;
    let given =
        |template: &Option<_>, place| template.as_ref().map(|template| text(template, place, context)).transpose();
    let (id, secret) = (given(&spec.client_id, "auth.client_id")?, given(&spec.client_secret, "auth.client_secret")?);
    let mut headers = request::own_headers();
    let mut form: Vec<(String, String)> = Vec::new();
    let mut add = |name: &str, value: String| form.push((name.to_owned(), value));
    match spec.grant {
        Grant::ClientCredentials => add("grant_type", "client_credentials".into()),
        Grant::RefreshToken => {
            add("grant_type", "refresh_token".into());
            add("refresh_token", refresh_token.unwrap_or_default().to_owned());
        }
        Grant::Password => {
            add("grant_type", "password".into());
            add("username", given(&spec.username, "auth.username")?.unwrap_or_default());
            add("password", given(&spec.password, "auth.password")?.unwrap_or_default());
        }
        Grant::JwtBearer => {
            add("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer".into());
            if let Some(assertion) = &spec.assertion {
                add("assertion", self_signed(assertion, context, now)?);
            }
        }
    }
    if let Some(scopes) = &spec.scopes {
        let scopes = texts(scopes, "auth.scopes", context)?;
        if !scopes.is_empty() {
            add("scope", scopes.join(" "));
        }
    }
    match (spec.client_auth, id, secret) {
        (ClientAuth::Basic, Some(id), Some(secret)) => {
            let encoded = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
            let pair = STANDARD.encode(format!("{}:{}", encoded(&id), encoded(&secret)));
            headers.insert(header::AUTHORIZATION, secret_value(&format!("Basic {pair}"), "auth.client_id")?);
        }
        (_, id, secret) => {
            let pairs = [("client_id", id), ("client_secret", secret)];
            pairs
                .into_iter()
                .filter_map(|(name, value)| Some((name, value?)))
                .for_each(|(name, value)| add(name, value));
        }
    }
    for (name, param) in &spec.params {
        texts(param, "auth.params", context)?.into_iter().for_each(|value| add(name, value));
    }
    let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    Ok(Outgoing { method: Method::POST, url, headers, body: Bytes::from(body) })
}

fn texts(param: &Param, place: &str, context: &Context) -> Result<Vec<String>> {
    request::param_texts(param, context).map_err(|reason| RequestFault::new(place, reason))
}

/// A token of our own making; `iat` and `exp` are added where the file does not say them.
fn self_signed(spec: &Assertion, context: &Context, now: Timestamp) -> Result<String> {
    let key = text(&spec.key, "auth.key", context)?;
    let mut claims = spec.claims.clone();
    let end = now.plus(spec.lifetime);
    for (name, at) in [("iat", now), ("exp", end)] {
        if !claims.iter().any(|(known, _)| known == name) {
            claims.push((name.to_owned(), JsonTemplate::Literal(at.unix_seconds().into())));
        }
    }
    let fault = |place: &str| {
        let place = place.to_owned();
        move |reason: String| RequestFault::new(place, reason)
    };
    let claims = request::json_text(&JsonTemplate::Object(claims), context).map_err(fault("auth.claims"))?;
    let head = request::json_text(&JsonTemplate::Object(spec.head.clone()), context).map_err(fault("auth.head"))?;
    let head = serde_json::from_str(&head).map_err(|_| RequestFault::new("auth.head", "it is no object"))?;
    sign_token(spec.algorithm, &key, head, &claims).map_err(fault("auth.key"))
}

fn host(url: &Url) -> String {
    url.host_str().unwrap_or("?").to_owned()
}

fn unsent(place: &str, error: crate::client::SendError) -> Failure {
    let failure = verdict::unsent(error);
    // It was answered, and asking again would show the password again.
    let (cause, rest) = match failure.cause {
        Cause::Lasting(ProblemKind::AnswerUnreadable) => (Cause::Refused, format!("; {AT_REST}")),
        cause => (cause, String::new()),
    };
    Failure::new(cause, format!("{place} failed: {}{rest}", failure.message))
}

/// The credential cannot be asked with as it is written.
fn wrong(fault: &RequestFault) -> Failure {
    let message = format!("nothing can be asked: {fault}; correct the provider file or the source's `secrets`");
    Failure::new(Cause::Refused, message)
}
