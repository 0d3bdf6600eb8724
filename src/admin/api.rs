//! The JSON API: reading is GET, acting is POST; both answer in the shapes of [`super::shape`].

use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use serde::Deserialize;
use tracing::info;

use super::order::{Asked, Order, Refused};
use super::{Admin, order, shape, view};
use crate::listener::Caller;
use crate::model::{HandlerName, SourceName, StreamName};
use crate::store::{Paused, ReplayTo, Topic};

/// Longest wait of `tail`.
const WAIT_MAX: u64 = 30;

pub(super) type Answer<T> = Result<Json<T>, Refused>;

pub fn router() -> Router<Admin> {
    Router::new()
        .route("/status", get(status))
        .route("/streams", get(streams))
        .route("/handlers", get(handlers))
        .route("/inbox", get(inbox))
        .route("/problems", get(problems))
        .route("/problems/ack", post(ack))
        .route("/events", get(events))
        .route("/events/{id}", get(event))
        .route("/tail", get(tail))
        .route("/replay", post(replay))
        .route("/replays", get(replays))
        .route("/replays/{id}", get(replay_job))
        .route("/replays/{id}/cancel", post(cancel_replay))
        .route("/streams/{source}/{stream}/poll", post(poll))
        .route("/streams/{source}/{stream}/trigger", post(trigger))
        .route("/sources/{name}/pause", post(pause_source))
        .route("/sources/{name}/resume", post(resume_source))
        .route("/sources/{name}/keep", post(keep_source))
        .route("/handlers/{name}/pause", post(pause_handler))
        .route("/handlers/{name}/resume", post(resume_handler))
        .route("/reload", post(reload))
        .merge(super::detection::router())
        .fallback(order::not_found)
        .method_not_allowed_fallback(order::wrong_method)
}

async fn status(State(admin): State<Admin>) -> Answer<shape::Status> {
    Ok(Json(view::status(&*admin.store, admin.clock.now(), true).await?))
}

async fn streams(State(admin): State<Admin>) -> Answer<Vec<shape::Stream>> {
    Ok(Json(view::streams(&*admin.store).await?))
}

async fn handlers(State(admin): State<Admin>) -> Answer<Vec<shape::Handler>> {
    Ok(Json(view::handlers(&*admin.store).await?))
}

async fn inbox(State(admin): State<Admin>) -> Answer<shape::Inbox> {
    Ok(Json(view::inbox(&*admin.store).await?))
}

async fn problems(State(admin): State<Admin>) -> Answer<Vec<shape::Problem>> {
    Ok(Json(view::problems(&*admin.store).await?))
}

async fn events(State(admin): State<Admin>, Asked(query): Asked<shape::EventQuery>) -> Answer<shape::EventPage> {
    let filter = view::filter(&query, &[]).map_err(Refused::bad)?;
    Ok(Json(view::events(&*admin.store, filter).await?))
}

async fn event(State(admin): State<Admin>, Path(id): Path<String>) -> Answer<shape::EventDetail> {
    let found = view::event(&*admin.store, &id).await?;
    found.map(Json).ok_or_else(|| {
        Refused::unknown(format!("there is no event `{id}`"), "it may have been removed after the time of `keep`")
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TailQuery {
    after: Option<String>,
    /// Seconds to wait for the first line.
    #[serde(default)]
    wait: u64,
    /// At most so many.
    lines: Option<usize>,
}

async fn tail(State(admin): State<Admin>, Asked(query): Asked<TailQuery>) -> Answer<shape::TailPage> {
    let lines = query.lines.unwrap_or(20);
    let wait = Duration::from_secs(query.wait.min(WAIT_MAX));
    let deadline = tokio::time::Instant::now() + wait;
    let mut wake = admin.store.wake(Topic::Attempts);
    let mut after = query.after;
    loop {
        // Ask to be woken before looking, so that an attempt in between is not missed.
        wake.seen();
        let page = view::tail(&*admin.store, after.as_deref(), lines).await?;
        if !page.lines.is_empty() || tokio::time::timeout_at(deadline, wake.rung()).await.is_err() {
            return Ok(Json(page));
        }
        after = page.next.or(after);
    }
}

async fn replay(
    State(admin): State<Admin>,
    Extension(caller): Extension<Caller>,
    Order(order): Order<shape::ReplayOrder>,
) -> Answer<shape::ReplayPlan> {
    let (by, dry_run) = (caller.to_string(), order.dry_run);
    let plan = if order.to.as_deref().is_some_and(view::is_address) {
        may_name_an_address(&caller)?;
        admin.control.replay_to_address(order, &by).await?
    } else {
        let replay = view::replay(&order, &by).map_err(Refused::bad)?;
        if let ReplayTo::Handler(handler) = &replay.to {
            known_handler(&admin, handler).await?;
        }
        view::replay_plan(admin.store.replay(replay).await?, dry_run)
    };
    if !dry_run {
        info!(events = plan.events, deliveries = plan.deliveries, "replay asked for by {caller}");
    }
    Ok(Json(plan))
}

/// The credentials of a handler go where such an address leads, and no request shows them: that takes somebody who is known.
fn may_name_an_address(caller: &Caller) -> Result<(), Refused> {
    match caller {
        Caller::Socket { .. } | Caller::Certificate { .. } => Ok(()),
        Caller::Address(_) => Err(Refused::new(
            StatusCode::FORBIDDEN,
            "an address is sent to with a handler's credentials: over TCP only who shows a certificate may name one",
            "ask over the control socket (`ringback replay` does), or give `admin.tls` a `client_ca`",
        )),
    }
}

async fn replays(State(admin): State<Admin>) -> Answer<Vec<shape::ReplayJob>> {
    Ok(Json(view::replay_jobs(&*admin.store).await?))
}

async fn replay_job(State(admin): State<Admin>, Path(id): Path<u64>) -> Answer<shape::ReplayJob> {
    let found = view::replay_jobs(&*admin.store).await?.into_iter().find(|job| job.id == id);
    found.map(Json).ok_or_else(|| no_job(id))
}

async fn cancel_replay(
    State(admin): State<Admin>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<u64>,
) -> Answer<shape::Done> {
    let taken = admin.store.cancel_replay(id, &caller.to_string()).await?.ok_or_else(|| no_job(id))?;
    info!(deliveries = taken, "replay {id} cancelled by {caller}");
    done(format!("replay {id} is cancelled; {taken} deliveries are not sent"))
}

fn no_job(id: u64) -> Refused {
    Refused::unknown(format!("there is no replay {id}"), "`ringback replay --jobs` lists the last ones")
}

async fn poll(
    State(admin): State<Admin>,
    Path((source, stream)): Path<(String, String)>,
    Order(order): Order<shape::PollOrder>,
) -> Answer<shape::PollReport> {
    let name = StreamName::new(source.as_str(), &stream);
    Ok(Json(admin.control.poll(&name, order.dry_run).await?))
}

async fn trigger(
    State(admin): State<Admin>,
    Extension(caller): Extension<Caller>,
    Path((source, stream)): Path<(String, String)>,
    Order(order): Order<shape::TriggerOrder>,
) -> Answer<shape::Triggered> {
    let name = StreamName::new(source.as_str(), &stream);
    let triggered = admin.control.trigger(&name, order).await?;
    info!(event.id = triggered.id, "a test event of {name} was made up by {caller}");
    Ok(Json(triggered))
}

async fn pause_source(
    State(admin): State<Admin>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    Order(order): Order<shape::PauseOrder>,
) -> Answer<shape::Done> {
    let source = known_source(&admin, &name).await?;
    admin.store.set_source_paused(&source, Some(paused(&caller, order))).await?;
    info!(source.name = %source, "source `{source}` paused by {caller}");
    done(format!("source `{source}` is paused; its streams keep their place"))
}

async fn resume_source(
    State(admin): State<Admin>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Answer<shape::Done> {
    let source = known_source(&admin, &name).await?;
    admin.store.set_source_paused(&source, None).await?;
    info!(source.name = %source, "source `{source}` resumed by {caller}");
    done(format!("source `{source}` is polled again"))
}

async fn keep_source(
    State(admin): State<Admin>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Answer<shape::Done> {
    let source = known_source(&admin, &name).await?;
    if !admin.store.keep_source(&source).await? {
        let error = format!("the address of source `{source}` has not changed: there is nothing to confirm");
        return Err(Refused::unknown(error, "`ringback problem list` shows what waits for a person"));
    }
    info!(source.name = %source, "the new address of source `{source}` was confirmed by {caller}");
    done(format!("the state of source `{source}` is kept for its new address; it is polled again"))
}

async fn pause_handler(
    State(admin): State<Admin>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    Order(order): Order<shape::PauseOrder>,
) -> Answer<shape::Done> {
    let handler = HandlerName::from(name);
    known_handler(&admin, &handler).await?;
    admin.store.set_handler_paused(&handler, Some(paused(&caller, order))).await?;
    info!(handler.name = %handler, "handler `{handler}` paused by {caller}");
    done(format!("handler `{handler}` is paused; its events are held"))
}

async fn resume_handler(
    State(admin): State<Admin>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Answer<shape::Done> {
    let handler = HandlerName::from(name);
    known_handler(&admin, &handler).await?;
    admin.store.set_handler_paused(&handler, None).await?;
    info!(handler.name = %handler, "handler `{handler}` resumed by {caller}");
    done(format!("handler `{handler}` is sent to again, what was held first"))
}

async fn ack(State(admin): State<Admin>, Order(order): Order<shape::AckOrder>) -> Answer<shape::Done> {
    let kind = view::problem_kind(&order.kind).map_err(Refused::bad)?;
    if !admin.store.ack_problem(kind, &order.subject).await? {
        let error = format!("no problem `{kind}` of `{}` is open", order.subject, kind = order.kind);
        return Err(Refused::unknown(error, "`ringback problem list` shows the open ones"));
    }
    done(format!("problem `{}` is acknowledged; it closes by itself when its cause is gone", order.kind))
}

async fn reload(State(admin): State<Admin>, Extension(caller): Extension<Caller>) -> Answer<shape::Reloaded> {
    info!("reload asked for by {caller}");
    Ok(Json(admin.control.reload().await?))
}

pub(super) fn done(sentence: String) -> Answer<shape::Done> {
    Ok(Json(shape::Done { done: sentence }))
}

fn paused(caller: &Caller, order: shape::PauseOrder) -> Paused {
    Paused { by: caller.to_string(), reason: order.reason }
}

async fn known_source(admin: &Admin, name: &str) -> Result<SourceName, Refused> {
    let streams = admin.store.streams().await?;
    let found = streams.iter().map(|stream| &stream.state.name.source).find(|source| source.as_str() == name);
    found
        .cloned()
        .ok_or_else(|| Refused::unknown(format!("there is no source `{name}`"), "`ringback source list` shows them"))
}

async fn known_handler(admin: &Admin, name: &HandlerName) -> Result<(), Refused> {
    if admin.store.handlers().await?.iter().any(|handler| handler.name == *name) {
        return Ok(());
    }
    Err(Refused::unknown(format!("there is no handler `{name}`"), "`ringback handler list` shows them"))
}
