//! A listener that stands open while the configuration wants it. A reload opens it, closes it, moves it to another address, or gives it
//! another certificate; what cannot be opened makes the reload fail before anything was taken over.

use std::sync::{Mutex, PoisonError};

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::config::{Listen, ListenTls};
use crate::listener::{Clients, Socket, Tls};

/// One of them.
pub struct Door {
    /// The table of the configuration that says where: `receive`, `pull`, `admin` or `metrics`.
    table: &'static str,
    /// What is done there, for the log: "webhooks are received".
    what: &'static str,
    clients: Clients,
    standing: Mutex<Option<Standing>>,
    orders: mpsc::UnboundedSender<Option<Socket>>,
    ordered: Mutex<Option<mpsc::UnboundedReceiver<Option<Socket>>>>,
}

struct Standing {
    listen: Listen,
    tls: Tls,
}

/// What becomes of it.
pub enum Change {
    None,
    Close,
    /// The same place, and what it shows from now on.
    Tls(Tls),
    Open(Box<Socket>, Listen, Tls),
}

impl Door {
    pub fn new(table: &'static str, what: &'static str, clients: Clients) -> Door {
        let (orders, ordered) = mpsc::unbounded_channel();
        Door { table, what, clients, standing: Mutex::default(), orders, ordered: Mutex::new(Some(ordered)) }
    }

    /// Does all that can fail: reads certificates and binds the socket. The error is a sentence for a person.
    pub async fn plan(&self, wanted: Option<(&Listen, Option<&ListenTls>)>) -> Result<Change, String> {
        let standing = self.lock().as_ref().map(|standing| standing.listen.clone());
        let Some((listen, tls)) = wanted else {
            return Ok(if standing.is_some() { Change::Close } else { Change::None });
        };
        let tls = Tls::new(tls, self.clients).map_err(|error| format!("`{}.tls`: {error}", self.table))?;
        if standing.as_ref() == Some(listen) {
            return Ok(Change::Tls(tls));
        }
        let socket = bind(self.table, "listen", listen).await?.with_tls(tls.clone());
        Ok(Change::Open(Box::new(socket), listen.clone(), tls))
    }

    pub fn carry_out(&self, change: Change) {
        let mut standing = self.lock();
        let order = match change {
            Change::None => return,
            Change::Tls(tls) => {
                if let Some(standing) = &*standing {
                    standing.tls.replace(&tls);
                }
                return;
            }
            Change::Close => {
                info!("{} no longer", self.what);
                *standing = None;
                None
            }
            Change::Open(socket, listen, tls) => {
                let scheme = if tls.is_on() { "https" } else { "http" };
                info!("{} on {scheme}://{}", self.what, place(&socket, &listen));
                *standing = Some(Standing { listen, tls });
                Some(*socket)
            }
        };
        // Nobody listens to orders any more once the daemon stops.
        let _ = self.orders.send(order);
    }

    /// Serves on whatever is open until cancelled. Ends by itself only when what serves has broken.
    pub async fn keep<F>(&self, cancel: CancellationToken, serve: impl Fn(Socket, CancellationToken) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let ordered = self.ordered.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut ordered) = ordered else { return };
        let mut serving = JoinSet::new();
        let mut open: Option<CancellationToken> = None;
        loop {
            tokio::select! {
                () = cancel.cancelled() => break,
                Some(order) = ordered.recv() => {
                    // What was asked at the former place is still answered there.
                    if let Some(former) = open.take() {
                        former.cancel();
                    }
                    if let Some(socket) = order {
                        let token = cancel.child_token();
                        serving.spawn(serve(socket, token.clone()));
                        open = Some(token);
                    }
                }
                Some(ended) = serving.join_next() => {
                    if ended.is_err() {
                        return;
                    }
                }
            }
        }
        while serving.join_next().await.is_some() {}
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Standing>> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Binds a socket; the error names the key.
pub async fn bind(table: &str, key: &str, listen: &Listen) -> Result<Socket, String> {
    Socket::bind(listen).await.map_err(|error| {
        let place = match listen {
            Listen::Tcp(address) => address.to_string(),
            Listen::Unix(path) => path.display().to_string(),
        };
        format!("cannot listen on {place} (`{table}.{key}`): {error}")
    })
}

/// The address that a socket was given, which a port of 0 leaves open.
fn place(socket: &Socket, listen: &Listen) -> String {
    match (socket.address(), listen) {
        (Some(address), _) => address.to_string(),
        (None, Listen::Unix(path)) => path.display().to_string(),
        (None, Listen::Tcp(address)) => address.to_string(),
    }
}
