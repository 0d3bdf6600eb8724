//! Plain paths (`.a.b[]`, `.items[0].id`, `.["odd name"]`): the part of jq that is read straight from the bytes.

/// A plain path. Its text is kept for messages.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Path {
    pub text: String,
    pub steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    Field(String),
    Index(usize),
    /// `[]`: every item.
    Each,
}
