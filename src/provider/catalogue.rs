//! The provider files that are built in.

use std::sync::Arc;

use rust_embed::RustEmbed;

use crate::shape::SourceFile;

/// The files of `providers/`, without the folders below it.
#[derive(RustEmbed)]
#[folder = "providers/"]
#[include = "*.toml"]
#[exclude = "*/*"]
struct Files;

const ENDING: &str = ".toml";

/// The file of a built-in provider.
pub fn built_in(name: &str) -> Option<Arc<SourceFile>> {
    let file = Files::get(&format!("{name}{ENDING}"))?;
    let text = String::from_utf8(file.data.into_owned()).ok()?;
    Some(SourceFile::new(format!("built-in/{name}{ENDING}"), text))
}

/// The names of the built-in providers, sorted.
pub fn built_in_names() -> Vec<String> {
    let mut names: Vec<String> =
        Files::iter().filter_map(|file| file.strip_suffix(ENDING).map(str::to_owned)).collect();
    names.sort();
    names
}
