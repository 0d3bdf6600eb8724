//! `ringback run`: the daemon in the foreground, as systemd starts it.

use super::exit::{Exit, Failure, Outcome};
use super::output::Out;
use super::reach::config_path;
use super::{Global, logging};
use crate::app::{self, End};
use crate::config::{self, LogFormat};

pub async fn run(global: &Global, out: &Out) -> Outcome {
    let path = config_path(global);
    // What the configuration says of logging holds from the first line on; its faults are reported by the daemon itself.
    let (level, format) = match config::load(&path) {
        Ok((config, _)) => (config.log.level, config.log.format),
        Err(_) => ("info".to_owned(), LogFormat::Auto),
    };
    let level = match (global.quiet, global.verbose) {
        (false, 0) => level,
        // A daemon that is told to say more says more than a command that is.
        (quiet, verbose) => logging::level(if quiet { 0 } else { verbose.saturating_add(1) }, quiet).to_owned(),
    };
    logging::start(&level, format)?;
    match app::run(&path, out.color).await {
        Ok(End::Stopped) => Ok(Exit::Done),
        Ok(End::Configuration) => Ok(Exit::Configuration),
        Ok(End::Store) => Ok(Exit::Temporary),
        Err(error) => Err(Failure::new(Exit::Failed, format!("{error:#}"))),
    }
}
