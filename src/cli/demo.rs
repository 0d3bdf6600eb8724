//! `ringback demo`.

use super::{Exit, secret};
use crate::demo;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// End after so many seconds; without it, go on until Ctrl-C.
    #[arg(long)]
    seconds: Option<u64>,
    /// Decides what the made-up bank does; default: by chance, and printed.
    #[arg(long)]
    seed: Option<u64>,
}

/// Runs the demo; 0 only when nothing was lost or doubled.
pub async fn run(args: Args) -> anyhow::Result<Exit> {
    let seed = args.seed.unwrap_or_else(|| u64::from(std::process::id()));
    let options = demo::Options { seconds: args.seconds, seed, secret: secret::fresh()? };
    let verdict = demo::run(options).await?;
    if verdict.good() {
        return Ok(Exit::Done);
    }
    eprintln!("this run again: ringback demo --seed {seed}");
    Ok(Exit::Failed)
}
