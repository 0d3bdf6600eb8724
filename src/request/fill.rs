//! Bodies written in a file, filled in: JSON keeps every number as it was sent, a form is encoded.

use super::{Body, JsonTemplate, Param};
use crate::template::{Context, Rendered};

const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";

impl Body {
    /// Its bytes, and the content type that goes with them where it is clear.
    pub fn fill(&self, context: &Context) -> Result<(Vec<u8>, Option<&'static str>), String> {
        Ok(match self {
            Body::Text(template) if template.has_blocks() => (template.text(context)?.into_bytes(), None),
            Body::Text(template) => (template.bytes_of(context)?, None),
            Body::Json(json) => {
                let mut text = String::new();
                fill(json, context, &mut text)?;
                (text.into_bytes(), Some(JSON))
            }
            Body::Form(fields) => {
                let mut form = url::form_urlencoded::Serializer::new(String::new());
                for (name, param) in fields {
                    for text in texts(param, context)? {
                        form.append_pair(name, &text);
                    }
                }
                (form.finish().into_bytes(), Some(FORM))
            }
        })
    }
}

impl Param {
    /// The texts of a parameter: a list gives several, what is undefined none.
    pub fn texts(&self, context: &Context) -> Result<Vec<String>, String> {
        texts(self, context)
    }
}

fn texts(param: &Param, context: &Context) -> Result<Vec<String>, String> {
    Ok(match param {
        Param::Literal(text) => vec![text.clone()],
        Param::Template(template) => match template.value(context)? {
            None => Vec::new(),
            Some(Rendered::List(items)) => items.iter().map(Rendered::to_text).collect(),
            Some(one) => vec![one.to_text()],
        },
        Param::List(items) => {
            let mut all = Vec::new();
            for item in items {
                all.extend(texts(item, context)?);
            }
            all
        }
    })
}

/// JSON text with its templates filled in; a member whose value needs what is not there is left out.
fn fill(json: &JsonTemplate, context: &Context, out: &mut String) -> Result<(), String> {
    match json {
        JsonTemplate::Literal(value) => out.push_str(&value.to_string()),
        JsonTemplate::Template(template) => match template.value(context)? {
            None => out.push_str("null"),
            Some(rendered) => out.push_str(&rendered.to_json()),
        },
        JsonTemplate::List(items) => {
            out.push('[');
            for (n, item) in items.iter().enumerate() {
                out.push_str(if n > 0 { "," } else { "" });
                fill(item, context, out)?;
            }
            out.push(']');
        }
        JsonTemplate::Object(members) => {
            out.push('{');
            let mut first = true;
            for (name, member) in members {
                if let JsonTemplate::Template(template) = member
                    && template.value(context)?.is_none()
                {
                    continue;
                }
                out.push_str(if first { "" } else { "," });
                first = false;
                out.push_str(&serde_json::Value::from(name.as_str()).to_string());
                out.push(':');
                fill(member, context, out)?;
            }
            out.push('}');
        }
    }
    Ok(())
}
