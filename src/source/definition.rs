//! What makes a stream's records the same over a change of its files, and what only makes them compared otherwise (RULES R4.2).

use sha2::{Digest, Sha256};

use crate::canonical::{CANONICAL_VERSION, Comparing};
use crate::path::Path;
use crate::provider::{self, Param};

/// What makes a record of this stream the same: a change here takes a new baseline (RULES R4.2).
pub(super) fn definition(
    spec: &provider::Stream,
    all: &provider::Request,
    settings: &serde_json::Map<String, serde_json::Value>,
) -> String {
    let request = spec.request.as_ref();
    let params = |request: &provider::Request| -> Vec<String> {
        // Paging says nothing of what is listed.
        let paging =
            |param: &Param| matches!(param, Param::Template(t) if t.variables().iter().any(|v| v.starts_with("page")));
        let query =
            request.query.iter().filter(|(_, param)| !paging(param)).map(|(name, param)| format!("{name}={param:?}"));
        query.chain([format!("{:?} {:?} {:?}", request.method, request.target, request.body)]).collect()
    };
    let version = spec.version.as_ref().map(|v| (v.field.text().to_owned(), v.kind));
    let parts = format!(
        "{:?}|{:?}|{:?}|{:?}|{:?}|{:?}|{:?}|{:?}{}",
        spec.detect,
        spec.records,
        spec.records_as,
        spec.key,
        version,
        spec.filter,
        request.map(params),
        params(all),
        // Whose children they are is part of their keys; of whether all parents are listed a baseline says nothing.
        spec.parent.as_ref().map(|parent| format!("|{:?}|{:?}", parent.of, parent.carry)).unwrap_or_default(),
    );
    // So is whether several share a request; how many do says nothing of their children.
    let batch = spec.parent.as_ref().and_then(|parent| parent.batch.as_ref());
    let parts = batch.map_or(parts.clone(), |batch| format!("{parts}|{:?}", batch.owner));
    // Only the settings that are named in there: another one says nothing of these records. `$settings` may name any.
    let any = parts.replace("$settings.", "").contains("$settings");
    let named = settings.iter().filter(|(name, _)| any || parts.contains(&format!("settings.{name}")));
    let named: serde_json::Map<_, _> = named.map(|(name, value)| (name.clone(), value.clone())).collect();
    let mut parts = format!("{parts}|{}", serde_json::Value::Object(named));
    // What there was before these keys were read has the digest it always had.
    if spec.answer != crate::answer::AnswerFormat::default() {
        parts.push_str(&format!("|{:?}", spec.answer));
    }
    if let Some(files) = &spec.files {
        parts.push_str(&format!("|{}", files.text_source()));
    }
    if spec.mask.is_empty() {
        return digest(&parts);
    }
    // A new mask takes every record anew, so that what is stored of them loses what it hides.
    let masked: Vec<&str> = spec.mask.iter().map(|path| path.text.as_str()).collect();
    digest(&format!("{parts}|{masked:?}"))
}

pub(super) fn comparison(comparing: &Comparing) -> String {
    let texts = |paths: &[Path]| paths.iter().map(|path| path.text.clone()).collect::<Vec<_>>();
    let Comparing { only, ignore, unordered, equal } = comparing;
    // What was there before these keys were read has the digest it always had, so that nothing is compared anew.
    let mut parts = format!("{CANONICAL_VERSION}|{:?}|{:?}", texts(ignore), texts(unordered));
    if !only.is_empty() || *equal != crate::canonical::Equal::default() {
        parts.push_str(&format!("|{:?}|{equal:?}", texts(only)));
    }
    digest(&parts)
}

fn digest(text: &str) -> String {
    hex::encode(&Sha256::digest(text.as_bytes())[..16])
}
