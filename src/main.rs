//! The program: reads the command line and hands over; the command says with which code to end.

use std::process::ExitCode;

use clap::Parser;
use ringback::cli::{self, Cli};

fn main() -> ExitCode {
    cli::main(Cli::parse())
}
