//! Where the log goes: to the journal with its fields when systemd listens, as text on a terminal, else as JSON lines; always
//! on stderr, never with bodies, headers or secrets.

use std::io::IsTerminal;
use std::os::unix::fs::MetadataExt;

use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::exit::{Exit, Failure};
use crate::config::LogFormat;

/// Starts the log. `level` is a filter such as `info` or `info,ringback::poll=debug`.
pub fn start(level: &str, format: LogFormat) -> Result<(), Failure> {
    let wrong = |error: String| Failure::new(Exit::Configuration, format!("the log cannot be started: {error}"));
    let filter = EnvFilter::try_new(directives(level)).map_err(|error| wrong(format!("`{level}`: {error}")))?;
    let registry = tracing_subscriber::registry().with(filter);
    let color = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    match decide(format, journal_is_stderr(), std::io::stderr().is_terminal()) {
        LogFormat::Journald => {
            let journal = tracing_journald::layer()
                .map_err(|error| wrong(format!("the journal cannot be reached: {error}")))?
                .with_field_prefix(Some("RINGBACK".into()));
            registry.with(journal).try_init()
        }
        LogFormat::Json => {
            let lines = fmt::layer().json().flatten_event(true).with_current_span(false).with_span_list(false);
            registry.with(lines.with_writer(std::io::stderr)).try_init()
        }
        LogFormat::Auto | LogFormat::Text => {
            registry.with(fmt::layer().with_ansi(color).with_writer(std::io::stderr)).try_init()
        }
    }
    .map_err(|error| wrong(error.to_string()))
}

/// A bare level is meant for Ringback itself: libraries then tell warnings only.
fn directives(level: &str) -> String {
    match level.trim().to_ascii_lowercase().as_str() {
        // What a broker's library has to say stands in the attempts.
        word @ ("info" | "debug" | "trace") => format!("warn,async_nats=off,ringback={word}"),
        _ => level.to_owned(),
    }
}

fn decide(format: LogFormat, journal: bool, terminal: bool) -> LogFormat {
    match format {
        LogFormat::Auto if journal => LogFormat::Journald,
        LogFormat::Auto if terminal => LogFormat::Text,
        LogFormat::Auto => LogFormat::Json,
        given => given,
    }
}

/// Whether stderr is the journal's own stream: `JOURNAL_STREAM` names its device and inode, and is inherited by children whose
/// stderr is something else.
fn journal_is_stderr() -> bool {
    let Ok(named) = std::env::var("JOURNAL_STREAM") else { return false };
    let Ok(stderr) = std::fs::metadata("/proc/self/fd/2") else { return false };
    named == format!("{}:{}", stderr.dev(), stderr.ino())
}

/// The level for commands other than `run`: warnings, and more with each `-v`.
pub fn level(verbose: u8, quiet: bool) -> &'static str {
    match (quiet, verbose) {
        (true, _) => "error",
        (false, 0) => "warn",
        (false, 1) => "info",
        (false, 2) => "debug",
        (false, _) => "debug,ringback=trace",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_level_is_for_ringback_and_anything_else_is_taken_as_written() {
        for (level, want) in [
            ("info", "warn,async_nats=off,ringback=info"),
            ("Debug", "warn,async_nats=off,ringback=debug"),
            ("warn", "warn"),
            ("info,ringback::poll=debug", "info,ringback::poll=debug"),
        ] {
            assert_eq!(directives(level), want);
        }
    }

    #[test]
    fn the_log_goes_where_it_is_read() {
        assert_eq!(decide(LogFormat::Auto, true, false), LogFormat::Journald);
        assert_eq!(decide(LogFormat::Auto, false, true), LogFormat::Text);
        assert_eq!(decide(LogFormat::Auto, false, false), LogFormat::Json);
        assert_eq!(decide(LogFormat::Json, true, true), LogFormat::Json);
    }
}
