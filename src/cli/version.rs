//! `ringback version`: which program this is and what it was built with.

use serde::Serialize;

use super::exit::{Exit, Outcome};
use super::output::{Format, Out};

#[derive(Serialize)]
struct Version {
    name: &'static str,
    version: &'static str,
    sqlite: &'static str,
    target: String,
}

pub fn run(out: &mut Out) -> Outcome {
    let version = Version {
        name: env!("CARGO_PKG_NAME"),
        version: env!("CARGO_PKG_VERSION"),
        sqlite: rusqlite::version(),
        target: format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
    };
    match out.format {
        Format::Json | Format::Jsonl => out.json(&version)?,
        Format::Table => {
            out.line(format!("ringback {} ({}, SQLite {})", version.version, version.target, version.sqlite))?;
        }
    }
    Ok(Exit::Done)
}
