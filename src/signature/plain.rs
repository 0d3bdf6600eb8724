//! What is verified must be what is read: nothing that is read by its name is there twice. And what is signed must be for us.

use super::content::Request;
use super::verify::Refusal;
use super::{Scheme, SignaturePlace};
use crate::jq::{Jq, Json};
use crate::template::Template;

impl Scheme {
    /// Nothing that is read by its name may be there twice: one of the two is not what was signed.
    pub(super) fn is_plain(&self, request: &Request<'_>) -> Result<(), Refusal> {
        for name in &self.once {
            request.one_header(name)?;
        }
        if !self.signs_members() {
            return Ok(());
        }
        let twice = std::str::from_utf8(request.body).ok().and_then(crate::canonical::repeated_name);
        twice.map_or(Ok(()), |name| Err(Refusal::Repeated(format!("member `{name}` of the body"))))
    }

    /// Whether the signature covers members of a JSON body, and not its bytes.
    fn signs_members(&self) -> bool {
        // Most contents do not even hold the word.
        let names = |template: &Template, name: &str| {
            template.text_source().contains(name) && template.variables().contains(name)
        };
        let has = |name: &str| self.content.iter().any(|template| names(template, name));
        self.each.is_some() || matches!(self.place, SignaturePlace::Json(_)) || (has("json") && !has("body"))
    }

    pub(super) fn is_ours(&self, accept: &Jq, request: &Request<'_>) -> bool {
        let body = Json::parse(request.body).unwrap_or_default();
        accept.truth(&body, &request.vars(request.raw_query())).unwrap_or(false)
    }
}

/// The values under these names, each of which is there once at most (one that ends in `*` stands for many): which of two the
/// provider meant is anybody's guess.
pub(super) fn each_once(names: &[String], values: impl Fn(&String) -> Vec<String>) -> Result<Vec<String>, Refusal> {
    let mut all = Vec::new();
    for name in names {
        let found = values(name);
        if found.len() > 1 && !name.ends_with('*') {
            return Err(Refusal::SeveralSignatures);
        }
        all.extend(found);
    }
    Ok(all)
}
