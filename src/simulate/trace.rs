//! What happened, as lines. Their hash tells whether two runs of a seed were the same; the lines themselves are kept on request.

use std::fmt::{self, Write};

use crate::model::Timestamp;

/// The lines of a run, hashed (FNV-1a).
pub struct Trace {
    hash: u64,
    lines: Option<Vec<String>>,
}

impl Trace {
    pub fn new(keep: bool) -> Trace {
        Trace { hash: 0xcbf2_9ce4_8422_2325, lines: keep.then(Vec::new) }
    }

    pub fn say(&mut self, now: Timestamp, line: fmt::Arguments<'_>) {
        // Hashing never fails.
        let _ = writeln!(self, "{} {line}", now.0);
        if let Some(lines) = &mut self.lines {
            let seconds = now.0 as f64 / 1000.0 - super::START.0 as f64 / 1000.0;
            lines.push(format!("{seconds:9.3}  {line}"));
        }
    }

    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// The kept lines.
    pub fn into_lines(self) -> Vec<String> {
        self.lines.unwrap_or_default()
    }
}

impl Write for Trace {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        Ok(())
    }
}
