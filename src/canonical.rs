//! The canonical form of a JSON value: what is hashed into a record's fingerprint.
//!
//! Members sorted by name, whitespace gone, texts escaped one way, ignored places left out, lists that are sets sorted. Number
//! literals stay exactly as they were sent: `1.0` and `1` differ, and no number ever goes through a float.
//! The form belongs to what is stored: a change to it is a new [`CANONICAL_VERSION`].

mod alike;
mod scan;
mod twice;
mod without;

use std::borrow::Cow;
use std::ops::Range;

use serde::de::Error as _;
use serde_json::Error;

use crate::path::{Path, Step};

pub(crate) use scan::{Scanner, Token, text_value};
pub use twice::repeated_name;
pub use without::without;

/// Version of the form. Goes into a stream's definition.
pub const CANONICAL_VERSION: u32 = 1;

/// Deepest nesting that is read.
pub const DEPTH_MAX: usize = 64;

/// What takes part in a comparison, and which differences are none (KEYS rows 45 and 46).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Comparing {
    /// Empty: every place.
    pub only: Vec<Path>,
    pub ignore: Vec<Path>,
    /// Lists that are sets.
    pub unordered: Vec<Path>,
    pub equal: Equal,
}

impl Comparing {
    /// Whether an object's or list's members have rules of their own, or all values count as they stand.
    fn rules(&self) -> Rules<'_> {
        Rules {
            only: (!self.only.is_empty()).then(|| self.only.iter().map(|path| path.steps.as_slice()).collect()),
            ignore: self.ignore.iter().map(|path| path.steps.as_slice()).collect(),
            unordered: self.unordered.iter().map(|path| without_each(&path.steps)).collect(),
        }
    }

    /// The rules below a place, given by the names that lead there.
    pub fn below(&self, place: &[String]) -> Comparing {
        let cut = |paths: &[Path]| -> Vec<Path> {
            let leads = |path: &&Path| path.steps.len() >= place.len() && leads_along(&path.steps, place);
            let rest = |path: &Path| Path { text: path.text.clone(), steps: path.steps[place.len()..].to_vec() };
            paths.iter().filter(leads).map(rest).collect()
        };
        // Below a place that takes part as a whole, every place does.
        let whole = self.only.iter().any(|path| path.steps.len() <= place.len() && leads_along(&path.steps, place));
        Comparing {
            only: if whole { Vec::new() } else { cut(&self.only) },
            ignore: cut(&self.ignore),
            unordered: cut(&self.unordered),
            equal: self.equal,
        }
    }

    /// Whether a place takes part: it is not ignored, and lies on or below one of `only` or leads to one.
    pub fn takes_part(&self, place: &[String]) -> bool {
        let ignored = self.ignore.iter().any(|path| path.steps.len() == place.len() && leads_along(&path.steps, place));
        !ignored && (self.only.is_empty() || self.only.iter().any(|path| leads_along(&path.steps, place)))
    }
}

/// Whether path and place go the same way as far as both go.
fn leads_along(steps: &[Step], place: &[String]) -> bool {
    steps.iter().zip(place).all(|(step, name)| match step {
        Step::Field(field) => field == name,
        Step::Index(_) | Step::Each => false,
    })
}

/// Kinds of difference between two values that are none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Equal {
    /// `1.0`, `1` and `1e0` are one number.
    pub numbers: bool,
    /// One moment in two RFC 3339 spellings.
    pub times: bool,
    /// White space at the ends of a text, and how much of it between words.
    pub space: bool,
    /// Capitals of a text.
    pub case: bool,
}

/// The canonical form of `json`. Of members with equal names the last counts.
pub fn canonical(json: &str, comparing: &Comparing) -> Result<Vec<u8>, Error> {
    let mut writer =
        Writer { scanner: Scanner::new(json)?, out: Vec::with_capacity(json.len()), equal: comparing.equal };
    let rules = comparing.rules();
    if rules.ignore.iter().any(|steps| steps.is_empty()) {
        return Ok(b"null".to_vec());
    }
    let token = writer.scanner.demand()?;
    writer.value(token, &rules, 0)?;
    Ok(writer.out)
}

/// Of an unordered path `.tags[]` and `.tags` mean the same list.
fn without_each(steps: &[Step]) -> &[Step] {
    match steps.split_last() {
        Some((Step::Each, before)) => before,
        _ => steps,
    }
}

/// The paths that may still match below this place.
#[derive(Default)]
struct Rules<'p> {
    /// None: everything below takes part.
    only: Option<Vec<&'p [Step]>>,
    ignore: Vec<&'p [Step]>,
    unordered: Vec<&'p [Step]>,
}

impl<'p> Rules<'p> {
    /// The rules below a member or item; None when it takes no part.
    fn below(&self, is: impl Fn(&Step) -> bool) -> Option<Rules<'p>> {
        let mut below = Rules::default();
        if let Some(only) = &self.only {
            let mut led = only.iter().filter_map(|steps| steps.split_first()).filter(|(step, _)| is(step)).peekable();
            led.peek()?;
            let led: Vec<&'p [Step]> = led.map(|(_, rest)| rest).collect();
            below.only = if led.iter().any(|rest| rest.is_empty()) { None } else { Some(led) };
        }
        for steps in &self.ignore {
            match steps.split_first() {
                Some((step, [])) if is(step) => return None,
                Some((step, rest)) if is(step) => below.ignore.push(rest),
                _ => {}
            }
        }
        for steps in &self.unordered {
            if let Some((step, rest)) = steps.split_first()
                && is(step)
            {
                below.unordered.push(rest);
            }
        }
        Some(below)
    }

    fn sorts_this(&self) -> bool {
        self.unordered.iter().any(|steps| steps.is_empty())
    }
}

struct Writer<'a> {
    scanner: Scanner<'a>,
    out: Vec<u8>,
    equal: Equal,
}

/// One member as written: where its name and its whole text stand in the output.
struct Member {
    name: Range<usize>,
    whole: Range<usize>,
}

impl<'a> Writer<'a> {
    fn value(&mut self, token: Token<'a>, rules: &Rules<'_>, depth: usize) -> Result<(), Error> {
        if depth > DEPTH_MAX {
            return Err(Error::custom(format!("it is nested deeper than {DEPTH_MAX} levels")));
        }
        match token {
            Token::Literal(text) => alike::literal(&mut self.out, text, self.equal),
            Token::Text(raw) => alike::text(&mut self.out, raw, self.equal),
            Token::ListStart => self.list(rules, depth)?,
            Token::ObjectStart => self.object(rules, depth)?,
            Token::End => return Err(Error::custom("a bracket closes what was not opened")),
        }
        Ok(())
    }

    fn object(&mut self, rules: &Rules<'_>, depth: usize) -> Result<(), Error> {
        self.out.push(b'{');
        let start = self.out.len();
        let mut members = Vec::new();
        while let Token::Text(raw) = self.scanner.demand()? {
            let from = self.out.len();
            alike::plain(&mut self.out, raw);
            let name = from..self.out.len();
            self.out.push(b':');
            let field: Cow<'_, str> = text_value(raw);
            let token = self.scanner.demand()?;
            match rules.below(|step| matches!(step, Step::Field(f) if *f == field)) {
                Some(below) => self.value(token, &below, depth + 1)?,
                None => {
                    self.scanner.skip(token)?;
                    self.out.truncate(from);
                    continue;
                }
            }
            members.push(Member { name, whole: from..self.out.len() });
        }
        self.arrange(start, members);
        self.out.push(b'}');
        Ok(())
    }

    /// Puts the members written since `start` in the order of their names, with commas.
    fn arrange(&mut self, start: usize, mut members: Vec<Member>) {
        let written = self.out.split_off(start);
        let at = |range: &Range<usize>| &written[range.start - start..range.end - start];
        members.sort_by(|a, b| at(&a.name).cmp(at(&b.name)));
        for (n, member) in members.iter().enumerate() {
            // The sort is stable: the last of equal names is the one sent last.
            if members.get(n + 1).is_some_and(|next| at(&next.name) == at(&member.name)) {
                continue;
            }
            if self.out.len() > start {
                self.out.push(b',');
            }
            self.out.extend_from_slice(at(&member.whole));
        }
    }

    fn list(&mut self, rules: &Rules<'_>, depth: usize) -> Result<(), Error> {
        self.out.push(b'[');
        let start = self.out.len();
        let mut items: Vec<Range<usize>> = Vec::new();
        let sorted = rules.sorts_this();
        for at in 0.. {
            let token = self.scanner.demand()?;
            if matches!(token, Token::End) {
                break;
            }
            let below = rules.below(|step| matches!(step, Step::Each) || matches!(step, Step::Index(n) if *n == at));
            let Some(below) = below else {
                self.scanner.skip(token)?;
                continue;
            };
            if !sorted && self.out.len() > start {
                self.out.push(b',');
            }
            let from = self.out.len();
            self.value(token, &below, depth + 1)?;
            if sorted {
                items.push(from - start..self.out.len() - start);
            }
        }
        if sorted {
            let written = self.out.split_off(start);
            items.sort_by(|a, b| written[a.clone()].cmp(&written[b.clone()]));
            let texts: Vec<&[u8]> = items.into_iter().map(|item| &written[item]).collect();
            self.out.extend_from_slice(&texts.join(&b','));
        }
        self.out.push(b']');
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(json: &str, ignore: &[&str], unordered: &[&str]) -> String {
        let paths = |texts: &[&str]| texts.iter().map(|t| Path::parse(t).expect("a path")).collect::<Vec<_>>();
        let comparing = Comparing { ignore: paths(ignore), unordered: paths(unordered), ..Comparing::default() };
        String::from_utf8(canonical(json, &comparing).expect("JSON")).expect("UTF-8")
    }

    fn plain(json: &str) -> Result<Vec<u8>, Error> {
        canonical(json, &Comparing::default())
    }

    #[test]
    fn one_value_has_one_form_however_it_is_written() {
        let cases = [
            (r#" { "b" : 1 , "a" : [ 1 , 2 ] } "#, r#"{"a":[1,2],"b":1}"#),
            (r#"{"a":{"d":1,"c":2},"A":0}"#, r#"{"A":0,"a":{"c":2,"d":1}}"#),
            (
                r#"{"n":1.0,"m":1,"e":1E5,"z":-0,"big":123456789012345678901234567890.10}"#,
                r#"{"big":123456789012345678901234567890.10,"e":1E5,"m":1,"n":1.0,"z":-0}"#,
            ),
            (r#""\u0041\/\u00e9\n\u001f\"\\\ud83d\ude00""#, "\"A/é\\n\\u001f\\\"\\\\😀\""),
            (r#""\ud800x\uDC00""#, r#""\ud800x\udc00""#),
            (r#"{"\u0061":1,"b":2,"a":3}"#, r#"{"a":3,"b":2}"#),
            ("[]", "[]"),
            ("{}", "{}"),
            ("[[],{},null,true,false]", "[[],{},null,true,false]"),
            ("\"\"", "\"\""),
            (" 5 ", "5"),
            ("\"a\\u007fb\u{7f}\"", "\"a\u{7f}b\u{7f}\""),
        ];
        for (json, want) in cases {
            assert_eq!(form(json, &[], &[]), want, "{json}");
            assert_eq!(form(want, &[], &[]), want, "the form of a form is itself: {json}");
        }
    }

    #[test]
    fn ignored_places_are_left_out() {
        let json = r#"{"id":1,"meta":{"at":5,"by":"x"},"l":[{"t":1,"v":2},{"t":3}],"z":[1,2,3]}"#;
        let cases: &[(&[&str], &str)] = &[
            (&[".meta"], r#"{"id":1,"l":[{"t":1,"v":2},{"t":3}],"z":[1,2,3]}"#),
            (&[".meta.at", ".l[].t"], r#"{"id":1,"l":[{"v":2},{}],"meta":{"by":"x"},"z":[1,2,3]}"#),
            (&[".l[0].t", ".z[1]"], r#"{"id":1,"l":[{"v":2},{"t":3}],"meta":{"at":5,"by":"x"},"z":[1,3]}"#),
            (&[".z[]", ".l[]", ".id", ".meta"], r#"{"l":[],"z":[]}"#),
            (
                &[".z[0]", ".nope.x", ".id.x"],
                r#"{"id":1,"l":[{"t":1,"v":2},{"t":3}],"meta":{"at":5,"by":"x"},"z":[2,3]}"#,
            ),
            (&["."], "null"),
        ];
        for (ignore, want) in cases {
            assert_eq!(form(json, ignore, &[]), *want, "{ignore:?}");
        }
    }

    #[test]
    fn lists_that_are_sets_compare_equal_in_any_order() {
        let a = r#"{"tags":["b","a"],"rows":[{"y":1,"x":[2,1]},{"y":0}]}"#;
        let b = r#"{"rows":[{"y":0},{"x":[1,2],"y":1}],"tags":["a","b"]}"#;
        let sets: &[&str] = &[".tags", ".rows[]", ".rows[].x"];
        assert_eq!(form(a, &[], sets), form(b, &[], sets));
        assert_ne!(form(a, &[], &[".tags"]), form(b, &[], &[".tags"]));
        assert_eq!(form("[3,1,2]", &[], &["."]), "[1,2,3]");
        assert_eq!(form(r#"{"tags":[]}"#, &[], &[".tags"]), r#"{"tags":[]}"#);
    }

    #[test]
    fn with_only_nothing_else_takes_part() {
        let json = r#"{"id":1,"meta":{"at":5,"by":"x"},"l":[{"t":1,"v":2},{"t":3}],"z":[1,2,3]}"#;
        let cases: &[(&[&str], &[&str], &str)] = &[
            (&[".id"], &[], r#"{"id":1}"#),
            (&[".meta"], &[".meta.at"], r#"{"meta":{"by":"x"}}"#),
            (&[".meta.by", ".l[].t"], &[], r#"{"l":[{"t":1},{"t":3}],"meta":{"by":"x"}}"#),
            (&[".z[1]", ".nope"], &[], r#"{"z":[2]}"#),
        ];
        for (only, ignore, want) in cases {
            let paths = |texts: &[&str]| texts.iter().map(|t| Path::parse(t).expect("a path")).collect();
            let comparing = Comparing { only: paths(only), ignore: paths(ignore), ..Comparing::default() };
            let form = canonical(json, &comparing).expect("JSON");
            assert_eq!(String::from_utf8(form).expect("UTF-8"), *want, "{only:?}");
        }
    }

    #[test]
    fn a_place_takes_part_or_not_and_below_it_the_rules_go_on() {
        let paths = |texts: &[&str]| texts.iter().map(|t| Path::parse(t).expect("a path")).collect::<Vec<_>>();
        let place = |text: &str| text.split('.').filter(|s| !s.is_empty()).map(str::to_owned).collect::<Vec<_>>();
        let comparing = Comparing { only: paths(&[".a.b", ".c"]), ignore: paths(&[".c.d"]), ..Comparing::default() };
        for (at, takes_part) in [
            ("", true),
            ("a", true),
            ("a.b", true),
            ("a.b.x", true),
            ("a.x", false),
            ("c.x", true),
            ("c.d", false),
            ("e", false),
        ] {
            assert_eq!(comparing.takes_part(&place(at)), takes_part, "{at}");
        }
        assert_eq!(
            comparing.below(&place("a")).only,
            [Path { text: ".a.b".into(), steps: vec![Step::Field("b".into())] }]
        );
        assert!(comparing.below(&place("c")).only.is_empty(), "the whole of c takes part");
    }

    fn any_json() -> impl proptest::strategy::Strategy<Value = serde_json::Value> {
        use proptest::prelude::*;
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<String>().prop_map(Into::into),
        ];
        leaf.prop_recursive(5, 64, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(serde_json::Value::from),
                prop::collection::vec((any::<String>(), inner), 0..8)
                    .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest::proptest! {
        #[test]
        fn the_form_says_what_the_value_says_and_not_how(value in any_json()) {
            let form = plain(&value.to_string()).expect("JSON");
            let pretty = serde_json::to_string_pretty(&value).expect("JSON");
            proptest::prop_assert_eq!(&form, &plain(&pretty).expect("JSON"));
            proptest::prop_assert_eq!(serde_json::from_slice::<serde_json::Value>(&form).expect("JSON"), value);
        }

        #[test]
        fn no_text_makes_the_small_languages_panic(text in "[ .\\[\\]{}()|\"'%a-c0-2#?,:;$@\\\\-]{0,40}") {
            let _ = Path::parse(&text);
            let _ = crate::jq::Jq::parse(&text);
            let _ = crate::template::Template::parse(&text);
            let _ = crate::template::TimeFormat::parse(&text);
            let _ = plain(&text);
            let _ = crate::jq::Json::parse(text.as_bytes());
        }
    }

    #[test]
    fn too_deep_or_not_json_is_an_error() {
        let nested = |n: usize| format!("{}1{}", "[".repeat(n), "]".repeat(n));
        assert!(plain(&nested(DEPTH_MAX)).is_ok());
        assert!(plain(&nested(DEPTH_MAX + 1)).is_err());
        assert!(plain(&nested(100_000)).is_err());
        for json in ["", "{", "{]", "nul", r#"{"a":1}}"#, "[1,]", "[1 2]", r#"{"a" 1}"#, "\"\\q\"", "01"] {
            assert!(plain(json).is_err(), "{json}");
        }
    }
}
