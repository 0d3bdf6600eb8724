//! The command line: one file per command. Data goes to stdout, everything else to stderr; exit codes are in [`Exit`].

mod check;
mod demo;
mod event;
mod exit;
mod filter;
mod handler;
mod listen;
pub mod logging;
mod output;
mod poll;
mod problem;
mod provider;
mod reach;
mod reload;
mod replay;
mod run;
mod scheme;
mod secret;
mod sign;
mod simulate;
mod source;
mod status;
mod tail;
mod trigger;
mod verify;
mod version;
mod why;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::FalseyValueParser;
use clap::{ArgAction, Args, CommandFactory, Parser, Subcommand};

use crate::clock::Clock;
use crate::config::LogFormat;
pub use exit::{Exit, Failure, Outcome};
pub use output::{Color, Format, Out};
pub use reach::{DATABASE, config_path};

/// Turns any API into webhooks: polls, compares, and sends signed events, every change once, in order, none lost.
#[derive(Parser, Clone, Debug)]
#[command(name = "ringback", version, propagate_version = true, arg_required_else_help = true, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// Flags that every command takes.
#[derive(Args, Clone, Debug, Default, PartialEq)]
#[command(next_help_heading = "Everywhere")]
pub struct Global {
    /// The configuration; without it ./config.toml, then /etc/ringback/config.toml
    #[arg(short, long, global = true, value_name = "FILE", env = "RINGBACK_CONFIG", hide_env_values = true)]
    pub config: Option<PathBuf>,
    /// The daemon's control socket or http:// address; without it as the configuration says
    #[arg(long, global = true, value_name = "PATH|URL", env = "RINGBACK_SOCKET", hide_env_values = true)]
    pub socket: Option<String>,
    /// How data is written
    #[arg(short, long, global = true, value_enum, default_value_t, env = "RINGBACK_OUTPUT", hide_env_values = true)]
    pub output: Format,
    /// Colour; `auto` heeds NO_COLOR and CLICOLOR_FORCE
    #[arg(long, global = true, value_enum, default_value_t, env = "RINGBACK_COLOR", hide_env_values = true)]
    pub color: Color,
    /// Say nothing but data and errors
    #[arg(short, long, global = true, env = "RINGBACK_QUIET", value_parser = FalseyValueParser::new(), hide_env_values = true)]
    pub quiet: bool,
    /// Say more; again for still more
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
    /// Times in UTC instead of local time
    #[arg(long, global = true, env = "RINGBACK_UTC", value_parser = FalseyValueParser::new(), hide_env_values = true)]
    pub utc: bool,
    /// Ask nothing, answer yes
    #[arg(short, long, global = true, env = "RINGBACK_YES", value_parser = FalseyValueParser::new(), hide_env_values = true)]
    pub yes: bool,
}

#[derive(Subcommand, Clone, Debug)]
pub enum Command {
    /// The whole thing at work: a made-up bank, the daemon, a handler; no file, no internet
    Demo(demo::Command),
    /// The daemon in the foreground
    Run,
    /// Is the configuration right? Every fault at once, with file, line and remedy
    #[command(visible_alias = "validate")]
    Check(check::Command),
    /// One screen: problems, streams, handlers; exit 1 when something is wrong
    Status,
    /// Attempts as lines, as they happen
    Tail(tail::Command),
    /// Events: what changed and what became of it
    #[command(subcommand)]
    Event(event::Command),
    /// Look at a stream now
    Poll(poll::Command),
    /// Send stored events again, under their old ids
    #[command(visible_alias = "resend")]
    Replay(replay::Command),
    /// Streams and how their polls go
    #[command(subcommand)]
    Source(source::Command),
    /// Who receives events, and what waits for them
    #[command(subcommand)]
    Handler(handler::Command),
    /// What needs a person
    #[command(subcommand)]
    Problem(problem::Command),
    /// Why was a record announced, or why not?
    Why(why::Command),
    /// Provider files, built in and your own
    #[command(subcommand)]
    Provider(provider::Command),
    /// Make an event up and send it to whoever subscribes, marked as a test
    Trigger(trigger::Command),
    /// Stand in for a handler: print events, check signatures
    Listen(listen::Command),
    /// Make the headers of a signed request
    Sign(sign::Command),
    /// Check a recorded request: is it signed, and if not, why
    Verify(verify::Command),
    /// Signing secrets
    #[command(subcommand)]
    Secret(secret::Command),
    /// Have the daemon read its configuration again, whole or not at all
    Reload,
    /// Play seeds through the simulator: the real parts in virtual time against a made-up provider
    #[command(hide = true)]
    Simulate(simulate::Command),
    /// Completions for a shell, on stdout
    Completions { shell: clap_complete::Shell },
    /// Which program this is
    Version,
}

/// Runs a command to its end and says on stderr why, when it failed.
pub fn main(cli: Cli) -> ExitCode {
    let global = &cli.global;
    let mut out = Out::stdout(global.output, global.color, global.utc, global.quiet, Clock::system().now());
    let outcome = log(&cli).and_then(|()| execute(&cli, &mut out));
    match outcome {
        Ok(exit) => exit.into(),
        Err(failure) => {
            if !failure.message.is_empty() {
                // A closed stderr is no reason to panic.
                let _ = writeln!(std::io::stderr(), "{}", failure.text());
            }
            failure.exit.into()
        }
    }
}

/// The log of commands: warnings as text. `run` starts its own, as the configuration says.
fn log(cli: &Cli) -> Result<(), Failure> {
    match cli.command {
        // A simulated daemon has much to warn of, and nobody needs to hear it.
        Command::Run | Command::Simulate(_) => Ok(()),
        _ => logging::start(logging::level(cli.global.verbose, cli.global.quiet), LogFormat::Text),
    }
}

fn execute(cli: &Cli, out: &mut Out) -> Outcome {
    let global = &cli.global;
    match &cli.command {
        Command::Demo(command) => wait(demo::run(command, out)),
        Command::Run => wait(run::run(global, out)),
        Command::Check(command) => check::run(command, global, out),
        Command::Provider(command) => wait(provider::run(command, &cli.global, out)),
        Command::Sign(command) => sign::run(command, out),
        Command::Verify(command) => verify::run(command, out),
        Command::Secret(command) => secret::run(command, out),
        Command::Completions { shell } => completions(*shell, out),
        Command::Version => version::run(out),
        Command::Simulate(command) => simulate::run(command, out),
        Command::Status => wait(status::run(global, out)),
        Command::Tail(command) => wait(tail::run(command, global, out)),
        Command::Event(command) => wait(event::run(command, global, out)),
        Command::Poll(command) => wait(poll::run(command, global, out)),
        Command::Replay(command) => wait(replay::run(command, global, out)),
        Command::Source(command) => wait(source::run(command, global, out)),
        Command::Handler(command) => wait(handler::run(command, global, out)),
        Command::Problem(command) => wait(problem::run(command, global, out)),
        Command::Why(command) => wait(why::run(command, global, out)),
        Command::Trigger(command) => wait(trigger::run(command, global, out)),
        Command::Listen(command) => wait(listen::run(command, out)),
        Command::Reload => wait(reload::run(global, out)),
    }
}

/// Runs what waits for others.
fn wait(work: impl Future<Output = Outcome>) -> Outcome {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(work)
}

fn completions(shell: clap_complete::Shell, out: &mut Out) -> Outcome {
    // Into memory first: the generator panics when its reader goes away.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "ringback", &mut script);
    out.line(String::from_utf8_lossy(&script).trim_end())?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::output::capture;
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn global_flags_stand_before_or_after_the_command() {
        for arguments in [
            ["ringback", "-c", "a.toml", "-o", "json", "--utc", "status"],
            ["ringback", "status", "-c", "a.toml", "-o", "json", "--utc"],
        ] {
            let cli = Cli::try_parse_from(arguments).expect("parsed");
            assert_eq!(cli.global.config, Some("a.toml".into()));
            assert_eq!((cli.global.output, cli.global.utc), (Format::Json, true));
        }
    }

    #[test]
    fn documented_command_lines_are_understood() {
        for line in [
            "demo --seconds 20 --seed 7",
            "run -c config.toml",
            "provider test providers/a.toml providers/b.toml",
            "check --strict -o json",
            "status",
            "tail -f -n 20 --source core --type payment.* --handler billing --when .attempt.status>=500",
            "tail --jq true",
            "event list --source core/payments --status failed --since 2h --limit 10",
            "event show evt_1 --payload",
            "event show evt_1 --attempts",
            "replay evt_1 evt_2 --dry-run",
            "replay --handler audit --status failed --since 2026-11-20T02:00 --rate 20/s",
            "poll core/payments --dry-run",
            "source pause core --reason maintenance",
            "handler show billing",
            "problem ack auth.failed core",
            "problem approve deletes.held core/customers",
            "problem reject changes.held core/customers",
            "problem retry record.unreadable core/payments",
            "source reset core --dry-run",
            "source backfill core/payments --from 2026-01-01 --dry-run",
            "why core/payments P-88107",
            "provider show core-banking",
            "sign --secret-file s --body b --at 1700000000",
            "verify --provider core-banking --scheme s --request r.json --secret-file a --secret-file b --setting k=v --at 1700000000 --tolerance 5m",
            "verify --provider x.toml --request r.json --public-key-file p",
            "secret new --file billing.whsec",
            "listen --port 9000 --secret billing.whsec",
            "listen --port 0 --secret-file billing.whsec --answer flaky",
            "completions bash",
            "version -o json",
            "reload",
            "simulate --seed 7 --runs 1000 --steps 100",
        ] {
            let arguments = std::iter::once("ringback").chain(line.split(' '));
            Cli::try_parse_from(arguments).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }

    #[test]
    fn wrong_command_lines_end_with_code_2() {
        for line in [
            "stauts",
            "event show",
            "replay --rate 20",
            "tail --when )",
            "event list --status stuck",
            "listen --answer 418",
        ] {
            let arguments = std::iter::once("ringback").chain(line.split(' '));
            assert_eq!(Cli::try_parse_from(arguments).expect_err(line).exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn completions_know_the_commands() {
        let (mut out, captured) = capture::out(Format::Table);
        assert_eq!(completions(clap_complete::Shell::Bash, &mut out), Ok(Exit::Done));
        assert!(captured.text().contains("ringback__subcmd__replay") || captured.text().contains("replay"));
    }
}
