//! `docs/pitfalls.md` names a test for each pitfall. A name that no test has would be a promise nobody keeps.

use std::path::{Path, PathBuf};

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("it can be read").flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// Names in backticks in the last column of the table.
fn named(text: &str) -> Vec<String> {
    let rows = text
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| pitfall") && !line.starts_with("|---"));
    let last = rows.filter_map(|row| row.trim_end().trim_end_matches('|').rsplit('|').next());
    last.flat_map(|cell| cell.split('`').skip(1).step_by(2)).map(str::to_owned).collect()
}

#[test]
fn every_test_that_the_table_of_pitfalls_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let table = std::fs::read_to_string(root.join("docs/pitfalls.md")).expect("the table is there");
    let names = named(&table);
    assert!(names.len() > 40, "only {} tests are named", names.len());
    let mut files = Vec::new();
    sources(&root.join("src"), &mut files);
    sources(&root.join("tests"), &mut files);
    assert!(files.len() > 100, "only {} files were found", files.len());
    let texts: Vec<String> = files.iter().map(|file| std::fs::read_to_string(file).expect("text")).collect();
    let missing: Vec<&String> =
        names.iter().filter(|name| !texts.iter().any(|text| text.contains(&format!("fn {name}(")))).collect();
    assert!(missing.is_empty(), "no test has these names: {missing:#?}");
}

#[test]
fn the_names_are_read_from_the_last_column() {
    let table = "| pitfall | what it costs | guarded by |\n|---|---|---|\n| `a` | b | `one_two`, `three` |\n";
    assert_eq!(named(table), ["one_two", "three"]);
}
