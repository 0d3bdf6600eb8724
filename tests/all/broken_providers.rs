//! A folder of broken provider files: each is refused with the line and the phrase that its first line expects.

use std::path::{Path, PathBuf};

use ringback::provider;

fn broken_files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/broken/providers");
    let entries = std::fs::read_dir(&folder).expect("the folder of broken files");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|file| file.extension().is_some_and(|ending| ending == "toml"));
    files.sort();
    files
}

/// `# expect: LINE: phrase` → the line and the phrase.
fn expected(text: &str) -> (usize, &str) {
    let first = text.lines().next().unwrap_or_default();
    let (line, phrase) = first.strip_prefix("# expect: ").and_then(|e| e.split_once(": ")).expect("an expectation");
    (line.parse().expect("a line"), phrase)
}

#[test]
fn every_broken_provider_file_is_refused_at_its_line_with_a_remedy() {
    let files = broken_files();
    assert!(files.len() >= 15, "only {} broken files were found", files.len());
    for path in files {
        let text = std::fs::read_to_string(&path).expect("its text");
        let (line, phrase) = expected(&text);
        let name = path.display();
        let Err(faults) = provider::load(&path) else { panic!("{name}: was taken for a good file") };
        let picture = ringback::shape::render(&faults, false);
        let found = faults.iter().any(|fault| fault.line() == line && fault.message.contains(phrase));
        assert!(found, "{name}: wanted line {line} and `{phrase}`, found:\n{picture}");
        assert!(picture.contains(&format!("{name}:{line}:")), "{name}: the picture names no place:\n{picture}");
    }
}

#[test]
fn all_faults_of_a_file_are_told_at_once() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/broken/providers/several.toml");
    let faults = provider::load(&path).expect_err("a broken file");
    let lines: Vec<usize> = faults.iter().map(|fault| fault.line()).collect();
    assert_eq!(lines, [4, 8], "{}", ringback::shape::render(&faults, false));
}
