//! The house: which module may import which. Read from the `use crate::` lines and paths of every source file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Rows from the lowest; a module may import rows below its own, and what is named after it.
const ROWS: [(&[&str], &str); 8] = [
    (
        &[
            "answer",
            "canonical",
            "certificate",
            "clock",
            "fresh",
            "glob",
            "jq",
            "metrics",
            "model",
            "path",
            "planted",
            "recorded",
            "request",
            "schedule",
            "seal",
            "secret",
            "settings",
            "shape",
            "systemd",
            "template",
            "wake",
        ],
        "row 0",
    ),
    (&["config", "provider", "signature", "worker"], "row 1"),
    (&["client", "event_body", "listener", "source", "store", "subscription"], "row 2"),
    (&["deliver", "ingest", "pull"], "row 3"),
    (&["poll", "receive"], "row 4"),
    (&["admin"], "row 5"),
    (&["app", "demo", "provider_test", "simulate", "skeleton"], "row 6"),
    (&["cli"], "row 7"),
];

/// Imports inside a row that are meant: a provider file describes a scheme; a subscription reads the body and names deliveries.
const WITHIN: [(&str, &[&str]); 2] = [("provider", &["signature"]), ("subscription", &["event_body", "store"])];

fn row(module: &str) -> Option<usize> {
    ROWS.iter().position(|(modules, _)| modules.contains(&module))
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("src can be read").flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// The modules that a file names behind `crate::`, tests left out.
fn imports(text: &str) -> Vec<String> {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let mut names = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let rest = &code[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let group = group.split('}').next().unwrap_or_default();
            names.extend(
                group.split(',').map(|part| part.trim().split("::").next().unwrap_or_default().trim().to_owned()),
            );
        } else {
            names.push(rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
        }
    }
    names.retain(|name| row(name).is_some());
    names
}

fn allowed(module: &str, import: &str) -> bool {
    if module == import {
        return true;
    }
    let (Some(of), Some(to)) = (row(module), row(import)) else { return false };
    // Words may use one another; everything else only what lies below.
    to < of || (of == 0 && to == 0) || WITHIN.iter().any(|(name, may)| *name == module && may.contains(&import))
}

#[test]
fn every_module_imports_only_what_lies_below_it() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    assert!(files.len() > 50, "only {} source files were found", files.len());
    let (mut faults, mut seen) = (Vec::new(), BTreeMap::new());
    for file in files {
        let place = file.strip_prefix(&src).expect("it lies there").to_string_lossy().replace('\\', "/");
        let module = place.split('/').next().unwrap_or_default().trim_end_matches(".rs").to_owned();
        if module == "lib" || module == "main" || place.ends_with("tests.rs") || place.contains("/tests/") {
            continue;
        }
        assert!(row(&module).is_some(), "{place}: module `{module}` stands in no row; give it one here and in lib.rs");
        let text = std::fs::read_to_string(&file).expect("a source file is text");
        for import in imports(&text) {
            *seen.entry(module.clone()).or_insert(0) += 1;
            if !allowed(&module, &import) {
                faults.push(format!("{place} imports `{import}`"));
            }
        }
    }
    assert!(seen.len() > 15, "hardly any imports were found: {seen:?}");
    faults.dedup();
    assert!(faults.is_empty(), "imports against the table:\n{}", faults.join("\n"));
}

#[test]
fn the_check_can_fail() {
    assert!(!allowed("model", "store"));
    assert!(!allowed("ingest", "poll"));
    assert!(!allowed("ingest", "deliver"));
    assert!(!allowed("store", "client"));
    assert!(allowed("poll", "ingest"));
    assert_eq!(imports("use crate::store::Store;\nuse crate::{config, source};"), ["store", "config", "source"]);
}
