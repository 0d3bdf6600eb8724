//! `ringback reload`: the daemon reads its configuration again, whole or not at all.

use super::Global;
use super::exit::{Exit, Outcome};
use super::output::{Format, Out};
use super::reach;
use crate::admin::shape::Reloaded;

pub async fn run(global: &Global, out: &mut Out) -> Outcome {
    let order = serde_json::json!({});
    let reloaded: Reloaded = reach::daemon(global, out).await?.post("reload", &order).await?;
    if out.format != Format::Table {
        out.json(&reloaded)?;
        return Ok(Exit::Done);
    }
    for warning in &reloaded.warnings {
        out.remark(warning);
    }
    if reloaded.changes.is_empty() {
        out.line("reloaded; nothing changed")?;
    }
    for change in &reloaded.changes {
        out.line(change)?;
    }
    Ok(Exit::Done)
}
