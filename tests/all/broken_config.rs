//! Broken configurations: each yields file, line and what to do, and exit code 78 from the program itself; none panics.

use std::path::{Path, PathBuf};
use std::process::Command;

use ringback::shape::{Fault, Level};
use ringback::{config, source};

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/broken/config");
    let mut found: Vec<PathBuf> =
        std::fs::read_dir(folder).expect("the cases").flatten().map(|entry| entry.path()).collect();
    found.sort();
    assert!(found.len() >= 25, "only {} cases were found", found.len());
    found
}

/// The file of a case that says what is expected: `# expect: LINE: phrase`; line 0 is the file as a whole.
fn expected(case: &Path) -> (PathBuf, usize, String) {
    let conf_d = std::fs::read_dir(case.join("conf.d")).into_iter().flatten().flatten().map(|entry| entry.path());
    for file in std::iter::once(case.join("config.toml")).chain(conf_d) {
        let text = std::fs::read_to_string(&file).expect("a case is text");
        if let Some(rest) = text.strip_prefix("# expect: ") {
            let (line, phrase) = rest.lines().next().and_then(|l| l.split_once(": ")).expect("LINE: phrase");
            return (file, line.parse().expect("a line number"), phrase.to_owned());
        }
    }
    panic!("{}: no file says what is expected", case.display());
}

fn faults(path: &Path) -> Vec<Fault> {
    match config::load(path) {
        Err(faults) => faults,
        Ok((config, warnings)) => match source::join_all(&config, false) {
            Err(faults) => faults,
            Ok((_, more)) => warnings.into_iter().chain(more).collect(),
        },
    }
}

#[test]
fn each_is_told_with_file_line_and_reason() {
    for case in cases() {
        let (file, line, phrase) = expected(&case);
        let found = faults(&case.join("config.toml"));
        let hit = found.iter().any(|fault| {
            fault.level == Level::Error
                && fault.file.path == file
                && (line == 0 || fault.line() == line)
                && fault.message.contains(&phrase)
        });
        let told: Vec<String> =
            found.iter().map(|f| format!("{}:{}: {}", f.file.path.display(), f.line(), f.message)).collect();
        assert!(hit, "{}: expected line {line}, `{phrase}`; told was:\n{}", case.display(), told.join("\n"));
    }
}

#[test]
fn the_program_ends_with_78_and_shows_the_line() {
    for case in cases() {
        let run =
            Command::new(env!("CARGO_BIN_EXE_ringback")).arg("check").arg("-c").arg(case.join("config.toml")).output();
        let output = run.expect("the program starts");
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(78), "{}: {told}", case.display());
        assert!(told.contains(".toml:") && !told.contains("panicked"), "{}: {told}", case.display());
    }
}

#[test]
fn a_file_that_is_not_there_is_a_configuration_error() {
    let run = Command::new(env!("CARGO_BIN_EXE_ringback")).args(["run", "-c", "/nonexistent/config.toml"]).output();
    let output = run.expect("the program starts");
    assert_eq!(output.status.code(), Some(78));
    assert!(String::from_utf8_lossy(&output.stderr).contains("/nonexistent/config.toml"));
}

/// Every line of a full configuration left out, doubled or cut short: faults or none, never a panic.
#[test]
fn no_damage_to_a_file_makes_it_panic() {
    const FULL: &str = include_str!("../fixtures/full.toml");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("config.toml");
    let lines: Vec<&str> = FULL.lines().collect();
    let mut tried = 0;
    for n in 0..lines.len() {
        let mut without = lines.clone();
        without.remove(n);
        let mut twice = lines.clone();
        twice.insert(n, lines[n]);
        let mut damaged = vec![without.join("\n"), twice.join("\n")];
        for cut in [1, 3, 7] {
            let mut short: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
            short[n] = lines[n].chars().take(lines[n].chars().count().saturating_sub(cut)).collect();
            damaged.push(short.join("\n"));
        }
        for text in damaged {
            std::fs::write(&path, text).expect("written");
            let _ = faults(&path);
            tried += 1;
        }
    }
    assert!(tried > 100, "only {tried} damaged files were tried");
}

#[test]
fn the_full_configuration_is_right() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("config.toml");
    std::fs::write(&path, include_str!("../fixtures/full.toml")).expect("written");
    let told: Vec<String> = faults(&path).iter().map(|f| format!("{}: {}", f.line(), f.message)).collect();
    assert!(told.is_empty(), "{}", told.join("\n"));
}

#[test]
fn the_shipped_configuration_is_right() {
    let told = faults(&Path::new(env!("CARGO_MANIFEST_DIR")).join("config.toml"));
    assert!(told.is_empty(), "{:?}", told.iter().map(|f| &f.message).collect::<Vec<_>>());
}
