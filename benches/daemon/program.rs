//! The real binary as a process: its files, its start, its memory.

use std::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub struct Program {
    folder: tempfile::TempDir,
    child: Option<Child>,
}

impl Program {
    pub fn new(provider: &str, config: &str, server: SocketAddr) -> Program {
        // Beside the build, as /tmp may lie in memory.
        let folder = tempfile::tempdir_in(Path::new(env!("CARGO_TARGET_TMPDIR"))).expect("a folder");
        let config = config.replace("{server}", &server.to_string());
        for (name, text) in [("provider.toml", provider), ("config.toml", &config), ("secret", SECRET)] {
            std::fs::write(folder.path().join(name), text).expect("written");
        }
        Program { folder, child: None }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringback"));
        command.args(words).arg("-c").arg(self.path("config.toml"));
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(std::fs::File::create(self.path("log")).expect("a log"));
        command
    }

    /// Starts the daemon and waits until it says READY=1 as it says it to systemd.
    pub fn start(&mut self) -> Duration {
        let socket = self.path("notify");
        let _ = std::fs::remove_file(&socket);
        let notified = UnixDatagram::bind(&socket).expect("a socket");
        notified.set_read_timeout(Some(Duration::from_secs(20))).expect("a limit");
        let begun = Instant::now();
        self.child =
            Some(self.command(&["run", "--verbose"]).env("NOTIFY_SOCKET", &socket).spawn().expect("it starts"));
        let mut words = [0; 4096];
        loop {
            let length = notified.recv(&mut words).unwrap_or_else(|error| panic!("not ready: {error}\n{}", self.log()));
            if String::from_utf8_lossy(&words[..length]).contains("READY=1") {
                return begun.elapsed();
            }
        }
    }

    /// Waits for the end of a good poll; the answer is how many seconds it took, as the daemon logs it.
    pub async fn polled(&self) -> f64 {
        let begun = Instant::now();
        loop {
            let log = self.log();
            assert!(!log.contains("could not poll"), "{log}");
            let line = log.lines().find(|line| line.contains("polled bank/payments"));
            if let Some(millis) = line.and_then(|line| line.split("\"duration_ms\":").nth(1)) {
                let digits: String = millis.chars().take_while(char::is_ascii_digit).collect();
                return digits.parse::<f64>().expect("a number") / 1e3;
            }
            assert!(begun.elapsed() < Duration::from_secs(180), "no end of the poll:\n{log}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// A line of the daemon's /proc status, in MiB.
    pub fn memory(&self, line: &str) -> f64 {
        memory(self.child.as_ref().expect("it runs").id(), line).expect("a figure")
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = Command::new("kill").arg(child.id().to_string()).status();
            let status = child.wait().expect("it ends");
            assert!(status.success(), "{status}\n{}", self.log());
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

pub const SECRET: &str = "whsec_AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=";

pub fn memory(process: u32, line: &str) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let found = status.lines().find_map(|status| status.strip_prefix(line)?.strip_prefix(':'))?;
    Some(found.trim().trim_end_matches(" kB").parse::<f64>().ok()? / 1024.0)
}
