//! `ringback secret new`: a fresh signing secret. An existing one is never printed and never replaced.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use clap::Subcommand;

use super::exit::{Exit, Failure, Outcome};
use super::output::{Format, Out};

#[derive(Subcommand, Clone, Debug, PartialEq)]
pub enum Command {
    /// Make a signing secret: `whsec_` and 32 random bytes
    New {
        /// Write it here, readable by you alone, instead of printing it
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
}

pub fn run(command: &Command, out: &mut Out) -> Outcome {
    let Command::New { file } = command;
    let secret = fresh()?;
    match file {
        Some(path) => {
            store(path, &secret)?;
            out.remark(format!("a new secret is in {} (mode 0600)", path.display()));
        }
        None if out.format != Format::Table => out.json(&serde_json::json!({ "secret": secret }))?,
        None => out.line(secret)?,
    }
    Ok(Exit::Done)
}

/// `whsec_` and the base64 of 32 bytes from the system's random source.
pub fn fresh() -> Result<String, Failure> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)
        .map_err(|error| Failure::new(Exit::Failed, format!("the system gives no random bytes: {error}")))?;
    Ok(format!("whsec_{}", base64::engine::general_purpose::STANDARD.encode(bytes)))
}

fn store(path: &Path, secret: &str) -> Result<(), Failure> {
    let mut file =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(|error| {
            let failure = Failure::new(Exit::Failed, format!("{}: cannot be made: {error}", path.display()));
            match error.kind() {
                std::io::ErrorKind::AlreadyExists => {
                    failure.help("an existing secret is not overwritten; choose another name")
                }
                _ => failure,
            }
        })?;
    writeln!(file, "{secret}")?;
    file.sync_all()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::output::capture;
    use super::*;

    #[test]
    fn a_secret_is_long_random_and_of_the_form_that_handlers_expect() {
        let (one, other) = (fresh().expect("a secret"), fresh().expect("a secret"));
        assert_ne!(one, other);
        let text = one.strip_prefix("whsec_").expect("the prefix");
        assert_eq!(base64::engine::general_purpose::STANDARD.decode(text).expect("base64").len(), 32);
    }

    #[test]
    fn in_a_file_it_is_for_its_owner_alone_and_never_overwrites() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("billing.whsec");
        let (mut out, captured) = capture::out(Format::Table);
        let command = Command::New { file: Some(path.clone()) };
        assert_eq!(run(&command, &mut out), Ok(Exit::Done));
        let first = std::fs::read_to_string(&path).expect("written");
        assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        assert_eq!(run(&command, &mut out).expect_err("it is there").exit, Exit::Failed);
        assert_eq!(std::fs::read_to_string(&path).expect("still there"), first);
        assert_eq!(captured.text(), "", "a stored secret is not shown");
    }
}
