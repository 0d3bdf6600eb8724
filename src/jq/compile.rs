//! A filter's text → a compiled filter, or a sentence that says where it is wrong.

use std::sync::LazyLock;

use jaq_core::load::{self, Arena, File, Loader, lex, parse::Def};
use jaq_core::native::{Fun, bome, run, v};
use jaq_core::{Compiler, Error, data};
use jaq_json::Val;

use super::Json;
use super::fault::HALTED;

pub(super) type Data = data::JustLut<Val>;
pub(super) type Filter = jaq_core::Filter<Data>;

/// Longest text, and deepest nesting of brackets in it: the parser goes down once for each.
const TEXT_MAX: usize = 64 * 1024;
const NESTING_MAX: usize = 100;

/// The definitions of the standard library, read once.
static DEFINITIONS: LazyLock<Vec<Def<&'static str>>> =
    LazyLock::new(|| jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs()).collect());

pub(super) fn compile(text: &str, vars: &[&'static str]) -> Result<Filter, String> {
    if text.trim().is_empty() {
        return Err("the filter is empty; `.` is the input itself".into());
    }
    let nesting = text.bytes().filter(|b| b"([{".contains(b)).count();
    if text.len() > TEXT_MAX || (nesting > NESTING_MAX && deepest(text) > NESTING_MAX) {
        return Err(format!("a filter may be {TEXT_MAX} bytes long and {NESTING_MAX} brackets deep"));
    }
    let arena = Arena::default();
    let loader = Loader::new(DEFINITIONS.iter().cloned());
    let modules = loader.load(&arena, File { code: text, path: () }).map_err(|errors| {
        errors
            .into_iter()
            .next()
            .map_or_else(|| "the filter cannot be read".into(), |(_, error)| load_error(text, error))
    })?;
    let compiler = Compiler::default().with_funs(functions()).with_global_vars(vars.iter().copied());
    compiler.compile(modules).map_err(|errors| {
        let first = errors.into_iter().flat_map(|(_, errors)| errors).next();
        first.map_or_else(
            || "the filter cannot be compiled".into(),
            |(name, kind)| format!("{} `{name}` is not known, at {}", kind.as_str(), place(text, name)),
        )
    })
}

fn deepest(text: &str) -> usize {
    let mut depth = 0_usize;
    let mut deepest = 0;
    for byte in text.bytes() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

fn load_error(text: &str, error: load::Error<&str>) -> String {
    match error {
        load::Error::Io(_) => "a filter cannot import modules".into(),
        load::Error::Lex(errors) => match errors.first() {
            Some((lex::Expect::Delim(open), at)) => {
                format!("`{open}` is not closed where the filter stops making sense, at {}", place(text, at))
            }
            Some((expected, at)) => format!("{} is expected at {}", expected.as_str(), place(text, at)),
            None => "the filter cannot be read".into(),
        },
        load::Error::Parse(errors) => match errors.first() {
            Some((expected, found)) if found.is_empty() => {
                format!("{} is expected at {}, where the filter ends", expected.as_str(), place(text, found))
            }
            Some((expected, found)) => {
                format!("{} is expected at {}, not `{found}`", expected.as_str(), place(text, found))
            }
            None => "the filter cannot be read".into(),
        },
    }
}

/// Line and column, both from 1, of a part of the text.
fn place(text: &str, part: &str) -> String {
    let at = (part.as_ptr() as usize).saturating_sub(text.as_ptr() as usize);
    let before = text.get(..at).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before[before.rfind('\n').map_or(0, |n| n + 1)..].chars().count() + 1;
    format!("{line}:{column}")
}

/// The library's functions without those that look outside, and with our own reading of JSON, which keeps a depth limit.
fn functions() -> impl Iterator<Item = Fun<Data>> {
    let replaced = ["env", "now", "halt", "debug_empty", "stderr_empty", "fromjson"];
    let theirs = jaq_core::funs().chain(jaq_std::funs()).chain(jaq_json::funs());
    type Own = (&'static str, Box<[jaq_core::Bind]>, jaq_core::RunPtr<Data>);
    let own: [Own; 4] = [
        ("halt", v(1), |_| bome(Err(Error::str(HALTED)))),
        ("debug_empty", v(0), |_| Box::new(std::iter::empty())),
        ("stderr_empty", v(0), |_| Box::new(std::iter::empty())),
        ("fromjson", v(0), |cv| bome(from_json(&cv.1))),
    ];
    theirs.filter(move |(name, ..)| !replaced.contains(name)).chain(own.into_iter().map(run::<Data>))
}

fn from_json(value: &Val) -> Result<Val, Error<Val>> {
    match value {
        Val::TStr(text) => Json::parse(text).map(|json| json.0).or_else(|error| {
            // Numbers as people write them, such as `007`, for `tonumber`.
            jaq_json::read::parse_single_num(text.trim_ascii()).map(Val::Num).ok_or_else(|| Error::str(error))
        }),
        _ => Err(Error::str("fromjson needs text")),
    }
}
