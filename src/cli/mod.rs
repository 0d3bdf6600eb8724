//! The command line: one file for each command, one structure of arguments, one list of exit codes.

mod check;
mod demo;
mod provider;
mod run;
mod secret;
mod sign;
mod verify;

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand, ValueEnum};

use crate::shape::{Fault, Level, render};

/// Turns any API into webhooks: polls, compares, and sends signed events, every change once, in order, none lost.
#[derive(Debug, Parser)]
#[command(name = "ringback", version, about, max_term_width = 110)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Flags of every command.
#[derive(Clone, Debug, clap::Args)]
pub struct Global {
    /// The configuration; default: ./config.toml, then /etc/ringback/config.toml.
    #[arg(short, long, global = true, env = "RINGBACK_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// The daemon's control socket; default: what the configuration says.
    #[arg(long, global = true, env = "RINGBACK_SOCKET", value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// How results are written to stdout.
    #[arg(short, long, global = true, env = "RINGBACK_OUTPUT", value_enum, default_value_t = Output::Table)]
    pub output: Output,
    #[arg(long, global = true, env = "RINGBACK_COLOR", value_enum, default_value_t = Color::Auto)]
    color: Color,
    /// Say more; repeat for still more.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Say less.
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Show times in UTC instead of local time.
    #[arg(long, global = true, env = "RINGBACK_UTC")]
    pub utc: bool,
    /// Answer yes where a command would ask.
    #[arg(short, long, global = true)]
    pub yes: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    Table,
    Json,
    Jsonl,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Color {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the whole thing at work: a made-up bank, the daemon, a handler. No file, no internet.
    Demo(demo::Args),
    /// Run the daemon in the foreground.
    Run,
    /// Is the configuration right? Needs neither network nor secret values.
    #[command(alias = "validate")]
    Check(check::Args),
    /// Providers: the built-in catalogue, and your own files.
    #[command(subcommand)]
    Provider(provider::Command),
    /// Make a signature by hand.
    Sign(sign::Args),
    /// Check the signature of a real webhook by hand.
    Verify(verify::Args),
    /// Signing secrets for handlers.
    #[command(subcommand)]
    Secret(secret::Command),
    /// Completions for a shell, to stdout.
    Completions { shell: clap_complete::Shell },
    /// The version of this program.
    Version,
}

/// How a command ended: its exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Done,
    /// Ran, but something failed.
    Failed,
    Usage,
    /// Done with findings.
    Findings,
    /// Nothing matched.
    Nothing,
    /// The daemon cannot be reached and the command needs it.
    Unreachable,
    /// Database busy, disk full: try again.
    Temporary,
    /// The configuration is wrong.
    Configuration,
    Interrupted,
}

impl Exit {
    pub fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Findings => 3,
            Exit::Nothing => 4,
            Exit::Unreachable => 69,
            Exit::Temporary => 75,
            Exit::Configuration => 78,
            Exit::Interrupted => 130,
        }
    }
}

impl Global {
    /// The configuration file to read.
    pub fn config(&self) -> PathBuf {
        match &self.config {
            Some(path) => path.clone(),
            None => {
                let (here, system) = (PathBuf::from("config.toml"), PathBuf::from("/etc/ringback/config.toml"));
                if !here.exists() && system.exists() { system } else { here }
            }
        }
    }

    /// Whether stderr is written in colour.
    pub fn color(&self) -> bool {
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty() && value != "0");
        match self.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto if set("NO_COLOR") => false,
            Color::Auto => set("CLICOLOR_FORCE") || std::io::stderr().is_terminal(),
        }
    }

    /// Prints faults as a person reads them; what they mean for the command.
    pub fn show(&self, faults: &[Fault]) -> Exit {
        eprint!("{}", render(faults, self.color()));
        let errors = faults.iter().filter(|fault| fault.level == Level::Error).count();
        if errors > 0 { Exit::Configuration } else { Exit::Done }
    }
}

/// Writes a line to stdout. A reader that has gone away (`| head`) is no error of ours.
pub fn line(text: impl std::fmt::Display) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Parses the arguments and runs the command.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: the runtime cannot be started: {error}");
            return ExitCode::from(Exit::Temporary.code());
        }
    };
    match runtime.block_on(command(cli)) {
        Ok(exit) => ExitCode::from(exit.code()),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(Exit::Failed.code())
        }
    }
}

async fn command(cli: Cli) -> anyhow::Result<Exit> {
    let global = &cli.global;
    match cli.command {
        Command::Demo(args) => demo::run(args).await,
        Command::Run => run::run(global).await,
        Command::Check(args) => Ok(check::run(&args, global)),
        Command::Provider(command) => provider::run(command, global).await,
        Command::Sign(args) => sign::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Secret(command) => secret::run(&command),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "ringback", &mut std::io::stdout());
            Ok(Exit::Done)
        }
        Command::Version => {
            match global.output {
                Output::Table => line(format!("ringback {}", env!("CARGO_PKG_VERSION"))),
                Output::Json | Output::Jsonl => line(serde_json::json!({ "version": env!("CARGO_PKG_VERSION") })),
            }
            Ok(Exit::Done)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_put_together_without_contradiction() {
        Cli::command().debug_assert();
    }
}
