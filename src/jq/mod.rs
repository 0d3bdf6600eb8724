//! jq, where an answer or a record is read: compiled once, run over JSON that keeps number literals as sent.

use std::sync::Arc;

use crate::path::Path;

/// A compiled jq filter. Cheap to clone.
#[derive(Clone)]
pub struct Jq(pub(crate) Arc<Compiled>);

pub struct Compiled {
    pub text: String,
    /// Some: it is only a plain path and can be read from the bytes.
    pub path: Option<Path>,
}

impl std::fmt::Debug for Jq {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.text)
    }
}
impl PartialEq for Jq {
    fn eq(&self, other: &Jq) -> bool {
        self.0.text == other.0.text
    }
}
