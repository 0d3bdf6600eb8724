//! JSON as jq works on it: number literals stay as they were sent until a filter reckons with them.

use std::borrow::Cow;
use std::fmt::{self, Write};

use jaq_json::{Map, Num, Rc, Val};

use crate::canonical::{DEPTH_MAX, Scanner, Token, text_value};

/// A JSON value. Cheap to clone.
#[derive(Clone, Default, PartialEq)]
pub struct Json(pub(super) Val);

impl Json {
    /// Reads one JSON value; the error is a sentence.
    pub fn parse(bytes: &[u8]) -> Result<Json, String> {
        let text = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8 text".to_owned())?;
        let mut scanner = Scanner::new(text).map_err(|error| error.to_string())?;
        let first = scanner.next().ok_or("it is empty")?;
        read(&mut scanner, first, 0).map(Json)
    }

    /// The value as JSON text, number literals as sent. What JSON cannot say (NaN, infinity) becomes null.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        write(&mut text, &self.0);
        text
    }

    pub fn is_null(&self) -> bool {
        matches!(self.0, Val::Null)
    }

    pub fn as_str(&self) -> Option<&str> {
        match &self.0 {
            Val::TStr(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    pub fn as_bool(&self) -> Option<bool> {
        match self.0 {
            Val::Bool(flag) => Some(flag),
            _ => None,
        }
    }

    /// The items of a list.
    pub fn items(&self) -> Option<Vec<Json>> {
        match &self.0 {
            Val::Arr(items) => Some(items.iter().cloned().map(Json).collect()),
            _ => None,
        }
    }

    /// The members of an object, in order.
    pub fn members(&self) -> Option<Vec<(String, Json)>> {
        let Val::Obj(members) = &self.0 else { return None };
        Some(members.iter().map(|(name, value)| (name_text(name).into_owned(), Json(value.clone()))).collect())
    }

    /// An object of these members.
    pub fn object(members: impl IntoIterator<Item = (String, Json)>) -> Json {
        let map: Map = members.into_iter().map(|(name, value)| (Val::from(name), value.0)).collect();
        Json(Val::Obj(Rc::new(map)))
    }

    /// A list of these items.
    pub fn list(items: impl IntoIterator<Item = Json>) -> Json {
        Json(Val::Arr(Rc::new(items.into_iter().map(|item| item.0).collect())))
    }

    /// What kind of value it is, in words for a message.
    pub fn kind(&self) -> &'static str {
        match &self.0 {
            Val::Null => "null",
            Val::Bool(_) => "true or false",
            Val::Num(_) => "a number",
            Val::BStr(_) | Val::TStr(_) => "text",
            Val::Arr(_) => "a list",
            Val::Obj(_) => "an object",
        }
    }

    /// Text, number, true or false as text; None for null; the kind of anything else.
    pub fn scalar(&self) -> Result<Option<String>, &'static str> {
        match &self.0 {
            Val::Null => Ok(None),
            Val::TStr(bytes) | Val::BStr(bytes) => Ok(Some(String::from_utf8_lossy(bytes).into_owned())),
            Val::Num(_) | Val::Bool(_) => Ok(Some(self.to_text())),
            Val::Arr(_) | Val::Obj(_) => Err(self.kind()),
        }
    }
}

fn read<'a>(scanner: &mut Scanner<'a>, token: Token<'a>, depth: usize) -> Result<Val, String> {
    const CUT: &str = "it ends too early";
    if depth > DEPTH_MAX {
        return Err(format!("it is nested deeper than {DEPTH_MAX} levels"));
    }
    Ok(match token {
        Token::Literal(literal) => read_literal(literal),
        Token::Text(raw) => text(raw),
        Token::ListStart => {
            let mut items = Vec::new();
            loop {
                match scanner.next().ok_or(CUT)? {
                    Token::End => break Val::Arr(Rc::new(items)),
                    token => items.push(read(scanner, token, depth + 1)?),
                }
            }
        }
        Token::ObjectStart => {
            let mut members = Map::default();
            loop {
                let Token::Text(name) = scanner.next().ok_or(CUT)? else { break Val::Obj(Rc::new(members)) };
                let token = scanner.next().ok_or(CUT)?;
                members.insert(text(name), read(scanner, token, depth + 1)?);
            }
        }
        Token::End => return Err("a bracket closes what was not opened".into()),
    })
}

fn text(raw: &str) -> Val {
    Val::from(text_value(raw).into_owned())
}

fn read_literal(literal: &str) -> Val {
    match literal {
        "null" => Val::Null,
        "true" => Val::Bool(true),
        "false" => Val::Bool(false),
        number => Val::Num(read_number(number)),
    }
}

/// Integers can index; everything else keeps its literal. `-0` would lose its sign as an integer.
fn read_number(literal: &str) -> Num {
    let integer = literal.bytes().all(|b| b.is_ascii_digit() || b == b'-') && literal != "-0";
    let number = if integer { Num::from_str_radix(literal, 10) } else { None };
    number.unwrap_or_else(|| Num::Dec(Rc::new(literal.to_owned())))
}

fn write(out: &mut String, value: &Val) {
    match value {
        Val::Null => out.push_str("null"),
        Val::Bool(flag) => out.push_str(if *flag { "true" } else { "false" }),
        Val::Num(number) => write_number(out, number),
        Val::TStr(bytes) | Val::BStr(bytes) => write_text(out, &String::from_utf8_lossy(bytes)),
        Val::Arr(items) => {
            out.push('[');
            for (n, item) in items.iter().enumerate() {
                if n > 0 {
                    out.push(',');
                }
                write(out, item);
            }
            out.push(']');
        }
        Val::Obj(members) => {
            out.push('{');
            for (n, (name, value)) in members.iter().enumerate() {
                if n > 0 {
                    out.push(',');
                }
                write_text(out, &name_text(name));
                out.push(':');
                write(out, value);
            }
            out.push('}');
        }
    }
}

/// jaq's objects may have names that are no text; JSON's may not.
fn name_text(name: &Val) -> Cow<'_, str> {
    match name {
        Val::TStr(bytes) | Val::BStr(bytes) => String::from_utf8_lossy(bytes),
        other => Cow::Owned(Json(other.clone()).to_text()),
    }
}

fn write_text(out: &mut String, text: &str) {
    // Text always becomes JSON.
    out.push_str(&serde_json::to_string(text).unwrap_or_default());
}

fn write_number(out: &mut String, number: &Num) {
    match number {
        Num::Float(float) if !float.is_finite() => out.push_str("null"),
        Num::Dec(literal) if serde_json::from_str::<&serde_json::value::RawValue>(literal).is_err() => {
            // A literal of a filter or of `tonumber`, such as `+1.5`, that JSON does not know.
            write_number(out, &Num::from_dec_str(literal));
        }
        number => {
            // Writing to a String cannot fail.
            let _ = write!(out, "{number}");
        }
    }
}

impl From<serde_json::Value> for Json {
    fn from(value: serde_json::Value) -> Json {
        Json(from_value(&value))
    }
}

impl From<&serde_json::Map<String, serde_json::Value>> for Json {
    fn from(members: &serde_json::Map<String, serde_json::Value>) -> Json {
        Json(from_members(members))
    }
}

impl From<String> for Json {
    fn from(text: String) -> Json {
        Json(Val::from(text))
    }
}

impl From<&str> for Json {
    fn from(text: &str) -> Json {
        Json(Val::from(text.to_owned()))
    }
}

fn from_value(value: &serde_json::Value) -> Val {
    match value {
        serde_json::Value::Null => Val::Null,
        serde_json::Value::Bool(flag) => Val::Bool(*flag),
        serde_json::Value::Number(number) => Val::Num(read_number(&number.to_string())),
        serde_json::Value::String(text) => Val::from(text.clone()),
        serde_json::Value::Array(items) => items.iter().map(from_value).collect(),
        serde_json::Value::Object(members) => from_members(members),
    }
}

fn from_members(members: &serde_json::Map<String, serde_json::Value>) -> Val {
    let map: Map = members.iter().map(|(name, value)| (Val::from(name.clone()), from_value(value))).collect();
    Val::Obj(Rc::new(map))
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_comes_out_as_it_went_in() {
        let cases = [
            (" {\"b\" : 1.0, \"a\":[ 1e5 ,-0, null ,true]} ", r#"{"b":1.0,"a":[1e5,-0,null,true]}"#),
            (r#""\u00e9\n""#, "\"é\\n\""),
            ("123456789012345678901234567890", "123456789012345678901234567890"),
            ("-9223372036854775809", "-9223372036854775809"),
        ];
        for (json, want) in cases {
            assert_eq!(Json::parse(json.as_bytes()).map(|j| j.to_text()), Ok(want.into()));
        }
        let value = serde_json::json!({"a": [1, 2.5, "x", null, false]});
        assert_eq!(Json::from(value.clone()).to_text(), value.to_string());
    }

    #[test]
    fn what_is_not_json_is_refused_with_a_sentence() {
        let deep = "[".repeat(70) + &"]".repeat(70);
        for bytes in [&b"\xff"[..], b"", b"{", b"{'a':1}", b"NaN", b"# c\n1", b"+1", b"b\"x\"", deep.as_bytes()] {
            assert!(Json::parse(bytes).is_err(), "{bytes:?}");
        }
    }
}
