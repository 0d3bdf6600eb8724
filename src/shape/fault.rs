//! A fault of a file: where it stands, what is wrong, what to do; and its picture with the line itself.

use std::ops::Range;
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Group, Renderer, Snippet};

use super::SourceFile;

/// Whether a fault forbids using the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Error,
    Warning,
}

/// One thing wrong with a file.
#[derive(Clone, Debug)]
pub struct Fault {
    pub level: Level,
    pub file: Arc<SourceFile>,
    /// Bytes of the file's text; empty (0..0) when the fault is about the file as a whole.
    pub span: Range<usize>,
    pub message: String,
    pub help: Option<String>,
}

impl Fault {
    /// Line, from 1.
    pub fn line(&self) -> usize {
        self.file.text[..self.start()].matches('\n').count() + 1
    }

    /// Column in characters, from 1.
    pub fn column(&self) -> usize {
        let before = &self.file.text[..self.start()];
        before[before.rfind('\n').map_or(0, |n| n + 1)..].chars().count() + 1
    }

    fn start(&self) -> usize {
        let mut at = self.span.start.min(self.file.text.len());
        while !self.file.text.is_char_boundary(at) {
            at -= 1;
        }
        at
    }
}

/// All faults as a person reads them: file, line, column, the line itself, and what to do.
pub fn render(faults: &[Fault], color: bool) -> String {
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    let mut text = String::new();
    for fault in faults {
        text.push_str(&renderer.render(&[group(fault)]));
        text.push_str("\n\n");
    }
    text
}

fn group(fault: &Fault) -> Group<'_> {
    let level = match fault.level {
        Level::Error => annotate_snippets::Level::ERROR,
        Level::Warning => annotate_snippets::Level::WARNING,
    };
    let end = fault.span.end.clamp(fault.start(), fault.file.text.len());
    // A span over several lines (a whole table) is shown by its first line.
    let end = fault.file.text[fault.start()..].find('\n').map_or(end, |n| end.min(fault.start() + n));
    let snippet = Snippet::source(fault.file.text.as_str())
        .path(fault.file.path.display().to_string())
        .annotation(AnnotationKind::Primary.span(fault.start()..end.max(fault.start())));
    let mut group = level.primary_title(fault.message.as_str()).element(snippet);
    if let Some(help) = &fault.help {
        group = group.element(annotate_snippets::Level::HELP.message(help.as_str()));
    }
    group
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_shows_file_line_column_the_line_and_what_to_do() {
        let file = SourceFile::new("config.toml", "schema = 1\nlisen = \"x\"\n");
        let fault = Fault {
            level: Level::Error,
            file,
            span: 11..16,
            message: "unknown key `lisen`".into(),
            help: Some("did you mean `listen`?".into()),
        };
        let text = render(&[fault], false);
        for part in ["error: unknown key `lisen`", "config.toml:2:1", "lisen = \"x\"", "did you mean `listen`?"] {
            assert!(text.contains(part), "{part} is missing in:\n{text}");
        }
    }
}
