//! `{{ }}` templates, where a request or a body is built.

use std::sync::Arc;

/// A compiled template. Cheap to clone.
#[derive(Clone)]
pub struct Template(pub(crate) Arc<Compiled>);

pub struct Compiled {
    pub text: String,
}

impl std::fmt::Debug for Template {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.text)
    }
}

/// How times are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TimeFormat {
    Rfc3339,
    /// Seconds since 1970.
    Unix,
    /// Milliseconds since 1970.
    UnixMillis,
    /// strftime.
    Pattern(String),
}
