//! jq, where an answer or a record is read: compiled once, run over JSON that keeps number literals as sent.
//!
//! A filter that is only a plain path is read from the bytes and not even compiled until something else is asked of it.
//! Filters do no I/O and know no clock: `env`, `$ENV`, `input`, `inputs` and `now` do not exist; `debug` and `stderr` say nothing.

mod compile;
mod fault;
mod json;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use jaq_core::{Ctx, Vars as JaqVars};

use crate::path::{Path, pick};
use compile::{Filter, compile};

pub use json::Json;

/// Most outputs that one run may give.
const OUTPUTS_MAX: usize = 10_000;

/// Longest time that one run may take; looked at between outputs.
const TIME_MAX: Duration = Duration::from_secs(5);

/// A compiled jq filter. Cheap to clone.
#[derive(Clone)]
pub struct Jq(pub(crate) Arc<Compiled>);

pub(crate) struct Compiled {
    pub text: String,
    /// Some: it is only a plain path and can be read from the bytes.
    pub path: Option<Path>,
    /// Compiled when first needed: most plain paths never are.
    filter: OnceLock<Result<Filter, String>>,
}

/// What a filter sees besides its input, as `$settings`, `$parent`, `$headers`, `$query`, `$form`, `$cookies` and `$key`.
#[derive(Clone, Debug, Default)]
pub struct Vars {
    pub settings: Json,
    pub parent: Json,
    /// Names in lower case.
    pub headers: Json,
    pub query: Json,
    pub form: Json,
    pub cookies: Json,
    /// The member's name, where records are the members of an object.
    pub key: Json,
}

const VARS: [&str; 7] = ["$settings", "$parent", "$headers", "$query", "$form", "$cookies", "$key"];

/// Why a filter gave no answer. Each message is a sentence without the filter's text.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum JqError {
    #[error("{0}")]
    Failed(String),
    #[error("gave {0}, but must give true or false")]
    NotTruth(String),
    #[error("gave {0}, but must give text, a number, true or false")]
    NotScalar(String),
    #[error("gave more than {OUTPUTS_MAX} values")]
    TooMany,
    #[error("took longer than {} s", TIME_MAX.as_secs())]
    TooLong,
    #[error("this is not JSON: {0}")]
    NotJson(String),
}

impl Jq {
    /// Compiles a filter; the error is a sentence with the position.
    pub fn parse(text: &str) -> Result<Jq, String> {
        let path = Path::parse(text);
        let filter = OnceLock::new();
        if path.is_none() {
            let compiled = compile(text, &VARS)?;
            let _ = filter.set(Ok(compiled));
        }
        Ok(Jq(Arc::new(Compiled { text: text.to_owned(), path, filter })))
    }

    pub fn text(&self) -> &str {
        &self.0.text
    }

    /// Some when it is only a plain path.
    pub fn path(&self) -> Option<&Path> {
        self.0.path.as_ref()
    }

    /// Every output, in order.
    pub fn all(&self, input: &Json, vars: &Vars) -> Result<Vec<Json>, JqError> {
        self.run(input, vars, OUTPUTS_MAX + 1).and_then(|outputs| match outputs.len() {
            0..=OUTPUTS_MAX => Ok(outputs),
            _ => Err(JqError::TooMany),
        })
    }

    /// The first output.
    pub fn first(&self, input: &Json, vars: &Vars) -> Result<Option<Json>, JqError> {
        self.run(input, vars, 1).map(|outputs| outputs.into_iter().next())
    }

    /// The one output, which must be true or false.
    pub fn truth(&self, input: &Json, vars: &Vars) -> Result<bool, JqError> {
        match self.run(input, vars, 2)?.as_slice() {
            [one] => one.as_bool().ok_or_else(|| JqError::NotTruth(one.kind().to_owned())),
            [] => Err(JqError::NotTruth("nothing".into())),
            _ => Err(JqError::NotTruth("more than one value".into())),
        }
    }

    /// Text, number (its digits as sent), true or false, as text; None for null, for nothing and for what is not there.
    /// A plain path is read from the bytes; one that leads through something that is no object finds nothing.
    pub fn scalar(&self, json: &str, vars: &Vars) -> Result<Option<String>, JqError> {
        if let Some(path) = self.path().filter(|path| path.is_single()) {
            let found = pick(json, &[path]).map_err(|error| JqError::NotJson(error.to_string()))?;
            return match found.first().copied().flatten() {
                Some(raw) => scalar_text(raw.get()),
                None => Ok(None),
            };
        }
        let input = Json::parse(json.as_bytes()).map_err(JqError::NotJson)?;
        match self.run(&input, vars, 2)?.as_slice() {
            [] => Ok(None),
            [one] => one.scalar().map_err(|kind| JqError::NotScalar(kind.to_owned())),
            _ => Err(JqError::NotScalar("more than one value".into())),
        }
    }

    fn run(&self, input: &Json, vars: &Vars, most: usize) -> Result<Vec<Json>, JqError> {
        let filter = self.0.filter.get_or_init(|| compile(&self.0.text, &VARS)).as_ref();
        let filter = filter.map_err(|error| JqError::Failed(error.clone()))?;
        // The library is not ours: should it panic over odd input, that is one filter's failure and not the daemon's.
        catch_unwind(AssertUnwindSafe(|| run(filter, input, vars, most, &self.0.text)))
            .unwrap_or_else(|_| Err(JqError::Failed("the filter broke down over this input".into())))
    }
}

fn run(filter: &Filter, input: &Json, vars: &Vars, most: usize, text: &str) -> Result<Vec<Json>, JqError> {
    let Vars { settings, parent, headers, query, form, cookies, key } = vars;
    let given = [settings, parent, headers, query, form, cookies, key].map(|json| json.0.clone());
    let context = Ctx::<compile::Data>::new(&filter.lut, JaqVars::new(given));
    let deadline = Instant::now() + TIME_MAX;
    let mut outputs = Vec::new();
    for output in filter.id.run((context, input.0.clone())) {
        match output.map_err(jaq_core::Exn::get_err) {
            Ok(value) => outputs.push(Json(value)),
            Err(Ok(error)) => return Err(JqError::Failed(fault::sentence(&error.to_string(), text))),
            Err(Err(_)) => return Err(JqError::Failed("the filter ended with `halt` or an open `break`".into())),
        }
        if outputs.len() == most {
            break;
        }
        if Instant::now() > deadline {
            return Err(JqError::TooLong);
        }
    }
    Ok(outputs)
}

/// A JSON literal as sent → its text, see [`Jq::scalar`].
fn scalar_text(raw: &str) -> Result<Option<String>, JqError> {
    match raw.as_bytes().first() {
        Some(b'n') | None => Ok(None),
        Some(b'{') => Err(JqError::NotScalar("an object".into())),
        Some(b'[') => Err(JqError::NotScalar("a list".into())),
        Some(b'"') => Ok(Some(crate::canonical::text_value(&raw[1..raw.len() - 1]).into_owned())),
        Some(_) => Ok(Some(raw.to_owned())),
    }
}

impl fmt::Debug for Jq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.text)
    }
}

impl PartialEq for Jq {
    fn eq(&self, other: &Jq) -> bool {
        self.0.text == other.0.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jq(text: &str) -> Jq {
        Jq::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn json(text: &str) -> Json {
        Json::parse(text.as_bytes()).expect("JSON")
    }

    #[test]
    fn outputs_keep_every_number_as_it_was_sent() {
        let input = r#"{"a":[1.50,12345678901234567890123,1E400,-0,0.1],"s":"x"}"#;
        let cases = [
            (".a", r#"[1.50,12345678901234567890123,1E400,-0,0.1]"#),
            (".a[1]", "12345678901234567890123"),
            ("{n: .a[0], s}", r#"{"n":1.50,"s":"x"}"#),
            (".a | map(tostring)", r#"["1.50","12345678901234567890123","1E400","-0","0.1"]"#),
            (".a[0] + 1", "2.5"),
            (".s | ascii_upcase", "\"X\""),
            ("\"1.50\" | tonumber", "1.50"),
            ("[\"007\", \" 5\"] | map(tonumber)", "[7,5]"),
            ("\"a,b\" | split(\",\") | index(\"b\")", "1"),
        ];
        for (filter, want) in cases {
            let outputs = jq(filter).all(&json(input), &Vars::default()).expect("outputs");
            assert_eq!(outputs.iter().map(Json::to_text).collect::<Vec<_>>(), [want], "{filter}");
        }
    }

    #[test]
    fn variables_are_those_of_the_request() {
        let settings = serde_json::json!({"a": 1});
        let vars = Vars { settings: settings.into(), key: serde_json::json!("k").into(), ..Vars::default() };
        let found = jq("[$settings.a, $key, $parent, $headers, $query, $form, $cookies]").first(&json("1"), &vars);
        assert_eq!(found.map(|v| v.map(|v| v.to_text())), Ok(Some("[1,\"k\",null,null,null,null,null]".into())));
    }

    #[test]
    fn a_when_is_exactly_one_true_or_false() {
        let input = json(r#"{"a":1,"t":"true","l":[]}"#);
        let cases: &[(&str, Result<bool, &str>)] = &[
            (".a == 1", Ok(true)),
            (".a > 1", Ok(false)),
            ("has(\"t\")", Ok(true)),
            (".a", Err("gave a number")),
            (".t", Err("gave text")),
            (".nope", Err("gave null")),
            ("empty", Err("gave nothing")),
            ("true, true", Err("gave more than one value")),
            (".l", Err("gave a list")),
            ("error(\"no\")", Err("no")),
            (".a.b", Err("cannot index")),
            ("halt", Err("halt")),
        ];
        for (filter, want) in cases {
            match (jq(filter).truth(&input, &Vars::default()), want) {
                (Ok(found), Ok(want)) => assert_eq!(found, *want, "{filter}"),
                (Err(error), Err(want)) => assert!(error.to_string().contains(want), "{filter}: {error}"),
                (found, _) => panic!("{filter}: {found:?}"),
            }
        }
    }

    #[test]
    fn scalars_are_text_the_same_by_path_and_by_filter() {
        let input = r#"{"n":1.50,"big":1e999,"t":"a\u00e9\"b","b":true,"z":null,"o":{},"l":[1,"x"],"d":{"e":"f"}}"#;
        let cases: &[(&str, Result<Option<&str>, &str>)] = &[
            (".n", Ok(Some("1.50"))),
            (".big", Ok(Some("1e999"))),
            (".t", Ok(Some("aé\"b"))),
            (".b", Ok(Some("true"))),
            (".z", Ok(None)),
            (".nope", Ok(None)),
            (".d.e", Ok(Some("f"))),
            (".l[1]", Ok(Some("x"))),
            (".o", Err("an object")),
            (".l", Err("a list")),
        ];
        for (filter, want) in cases {
            for filter in [(*filter).to_owned(), format!("{filter} | .")] {
                match (jq(&filter).scalar(input, &Vars::default()), want) {
                    (Ok(found), Ok(want)) => assert_eq!(found.as_deref(), *want, "{filter}"),
                    (Err(error), Err(want)) => assert!(error.to_string().contains(want), "{filter}: {error}"),
                    (found, _) => panic!("{filter}: {found:?}"),
                }
            }
        }
        assert_eq!(jq("empty").scalar(input, &Vars::default()), Ok(None));
        assert!(jq(".l[]").scalar(input, &Vars::default()).is_err(), "two values are no scalar");
        assert!(matches!(jq(".n").scalar("{", &Vars::default()), Err(JqError::NotJson(_))));
    }

    #[test]
    fn a_fault_in_a_filter_names_its_place() {
        let cases = [
            (".a |", "1:5"),
            (".a | nope", "filter `nope` is not known, at 1:6"),
            (".a\n| $nope", "variable `$nope` is not known, at 2:3"),
            ("(.a", "`(` is not closed"),
            ("\"abc", "`\"` is not closed"),
            (".a ; .b", "1:4"),
            ("é | %", "is expected at 1:1"),
            ("", "is empty"),
            ("env", "`env` is not known"),
            ("$ENV.PATH", "`$ENV` is not known"),
            ("input", "`input` is not known"),
            ("[inputs]", "`inputs` is not known"),
            ("now", "`now` is not known"),
            ("import \"a\" as a; .", "modules"),
        ];
        for (filter, want) in cases {
            let error = Jq::parse(filter).expect_err(filter);
            assert!(error.contains(want), "{filter}: {error}");
        }
        assert!(Jq::parse(&"(".repeat(100_000)).is_err());
        assert!(Jq::parse(&"[".repeat(300)).is_err());
    }

    #[test]
    fn a_filter_that_runs_away_is_stopped() {
        let null = Json::default();
        assert_eq!(jq("range(1e9)").all(&null, &Vars::default()), Err(JqError::TooMany));
        assert_eq!(jq("range(10000)").all(&null, &Vars::default()).map(|all| all.len()), Ok(10_000));
        assert_eq!(
            jq("repeat(1)").truth(&null, &Vars::default()),
            Err(JqError::NotTruth("more than one value".into()))
        );
        assert_eq!(jq("debug, stderr").all(&null, &Vars::default()).map(|all| all.len()), Ok(2));
        let deep = serde_json::json!("[".repeat(100_000)).into();
        assert!(jq("fromjson").first(&deep, &Vars::default()).is_err());
        assert_eq!(
            jq("fromjson.a")
                .first(&serde_json::json!("{\"a\":1.50}").into(), &Vars::default())
                .map(|v| v.map(|v| v.to_text())),
            Ok(Some("1.50".into()))
        );
    }

    #[test]
    fn every_plain_path_is_jq_and_means_the_same() {
        let input = r#"{"a":{"b":[{"c":1},[2]],"odd name":3,"and":4},"if":5}"#;
        for text in [
            ".",
            ".a",
            ".a.b",
            ".a.b[0].c",
            ".a.b.[1][0]",
            ".a[\"odd name\"]",
            ".a.\"odd name\"",
            ".a.and",
            ".if",
            ".[\"a\"].b",
        ] {
            let path = Path::parse(text).expect("a plain path");
            let picked = pick(input, &[&path]).expect("JSON")[0].map(|raw| json(raw.get()).to_text());
            let run = jq(text).first(&json(input), &Vars::default()).expect("a value").map(|value| value.to_text());
            assert_eq!(picked, run, "{text}");
        }
    }
}
