//! JSON text with some places taken out, every other value as it was sent: how masked fields never reach the disk.

use serde::de::Error as _;
use serde_json::Error;

use super::scan::{Scanner, Token, text_value};
use crate::path::{Path, Step};

/// `json` without the places that `paths` lead to. What is not JSON is an error: it cannot be masked.
pub fn without(json: &str, paths: &[Path]) -> Result<String, Error> {
    let mut cutter = Cutter { scanner: Scanner::new(json)?, out: String::with_capacity(json.len()) };
    let rules: Vec<&[Step]> = paths.iter().map(|path| path.steps.as_slice()).collect();
    if rules.iter().any(|steps| steps.is_empty()) {
        return Ok("null".to_owned());
    }
    let token = cutter.scanner.demand()?;
    cutter.value(token, &rules)?;
    Ok(cutter.out)
}

struct Cutter<'a> {
    scanner: Scanner<'a>,
    out: String,
}

impl<'a> Cutter<'a> {
    /// Copies a value. The text was checked before, nesting included.
    fn value(&mut self, token: Token<'a>, rules: &[&[Step]]) -> Result<(), Error> {
        match token {
            Token::Literal(text) => self.out.push_str(text),
            Token::Text(raw) => self.text(raw),
            Token::ListStart => self.list(rules)?,
            Token::ObjectStart => self.object(rules)?,
            Token::End => return Err(Error::custom("a bracket closes what was not opened")),
        }
        Ok(())
    }

    fn text(&mut self, raw: &str) {
        self.out.push('"');
        self.out.push_str(raw);
        self.out.push('"');
    }

    fn object(&mut self, rules: &[&[Step]]) -> Result<(), Error> {
        self.out.push('{');
        let start = self.out.len();
        while let Token::Text(raw) = self.scanner.demand()? {
            let from = self.out.len();
            if from > start {
                self.out.push(',');
            }
            self.text(raw);
            self.out.push(':');
            let field = text_value(raw);
            let token = self.scanner.demand()?;
            match below(rules, |step| matches!(step, Step::Field(name) if *name == field)) {
                Some(rules) => self.value(token, &rules)?,
                None => {
                    self.scanner.skip(token)?;
                    self.out.truncate(from);
                }
            }
        }
        self.out.push('}');
        Ok(())
    }

    fn list(&mut self, rules: &[&[Step]]) -> Result<(), Error> {
        self.out.push('[');
        let start = self.out.len();
        for at in 0.. {
            let token = self.scanner.demand()?;
            if matches!(token, Token::End) {
                break;
            }
            match below(rules, |step| matches!(step, Step::Each) || matches!(step, Step::Index(n) if *n == at)) {
                Some(rules) => {
                    if self.out.len() > start {
                        self.out.push(',');
                    }
                    self.value(token, &rules)?;
                }
                None => self.scanner.skip(token)?,
            }
        }
        self.out.push(']');
        Ok(())
    }
}

/// The rules below a member or item; None when it is taken out.
fn below<'p>(rules: &[&'p [Step]], is: impl Fn(&Step) -> bool) -> Option<Vec<&'p [Step]>> {
    let mut below = Vec::new();
    for steps in rules {
        match steps.split_first() {
            Some((step, [])) if is(step) => return None,
            Some((step, rest)) if is(step) => below.push(rest),
            _ => {}
        }
    }
    Some(below)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_masked_is_gone_and_the_rest_is_as_it_was_sent() {
        let json =
            r#"{"id": 1.50, "card": {"no": "4111", "cvc": "1"}, "l": [{"s": 1, "k": 2}, {"s": 3}], "\u0070in": 7}"#;
        for (mask, want) in [
            (&[".card"][..], r#"{"id":1.50,"l":[{"s":1,"k":2},{"s":3}],"\u0070in":7}"#),
            (&[".card.no", ".pin"], r#"{"id":1.50,"card":{"cvc":"1"},"l":[{"s":1,"k":2},{"s":3}]}"#),
            (&[".id", ".l[].s", ".card", ".pin"], r#"{"l":[{"k":2},{}]}"#),
            (&[".l[0]", ".card", ".pin", ".nope"], r#"{"id":1.50,"l":[{"s":3}]}"#),
            (&["."], "null"),
        ] {
            let paths: Vec<Path> = mask.iter().map(|text| Path::parse(text).expect("a path")).collect();
            assert_eq!(without(json, &paths).expect("JSON"), want, "{mask:?}");
        }
        assert!(without("{", &[]).is_err());
    }
}
