//! The program: parse arguments, start logging, run a command, map its end to an exit code.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use ringback::app::{self, End};
use ringback::demo;

#[derive(Parser)]
#[command(name = "ringback", version, about)]
struct Arguments {
    /// The configuration file.
    #[arg(short, long, global = true, default_value = "config.toml", env = "RINGBACK_CONFIG")]
    config: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show the whole thing at work, with no file and no internet.
    Demo {
        /// End after so many seconds; without it, go on until Ctrl-C.
        #[arg(long)]
        seconds: Option<u64>,
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Run the daemon in the foreground.
    Run,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter("info").init();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: the runtime cannot be started: {error}");
            return ExitCode::from(75);
        }
    };
    let code = runtime.block_on(async {
        match arguments.command {
            Command::Demo { seconds, seed } => {
                let secret = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD".to_owned();
                demo::run(demo::Options { seconds, seed, secret })
                    .await
                    .map(|verdict| if verdict.good() { 0 } else { 1 })
            }
            Command::Run => app::run(&arguments.config, false).await.map(|end| match end {
                End::Stopped => 0,
                End::Configuration => 78,
                End::Store => 75,
            }),
        }
    });
    match code {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(1)
        }
    }
}
