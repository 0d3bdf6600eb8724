//! A local command as a handler: the body on its standard input, the headers in its environment, its exit code as the answer. No shell
//! reads anything; the command and what it started end with its time.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use bytes::Bytes;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use super::Handler;
use crate::client::Outgoing;
use crate::store::ClaimedDelivery;

/// What a command keeps of the daemon's own environment: nothing that may hold a secret.
const KEPT: [&str; 6] = ["PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR"];
/// How long the output may stay open after the command's own end: by children that it left behind.
const AFTER_END: Duration = Duration::from_secs(1);

/// How a command ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    Exit(i32),
    Signal(i32),
    /// It was still running at its time limit.
    Late,
    NotStarted(String),
}

pub struct Run {
    pub ended: Ended,
    /// The start of what it wrote, its errors after the rest.
    pub output: Bytes,
}

/// The environment of one attempt, beside [`KEPT`].
pub fn variables(handler: &Handler, delivery: &ClaimedDelivery, request: &Outgoing) -> Vec<(String, String)> {
    let event = &delivery.event;
    let mut variables = vec![
        ("RINGBACK_ID".to_owned(), event.id.to_string()),
        ("RINGBACK_TYPE".to_owned(), event.event_type.clone()),
        ("RINGBACK_SOURCE".to_owned(), event.stream.source.to_string()),
        ("RINGBACK_STREAM".to_owned(), event.stream.stream.to_string()),
        ("RINGBACK_KEY".to_owned(), event.key.to_string()),
        ("RINGBACK_REVISION".to_owned(), event.revision.to_string()),
        ("RINGBACK_HANDLER".to_owned(), handler.config.name.to_string()),
        ("RINGBACK_ATTEMPT".to_owned(), (delivery.attempts + 1).to_string()),
    ];
    for (name, value) in &request.headers {
        let name = match name.as_str() {
            "webhook-id" => continue,
            "webhook-timestamp" => "RINGBACK_TIMESTAMP".to_owned(),
            "webhook-signature" => "RINGBACK_SIGNATURE".to_owned(),
            "ringback-replay" => "RINGBACK_REPLAY".to_owned(),
            other => format!(
                "RINGBACK_HEADER_{}",
                other.to_ascii_uppercase().replace(|c: char| !c.is_ascii_alphanumeric(), "_")
            ),
        };
        variables.push((name, String::from_utf8_lossy(value.as_bytes()).into_owned()));
    }
    // A key of the provider's may hold any character; an environment cannot hold this one.
    variables.iter_mut().for_each(|(_, value)| value.retain(|c| c != '\0'));
    variables
}

/// Runs a command to its end, or kills it and what it started.
pub async fn run(
    words: &[String],
    variables: Vec<(String, String)>,
    input: Bytes,
    limit: Duration,
    output_max: usize,
) -> Run {
    let not_started = |reason: String| Run { ended: Ended::NotStarted(reason), output: Bytes::new() };
    let Some((program, arguments)) = words.split_first() else { return not_started("no program is named".into()) };
    let mut command = Command::new(program);
    command.args(arguments).env_clear().envs(KEPT.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    command.envs(variables).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // A group of its own: what it starts can be ended with it.
    command.process_group(0).kill_on_drop(true);
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return not_started(error.to_string()),
    };
    // Also ends the group when this attempt is dropped, as at a stop of the daemon.
    let mut group = Group::of(&child);
    let (mut out, mut errors) = (Kept::new(output_max), Kept::new(output_max));
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let feeding = async {
        if let Some(mut stdin) = stdin {
            // A command that ends without reading everything has said by its exit code what it thinks of that.
            let _ = stdin.write_all(&input).await;
        }
    };
    let reading = async { tokio::join!(out.read(stdout), errors.read(stderr)) };
    let ended = tokio::time::timeout(limit, working(&mut child, feeding, reading, &mut group)).await;
    drop(group);
    let ended = match ended {
        Ok(Ok(status)) => how(status),
        Ok(Err(error)) => Ended::NotStarted(error.to_string()),
        Err(_) => {
            let _ = child.wait().await;
            Ended::Late
        }
    };
    out.bytes.extend_from_slice(&errors.bytes);
    out.bytes.truncate(output_max);
    Run { ended, output: out.bytes.into() }
}

async fn working(
    child: &mut Child,
    feeding: impl Future<Output = ()>,
    reading: impl Future<Output = ((), ())>,
    group: &mut Group,
) -> std::io::Result<ExitStatus> {
    tokio::pin!(feeding, reading);
    let (mut fed, mut read) = (false, false);
    let status = loop {
        tokio::select! {
            status = child.wait() => break status?,
            () = &mut feeding, if !fed => fed = true,
            _ = &mut reading, if !read => read = true,
        }
    };
    if read || tokio::time::timeout(AFTER_END, &mut reading).await.is_ok() {
        // Nothing of the group holds our pipes any more, and its number may soon be another's.
        group.0 = None;
    }
    Ok(status)
}

fn how(status: ExitStatus) -> Ended {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.code(), status.signal()) {
        (Some(code), _) => Ended::Exit(code),
        (None, signal) => Ended::Signal(signal.unwrap_or(0)),
    }
}

/// A process group that is killed when it is let go.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Group {
        Group(child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// The start of an output; the rest is read and dropped, so that nobody waits at a full pipe.
struct Kept {
    bytes: Vec<u8>,
    max: usize,
}

impl Kept {
    fn new(max: usize) -> Kept {
        Kept { bytes: Vec::new(), max }
    }

    async fn read(&mut self, pipe: Option<impl AsyncRead + Unpin>) {
        let Some(mut pipe) = pipe else { return };
        let mut chunk = vec![0; 8 << 10];
        while let Ok(count @ 1..) = pipe.read(&mut chunk).await {
            let room = self.max.saturating_sub(self.bytes.len());
            self.bytes.extend_from_slice(&chunk[..count.min(room)]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn shell(script: &str, input: &'static [u8], limit_ms: u64) -> Run {
        let words = ["/bin/sh", "-c", script].map(str::to_owned);
        let variables = vec![("RINGBACK_ID".to_owned(), "evt_1".to_owned())];
        run(&words, variables, Bytes::from_static(input), Duration::from_millis(limit_ms), 64).await
    }

    #[tokio::test]
    async fn the_body_comes_in_the_id_is_in_the_environment_and_the_exit_code_answers() {
        let ran = shell("cat; printf %s \" $RINGBACK_ID\"", b"hello", 5_000).await;
        assert_eq!((ran.ended, &ran.output[..]), (Ended::Exit(0), &b"hello evt_1"[..]));
        assert_eq!(shell("exit 75", b"", 5_000).await.ended, Ended::Exit(75));
        assert_eq!(shell("kill -9 $$", b"", 5_000).await.ended, Ended::Signal(9));
        let ran = shell("echo wrong >&2; exit 3", b"", 5_000).await;
        assert_eq!((ran.ended, &ran.output[..]), (Ended::Exit(3), &b"wrong\n"[..]));
    }

    #[tokio::test]
    async fn one_that_reads_nothing_and_one_that_says_too_much_end_as_ever() {
        static LARGE: [u8; 1 << 20] = [b'x'; 1 << 20];
        assert_eq!(shell("exit 0", &LARGE, 5_000).await.ended, Ended::Exit(0));
        let ran = shell("head -c 1000000 /dev/zero", b"", 5_000).await;
        assert_eq!((ran.ended, ran.output.len()), (Ended::Exit(0), 64));
    }

    #[tokio::test]
    async fn the_time_limit_ends_the_whole_group() {
        let folder = tempfile::tempdir().expect("a folder");
        let mark = folder.path().join("pid");
        let script = format!("sleep 600 & echo $! > {}; wait", mark.display());
        assert_eq!(shell(&script, b"", 1_000).await.ended, Ended::Late);
        let child: i32 = std::fs::read_to_string(&mark).expect("it began").trim().parse().expect("a number");
        let gone = async {
            // A killed child of a killed parent is reaped by the system's first process, if that one reaps.
            let state = || std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
            while !state().is_empty() && !state().contains(") Z ") {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), gone).await.expect("what it started is ended too");
    }

    #[tokio::test]
    async fn no_shell_and_nothing_of_the_daemons_environment() {
        let words = ["/usr/bin/env".to_owned()];
        let ran = run(&words, Vec::new(), Bytes::new(), Duration::from_secs(5), 4096).await;
        let text = String::from_utf8_lossy(&ran.output).into_owned();
        assert!(!text.contains("CARGO"), "{text}");
        let words = ["/no/such/program".to_owned()];
        let ran = run(&words, Vec::new(), Bytes::new(), Duration::from_secs(5), 64).await;
        assert!(matches!(ran.ended, Ended::NotStarted(_)));
        let words = ["/bin/echo".to_owned(), "$(id) `id` ;".to_owned()];
        let ran = run(&words, Vec::new(), Bytes::new(), Duration::from_secs(5), 64).await;
        assert_eq!(&ran.output[..], b"$(id) `id` ;\n");
    }
}
