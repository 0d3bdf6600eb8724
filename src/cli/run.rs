//! `ringback run`: the daemon in the foreground, as systemd starts it.

use super::Global;
use super::exit::{Exit, Failure, Outcome};
use super::output::Out;
use super::{config_path, logging};
use crate::app::{self, End};
use crate::config::{self, LogFormat};

/// Runs the daemon until it is told to stop.
pub async fn run(global: &Global, out: &Out) -> Outcome {
    let path = config_path(global);
    // What the configuration says of logging holds from the first line on; its faults are reported by the daemon itself.
    let (level, format) = match config::load(&path) {
        Ok((config, _)) => (config.log.level, config.log.format),
        Err(_) => ("info".to_owned(), LogFormat::Auto),
    };
    let level = if global.verbose > 0 || global.quiet {
        logging::level(global.verbose, global.quiet).to_owned()
    } else {
        level
    };
    logging::start(&level, format)?;
    match app::run(&path, out.color).await {
        Ok(End::Stopped) => Ok(Exit::Done),
        Ok(End::Configuration) => Ok(Exit::Configuration),
        Ok(End::Store) => Ok(Exit::Temporary),
        Err(error) => Err(Failure::new(Exit::Failed, format!("{error:#}"))),
    }
}
