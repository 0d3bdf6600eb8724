//! A recorded request: what `verify` and the tests of provider files judge.

use anyhow::{Context as _, bail};
use base64::Engine as _;
use serde::Deserialize;

/// A recorded request.
#[derive(Debug, Deserialize)]
pub struct Recorded {
    #[serde(default = "post")]
    pub method: String,
    /// To the letter: a signature may cover it.
    #[serde(default, deserialize_with = "address")]
    pub url: Option<String>,
    #[serde(default)]
    headers: serde_json::Map<String, serde_json::Value>,
    #[serde(default)]
    body: Option<String>,
    #[serde(default)]
    body_base64: Option<String>,
}

fn address<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    let text = Option::<String>::deserialize(from)?;
    if let Some(text) = &text {
        url::Url::parse(text).map_err(serde::de::Error::custom)?;
    }
    Ok(text)
}

fn post() -> String {
    "POST".into()
}

impl Recorded {
    pub fn read(path: &std::path::Path) -> anyhow::Result<Recorded> {
        let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is no recorded request", path.display()))
    }

    /// Names in lower case; a list of values is a header given several times.
    pub fn headers(&self) -> Vec<(String, String)> {
        let mut pairs = Vec::new();
        for (name, value) in &self.headers {
            let values = match value {
                serde_json::Value::Array(items) => items.clone(),
                one => vec![one.clone()],
            };
            for value in values {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                pairs.push((name.to_ascii_lowercase(), text));
            }
        }
        pairs
    }

    /// Path and query, as they would stand in the request's first line.
    pub fn target(&self) -> String {
        let place = url::Position::BeforePath..url::Position::AfterQuery;
        let url = self.url.as_ref().and_then(|text| url::Url::parse(text).ok());
        url.map_or_else(|| "/".to_owned(), |url| url[place].to_owned())
    }

    pub fn body(&self) -> anyhow::Result<Vec<u8>> {
        match (&self.body, &self.body_base64) {
            (Some(_), Some(_)) => bail!("the request has both `body` and `body_base64`; keep one"),
            (Some(text), None) => Ok(text.as_bytes().to_vec()),
            (None, Some(text)) => {
                base64::engine::general_purpose::STANDARD.decode(text).context("`body_base64` is not base64")
            }
            (None, None) => Ok(Vec::new()),
        }
    }
}
