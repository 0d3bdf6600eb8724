//! `ringback version`: which program this is and for which machine.

use serde::Serialize;

use super::exit::{Exit, Outcome};
use super::output::{Format, Out};

#[derive(Serialize)]
struct Version {
    name: &'static str,
    version: &'static str,
    target: String,
}

pub fn run(out: &mut Out) -> Outcome {
    let version = Version {
        name: env!("CARGO_PKG_NAME"),
        version: env!("CARGO_PKG_VERSION"),
        target: format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
    };
    match out.format {
        Format::Json | Format::Jsonl => out.json(&version)?,
        Format::Table => {
            out.line(format!("ringback {} ({})", version.version, version.target))?;
        }
    }
    Ok(Exit::Done)
}
