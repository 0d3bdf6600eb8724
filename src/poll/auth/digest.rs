//! Digest authentication (RFC 7616): the provider challenges, and the password answers without going out. MD5 and SHA-256, `auth` and
//! no protection of bodies. Pure.

use http::{HeaderMap, header};
use md5::Md5;
use sha2::{Digest, Sha256};

use super::{RequestFault, Result};
use crate::client::Outgoing;

/// What a provider asks to be answered.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Challenge {
    realm: String,
    nonce: String,
    opaque: Option<String>,
    algorithm: Algorithm,
    /// The word that the provider uses for it; None: it names none.
    named: Option<String>,
    session: bool,
    /// False: a provider of before RFC 2617, which counts nothing.
    counted: bool,
    /// The last answer was right, but for its nonce.
    pub stale: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Algorithm {
    Md5,
    Sha256,
}

impl Challenge {
    /// The strongest challenge of an answer that can be met. None: there is none.
    pub fn read(headers: &HeaderMap) -> Option<Challenge> {
        let fields = headers.get_all(header::WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        let found: Vec<Challenge> = fields.flat_map(challenges).collect();
        let strongest = found.iter().find(|challenge| challenge.algorithm == Algorithm::Sha256);
        strongest.or(found.first()).cloned()
    }

    /// The value of `Authorization` for a request; `count`: so many requests were made with this nonce, this one included.
    pub fn answer(&self, username: &str, password: &str, request: &Outgoing, count: u32) -> Result<String> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|_| RequestFault::new("auth", "the system gives no random bytes"))?;
        Ok(self.answer_with(username, password, request, count, &hex::encode(random)))
    }

    fn answer_with(&self, username: &str, password: &str, request: &Outgoing, count: u32, cnonce: &str) -> String {
        let uri = match request.url.query() {
            Some(query) => format!("{}?{query}", request.url.path()),
            None => request.url.path().to_owned(),
        };
        let mut first = self.hash(&format!("{username}:{}:{password}", self.realm));
        if self.session {
            first = self.hash(&format!("{first}:{}:{cnonce}", self.nonce));
        }
        let second = self.hash(&format!("{}:{uri}", request.method));
        let count = format!("{count:08x}");
        let response = match self.counted {
            true => self.hash(&format!("{first}:{}:{count}:{cnonce}:auth:{second}", self.nonce)),
            false => self.hash(&format!("{first}:{}:{second}", self.nonce)),
        };
        let mut answer = format!(
            "Digest username={}, realm={}, nonce={}, uri={}, response=\"{response}\"",
            quoted(username),
            quoted(&self.realm),
            quoted(&self.nonce),
            quoted(&uri)
        );
        if let Some(named) = &self.named {
            answer.push_str(&format!(", algorithm={named}"));
        }
        if self.counted {
            answer.push_str(&format!(", qop=auth, nc={count}, cnonce=\"{cnonce}\""));
        } else if self.session {
            answer.push_str(&format!(", cnonce=\"{cnonce}\""));
        }
        if let Some(opaque) = &self.opaque {
            answer.push_str(&format!(", opaque={}", quoted(opaque)));
        }
        answer
    }

    fn hash(&self, text: &str) -> String {
        match self.algorithm {
            Algorithm::Md5 => hex::encode(Md5::digest(text.as_bytes())),
            Algorithm::Sha256 => hex::encode(Sha256::digest(text.as_bytes())),
        }
    }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// The digest challenges of one field, which may hold several of several kinds.
fn challenges(field: &str) -> Vec<Challenge> {
    let mut found = Vec::new();
    let mut rest = field;
    while let Some(at) = next_digest(rest) {
        let (parameters, after) = parameters(&rest[at + "digest ".len()..]);
        found.extend(challenge(&parameters));
        rest = after;
    }
    found
}

/// Where a digest challenge begins: at a word of its own, outside of quotes.
fn next_digest(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut quoted = false;
    for at in 0..bytes.len() {
        match bytes[at] {
            b'"' if at == 0 || bytes[at - 1] != b'\\' => quoted = !quoted,
            _ => {}
        }
        let begins = !quoted && (at == 0 || matches!(bytes[at - 1], b' ' | b',' | b'\t'));
        if begins && bytes[at..].len() >= 7 && bytes[at..at + 7].eq_ignore_ascii_case(b"digest ") {
            return Some(at);
        }
    }
    None
}

/// `name=value` and `name="value"` up to what is no parameter any more.
fn parameters(text: &str) -> (Vec<(String, String)>, &str) {
    let mut found = Vec::new();
    let mut rest = text;
    loop {
        let trimmed = rest.trim_start_matches([' ', ',', '\t']);
        let Some((name, after)) = trimmed.split_once('=') else { return (found, "") };
        let name = name.trim_end();
        // The name of the next scheme stands before its first parameter.
        if name.is_empty() || name.contains([' ', '\t', ',']) {
            return (found, trimmed);
        }
        let after = after.trim_start();
        let (value, after) = match after.strip_prefix('"') {
            Some(inside) => quoted_value(inside),
            None => {
                let end = after.find([',', ' ']).unwrap_or(after.len());
                (after[..end].to_owned(), &after[end..])
            }
        };
        found.push((name.to_ascii_lowercase(), value));
        rest = after;
    }
}

fn quoted_value(inside: &str) -> (String, &str) {
    let mut value = String::new();
    let mut letters = inside.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return (value, &inside[at + 1..]),
            '\\' => value.extend(letters.next().map(|(_, letter)| letter)),
            other => value.push(other),
        }
    }
    (value, "")
}

fn challenge(parameters: &[(String, String)]) -> Option<Challenge> {
    let get = |name: &str| parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    let named = get("algorithm");
    let word = named.as_deref().unwrap_or("MD5").to_ascii_lowercase();
    let (base, session) = word.strip_suffix("-sess").map_or((word.as_str(), false), |base| (base, true));
    let algorithm = match base {
        "md5" => Algorithm::Md5,
        "sha-256" => Algorithm::Sha256,
        _ => return None,
    };
    let counted = match get("qop") {
        Some(qop) if qop.split(',').any(|way| way.trim().eq_ignore_ascii_case("auth")) => true,
        // Only what would protect the body as well: not carried out.
        Some(_) => return None,
        None => false,
    };
    let stale = get("stale").is_some_and(|stale| stale.eq_ignore_ascii_case("true"));
    Some(Challenge {
        realm: get("realm")?,
        nonce: get("nonce")?,
        opaque: get("opaque"),
        algorithm,
        named,
        session,
        counted,
        stale,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use http::{HeaderValue, Method};
    use url::Url;

    fn request(url: &str) -> Outgoing {
        let url = Url::parse(url).expect("a URL");
        Outgoing { method: Method::GET, url, headers: HeaderMap::new(), body: Bytes::new() }
    }

    fn read(fields: &[&str]) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(header::WWW_AUTHENTICATE, HeaderValue::from_str(field).expect("a value"));
        }
        Challenge::read(&headers)
    }

    /// RFC 7616, section 3.9.1.
    #[test]
    fn the_example_of_the_standard_is_answered_as_it_says() {
        let both = |algorithm: &str| {
            format!(
                "Digest realm=\"http-auth@example.org\", qop=\"auth, auth-int\", algorithm={algorithm}, \
                 nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\""
            )
        };
        let cnonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ";
        for (algorithm, want) in [
            ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
            ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
        ] {
            let challenge = read(&[&both(algorithm)]).expect("a challenge");
            let request = request("http://www.example.org/dir/index.html");
            let answer = challenge.answer_with("Mufasa", "Circle of Life", &request, 1, cnonce);
            assert!(answer.contains(&format!("response=\"{want}\"")), "{algorithm}: {answer}");
            assert!(answer.contains(&format!("algorithm={algorithm}, qop=auth, nc=00000001")), "{answer}");
        }
    }

    #[test]
    fn the_strongest_of_several_challenges_is_met_and_unknown_ones_are_left() {
        let md5 = "Digest realm=\"a, Digest b\", nonce=\"n1\", algorithm=MD5, qop=\"auth\"";
        let sha = "Digest realm=\"r\", nonce=\"n2\", algorithm=SHA-256, qop=auth, stale=TRUE";
        let both = format!("Basic realm=\"x\", {md5}, {sha}");
        for (fields, want) in [
            (vec![md5], Some(("n1", false))),
            (vec![md5, sha], Some(("n2", true))),
            (vec![both.as_str()], Some(("n2", true))),
            (vec!["Digest realm=\"r\", nonce=\"n\""], Some(("n", false))),
            (vec!["Basic realm=\"Digest realm\""], None),
            (vec!["Digest realm=\"r\", nonce=\"n\", qop=\"auth-int\""], None),
            (vec!["Digest realm=\"r\", nonce=\"n\", algorithm=SHA-512-256"], None),
            (vec!["Digest realm=\"r\""], None),
            (vec!["Digest "], None),
            (vec!["Digest realm=\"r"], None),
        ] {
            let found = read(&fields);
            let found = found.as_ref().map(|challenge| (challenge.nonce.as_str(), challenge.stale));
            assert_eq!(found, want, "{fields:?}");
        }
    }

    #[test]
    fn a_provider_of_old_is_answered_without_a_count() {
        let challenge = read(&["Digest realm=\"r \\\"q\\\"\", nonce=\"n\""]).expect("a challenge");
        let answer = challenge.answer_with("u", "p", &request("http://x.example/a?b=c"), 1, "c");
        let hash = |text: &str| hex::encode(Md5::digest(text.as_bytes()));
        let want = hash(&format!("{}:n:{}", hash("u:r \"q\":p"), hash("GET:/a?b=c")));
        assert!(answer.contains(&format!("response=\"{want}\"")) && !answer.contains("nc="), "{answer}");
        assert!(answer.contains("realm=\"r \\\"q\\\"\"") && answer.contains("uri=\"/a?b=c\""), "{answer}");
    }
}
