//! Our own listeners, whoever serves on them: sockets of both kinds, TLS, the accept loop with its limit on connections, and the end
//! in order. What a connection says is the affair of whoever serves it.

mod pages;
mod socket;
mod tls;

use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

pub use pages::serve_router;
pub use socket::{Socket, bind_unix};
pub use tls::{Clients, Tls};

/// After accept itself failed (too many open files): an immediate retry would only burn a processor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// From the first byte of a TLS handshake to its last.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Over a Unix socket; the user's number as the kernel knows it.
    Socket {
        uid: Option<u32>,
    },
    Address(IpAddr),
    /// Somebody whose certificate our authority signed; its names, in lower case.
    Certificate {
        names: Arc<[String]>,
        ip: IpAddr,
    },
}

impl Caller {
    /// The address at the other end of the connection; none on a Unix socket.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Caller::Socket { .. } => None,
            Caller::Address(ip) | Caller::Certificate { ip, .. } => Some(*ip),
        }
    }

    /// The names that a certificate proved.
    pub fn names(&self) -> &[String] {
        match self {
            Caller::Certificate { names, .. } => names,
            Caller::Socket { .. } | Caller::Address(_) => &[],
        }
    }
}

impl std::fmt::Display for Caller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Caller::Socket { uid: Some(uid) } => write!(f, "user {uid}"),
            Caller::Socket { uid: None } => f.write_str("the control socket"),
            Caller::Address(ip) => write!(f, "{ip}"),
            Caller::Certificate { names, ip } => match names.first() {
                Some(name) => write!(f, "{name} ({ip})"),
                None => write!(f, "{ip}"),
            },
        }
    }
}

/// What bytes come by.
pub trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Wire for S {}

/// A connection that stands, TLS done.
pub struct Connection {
    pub wire: Box<dyn Wire>,
    pub caller: Caller,
}

/// Bounds of a listener.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// At once; one more is closed.
    pub connections: usize,
    /// How long a stop waits for those that are open.
    pub grace: Duration,
}

/// Serves every connection until cancelled, then waits for those under way. `serve` ends a connection when it is cancelled itself.
pub async fn serve<F>(
    socket: Socket,
    bounds: Bounds,
    cancel: CancellationToken,
    serve: impl Fn(Connection) -> F + Clone + Send + 'static,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let (room, tasks) = (Arc::new(Semaphore::new(bounds.connections)), TaskTracker::new());
    loop {
        let accepted = tokio::select! {
            () = cancel.cancelled() => break,
            accepted = socket.accept() => accepted,
        };
        let (wire, caller) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!("a connection could not be accepted: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(permit) = room.clone().try_acquire_owned() else {
            warn!("more than {} connections: one is closed", bounds.connections);
            continue;
        };
        let (acceptor, cancel, serve) = (socket.tls.acceptor(), cancel.clone(), serve.clone());
        tasks.spawn(async move {
            let _permit = permit;
            let secured = tokio::select! {
                () = cancel.cancelled() => return,
                secured = tls::secure(acceptor, wire, caller) => secured,
            };
            match secured {
                Ok(connection) => serve(connection).await,
                Err((caller, error)) => debug!("the TLS handshake with {caller} failed: {error}"),
            }
        });
    }
    // Nothing new is taken while what is open ends.
    drop(socket);
    tasks.close();
    if tokio::time::timeout(bounds.grace, tasks.wait()).await.is_err() {
        warn!("some connections were still open at the stop");
    }
}

fn too_slow() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("it was not done within {HANDSHAKE:?}"))
}
