//! Where the time of an exchange goes. The connector and the resolver note what they did in the task that waits for them; a
//! connection that another task opened, or that was open already, leaves nothing.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tower_layer::Layer;
use tower_service::Service;

use crate::model::Timings;

tokio::task_local! {
    static WATCH: Watch;
}

/// Which part of making a connection failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failed {
    Dns,
    Connect,
    Tls,
}

/// Notes of one exchange.
#[derive(Clone, Default)]
pub struct Watch(Arc<Mutex<Notes>>);

#[derive(Default)]
struct Notes {
    began: Option<Instant>,
    dns: Option<Duration>,
    /// When the last handshake began: behind a proxy that is reached by TLS, the one with the host.
    tls_began: Option<Instant>,
    /// With the time of DNS and TLS in it.
    connect: Option<Duration>,
    tls: Option<Duration>,
    head: Option<Duration>,
    failed: Option<Failed>,
    /// A connection is being made, and the exchange waits for it.
    connecting: bool,
}

impl Watch {
    fn lock(&self) -> MutexGuard<'_, Notes> {
        // Plain values are whole after any panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Carries out an exchange under this watch.
    pub async fn over<T>(&self, exchange: impl Future<Output = T>) -> T {
        self.lock().began = Some(Instant::now());
        WATCH.scope(self.clone(), exchange).await
    }

    pub fn timings(&self) -> Timings {
        let notes = self.lock();
        let others = notes.dns.unwrap_or_default() + notes.tls.unwrap_or_default();
        let connect = notes.connect.map(|whole| whole.saturating_sub(others));
        let first_byte = notes.head.map(|head| head.saturating_sub(notes.connect.unwrap_or_default()));
        Timings { dns: notes.dns, connect, tls: notes.tls, first_byte }
    }

    pub fn failed(&self) -> Option<Failed> {
        let notes = self.lock();
        let under_way = || if notes.tls_began.is_some() { Failed::Tls } else { Failed::Connect };
        notes.failed.or_else(|| notes.connecting.then(under_way))
    }
}

fn note(write: impl FnOnce(&mut Notes)) {
    // Nobody watches a poll.
    let _ = WATCH.try_with(|watch| write(&mut watch.lock()));
}

/// The head of the answer is here.
pub fn head() {
    note(|notes| notes.head = notes.began.map(|began| began.elapsed()));
}

/// Whether the exchange still waits for its connection. False for what nobody watches.
pub fn connecting() -> bool {
    WATCH.try_with(|watch| watch.lock().connecting).unwrap_or(false)
}

/// A handshake begins: TCP is done.
pub fn tls_begins() {
    note(|notes| notes.tls_began = Some(Instant::now()));
}

/// Times the resolving of a name.
pub async fn look_up<T, E>(resolving: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    let began = Instant::now();
    let found = resolving.await;
    note(|notes| {
        notes.dns = Some(began.elapsed());
        if found.is_err() {
            notes.failed = Some(Failed::Dns);
        }
    });
    found
}

/// Times the making of connections.
#[derive(Clone)]
pub struct ConnectLayer;

impl<S> Layer<S> for ConnectLayer {
    type Service = Connect<S>;

    fn layer(&self, inner: S) -> Connect<S> {
        Connect(inner)
    }
}

#[derive(Clone)]
pub struct Connect<S>(S);

impl<S, R> Service<R> for Connect<S>
where
    S: Service<R>,
    S::Future: Send + 'static,
    S::Response: 'static,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>> + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let connecting = self.0.call(request);
        Box::pin(async move {
            let began = Instant::now();
            note(|notes| notes.tls_began = None);
            let made = waited_for(connecting).await;
            note(|notes| match &made {
                Ok(_) => {
                    notes.connect = Some(began.elapsed());
                    notes.tls = notes.tls_began.map(|began| began.elapsed());
                }
                Err(_) => {
                    let part = if notes.tls_began.is_some() { Failed::Tls } else { Failed::Connect };
                    notes.failed = notes.failed.or(Some(part));
                }
            });
            made
        })
    }
}

/// Makes a connection, and notes that it is being made for as long as the exchange waits for it. Once another one is free the exchange
/// takes that one, and this one is finished by a task of its own.
async fn waited_for<T>(connecting: impl Future<Output = T>) -> T {
    let watch = WATCH.try_with(Clone::clone).ok();
    let note = |waits: bool| watch.iter().for_each(|watch| watch.lock().connecting = waits);
    let mut connecting = std::pin::pin!(connecting);
    note(true);
    std::future::poll_fn(|context| {
        let polled = connecting.as_mut().poll(context);
        if polled.is_ready() || WATCH.try_with(|_| ()).is_err() {
            note(false);
        }
        polled
    })
    .await
}
