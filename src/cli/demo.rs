//! `ringback demo`: the whole thing at work, without a file and without the internet.

use clap::Args;

use super::exit::{Exit, Failure, Outcome};
use super::output::Out;
use super::secret;
use crate::demo;

#[derive(Args, Clone, Debug, PartialEq)]
pub struct Command {
    /// End after so many seconds; without it, go on until Ctrl-C
    #[arg(long, value_name = "N")]
    pub seconds: Option<u64>,
    /// Decides what the made-up bank does; without it, by chance
    #[arg(long)]
    pub seed: Option<u64>,
}

/// Exit 0 only when nothing was lost or doubled.
pub async fn run(command: &Command, out: &Out) -> Outcome {
    let seed = command.seed.unwrap_or_else(|| u64::from(std::process::id()));
    let options = demo::Options { seconds: command.seconds, seed, secret: secret::fresh()? };
    let verdict = demo::run(options).await.map_err(|error| Failure::new(Exit::Failed, format!("{error:#}")))?;
    if verdict.good() {
        return Ok(Exit::Done);
    }
    out.remark(format!("this run again: ringback demo --seed {seed}"));
    Ok(Exit::Failed)
}
