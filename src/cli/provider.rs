//! `ringback provider list|show|test`.

use std::path::PathBuf;

use super::{Exit, Global, Output, line, verify};
use crate::provider::{self, Provider};
use crate::provider_test;
use crate::shape::render;

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// The built-in providers.
    List,
    /// What a provider offers and needs.
    Show { provider: String },
    /// Run the tests inside provider files, offline; default: all built-in ones that lie in ./providers.
    Test { files: Vec<PathBuf> },
}

pub async fn run(command: Command, global: &Global) -> anyhow::Result<Exit> {
    match command {
        Command::List => list(global),
        Command::Show { provider } => show(&verify::find(&provider)?, global),
        Command::Test { files } => test(files).await,
    }
}

fn list(global: &Global) -> anyhow::Result<Exit> {
    for name in provider::built_in_names() {
        let provider = verify::find(&name)?;
        match global.output {
            Output::Table => line(format!("{name:<20} {}", provider.title)),
            Output::Json | Output::Jsonl => line(summary(&provider)),
        }
    }
    Ok(Exit::Done)
}

fn summary(provider: &Provider) -> serde_json::Value {
    let streams: Vec<_> = provider
        .streams
        .iter()
        .map(|s| serde_json::json!({ "name": s.name, "title": s.title, "detect": s.detect.as_str(), "polled": s.request.is_some(), "enabled": s.enabled }))
        .collect();
    let schemes: Vec<&str> =
        provider.webhook.iter().flat_map(|w| &w.schemes).map(|scheme| scheme.name.as_str()).collect();
    serde_json::json!({
        "name": provider.name,
        "title": provider.title,
        "notes": provider.notes,
        "streams": streams,
        "secrets": provider.secrets.iter().map(|s| serde_json::json!({ "name": s.name, "help": s.help, "optional": s.optional })).collect::<Vec<_>>(),
        "settings": provider.settings.iter().map(|s| serde_json::json!({ "name": s.name, "help": s.help, "default": s.default })).collect::<Vec<_>>(),
        "schemes": schemes,
    })
}

fn show(provider: &Provider, global: &Global) -> anyhow::Result<Exit> {
    if global.output != Output::Table {
        line(summary(provider));
        return Ok(Exit::Done);
    }
    line(format!("{}   {}", provider.name, provider.title));
    if let Some(notes) = &provider.notes {
        line(format!("\n{}", notes.trim()));
    }
    line("\nStreams");
    for stream in &provider.streams {
        let how = if stream.request.is_some() { "polled" } else { "webhooks only" };
        let off = if stream.enabled { "" } else { ", off unless asked for" };
        line(format!("  {:<20} {} ({}, {how}{off})", stream.name, stream.title, stream.detect.as_str()));
    }
    if !provider.secrets.is_empty() {
        line("\nSecrets");
        for secret in &provider.secrets {
            line(format!("  {:<20} {}{}", secret.name, secret.help, if secret.optional { " (optional)" } else { "" }));
        }
    }
    if !provider.settings.is_empty() {
        line("\nSettings");
        for setting in &provider.settings {
            let default = setting.default.as_ref().map_or("required".to_owned(), |value| format!("default {value}"));
            line(format!("  {:<20} {} ({default})", setting.name, setting.help));
        }
    }
    if let Some(webhook) = &provider.webhook {
        let names: Vec<&str> = webhook.schemes.iter().map(|scheme| scheme.name.as_str()).collect();
        line(format!("\nReal webhooks, signed by: {}", names.join(", ")));
        if let Some(setup) = &webhook.setup {
            line(format!("  {}", setup.trim()));
        }
    }
    if let Some(sentence) = provider.native.as_ref().and_then(|native| native.impossible.as_ref()) {
        line(format!("\nNo native format: {sentence}"));
    }
    Ok(Exit::Done)
}

async fn test(files: Vec<PathBuf>) -> anyhow::Result<Exit> {
    let files = if files.is_empty() { provider_test::files_in(std::path::Path::new("providers"))? } else { files };
    let (mut passed, mut failed) = (0, 0);
    for file in &files {
        let provider = match provider::load(file) {
            Ok((provider, _)) => provider,
            Err(faults) => {
                eprint!("{}", render(&faults, false));
                return Ok(Exit::Configuration);
            }
        };
        if provider.tests.is_empty() {
            line(format!("{}: has no tests", file.display()));
        }
        for outcome in provider_test::run(provider, file).await {
            match outcome.fault {
                None => {
                    passed += 1;
                    line(format!("ok      {}: {}", file.display(), outcome.name));
                }
                Some(fault) => {
                    failed += 1;
                    line(format!("FAILED  {}: {}\n{fault}", file.display(), outcome.name));
                }
            }
        }
    }
    line(format!("{passed} passed, {failed} failed"));
    Ok(match (passed, failed) {
        (_, 1..) => Exit::Failed,
        (0, 0) => Exit::Nothing,
        _ => Exit::Done,
    })
}
