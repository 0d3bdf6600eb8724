//! The tests inside provider files, run offline through the real parts: recorded pages become events, recorded requests a verdict.
//! Each test has a store of its own in a folder of its own, and begins with nothing known.

mod bench;
mod config;
mod native;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use crate::provider::{Provider, ProviderTest};
use bench::Bench;

/// What one test came to.
pub struct TestOutcome {
    pub name: String,
    /// None: passed.
    pub fault: Option<String>,
}

/// The provider files of a folder, by name.
pub fn files_in(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder)
        .with_context(|| format!("read {}: name the provider files instead", folder.display()))?;
    let mut files: Vec<PathBuf> =
        entries.flatten().map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "toml")).collect();
    files.sort();
    Ok(files)
}

/// Runs every test of a provider file.
pub async fn run(provider: Provider, file: &Path) -> Vec<TestOutcome> {
    let mut outcomes = Vec::new();
    for test in &provider.tests {
        let fault = match one(&provider, file, test).await {
            Ok(()) => None,
            Err(error) => Some(format!("{error:#}")),
        };
        outcomes.push(TestOutcome { name: test.name.clone(), fault });
    }
    outcomes
}

async fn one(provider: &Provider, file: &Path, test: &ProviderTest) -> anyhow::Result<()> {
    let bench = Bench::new(provider, file, test).await?;
    // Recorded files lie beside the provider file.
    let beside = file.parent().unwrap_or(Path::new(""));
    if let (Some(request), Some(answer)) = (&test.request, &test.answer) {
        return bench.challenge(&beside.join(request), answer).await;
    }
    if let Some(request) = &test.request {
        bench.request(&beside.join(request), test).await?;
    }
    for (n, pages) in test.polls.iter().enumerate() {
        let pages: Vec<PathBuf> = pages.iter().map(|page| beside.join(page)).collect();
        bench.poll(test, &pages).await.with_context(|| format!("poll {}", n + 1))?;
    }
    if let Some(native) = &test.native {
        bench.native(beside, native, test).await?;
    }
    bench.emission_is_verified(beside, test).await?;
    if test.polls.is_empty() && test.expect.is_empty() {
        return Ok(());
    }
    let got = bench.events().await?;
    if got == test.expect {
        return Ok(());
    }
    let list = |lines: &[String]| lines.iter().map(|line| format!("    {line}\n")).collect::<String>();
    bail!("  expected:\n{}  got:\n{}", list(&test.expect), list(&got))
}
