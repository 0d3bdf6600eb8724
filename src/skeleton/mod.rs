//! A first provider file from one real answer (`ringback provider new`): the format, where the records are, what identifies one, which
//! times it has, how the listing may go on. Every guess is a line with its reason beside it, for a person to judge. Pure.
//!
//! Nothing of the answer's data is written but names of members; what looks like a credential becomes a secret without its value.

mod guess;
mod hidden;

use std::collections::HashSet;
use std::fmt::Write as _;

use bytes::Bytes;
use serde_json::Value;
use url::Url;

use guess::{Listed, Times};
use hidden::{Hidden, is_secret_segment, secret_name};

use crate::answer::{AnswerFormat, CsvShape, FormatKind, ListElement};

/// An answer as it came, and what it was asked with.
#[derive(Clone, Debug)]
pub struct Answered {
    pub url: Url,
    /// Names of the headers that were sent with values of their own.
    pub headers: Vec<String>,
    pub content_type: Option<String>,
    pub link: Option<String>,
    pub body: Bytes,
}

/// Writes the file. The error is a sentence that says why nothing can be guessed.
pub fn write(name: &str, answered: &Answered) -> Result<String, String> {
    if let Some((parameter, _)) = answered.url.query_pairs().find(|(_, value)| value.contains(['{', '}'])) {
        return Err(format!(
            "the address holds braces in `{parameter}`, which a template would take for its own; leave it out"
        ));
    }
    let (mut format, text_of) = recognise(answered)?;
    let decoded = format.read(&answered.body, answered.content_type.as_deref())?;
    let json: Value =
        serde_json::from_slice(&decoded.json).map_err(|error| format!("the answer is no JSON: {error}"))?;
    let listed = guess::records(&json);
    if let (FormatKind::Xml | FormatKind::Soap, Some(listed)) = (format.kind, &listed)
        && let Some(last) = listed.steps.last()
    {
        format.lists.push(ListElement { parent: None, name: last.clone() });
    }
    let mut file = String::new();
    let given = credentials(answered);
    // The first is what `auth` sends.
    let sent = match given.first() {
        Some(Given::Query(parameter)) => Some(parameter.as_str()),
        _ => None,
    };
    let hidden = Hidden::of(&answered.url, sent);
    head(&mut file, name, answered, &given, &hidden);
    file.push_str(&text_of);
    if let Some(list) = format.lists.first() {
        let _ = writeln!(
            file,
            "xml_lists = [{}]             # a list also when there is one or none",
            toml_text(&list.name)
        );
    }
    stream(&mut file, answered, &hidden, &json, listed.as_ref(), format.kind);
    Ok(file)
}

/// The format, and the lines that say so.
fn recognise(answered: &Answered) -> Result<(AnswerFormat, String), String> {
    let of = |kind: FormatKind| AnswerFormat { kind, ..AnswerFormat::default() };
    let kind = answered.content_type.as_deref();
    let plain = of(FormatKind::Text).read(&answered.body, kind)?;
    let plain: Value = serde_json::from_slice(&plain.json).map_err(|error| error.to_string())?;
    let text = plain["text"].as_str().unwrap_or_default();
    match text.trim_start().chars().next() {
        None => Err("the answer is empty: there is nothing to guess from".to_owned()),
        Some('{' | '[') if serde_json::from_str::<&serde_json::value::RawValue>(text).is_ok() => {
            Ok((of(FormatKind::Json), String::new()))
        }
        Some('{') if of(FormatKind::Ndjson).read(&answered.body, kind).is_ok_and(|read| read.bad.is_empty()) => {
            Ok((of(FormatKind::Ndjson), "format   = \"ndjson\"\n".to_owned()))
        }
        Some('<') => {
            let word = [(FormatKind::Soap, "soap"), (FormatKind::Feed, "feed"), (FormatKind::Xml, "xml")];
            let mut error = String::new();
            for (kind_of, word) in word {
                match of(kind_of).read(&answered.body, kind) {
                    Ok(_) => return Ok((of(kind_of), format!("format   = \"{word}\"\n"))),
                    Err(reason) => error = reason,
                }
            }
            Err(error)
        }
        Some(_) => Ok(rows_or_text(text)),
    }
}

/// CSV when the first two lines have one delimiter equally often.
fn rows_or_text(text: &str) -> (AnswerFormat, String) {
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    let (first, second) = (lines.next().unwrap_or_default(), lines.next());
    let often = |line: &str, delimiter: char| line.matches(delimiter).count();
    for delimiter in [';', '\t', ',', '|'] {
        let count = often(first, delimiter);
        if count > 0 && second.is_none_or(|second| often(second, delimiter) >= count) {
            let csv = CsvShape { delimiter: delimiter as u8, ..CsvShape::default() };
            let format = AnswerFormat { kind: FormatKind::Csv, csv, ..AnswerFormat::default() };
            let written = if delimiter == '\t' { "\\t".to_owned() } else { delimiter.to_string() };
            return (format, format!("format   = \"csv\"\ncsv      = {{ delimiter = \"{written}\" }}\n"));
        }
    }
    let format = AnswerFormat { kind: FormatKind::Text, ..AnswerFormat::default() };
    (format, "format   = \"text\"                 # { text = \"…\" }\n".to_owned())
}

/// A credential that was given: where it went.
enum Given {
    Bearer,
    Basic,
    Header(String),
    Query(String),
}

fn credentials(answered: &Answered) -> Vec<Given> {
    let mut given = Vec::new();
    for name in &answered.headers {
        given.push(match name.to_ascii_lowercase().as_str() {
            "authorization: basic" => Given::Basic,
            "authorization" => Given::Bearer,
            _ if secret_name(name) => Given::Header(name.clone()),
            _ => continue,
        });
    }
    for (name, _) in answered.url.query_pairs() {
        if secret_name(&name) {
            given.push(Given::Query(name.into_owned()));
        }
    }
    given
}

fn head(file: &mut String, name: &str, answered: &Answered, given: &[Given], hidden: &Hidden) {
    let origin = answered.url.origin().ascii_serialization();
    let _ = writeln!(
        file,
        "# A first draft from one answer of {origin}. Every line is a guess: read it, correct it, then\n\
         #   ringback poll SOURCE --dry-run      looks without storing or sending anything\n\n\
         schema   = 1\nname     = {}\ntitle    = {}\nbase_url = {}",
        toml_text(name),
        toml_text(name),
        toml_text(&origin)
    );
    match given.first() {
        None if !hidden.secrets.is_empty() => {}
        None => file.push_str(
            "# No credential was sent. With one: secrets.token = \"what it is\" and\n\
             # auth = { type = \"bearer\", token = \"{{ secrets.token }}\" }\n",
        ),
        Some(Given::Bearer) => file.push_str(
            "secrets.token = \"the access token\"\nauth     = { type = \"bearer\", token = \"{{ secrets.token }}\" }\n",
        ),
        Some(Given::Basic) => file.push_str(
            "secrets.user = \"the account\"\nsecrets.password = \"its password\"\n\
             auth     = { type = \"basic\", username = \"{{ secrets.user }}\", password = \"{{ secrets.password }}\" }\n",
        ),
        Some(Given::Header(header)) => {
            let _ = writeln!(
                file,
                "secrets.key = \"the API key\"\nauth     = {{ type = \"api_key\", in = \"header\", name = {}, value = \"{{{{ secrets.key }}}}\" }}",
                toml_text(header)
            );
        }
        Some(Given::Query(parameter)) => {
            let _ = writeln!(
                file,
                "secrets.key = \"the API key\"\nauth     = {{ type = \"api_key\", in = \"query\", name = {}, value = \"{{{{ secrets.key }}}}\" }}",
                toml_text(parameter)
            );
        }
    }
    for (name, what) in &hidden.secrets {
        let _ = writeln!(file, "secrets.{name} = {}", toml_text(what));
    }
}

fn stream(
    file: &mut String,
    answered: &Answered,
    hidden: &Hidden,
    json: &Value,
    listed: Option<&Listed<'_>>,
    kind: FormatKind,
) {
    let name = stream_name(&answered.url);
    let paging = guess::paging(answered, json, listed);
    let _ = writeln!(file, "\n[streams.{name}]\npath       = {}", toml_text(&hidden.path));
    let mut seen = HashSet::new();
    let mut query: Vec<String> = answered
        .url
        .query_pairs()
        .filter(|(parameter, _)| {
            let is_hidden = hidden.query.iter().any(|(name, _)| *name == **parameter);
            let is_first = seen.insert(parameter.to_string());
            is_first && !secret_name(parameter) && !is_hidden && !paging.replaces(parameter)
        })
        .map(|(parameter, value)| format!("{} = {}", toml_key(&parameter), toml_text(&value)))
        .collect();
    let secrets = hidden.query.iter().filter(|(parameter, _)| !paging.replaces(parameter));
    query.extend(secrets.map(|(parameter, name)| format!("{} = \"{{{{ secrets.{name} }}}}\"", toml_key(parameter))));
    query.extend(
        paging.query.iter().map(|(parameter, value)| format!("{} = {}", toml_key(parameter), toml_text(value))),
    );
    if !query.is_empty() {
        let _ = writeln!(file, "query      = {{ {} }}", query.join(", "));
    }
    let Some(listed) = listed else {
        file.push_str(
            "# No list of records was found: the answer is taken as one document, and each change of it is an event.\n",
        );
        file.push_str("detect     = \"document\"\n");
        return;
    };
    if !(kind == FormatKind::Feed && listed.path() == ".entries") {
        let _ = writeln!(
            file,
            "records    = {:<24}# {} in this answer",
            toml_text(&listed.path()),
            counted(listed.items.len())
        );
    }
    match guess::key(listed) {
        Some(key) => {
            let _ = writeln!(file, "key        = {:<24}# different in each of them", toml_text(&key));
        }
        None => file.push_str(
            "key        = \".id\"                   # a guess in the dark: nothing here is different in each of them\n",
        ),
    }
    times(file, &guess::times(listed));
    let whole = paging.lines.is_empty();
    if whole {
        file.push_str(
            "detect     = \"snapshot\"              # the whole list at each poll, also what went away is told\n",
        );
    } else {
        file.push_str("detect     = \"changed\"               # \"snapshot\" also tells what went away; \"new\" for logs that never change\n");
    }
    file.push_str(&paging.lines);
    file.push_str(
        "# Where the API filters by date, ask for what is new only (the name of the parameter is the API's):\n\
         #   query  = { updatedSince = \"{{ cursor }}\" }\n#   cursor = { field = \".updatedAt\", lookback = \"10m\" }\n\
         # What is no change, however often it changes:\n#   ignore = [\".fetchedAt\"]\n\n\
         # Save answers beside this file and say what they mean; `ringback provider test` runs them offline:\n",
    );
    let _ = writeln!(
        file,
        "# [[tests]]\n# name   = \"one comes, one changes\"\n# stream = \"{name}\"\n# polls  = [\"fixtures/1.json\", \"fixtures/2.json\"]\n# expect = [\"{name}.created 1\", \"{name}.updated 1\"]"
    );
}

fn times(file: &mut String, times: &Times) {
    if let Some((field, format)) = &times.updated {
        let _ = writeln!(file, "version    = {:<24}# tells older copies from newer ones", toml_text(field));
        let _ = writeln!(file, "time       = {}", toml_text(field));
        time_format(file, format);
    }
    if let Some((field, format)) = &times.created {
        let _ = writeln!(file, "created    = {}", toml_text(field));
        if times.updated.is_none() {
            let _ = writeln!(file, "time       = {}", toml_text(field));
            time_format(file, format);
        }
    }
}

fn time_format(file: &mut String, format: &guess::TimeShape) {
    if format.word != "rfc3339" {
        let _ = writeln!(file, "time_format = {}", toml_text(format.word));
    }
    if format.without_zone {
        file.push_str("timezone   = \"UTC\"                   # its times say no zone: correct this\n");
    }
}

fn stream_name(url: &Url) -> String {
    let last = url
        .path_segments()
        .into_iter()
        .flatten()
        .rfind(|segment| !segment.is_empty() && !is_secret_segment(segment))
        .unwrap_or_default();
    let stem = last.split('.').next().unwrap_or_default();
    let word: String = stem.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_' || *c == '-').collect();
    if word.starts_with(|c: char| c.is_ascii_alphabetic()) { word.to_lowercase() } else { "items".to_owned() }
}

fn path_of(name: &str) -> String {
    let plain = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if plain { format!(".{name}") } else { format!(".[{}]", Value::from(name)) }
}

fn counted(count: usize) -> String {
    if count == 1 { "1 record".to_owned() } else { format!("{count} records") }
}

/// Text as a TOML value. What templates would take for their own is no part of a plain address or name.
fn toml_text(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn toml_key(key: &str) -> String {
    let bare = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    if bare { key.to_owned() } else { Value::from(key).to_string() }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
