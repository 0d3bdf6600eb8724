//! How a command ends: its exit code, and what is said on stderr when it could not do its work.

use std::io;
use std::process::ExitCode;

use crate::shape::{self, Fault};
use crate::store::StoreError;
use crate::store::sqlite::OpenError;

/// Exit codes, the same for all commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Done = 0,
    /// It ran, and something failed: a poll, a delivery, a test; `status` found a problem.
    Failed = 1,
    /// Wrong command line.
    Usage = 2,
    /// Done, with findings: warnings under `--strict`.
    Findings = 3,
    /// Nothing matched: unknown event, source, handler.
    Nothing = 4,
    /// The daemon cannot be reached and the command needs it.
    Unreachable = 69,
    /// For the moment: database busy, disk full. Try again.
    Temporary = 75,
    /// The configuration is wrong.
    Configuration = 78,
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// Why a command stopped.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    pub exit: Exit,
    /// Empty: there is nothing to say (whoever read us has gone).
    pub message: String,
    pub help: Option<String>,
}

pub type Outcome = Result<Exit, Failure>;

impl Failure {
    pub fn new(exit: Exit, message: impl Into<String>) -> Failure {
        Failure { exit, message: message.into(), help: None }
    }

    pub fn help(mut self, help: impl Into<String>) -> Failure {
        self.help = Some(help.into());
        self
    }

    pub fn usage(message: impl Into<String>) -> Failure {
        Failure::new(Exit::Usage, message)
    }

    /// All faults of a configuration or provider file, each with its line.
    pub fn faults(faults: &[Fault], color: bool) -> Failure {
        let pictures = shape::render(faults, color);
        Failure::new(Exit::Configuration, pictures.trim_end())
    }

    /// As it stands on stderr.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Pictures of faults begin with their own word and follow one another.
        if self.exit != Exit::Configuration || !self.message.contains("error") {
            text.push_str("error: ");
        }
        text.push_str(&self.message);
        if let Some(help) = &self.help {
            text.push_str("\n  = help: ");
            text.push_str(help);
        }
        text
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        match error.kind() {
            // `ringback status | head`: the reader has seen enough.
            io::ErrorKind::BrokenPipe => Failure::new(Exit::Done, ""),
            io::ErrorKind::StorageFull => Failure::new(Exit::Temporary, format!("could not write: {error}")),
            _ => Failure::new(Exit::Failed, format!("could not write: {error}")),
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Failure {
        let exit = match &error {
            StoreError::Busy(_) | StoreError::Conflict | StoreError::Stale => Exit::Temporary,
            StoreError::Broken(_) => Exit::Failed,
        };
        Failure::new(exit, error.to_string())
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Failure {
        let exit = match &error {
            OpenError::Refused(_) => Exit::Configuration,
            OpenError::Temporary(_) => Exit::Temporary,
        };
        Failure::new(exit, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codes_are_the_documented_ones() {
        let codes = [
            (Exit::Done, 0),
            (Exit::Failed, 1),
            (Exit::Usage, 2),
            (Exit::Findings, 3),
            (Exit::Nothing, 4),
            (Exit::Unreachable, 69),
            (Exit::Temporary, 75),
            (Exit::Configuration, 78),
            (Exit::Interrupted, 130),
        ];
        for (exit, code) in codes {
            assert_eq!(exit as u8, code);
        }
    }

    #[test]
    fn a_reader_that_went_away_is_no_failure() {
        let gone = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!((gone.exit, gone.message.as_str()), (Exit::Done, ""));
    }

    #[test]
    fn a_failure_says_what_to_do() {
        let failure = Failure::new(Exit::Unreachable, "no daemon answers").help("start it");
        assert_eq!(failure.text(), "error: no daemon answers\n  = help: start it");
    }
}
