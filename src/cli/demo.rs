//! `ringback demo`: the whole thing at work, without a file and without the internet.

use clap::Args;

use super::exit::{Exit, Failure, Outcome};
use super::secret;
use crate::demo;

#[derive(Args, Clone, Debug, Default, PartialEq)]
pub struct Command {
    /// End after so many seconds; without it, go on until Ctrl-C
    #[arg(long)]
    seconds: Option<u64>,
    /// Decides what the made-up bank does; without it, chance does
    #[arg(long)]
    seed: Option<u64>,
}

/// Runs the demo; 0 only when nothing was lost or doubled.
pub async fn run(command: &Command) -> Outcome {
    let seed = command.seed.unwrap_or_else(|| u64::from(std::process::id()));
    let options = demo::Options { seconds: command.seconds, seed, secret: secret::fresh()? };
    match demo::run(options).await {
        Ok(verdict) if verdict.good() => Ok(Exit::Done),
        Ok(_) => Err(Failure::new(Exit::Failed, "the demo lost or doubled something")
            .help(format!("the same again: ringback demo --seed {seed}"))),
        Err(error) => Err(Failure::new(Exit::Failed, format!("{error:#}"))),
    }
}
