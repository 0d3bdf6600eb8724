//! The program with its files in a folder of its own: commands are run as a person types them, and a daemon may run beside them.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Only ends a failed test.
const LIMIT: Duration = Duration::from_secs(30);

pub struct Program {
    folder: tempfile::TempDir,
    daemon: Option<Child>,
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Program {
    pub fn new() -> Program {
        Program { folder: tempfile::tempdir().expect("a folder"), daemon: None }
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect("written");
    }

    /// The daemon's log.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Nothing of the machine's own settings decides what it does.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringback"));
        command.args(arguments).current_dir(self.folder()).stdin(Stdio::null()).env("RINGBACK_UTC", "1");
        let settings = ["RINGBACK_CONFIG", "RINGBACK_SOCKET", "RINGBACK_OUTPUT", "CLICOLOR_FORCE"];
        for name in settings.into_iter().chain(["NOTIFY_SOCKET", "RUNTIME_DIRECTORY"]) {
            command.env_remove(name);
        }
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("the program starts")
    }

    /// Stdout and stderr of a command that ends with this code.
    pub fn ends(&self, arguments: &[&str], code: i32) -> (String, String) {
        let output = self.run(arguments);
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        let log = self.log();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}\nstdout: {out}\nstderr: {err}\nlog: {log}");
        (out, err)
    }

    /// Stdout of a command that ends with 0.
    pub fn succeeds(&self, arguments: &[&str]) -> String {
        self.ends(arguments, 0).0
    }

    /// Starts the daemon, whose log goes on where that of the one before ended.
    pub fn start(&mut self) {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.path("log")).expect("a log");
        self.daemon = Some(self.command(&["run"]).stdout(Stdio::null()).stderr(log).spawn().expect("it starts"));
    }

    pub fn kill(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }

    /// Asks the daemon to end, as systemd does.
    pub fn stop(&mut self) -> Option<i32> {
        let mut daemon = self.daemon.take().expect("it runs");
        let kill = Command::new("kill").arg("-TERM").arg(daemon.id().to_string()).status();
        assert!(kill.is_ok_and(|status| status.success()));
        daemon.wait().expect("it ends").code()
    }

    /// A command's answer as JSON; null when it gives none.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let output = self.command(arguments).args(["-o", "json", "-q"]).output().expect("the program starts");
        serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
    }

    /// Asks until it is so. The daemon's own pace decides.
    pub fn until(&self, what: &str, arguments: &[&str], so: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + LIMIT;
        loop {
            let answer = self.json(arguments);
            if so(&answer) {
                return answer;
            }
            assert!(Instant::now() < deadline, "never: {what}\n{answer:#}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
