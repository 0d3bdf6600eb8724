//! Requests that name their algorithm: only the names that the scheme knows count; an unknown one is refused, never guessed.

use super::content::Request;
use super::verify::{Refusal, json_text};
use super::{Algorithm, NamePattern, NamedAlgorithm, NamedPlace, Scheme};
use crate::jq::{Json, Vars};

impl Scheme {
    /// The algorithm of a request; `in_value` is the name that stands in the signature's value.
    pub(super) fn algorithm_of(&self, request: &Request<'_>, in_value: Option<&str>) -> Result<Algorithm, Refusal> {
        let Some(named) = &self.named else { return Ok(self.algorithm) };
        match named.name(request, in_value)? {
            Some(name) => named.meaning(&name).ok_or(Refusal::UnknownAlgorithm),
            None => named.otherwise.ok_or(Refusal::UnknownAlgorithm),
        }
    }
}

impl NamedAlgorithm {
    fn meaning(&self, name: &str) -> Option<Algorithm> {
        self.map.iter().find(|(known, _)| known == name).map(|(_, algorithm)| *algorithm)
    }

    /// None: the request names none at all.
    fn name(&self, request: &Request<'_>, in_value: Option<&str>) -> Result<Option<String>, Refusal> {
        match &self.place {
            NamedPlace::Value => Ok(in_value.map(str::to_owned)),
            NamedPlace::Json(path) => Ok(json_text(request.body, path)),
            NamedPlace::Header(name, pattern) => {
                let mut values = request.header_values(name);
                let Some(value) = values.next() else { return Ok(None) };
                // Twice the same header: which one is meant is anybody's guess.
                if values.next().is_some() {
                    return Err(Refusal::UnknownAlgorithm);
                }
                let found = match pattern {
                    NamePattern::Whole => Some(value.trim().to_owned()),
                    NamePattern::Template(pattern) => pattern.read(value, request.settings).algorithm,
                    NamePattern::Regex(jq) => {
                        let input = Json::from(serde_json::Value::from(value));
                        jq.first(&input, &Vars::default())
                            .ok()
                            .flatten()
                            .and_then(|found| found.scalar().ok().flatten())
                    }
                };
                found.map(Some).ok_or(Refusal::UnknownAlgorithm)
            }
        }
    }

    /// What is written when signing: the name of this algorithm.
    pub(super) fn written(&self, algorithm: Algorithm) -> Option<&str> {
        self.map.iter().find(|(_, known)| *known == algorithm).map(|(name, _)| name.as_str())
    }

    /// The header that names the algorithm, where one must be sent.
    pub(super) fn header(&self, algorithm: Algorithm, settings: &super::content::Settings) -> Option<(String, String)> {
        if self.otherwise == Some(algorithm) {
            return None;
        }
        let NamedPlace::Header(header, pattern) = &self.place else { return None };
        let name = self.written(algorithm)?;
        let value = match pattern {
            NamePattern::Template(pattern) => pattern.write(&[], "", name, settings),
            NamePattern::Whole | NamePattern::Regex(_) => name.to_owned(),
        };
        Some((header.clone(), value))
    }
}
