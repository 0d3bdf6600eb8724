//! `{{ }}` templates, where a request or a body is built. Compiled once; undefined is an error, never an empty text.
//!
//! Text with `{{ }}` alone is kept as its pieces, so that a piece can keep its type, be percent-encoded, or be bytes that are
//! no text. Only a template with `{% %}` goes through the engine as a whole.

mod context;
mod filters;
mod render;
mod split;
mod time;
mod value;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, LazyLock};

use minijinja::value::Value;
use minijinja::{Environment, Error, ErrorKind, Expression};

use render::{bytes, text};
use split::Piece;

pub use context::Context;
pub use render::{Rendered, percent_encoded};
pub use time::{TimeFormat, outline};

/// A compiled template. Cheap to clone.
#[derive(Clone)]
pub struct Template(pub(crate) Arc<Compiled>);

pub(crate) struct Compiled {
    pub text: String,
    form: Form,
}

enum Form {
    Pieces(Vec<Part>),
    /// With `{% %}`: an engine that holds the one template [`NAME`].
    Blocks(Box<Environment<'static>>),
}

enum Part {
    Text(String),
    Value {
        expression: Expression<'static, 'static>,
        /// It is the variable `body` alone: the commonest piece of a signature's content.
        is_body: bool,
    },
}

const NAME: &str = "template";

static LANGUAGE: LazyLock<Environment<'static>> = LazyLock::new(filters::environment);

impl Template {
    /// Compiles a template; the error is a sentence.
    pub fn parse(text: &str) -> Result<Template, String> {
        let form = if split::has_blocks(text) {
            let mut env = LANGUAGE.clone();
            env.add_template_owned(NAME, text.to_owned()).map_err(|error| sentence(&error))?;
            Form::Blocks(Box::new(env))
        } else {
            Form::Pieces(split::pieces(text)?.into_iter().map(compile).collect::<Result<_, _>>()?)
        };
        // The engine would find an unknown filter only when it is first called.
        split::unknown_filter(text).map_or(Ok(()), Err)?;
        Ok(Template(Arc::new(Compiled { text: text.to_owned(), form })))
    }

    /// A template without `{{ }}`: the text stands for itself.
    pub fn literal(text: &str) -> Template {
        let form = Form::Pieces(vec![Part::Text(text.to_owned())]);
        Template(Arc::new(Compiled { text: text.to_owned(), form }))
    }

    /// The template as it was written.
    pub fn text_source(&self) -> &str {
        &self.0.text
    }

    /// Whether it holds `{% %}`: then it can be text, but neither a path nor the content of a signature.
    pub fn has_blocks(&self) -> bool {
        matches!(self.0.form, Form::Blocks(_))
    }

    /// The variables it uses by their first name: `cursor`, `settings`, `page`.
    pub fn variables(&self) -> BTreeSet<String> {
        self.names().into_iter().map(|name| name.split('.').next().unwrap_or_default().to_owned()).collect()
    }

    /// The variables it uses as far as they are named: `cursor`, `settings.account`, `page.token`.
    pub fn names(&self) -> BTreeSet<String> {
        let own = |name: &String| name != "uuid";
        match &self.0.form {
            Form::Pieces(parts) => parts
                .iter()
                .filter_map(|part| match part {
                    Part::Value { expression, .. } => Some(expression.undeclared_variables(true)),
                    Part::Text(_) => None,
                })
                .flatten()
                .filter(own)
                .collect(),
            Form::Blocks(env) => match env.get_template(NAME) {
                Ok(template) => template.undeclared_variables(true).into_iter().filter(own).collect(),
                Err(_) => BTreeSet::new(),
            },
        }
    }

    /// As text; an undefined variable is an error that names it.
    pub fn text(&self, context: &Context) -> Result<String, String> {
        self.render(context, text)
    }

    /// As text in which the result of every `{{ }}` is percent-encoded as one segment of a path.
    pub fn segment(&self, context: &Context) -> Result<String, String> {
        if self.has_blocks() {
            return Err("a path may hold {{ }} only".into());
        }
        self.render(context, |value| {
            let text = text(value)?;
            // These two are whole segments with a meaning, and nothing in them can be encoded.
            match text.as_str() {
                "." | ".." => Err(render::invalid("`.` and `..` cannot stand in a path")),
                _ => Ok(percent_encoded(&text)),
            }
        })
    }

    /// With its type, when it is one `{{ }}` and nothing else; None when that needs an undefined variable. Anything else is
    /// text, in which an undefined variable is an error.
    pub fn value(&self, context: &Context) -> Result<Option<Rendered>, String> {
        let Form::Pieces(parts) = &self.0.form else { return self.text(context).map(|t| Some(Rendered::Text(t))) };
        let [Part::Value { expression, .. }] = parts.as_slice() else {
            return self.text(context).map(|text| Some(Rendered::Text(text)));
        };
        let value = match expression.eval(context.root()) {
            Ok(value) if value.is_undefined() => return Ok(None),
            Ok(value) => value,
            Err(_) if self.missing(context).is_some() => return Ok(None),
            Err(error) => return Err(sentence(&error)),
        };
        Rendered::of(&value).map(Some).map_err(|error| self.explain(&error, context))
    }

    /// As bytes: `body` is what was received, also where it is no text; everything else is text.
    pub fn bytes(&self, context: &Context, body: &[u8]) -> Result<Vec<u8>, String> {
        let Form::Pieces(parts) = &self.0.form else { return Err("this template may hold {{ }} only".into()) };
        let mut with_body = None;
        let mut out = Vec::with_capacity(self.0.text.len() + body.len());
        for part in parts {
            match part {
                Part::Text(text) => out.extend_from_slice(text.as_bytes()),
                // Needs neither the engine nor a copy of the body.
                Part::Value { is_body: true, .. } => out.extend_from_slice(body),
                Part::Value { expression, .. } => {
                    let context = with_body.get_or_insert_with(|| context.with_body(body));
                    let value = expression.eval(context.root()).map_err(|error| self.explain(&error, context))?;
                    self.append(&mut out, &value, context)?;
                }
            }
        }
        Ok(out)
    }

    /// As bytes: a value that is bytes goes in as it stands, also where it is no text.
    pub fn bytes_of(&self, context: &Context) -> Result<Vec<u8>, String> {
        let Form::Pieces(parts) = &self.0.form else { return self.text(context).map(String::into_bytes) };
        let mut out = Vec::new();
        for part in parts {
            match part {
                Part::Text(text) => out.extend_from_slice(text.as_bytes()),
                Part::Value { expression, .. } => {
                    let value = expression.eval(context.root()).map_err(|error| self.explain(&error, context))?;
                    self.append(&mut out, &value, context)?;
                }
            }
        }
        Ok(out)
    }

    /// A value that is bytes as it stands, any other as text.
    fn append(&self, out: &mut Vec<u8>, value: &Value, context: &Context) -> Result<(), String> {
        match bytes(value) {
            Some(raw) => out.extend_from_slice(raw),
            None => out.extend_from_slice(text(value).map_err(|error| self.explain(&error, context))?.as_bytes()),
        }
        Ok(())
    }

    fn render(&self, context: &Context, write: impl Fn(&Value) -> Result<String, Error>) -> Result<String, String> {
        match &self.0.form {
            Form::Pieces(parts) => {
                let mut out = String::new();
                for part in parts {
                    match part {
                        Part::Text(text) => out.push_str(text),
                        Part::Value { expression, .. } => {
                            let written = expression.eval(context.root()).and_then(|value| write(&value));
                            out.push_str(&written.map_err(|error| self.explain(&error, context))?);
                        }
                    }
                }
                Ok(out)
            }
            Form::Blocks(env) => {
                let rendered = env.get_template(NAME).and_then(|template| template.render(context.root()));
                rendered.map_err(|error| self.explain(&error, context))
            }
        }
    }

    /// The first variable it names that the context does not have.
    fn missing(&self, context: &Context) -> Option<String> {
        self.names().into_iter().find(|name| !context.has(name))
    }

    fn explain(&self, error: &Error, context: &Context) -> String {
        match (error.kind(), self.missing(context)) {
            (ErrorKind::UndefinedError | ErrorKind::InvalidOperation, Some(name)) => {
                format!("`{name}` is not defined here")
            }
            _ => sentence(error),
        }
    }
}

fn compile(piece: Piece) -> Result<Part, String> {
    match piece {
        Piece::Text(text) => Ok(Part::Text(text)),
        Piece::Expression(text) => {
            let is_body = text.trim() == "body";
            let compiled = LANGUAGE.compile_expression_owned(text);
            compiled.map(|expression| Part::Value { expression, is_body }).map_err(|error| sentence(&error))
        }
    }
}

/// An engine's error without its name for the template.
fn sentence(error: &Error) -> String {
    let kind = error.kind().to_string();
    match error.detail() {
        Some(detail) if matches!(error.kind(), ErrorKind::InvalidOperation) => detail.to_owned(),
        Some(detail) => format!("{kind}: {detail}"),
        None => kind,
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.text)
    }
}

impl PartialEq for Template {
    fn eq(&self, other: &Template) -> bool {
        self.0.text == other.0.text
    }
}

#[cfg(test)]
mod tests;
