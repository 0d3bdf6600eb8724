//! What a file says of a request that is to be made: parameters, headers and bodies whose texts are templates.
//!
//! One language for provider files and for handlers of the configuration: [`read`](body) makes the types out of TOML, [`Body::fill`]
//! makes bytes out of them, [`Scope`] says which variables a template may name in its place.

mod fill;
mod read;
mod scope;

use crate::template::Template;

pub use read::{body, header_name, headers, json, method, param, params};
pub use scope::{ANY, Scope, Variables};

/// The value of a parameter.
#[derive(Clone, Debug, PartialEq)]
pub enum Param {
    Template(Template),
    /// A number or true/false, as written.
    Literal(String),
    List(Vec<Param>),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// JSON with templates in its texts.
    Json(JsonTemplate),
    Form(Vec<(String, Param)>),
    Text(Template),
}

/// JSON whose texts are templates.
#[derive(Clone, Debug, PartialEq)]
pub enum JsonTemplate {
    Literal(serde_json::Value),
    Template(Template),
    List(Vec<JsonTemplate>),
    Object(Vec<(String, JsonTemplate)>),
}
