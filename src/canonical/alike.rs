//! Values as the canonical form writes them: each one way, and two of a kind that is declared equal the same way.

use chrono::{DateTime, SecondsFormat, Utc};

use super::Equal;
use super::scan::{self, text_value};

/// Writes a number, true, false or null.
pub(super) fn literal(out: &mut Vec<u8>, text: &str, equal: Equal) {
    match equal.numbers.then(|| number(text)).flatten() {
        Some(number) => out.extend_from_slice(number.as_bytes()),
        None => out.extend_from_slice(text.as_bytes()),
    }
}

/// A number by its value: its digits without zeros at the ends, and a power of ten. No digit is lost, whatever its length.
fn number(text: &str) -> Option<String> {
    let (negative, rest) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    if !rest.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let (mantissa, exponent) = rest.split_once(['e', 'E']).unwrap_or((rest, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let from_left = digits.trim_start_matches('0');
    let significant = from_left.trim_end_matches('0');
    if significant.is_empty() {
        return Some("0".to_owned());
    }
    let dropped = i128::try_from(from_left.len() - significant.len()).ok()?;
    let behind = i128::try_from(fraction.len()).ok()?;
    // An exponent beyond any use stays as it was written.
    let power = exponent.strip_prefix('+').unwrap_or(exponent).parse::<i64>().ok()?;
    let power = i128::from(power) - behind + dropped;
    Some(format!("{}{significant}e{power}", if negative { "-" } else { "" }))
}

/// Writes a text; what stands between its quotes comes escaped.
pub(super) fn text(out: &mut Vec<u8>, raw: &str, equal: Equal) {
    if equal == Equal::default() {
        return plain(out, raw);
    }
    let value = text_value(raw);
    if equal.times
        && let Some(moment) = moment(&value)
    {
        return plain(out, &moment);
    }
    let mut value = value.into_owned();
    if equal.space {
        value = value.split_whitespace().collect::<Vec<_>>().join(" ");
    }
    if equal.case {
        value = value.to_lowercase();
    }
    out.push(b'"');
    value.chars().for_each(|char| scan::write_unit(out, scan::Unit::Char(char)));
    out.push(b'"');
}

/// A time as RFC 3339 writes it, in UTC with all its digits. A time without a zone is none: nobody knows when it was.
fn moment(text: &str) -> Option<String> {
    let looks = text.len() >= 20 && text.as_bytes()[4] == b'-' && text.as_bytes()[0].is_ascii_digit();
    let time = looks.then(|| DateTime::parse_from_rfc3339(text).ok()).flatten()?;
    Some(time.with_timezone(&Utc).to_rfc3339_opts(SecondsFormat::Nanos, true))
}

/// Writes a text one way, whatever escapes it was sent with. A lone surrogate, which is no character, stays an escape.
pub(super) fn plain(out: &mut Vec<u8>, raw: &str) {
    out.push(b'"');
    if raw.contains('\\') {
        for part in scan::units(raw) {
            scan::write_unit(out, part);
        }
    } else {
        // Without a backslash there is nothing in valid JSON text that could be written differently.
        out.extend_from_slice(raw.as_bytes());
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::super::{Comparing, Equal, canonical};

    fn form(json: &str, equal: Equal) -> String {
        let comparing = Comparing { equal, ..Comparing::default() };
        String::from_utf8(canonical(json, &comparing).expect("JSON")).expect("UTF-8")
    }

    #[test]
    fn numbers_of_one_value_are_one_number() {
        let numbers = Equal { numbers: true, ..Equal::default() };
        for (one, other) in [
            ("1", "1.0"),
            ("10.50", "10.5"),
            ("100", "1e2"),
            ("1E+2", "100.000"),
            ("-0", "0.0"),
            ("0.001", "1e-3"),
            ("12345678901234567890123", "12345678901234567890123.0"),
        ] {
            assert_eq!(form(one, numbers), form(other, numbers), "{one} {other}");
            assert_ne!(form(one, Equal::default()), form(other, Equal::default()), "{one} {other}");
        }
        for (one, other) in [
            ("1", "2"),
            ("1", "10"),
            ("1", "-1"),
            ("12345678901234567890123", "12345678901234567890124"),
            ("1", "\"1\""),
        ] {
            assert_ne!(form(one, numbers), form(other, numbers), "{one} {other}");
        }
        assert_eq!(form("[true,null,1e99999999999999999999]", numbers), "[true,null,1e99999999999999999999]");
    }

    #[test]
    fn times_space_and_case_only_where_the_file_says_so() {
        let times = Equal { times: true, ..Equal::default() };
        let space = Equal { space: true, ..Equal::default() };
        let case = Equal { case: true, ..Equal::default() };
        for (one, other, equal) in [
            (r#""2026-01-01T12:00:00+02:00""#, r#""2026-01-01T10:00:00.000Z""#, times),
            (r#""a  b\n""#, r#"" a b""#, space),
            (r#""\u00c9A""#, r#""éa""#, case),
        ] {
            assert_eq!(form(one, equal), form(other, equal), "{one} {other}");
            assert_ne!(form(one, Equal::default()), form(other, Equal::default()), "{one} {other}");
        }
        for (one, other, equal) in [
            (r#""2026-01-01T12:00:00""#, r#""2026-01-01T12:00:00Z""#, times),
            (r#""2026-01-01T12:00:00.0000001Z""#, r#""2026-01-01T12:00:00.0000002Z""#, times),
            (r#""ab""#, r#""a b""#, space),
            (r#""a b""#, r#""A b""#, space),
        ] {
            assert_ne!(form(one, equal), form(other, equal), "{one} {other}");
        }
    }
}
