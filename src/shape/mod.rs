//! Reading a TOML file key by key with positions: every fault of a file is found in one pass and shown with its line.
//!
//! A reader takes the keys it knows from a [`Table`]; [`Table::finish`] reports those that nobody took, with a suggestion.
//! No method here fails: a fault is noted in the [`Reading`] and None is returned, so that the next key is read as well.
//! Used by `config` and `provider`; knows nothing of either.

mod fault;
mod value;

use std::cell::RefCell;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

pub use fault::{Fault, Level, render};
pub use value::{Tolerance, Value};

/// A file's name and text, kept for messages.
#[derive(Debug)]
pub struct SourceFile {
    pub path: PathBuf,
    pub text: String,
}

impl SourceFile {
    pub fn new(path: impl Into<PathBuf>, text: impl Into<String>) -> Arc<SourceFile> {
        Arc::new(SourceFile { path: path.into(), text: text.into() })
    }

    /// Reads a file; the error is a sentence that names it.
    pub fn read(path: &Path) -> Result<Arc<SourceFile>, String> {
        match std::fs::read(path) {
            Ok(bytes) => match String::from_utf8(bytes) {
                Ok(text) => Ok(SourceFile::new(path, text)),
                Err(_) => Err(format!("{}: is not UTF-8 text", path.display())),
            },
            Err(error) => Err(format!("{}: cannot be read: {error}", path.display())),
        }
    }
}

/// One pass over one file: collects its faults.
pub struct Reading {
    pub file: Arc<SourceFile>,
    faults: RefCell<Vec<Fault>>,
}

impl Reading {
    pub fn new(file: Arc<SourceFile>) -> Reading {
        Reading { file, faults: RefCell::new(Vec::new()) }
    }

    /// Parses the text. Syntax errors are noted as faults; what could be read is returned nevertheless.
    pub fn parse(&self) -> Spanned<DeTable<'_>> {
        let (table, errors) = DeTable::parse_recoverable(&self.file.text);
        for error in errors {
            self.fault(error.span().unwrap_or(0..0), format!("this is not valid TOML: {}", error.message()), None);
        }
        table
    }

    pub fn fault(&self, span: Range<usize>, message: impl Into<String>, help: Option<String>) {
        self.note(Level::Error, span, message.into(), help);
    }

    pub fn warning(&self, span: Range<usize>, message: impl Into<String>, help: Option<String>) {
        self.note(Level::Warning, span, message.into(), help);
    }

    fn note(&self, level: Level, span: Range<usize>, message: String, help: Option<String>) {
        self.faults.borrow_mut().push(Fault { level, file: self.file.clone(), span, message, help });
    }

    pub fn into_faults(self) -> Vec<Fault> {
        self.faults.into_inner()
    }

    /// Whether an error (not a warning) was noted.
    pub fn failed(&self) -> bool {
        self.faults.borrow().iter().any(|f| f.level == Level::Error)
    }
}

/// A table of which keys are taken one by one.
pub struct Table<'r, 't> {
    pub reading: &'r Reading,
    table: &'t DeTable<'t>,
    /// Where the table stands, for faults about what is missing in it.
    pub span: Range<usize>,
    /// Its dotted name, such as `sources.core`; empty for the file itself.
    pub name: String,
    known: RefCell<Vec<String>>,
}

impl<'r, 't> Table<'r, 't> {
    pub fn root(reading: &'r Reading, table: &'t Spanned<DeTable<'t>>) -> Table<'r, 't> {
        Table { reading, table: table.get_ref(), span: 0..0, name: String::new(), known: RefCell::default() }
    }

    fn inner(value: &Value<'r, 't>, table: &'t DeTable<'t>) -> Table<'r, 't> {
        Table {
            reading: value.reading,
            table,
            span: value.span.clone(),
            name: value.name.clone(),
            known: RefCell::default(),
        }
    }

    /// The dotted name of a key of this table.
    pub fn dotted(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }

    /// Takes a key. None when it is absent.
    pub fn take(&self, key: &str) -> Option<Value<'r, 't>> {
        self.known.borrow_mut().push(key.to_owned());
        let (name, value) = self.table.iter().find(|(k, _)| k.get_ref().as_ref() == key)?;
        Some(Value {
            reading: self.reading,
            value: value.get_ref(),
            span: value.span(),
            key_span: name.span(),
            name: self.dotted(key),
        })
    }

    /// Takes a key that must be there; its absence is a fault with this help.
    pub fn require(&self, key: &str, help: &str) -> Option<Value<'r, 't>> {
        let value = self.take(key);
        if value.is_none() {
            let place = if self.name.is_empty() { String::new() } else { format!(" in `{}`", self.name) };
            self.reading.fault(self.span.clone(), format!("`{key}` is missing{place}"), Some(help.to_owned()));
        }
        value
    }

    /// A key that the language has but this version does not carry out yet: refused, never silently ignored.
    pub fn not_yet(&self, key: &str) {
        if let Some(value) = self.take(key) {
            let message = format!("`{}` is not carried out yet by this version of ringback", value.name);
            self.reading.fault(value.key_span, message, Some("remove it; nothing was ignored silently".into()));
        }
    }

    /// Every key with its value, for tables whose keys are names. Marks all as known.
    pub fn entries(&self) -> Vec<(String, Value<'r, 't>)> {
        let keys: Vec<String> = self.table.iter().map(|(k, _)| k.get_ref().to_string()).collect();
        keys.into_iter().filter_map(|key| self.take(&key).map(|value| (key, value))).collect()
    }

    pub fn has(&self, key: &str) -> bool {
        self.table.iter().any(|(k, _)| k.get_ref().as_ref() == key)
    }

    /// Reports every key that nobody asked for, with the nearest one that is known.
    pub fn finish(self) {
        let known = self.known.borrow();
        for (key, _) in self.table.iter() {
            let name = key.get_ref().as_ref();
            if known.iter().any(|k| k == name) {
                continue;
            }
            let place = if self.name.is_empty() { String::new() } else { format!(" in `{}`", self.name) };
            let help = nearest(name, known.iter().map(String::as_str))
                .map(|near| format!("did you mean `{near}`?"))
                .or_else(|| Some(format!("known here: {}", known.join(", "))));
            self.reading.fault(key.span(), format!("unknown key `{name}`{place}"), help);
        }
    }
}

/// The known word nearest to `word`, when one is near enough to be what was meant.
pub fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|k| (strsim::damerau_levenshtein(word, k), k))
        .filter(|(distance, k)| *distance <= (k.len().max(word.len()) / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, k)| k)
}

/// What a value is, in words for a message.
pub(crate) fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults_of(text: &str, read: impl FnOnce(&Table<'_, '_>)) -> Vec<(usize, String, Option<String>)> {
        let reading = Reading::new(SourceFile::new("t.toml", text));
        let parsed = reading.parse();
        let table = Table::root(&reading, &parsed);
        read(&table);
        table.finish();
        drop(parsed);
        reading.into_faults().into_iter().map(|f| (f.line(), f.message, f.help)).collect()
    }

    #[test]
    fn an_unknown_key_is_reported_with_the_nearest_known_one() {
        let found = faults_of("schema = 1\nlisen = \"x\"\n", |t| {
            assert_eq!(t.take("schema").and_then(|v| v.integer(1..=1)), Some(1));
            assert!(t.take("listen").is_none());
        });
        assert_eq!(found, [(2, "unknown key `lisen`".into(), Some("did you mean `listen`?".into()))]);
    }

    #[test]
    fn every_fault_of_a_file_is_found_in_one_pass() {
        let found = faults_of("a = 5\nb = \"10 parsecs\"\n", |t| {
            assert_eq!(t.take("a").and_then(|v| v.text()), None);
            assert_eq!(t.take("b").and_then(|v| v.duration()), None);
            t.require("c", "add it");
        });
        assert_eq!(found.len(), 3, "{found:?}");
        assert_eq!((found[0].0, found[1].0), (1, 2));
    }

    #[test]
    fn a_syntax_error_is_a_fault_with_its_line() {
        let found = faults_of("a = 1\nb = = 2\n", |t| {
            t.take("a");
            t.take("b");
        });
        assert!(!found.is_empty() && found[0].0 == 2, "{found:?}");
    }
}
