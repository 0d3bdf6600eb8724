//! The socket itself: TCP, or a Unix socket with its mode.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;

use tokio::net::{TcpListener, UnixListener};

use super::{Caller, Tls, Wire};
use crate::config::Listen;

/// Those who are in the daemon's group may connect to its Unix sockets.
const MODE: u32 = 0o660;

enum Kind {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// A bound socket and its TLS.
pub struct Socket {
    kind: Kind,
    pub(super) tls: Tls,
}

impl From<TcpListener> for Socket {
    fn from(listener: TcpListener) -> Socket {
        Socket { kind: Kind::Tcp(listener), tls: Tls::default() }
    }
}

impl From<UnixListener> for Socket {
    fn from(listener: UnixListener) -> Socket {
        Socket { kind: Kind::Unix(listener), tls: Tls::default() }
    }
}

impl Socket {
    pub async fn bind(listen: &Listen) -> io::Result<Socket> {
        Ok(match listen {
            Listen::Tcp(address) => TcpListener::bind(address).await?.into(),
            Listen::Unix(path) => bind_unix(path, MODE)?.into(),
        })
    }

    pub fn with_tls(self, tls: Tls) -> Socket {
        Socket { tls, ..self }
    }

    /// Where it listens; none on a Unix socket.
    pub fn address(&self) -> Option<SocketAddr> {
        match &self.kind {
            Kind::Tcp(listener) => listener.local_addr().ok(),
            Kind::Unix(_) => None,
        }
    }

    pub(super) async fn accept(&self) -> io::Result<(Box<dyn Wire>, Caller)> {
        match &self.kind {
            Kind::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                // Small answers must not wait for more to send.
                let _ = stream.set_nodelay(true);
                Ok((Box::new(stream), Caller::Address(peer.ip().to_canonical())))
            }
            Kind::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                let uid = stream.peer_cred().ok().map(|cred| cred.uid());
                Ok((Box::new(stream), Caller::Socket { uid }))
            }
        }
    }
}

/// Binds a Unix socket with this mode. A socket that nobody answers on is a dead daemon's and is replaced; one that is answered
/// on is another daemon's and is left alone, as is anything that is no socket.
pub fn bind_unix(path: &Path, mode: u32) -> io::Result<UnixListener> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "something that is no socket is in its place"));
        }
        Ok(_) => match std::os::unix::net::UnixStream::connect(path) {
            Ok(_) => return Err(io::Error::new(io::ErrorKind::AddrInUse, "another daemon answers there")),
            Err(_) => std::fs::remove_file(path)?,
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_socket_of_a_dead_daemon_is_replaced_and_of_a_living_one_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("ringback.sock");
        let first = bind_unix(&path, 0o660).expect("bound");
        let mode = std::fs::metadata(&path).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o660);
        assert_eq!(bind_unix(&path, 0o660).expect_err("in use").kind(), io::ErrorKind::AddrInUse);
        drop(first);
        bind_unix(&path, 0o660).expect("bound again");
        let file = folder.path().join("precious");
        std::fs::write(&file, "data").expect("written");
        bind_unix(&file, 0o660).expect_err("it is no socket");
        assert_eq!(std::fs::read_to_string(&file).expect("still there"), "data");
    }
}
