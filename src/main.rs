//! The program. Everything it does is in the library; see `cli`.

fn main() -> std::process::ExitCode {
    ringback::cli::main()
}
