//! `ringback provider list|show|new|test|schema`: what a provider offers and needs, before it is configured; a first file for one that
//! is not there yet; and whether a file does what it says.

mod draft;
mod junit;

use std::io;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde::Serialize;
use serde_json::Value;

use super::Global;
use super::exit::{Exit, Failure, Outcome};
use super::output::{Field, Format, Out, Tone};
use super::scheme::find_provider;
use crate::provider::{self, Provider};
use crate::provider_test;

#[derive(Subcommand, Clone, Debug, PartialEq)]
pub enum Command {
    /// The built-in providers
    List,
    /// One provider: its streams, webhooks, secrets and settings
    Show {
        /// A built-in provider, or a provider file
        #[arg(value_name = "NAME|FILE")]
        name: String,
    },
    /// Write a commented first file from one real answer
    New(draft::New),
    /// Run the tests inside provider files, offline
    Test {
        /// Without one: all in ./providers
        #[arg(value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Write what they came to as JUnit XML, for build servers
        #[arg(long, value_name = "FILE")]
        junit: Option<PathBuf>,
    },
    /// The JSON Schema of provider files, for editors
    Schema,
}

/// What is shown of a provider with `-o json`.
#[derive(Debug, Serialize, PartialEq)]
struct Shown {
    name: String,
    title: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    notes: Option<String>,
    streams: Vec<ShownStream>,
    /// Schemes of its real webhooks.
    webhooks: Vec<String>,
    /// How to set up the webhook at the provider.
    #[serde(skip_serializing_if = "Option::is_none")]
    setup: Option<String>,
    /// Why a handler cannot get what the provider itself would post.
    #[serde(skip_serializing_if = "Option::is_none")]
    native_impossible: Option<String>,
    secrets: Vec<ShownSecret>,
    settings: Vec<ShownSetting>,
}

#[derive(Debug, Serialize, PartialEq)]
struct ShownStream {
    name: String,
    title: String,
    detect: &'static str,
    /// False: real webhooks alone feed it.
    polled: bool,
    enabled: bool,
}

#[derive(Debug, Serialize, PartialEq)]
struct ShownSecret {
    name: String,
    help: String,
    optional: bool,
}

#[derive(Debug, Serialize, PartialEq)]
struct ShownSetting {
    name: String,
    help: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    default: Option<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    choices: Vec<Value>,
}

pub async fn run(command: &Command, global: &Global, out: &mut Out) -> Outcome {
    match command {
        Command::List => list(&built_in(out.color)?, out)?,
        Command::Show { name } => {
            let shown = Shown::of(&find_provider(name, out.color)?);
            match out.format {
                Format::Json | Format::Jsonl => out.json(&shown)?,
                Format::Table => show(&shown, out)?,
            }
        }
        Command::New(new) => return draft::run(new, global, out).await,
        Command::Test { files, junit } => return test(files, junit.as_deref(), out).await,
        Command::Schema => out.line(provider::SCHEMA.trim_end())?,
    }
    Ok(Exit::Done)
}

/// A test as shown with `-o json`.
#[derive(Debug, Serialize)]
struct Tested {
    file: String,
    name: String,
    passed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<String>,
}

async fn test(files: &[PathBuf], junit: Option<&Path>, out: &mut Out) -> Outcome {
    let files = match files {
        [] => provider_test::files_in(Path::new("providers"))
            .map_err(|error| Failure::new(Exit::Nothing, format!("{error:#}")).help("name the files to test"))?,
        given => given.to_vec(),
    };
    let mut tested = Vec::new();
    for file in &files {
        let (provider, _) = provider::load(file).map_err(|faults| Failure::faults(&faults, out.color))?;
        if provider.tests.is_empty() {
            out.remark(format!("{}: has no tests", file.display()));
        }
        for outcome in provider_test::run(provider, file).await {
            let (file, passed) = (file.display().to_string(), outcome.fault.is_none());
            tested.push(Tested { file, name: outcome.name, passed, fault: outcome.fault });
        }
    }
    if let Some(path) = junit {
        junit::write(path, &tested)
            .map_err(|error| Failure::new(Exit::Failed, format!("{} cannot be written: {error}", path.display())))?;
    }
    tell(&tested, out)?;
    Ok(match tested.iter().all(|test| test.passed) {
        _ if tested.is_empty() => Exit::Nothing,
        true => Exit::Done,
        false => Exit::Failed,
    })
}

fn tell(tested: &[Tested], out: &mut Out) -> io::Result<()> {
    if out.format != Format::Table {
        return out.json_list(tested);
    }
    for test in tested {
        let word = if test.passed { out.paint("ok    ", Tone::Good) } else { out.paint("FAILED", Tone::Bad) };
        out.line(format!("{word}  {}: {}", test.file, test.name))?;
        if let Some(fault) = &test.fault {
            out.line(fault)?;
        }
    }
    let passed = tested.iter().filter(|test| test.passed).count();
    out.line(format!("{passed} passed, {} failed", tested.len() - passed))
}

fn built_in(color: bool) -> Result<Vec<Shown>, Failure> {
    let names = provider::built_in_names();
    names.iter().map(|name| find_provider(name, color).map(|provider| Shown::of(&provider))).collect()
}

impl Shown {
    fn ways_in(&self) -> &'static str {
        match (self.streams.iter().any(|stream| stream.polled), self.webhooks.is_empty()) {
            (true, true) => "poll",
            (true, false) => "poll, webhooks",
            (false, false) => "webhooks",
            (false, true) => "",
        }
    }

    fn of(provider: &Provider) -> Shown {
        let stream = |stream: &provider::Stream| ShownStream {
            name: stream.name.clone(),
            title: stream.title.clone(),
            detect: stream.detect.as_str(),
            polled: stream.is_polled(),
            enabled: stream.enabled,
        };
        let secret = |secret: &provider::SecretSpec| ShownSecret {
            name: secret.name.clone(),
            help: secret.help.clone(),
            optional: secret.optional,
        };
        let setting = |setting: &provider::SettingSpec| ShownSetting {
            name: setting.name.clone(),
            help: setting.help.clone(),
            default: setting.default.clone(),
            choices: setting.choices.clone(),
        };
        let schemes = provider.webhook.iter().flat_map(|webhook| &webhook.schemes);
        Shown {
            name: provider.name.clone(),
            title: provider.title.clone(),
            notes: provider.notes.clone(),
            streams: provider.streams.iter().map(stream).collect(),
            setup: provider.webhook.as_ref().and_then(|webhook| webhook.setup.clone()),
            native_impossible: provider.native.as_ref().and_then(|native| native.impossible.clone()),
            webhooks: schemes.map(|scheme| scheme.name.clone()).collect(),
            secrets: provider.secrets.iter().map(secret).collect(),
            settings: provider.settings.iter().map(setting).collect(),
        }
    }
}

fn list(providers: &[Shown], out: &mut Out) -> io::Result<()> {
    if out.format != Format::Table {
        return out.json_list(providers);
    }
    let row = |shown: &Shown| {
        let streams: Vec<&str> = shown.streams.iter().map(|stream| stream.name.as_str()).collect();
        vec![
            Field::text(&shown.name),
            Field::text(&shown.title),
            Field::text(streams.join(", ")),
            Field::text(shown.ways_in()),
        ]
    };
    out.table(&["provider", "title", "streams", "ways in"], providers.iter().map(row).collect())
}

fn show(shown: &Shown, out: &mut Out) -> io::Result<()> {
    out.line(format!("{}   {}", shown.name, shown.title))?;
    for line in shown.notes.iter().flat_map(|notes| notes.trim().lines()) {
        out.line(format!("  {line}"))?;
    }
    out.line("")?;
    let stream = |stream: &ShownStream| {
        let how = match (stream.polled, stream.enabled) {
            (_, false) => "off unless enabled",
            (true, true) => "polled",
            (false, true) => "webhooks alone",
        };
        vec![Field::text(&stream.name), Field::text(stream.detect), Field::text(how), Field::text(&stream.title)]
    };
    out.table(&["stream", "finds", "how", ""], shown.streams.iter().map(stream).collect())?;
    if !shown.secrets.is_empty() {
        out.line("")?;
    }
    let secret = |secret: &ShownSecret| {
        let needed = if secret.optional { "optional" } else { "required" };
        vec![Field::text(&secret.name), Field::text(needed), Field::text(&secret.help)]
    };
    out.table(&["secret", "", ""], shown.secrets.iter().map(secret).collect())?;
    if !shown.settings.is_empty() {
        out.line("")?;
    }
    out.table(&["setting", "default", ""], shown.settings.iter().map(setting).collect())?;
    if !shown.webhooks.is_empty() {
        out.line(format!("\nreal webhooks are verified by: {}", shown.webhooks.join(", ")))?;
    }
    for line in shown.setup.iter().flat_map(|setup| setup.trim().lines()) {
        out.line(format!("  {line}"))?;
    }
    if let Some(sentence) = &shown.native_impossible {
        out.line(format!("\nno native format: {sentence}"))?;
    }
    Ok(())
}

fn setting(setting: &ShownSetting) -> Vec<Field> {
    let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let choices: Vec<String> = setting.choices.iter().map(plain).collect();
    let choices = if choices.is_empty() { String::new() } else { format!(" ({})", choices.join(", ")) };
    let default = setting.default.as_ref().map_or("required".into(), plain);
    vec![Field::text(&setting.name), Field::text(default), Field::text(format!("{}{choices}", setting.help))]
}

#[cfg(test)]
mod tests {
    use super::super::output::capture;
    use super::*;

    #[tokio::test]
    async fn every_built_in_provider_is_listed_and_can_be_shown() {
        let (mut out, captured) = capture::out(Format::Table);
        assert_eq!(run(&Command::List, &Global::default(), &mut out).await, Ok(Exit::Done));
        let names = provider::built_in_names();
        assert!(names.len() >= 3, "{names:?}");
        for name in names {
            assert!(captured.text().lines().any(|line| line.starts_with(&name)), "{name}\n{}", captured.text());
            let (mut out, captured) = capture::out(Format::Table);
            assert_eq!(run(&Command::Show { name: name.clone() }, &Global::default(), &mut out).await, Ok(Exit::Done));
            assert!(captured.text().starts_with(&format!("{name}   ")), "{}", captured.text());
        }
    }

    #[test]
    fn a_setting_shows_its_default_and_its_choices() {
        let shown = Shown {
            name: "acme".into(),
            title: "Acme".into(),
            notes: None,
            streams: Vec::new(),
            webhooks: vec!["acme-v1".into()],
            setup: None,
            native_impossible: None,
            secrets: Vec::new(),
            settings: vec![ShownSetting {
                name: "region".into(),
                help: "where".into(),
                default: Some("eu".into()),
                choices: vec!["eu".into(), "us".into()],
            }],
        };
        let (mut out, captured) = capture::out(Format::Table);
        show(&shown, &mut out).expect("written");
        let text = captured.text();
        assert!(text.contains("region   eu       where (eu, us)"), "{text}");
        assert!(text.ends_with("real webhooks are verified by: acme-v1\n"), "{text}");
    }
}
