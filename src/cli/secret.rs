//! `ringback secret new`: a fresh signing secret; existing ones are never printed.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use anyhow::Context as _;
use base64::Engine as _;

use super::{Exit, line};

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// A new Standard Webhooks secret: `whsec_` and 32 random bytes.
    New {
        /// Write it to a new file with mode 0600 instead of stdout.
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
}

pub fn run(command: &Command) -> anyhow::Result<Exit> {
    let Command::New { file } = command;
    let secret = fresh()?;
    match file {
        None => line(secret),
        Some(path) => {
            let mut options = std::fs::OpenOptions::new();
            let created = options.write(true).create_new(true).mode(0o600).open(path);
            let mut file = created.with_context(|| format!("make {}: it must not exist yet", path.display()))?;
            writeln!(file, "{secret}")?;
            file.sync_all()?;
            eprintln!("written to {}", path.display());
        }
    }
    Ok(Exit::Done)
}

/// `whsec_` and 32 random bytes in base64.
pub fn fresh() -> anyhow::Result<String> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("the system gives no random bytes: {error}"))?;
    Ok(format!("whsec_{}", base64::engine::general_purpose::STANDARD.encode(bytes)))
}
