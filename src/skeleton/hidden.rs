//! What in an address looks like a credential: it becomes a secret of the draft, and its value is written nowhere.

use percent_encoding::percent_decode_str;
use url::Url;

/// The secrets that stand for parts of an address.
#[derive(Debug, Default)]
pub struct Hidden {
    /// The path as a template.
    pub path: String,
    /// Parameters that are written as a secret, each with the secret's name.
    pub query: Vec<(String, String)>,
    /// All these secrets, each with what it is.
    pub secrets: Vec<(String, String)>,
}

impl Hidden {
    /// Looks at an address. `taken`: a parameter that is told of elsewhere.
    pub fn of(url: &Url, taken: Option<&str>) -> Hidden {
        let mut hidden = Hidden::default();
        let segments: Vec<String> = url.path().split('/').map(|segment| hidden.segment(segment)).collect();
        hidden.path = segments.join("/");
        for (parameter, value) in url.query_pairs() {
            let again = hidden.query.iter().any(|(known, _)| *known == *parameter);
            if taken != Some(&*parameter) && !again && (secret_name(&parameter) || looks_secret(&value)) {
                let name = hidden.name(&parameter, format!("the value of `{parameter}` in the address"));
                hidden.query.push((parameter.into_owned(), name));
            }
        }
        hidden
    }

    fn segment(&mut self, segment: &str) -> String {
        if !is_secret_segment(segment) {
            return segment.to_owned();
        }
        let name = self.name("path", "a part of the address that looks like a credential".to_owned());
        format!("{{{{ secrets.{name} }}}}")
    }

    /// A name of its own for one more secret; `key`, `token`, `user` and `password` are what `auth` is given.
    fn name(&mut self, wanted: &str, what: String) -> String {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
        let mut stem: String = wanted.chars().map(plain).collect();
        if !stem.starts_with(|c: char| c.is_ascii_alphabetic())
            || ["key", "token", "user", "password"].contains(&stem.as_str())
        {
            stem.insert_str(0, "address_");
        }
        let names = std::iter::once(stem.clone()).chain((2..).map(|n| format!("{stem}_{n}")));
        let free = names.into_iter().find(|name| !self.secrets.iter().any(|(known, _)| known == name));
        let name = free.unwrap_or(stem);
        self.secrets.push((name.clone(), what));
        name
    }
}

/// Whether a part of a path, as it stands in the address, looks like a credential.
pub fn is_secret_segment(segment: &str) -> bool {
    looks_secret(&percent_decode_str(segment).decode_utf8_lossy())
}

/// Whether a header or a parameter of this name holds a credential.
pub fn secret_name(name: &str) -> bool {
    const WHOLE: [&str; 9] = ["key", "appid", "sig", "signature", "auth", "pwd", "sid", "code", "jwt"];
    const PARTS: [&str; 8] = ["apikey", "token", "secret", "password", "accesskey", "authkey", "credential", "session"];
    let name = name.to_ascii_lowercase().replace(['-', '_'], "");
    WHOLE.contains(&name.as_str()) || PARTS.iter().any(|word| name.contains(word))
}

/// Whether a value is long and looks random, or is written as credentials are. A wrong guess costs a line to correct; a value that
/// is let through stands in a file that is shared.
fn looks_secret(value: &str) -> bool {
    if is_time(value) || value.len() < 12 {
        return false;
    }
    // Not the comma: lists of names and numbers are no secrets.
    if !value.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.~+/=:%$!*@".contains(&b)) {
        return false;
    }
    let digits = value.bytes().filter(u8::is_ascii_digit).count();
    let letters = value.bytes().filter(u8::is_ascii_alphabetic).count();
    let marked = value.contains(':') && digits > 0 && letters > 0;
    if marked || value.ends_with('=') {
        return true;
    }
    let kinds = value.bytes().filter(u8::is_ascii_alphanumeric).map(|b| match b {
        b'0'..=b'9' => 0,
        b'A'..=b'Z' => 1,
        _ => 2,
    });
    let kinds: Vec<u8> = kinds.collect();
    let turns = kinds.windows(2).filter(|pair| pair[0] != pair[1]).count();
    // Words in camel case turn twice for each word.
    kinds.len() >= 16 && if digits > 0 && letters > 0 { turns >= 4 } else { turns * 5 >= kinds.len() * 2 }
}

fn is_time(value: &str) -> bool {
    let date = value.get(..10).is_some_and(|date| chrono::NaiveDate::parse_from_str(date, "%Y-%m-%d").is_ok());
    date && value.len() <= 35 && value[10..].bytes().all(|b| b.is_ascii_digit() || b"T :.+-Z".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_told_from_names_numbers_and_times() {
        for (value, secret) in [
            ("bot123456:AAHsecretsecret", true),
            ("123456789:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw", true),
            ("9f86d081884c7d65", true),
            ("550e8400-e29b-41d4-a716-446655440000", true),
            ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc", true),
            ("dXNlcjpwYXNzd29yZA==", true),
            ("aBcDeFgHiJkLmNoPqRsT", true),
            ("orders", false),
            ("getTransactionsByCustomerId", false),
            ("transactions-of-the-last-month", false),
            ("created:desc", false),
            ("documents:batchGet", false),
            ("2026-01-05T12:00:00.000+02:00", false),
            ("2026-01-05", false),
            ("12345678901234567890", false),
            ("UA213223130000026007233566001", false),
            ("id,name,created_at,updated_at", false),
        ] {
            assert_eq!(looks_secret(value), secret, "{value}");
        }
    }
}
