//! What systemd is told: READY, RELOADING, STOPPING, STATUS, WATCHDOG, EXTEND_TIMEOUT. Outside systemd every call does nothing.
//!
//! Trouble with the socket is logged and never stops the daemon: the service manager notices silence by itself.

use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use sd_notify::NotifyState;
use tracing::warn;

/// So much longer the manager waits after each word of a start or stop that goes on.
const EXTENSION: Duration = Duration::from_secs(30);
/// How often that word is given.
const WORD: Duration = Duration::from_secs(10);
/// What lasts longer hangs, and the manager may end it.
const LONGEST: Duration = Duration::from_secs(60 * 60);

/// The line to the service manager.
#[derive(Debug, Default)]
pub struct Notifier {
    socket: Option<UnixDatagram>,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// As the environment says: `NOTIFY_SOCKET`, `WATCHDOG_USEC`, `WATCHDOG_PID`.
    pub fn from_env() -> Notifier {
        let watchdog = sd_notify::watchdog_enabled();
        match std::env::var_os("NOTIFY_SOCKET") {
            Some(address) if !address.is_empty() => match Notifier::connect(&address, watchdog) {
                Ok(notifier) => notifier,
                Err(error) => {
                    warn!("systemd cannot be told anything: {}: {error}", address.display());
                    Notifier::default()
                }
            },
            _ => Notifier::default(),
        }
    }

    /// To this socket: a path, or `@name` in the abstract name space.
    fn connect(address: &OsStr, watchdog: Option<Duration>) -> std::io::Result<Notifier> {
        let address = match address.as_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(address)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&address)?;
        // A manager that does not read must not hold up the daemon.
        socket.set_nonblocking(true)?;
        Ok(Notifier { socket: Some(socket), watchdog })
    }

    /// Everything is open and listening; `status` is the line that `systemctl status` shows.
    pub fn ready(&self, status: &str) {
        self.send(&[NotifyState::Ready, NotifyState::Status(&one_line(status))]);
    }

    /// A reload begins; [`Notifier::ready`] ends it, whether it went well or not. Both parts go in one message: newer
    /// versions of systemd wait for minutes otherwise.
    pub fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.send(&[NotifyState::Reloading, now]),
            Err(error) => warn!("systemd was not told of the reload: the monotonic clock cannot be read: {error}"),
        }
    }

    /// The daemon begins to stop.
    pub fn stopping(&self) {
        self.send(&[NotifyState::Stopping]);
    }

    /// The line that `systemctl status` shows.
    pub fn status(&self, status: &str) {
        self.send(&[NotifyState::Status(&one_line(status))]);
    }

    /// Proof of life. Call it only after every loop has just shown that it makes progress.
    pub fn alive(&self) {
        self.send(&[NotifyState::Watchdog]);
    }

    /// How often to call [`Notifier::alive`]: half of what systemd allows. None: nobody watches.
    pub fn watchdog_interval(&self) -> Option<Duration> {
        self.watchdog.filter(|limit| !limit.is_zero()).map(|limit| limit / 2)
    }

    /// Carries out a part of the start or stop that may last longer than the manager waits (a migration, a drain), and asks it to wait
    /// on for as long as that goes on. The work must not block its thread.
    pub async fn ask_patience<T>(&self, work: impl Future<Output = T>) -> T {
        let mut word = tokio::time::interval(WORD);
        let began = tokio::time::Instant::now();
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                _ = word.tick(), if began.elapsed() < LONGEST => self.extend_timeout(EXTENSION),
            }
        }
    }

    fn extend_timeout(&self, by: Duration) {
        let micros = u32::try_from(by.as_micros()).unwrap_or(u32::MAX);
        self.send(&[NotifyState::ExtendTimeoutUsec(micros)]);
    }

    fn send(&self, states: &[NotifyState<'_>]) {
        let Some(socket) = &self.socket else { return };
        let message: String = states.iter().map(|state| format!("{state}\n")).collect();
        if let Err(error) = socket.send(message.as_bytes()) {
            warn!("systemd was not told `{}`: {error}", message.lines().next().unwrap_or_default());
        }
    }
}

/// A line break would begin a new assignment.
fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Manager(UnixDatagram);

    impl Manager {
        fn heard(&self) -> Vec<String> {
            let mut buffer = [0; 1024];
            let length = self.0.recv(&mut buffer).expect("a message");
            String::from_utf8_lossy(&buffer[..length]).lines().map(str::to_owned).collect()
        }
    }

    fn manager(watchdog: Option<Duration>) -> (Manager, Notifier, tempfile::TempDir) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).expect("bound");
        let notifier = Notifier::connect(path.as_os_str(), watchdog).expect("connected");
        (Manager(socket), notifier, folder)
    }

    #[test]
    fn each_stage_of_life_is_one_message() {
        let (manager, notifier, _folder) = manager(None);
        notifier.ready("2 streams\n0 problems");
        assert_eq!(manager.heard(), ["READY=1", "STATUS=2 streams 0 problems"]);
        notifier.status("3 streams");
        assert_eq!(manager.heard(), ["STATUS=3 streams"]);
        notifier.alive();
        assert_eq!(manager.heard(), ["WATCHDOG=1"]);
        notifier.stopping();
        assert_eq!(manager.heard(), ["STOPPING=1"]);
    }

    #[test]
    fn a_reload_and_its_moment_go_in_one_message() {
        let (manager, notifier, _folder) = manager(None);
        notifier.reloading();
        let heard = manager.heard();
        assert_eq!((heard.len(), heard[0].as_str()), (2, "RELOADING=1"));
        let moment = heard[1].strip_prefix("MONOTONIC_USEC=").expect("the moment");
        assert!(moment.parse::<u64>().is_ok_and(|micros| micros > 0), "{moment}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_lasts_is_given_time_as_long_as_it_goes_on_and_what_hangs_an_hour() {
        let (manager, notifier, _folder) = manager(None);
        notifier.ask_patience(tokio::time::sleep(Duration::from_secs(25))).await;
        for _ in 0..3 {
            assert_eq!(manager.heard(), ["EXTEND_TIMEOUT_USEC=30000000"], "at once, and every ten seconds");
        }
        manager.0.set_nonblocking(true).expect("set");
        let told = || {
            let mut buffer = [0; 64];
            std::iter::from_fn(|| manager.0.recv(&mut buffer).ok()).count()
        };
        assert_eq!(told(), 0);
        let hangs = async {
            let mut all = 0;
            for _ in 0..1000 {
                tokio::time::sleep(Duration::from_secs(10)).await;
                all += told();
            }
            all
        };
        assert_eq!(notifier.ask_patience(hangs).await, 361);
    }

    #[test]
    fn the_abstract_name_space_is_reached() {
        let name = format!("ringback-notify-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("a name");
        let manager = Manager(UnixDatagram::bind_addr(&address).expect("bound"));
        let notifier = Notifier::connect(OsStr::new(&format!("@{name}")), None).expect("connected");
        notifier.stopping();
        assert_eq!(manager.heard(), ["STOPPING=1"]);
    }

    #[test]
    fn the_watchdog_is_fed_twice_as_often_as_it_asks() {
        let (_manager, notifier, _folder) = manager(Some(Duration::from_secs(30)));
        assert_eq!(notifier.watchdog_interval(), Some(Duration::from_secs(15)));
    }

    #[test]
    fn without_systemd_nothing_happens_and_a_manager_that_is_gone_does_no_harm() {
        let quiet = Notifier::default();
        quiet.ready("");
        quiet.reloading();
        assert_eq!(quiet.watchdog_interval(), None);
        let (manager, notifier, _folder) = manager(None);
        drop(manager);
        notifier.alive();
    }
}
