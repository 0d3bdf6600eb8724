//! `ringback run`: the daemon in the foreground, as systemd starts it.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::{Exit, Global};
use crate::app::{self, End};
use crate::config::{self, LogFormat};

/// Runs the daemon until it is told to stop.
pub async fn run(global: &Global) -> anyhow::Result<Exit> {
    let path = global.config();
    // What the configuration says of logging holds from the first line on; its faults are reported by the daemon itself.
    let (level, format) = match config::load(&path) {
        Ok((config, _)) => (config.log.level, config.log.format),
        Err(_) => ("info".to_owned(), LogFormat::Auto),
    };
    let level = match global.verbose {
        0 if global.quiet => "warn".to_owned(),
        0 => level,
        1 => "debug".to_owned(),
        _ => "trace".to_owned(),
    };
    start_logging(&level, format, global.color());
    Ok(match app::run(&path, global.color()).await? {
        End::Stopped => Exit::Done,
        End::Configuration => Exit::Configuration,
        End::Store => Exit::Temporary,
    })
}

/// To the journal where it is connected, as text on a terminal, else as JSON lines; always on stderr.
fn start_logging(level: &str, format: LogFormat, color: bool) {
    let filter = EnvFilter::try_new(level).unwrap_or_else(|_| EnvFilter::new("info"));
    let journal = std::env::var_os("JOURNAL_STREAM").is_some();
    let format = match format {
        LogFormat::Auto if journal => LogFormat::Journald,
        LogFormat::Auto if std::io::stderr().is_terminal() => LogFormat::Text,
        LogFormat::Auto => LogFormat::Json,
        given => given,
    };
    let registry = tracing_subscriber::registry().with(filter);
    let text = || tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(color);
    // A second start of logging in one process (tests) is no fault.
    let started = match format {
        LogFormat::Journald => match tracing_journald::layer() {
            Ok(layer) => registry.with(layer.with_field_prefix(Some("RINGBACK".into()))).try_init(),
            Err(_) => registry.with(text()).try_init(),
        },
        LogFormat::Json => {
            registry.with(tracing_subscriber::fmt::layer().json().with_writer(std::io::stderr)).try_init()
        }
        LogFormat::Text | LogFormat::Auto => registry.with(text()).try_init(),
    };
    if let Err(error) = started {
        eprintln!("warning: logging was not started: {error}");
    }
}
