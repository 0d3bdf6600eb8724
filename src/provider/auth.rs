//! How a source shows who asks (rows 18–28): what an author may write, and what it means.

use std::time::Duration;

use super::language::{Names, Place, check_jq, template};
use super::request::{check_header_name, read_json, read_param, read_params, read_request, read_url, templates};
use super::{JsonTemplate, Param, Request};
use crate::jq::Jq;
use crate::shape::{Table, Value};
use crate::signature::{Algorithm, Encoding, KeyEncoding, TokenAlgorithm};
use crate::template::Template;

/// One way to log in. A client certificate goes with any of them.
#[derive(Clone, Debug)]
pub enum Auth {
    None,
    Basic { username: Template, password: Template },
    Bearer { token: Template },
    ApiKey { place: KeyPlace, name: String, value: Template },
    OAuth2(Box<OAuth2>),
    Jwt(Box<SelfSigned>),
    Session(Box<Session>),
    Digest { username: Template, password: Template },
    Hmac(Box<SignedRequests>),
    SigV4(Box<SigV4>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyPlace {
    Header,
    Query,
    Cookie,
}

/// Where a token goes in a request; `value` is a template over `token`.
#[derive(Clone, Debug)]
pub struct TokenPlace {
    pub place: KeyPlace,
    pub name: String,
    pub value: Template,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    ClientCredentials,
    RefreshToken,
    Password,
    JwtBearer,
}

/// Where a client says who it is, when it asks for a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    Basic,
    Body,
}

/// How long a token holds, where its answer does not say it.
#[derive(Clone, Debug)]
pub enum Lifetime {
    For(Duration),
    /// Over the answer: seconds, or a moment.
    Answer(Jq),
}

#[derive(Clone, Debug)]
pub struct OAuth2 {
    pub grant: Grant,
    pub token_url: Template,
    pub client_id: Option<Template>,
    pub client_secret: Option<Template>,
    pub client_auth: ClientAuth,
    pub scopes: Option<Param>,
    pub params: Vec<(String, Param)>,
    pub refresh_token: Option<Template>,
    /// Each use of the refresh token may bring another one, which must outlive a crash.
    pub rotates: bool,
    pub username: Option<Template>,
    pub password: Option<Template>,
    /// For `jwt_bearer`.
    pub assertion: Option<Assertion>,
    pub token_path: Jq,
    pub lifetime: Option<Lifetime>,
    pub place: TokenPlace,
}

/// A token that we sign ourselves.
#[derive(Clone, Debug)]
pub struct Assertion {
    pub algorithm: TokenAlgorithm,
    pub key: Template,
    /// Members of its head beside `alg` and `typ`, such as `kid`.
    pub head: Vec<(String, JsonTemplate)>,
    pub claims: Vec<(String, JsonTemplate)>,
    pub lifetime: Duration,
}

#[derive(Clone, Debug)]
pub struct SelfSigned {
    pub assertion: Assertion,
    pub place: TokenPlace,
}

#[derive(Clone, Debug)]
pub struct Session {
    pub login: Request,
    pub logout: Option<Request>,
    /// Over the login's answer. None: its cookies are all there is.
    pub token_path: Option<Jq>,
    /// None: the token goes only where a request says `{{ token }}`.
    pub place: Option<TokenPlace>,
    /// None: until it is refused.
    pub lifetime: Option<Lifetime>,
}

/// Every request carries an HMAC of its own content as `{{ signature }}`.
#[derive(Clone, Debug)]
pub struct SignedRequests {
    pub algorithm: Algorithm,
    pub key: Template,
    pub key_encoding: KeyEncoding,
    pub content: Template,
    pub encoding: Encoding,
}

/// AWS Signature Version 4: access key, secret key, and the token of a temporary pair.
#[derive(Clone, Debug)]
pub struct SigV4 {
    pub access_key: Template,
    pub secret_key: Template,
    pub session_token: Option<Template>,
    pub service: Template,
    pub region: Template,
}

impl Auth {
    /// Its templates, to see which secrets it needs.
    pub fn templates(&self) -> Vec<&Template> {
        match self {
            Auth::None => Vec::new(),
            Auth::Basic { username, password } | Auth::Digest { username, password } => vec![username, password],
            Auth::Bearer { token } => vec![token],
            Auth::ApiKey { value, .. } => vec![value],
            Auth::OAuth2(oauth) => oauth.templates(),
            Auth::Jwt(jwt) => jwt.assertion.templates(),
            Auth::Session(session) => [Some(&session.login), session.logout.as_ref()]
                .into_iter()
                .flatten()
                .flat_map(templates)
                .chain(session.place.as_ref().map(|place| &place.value))
                .collect(),
            Auth::Hmac(signed) => vec![&signed.key, &signed.content],
            Auth::SigV4(aws) => {
                let all = [Some(&aws.access_key), Some(&aws.secret_key), aws.session_token.as_ref()];
                all.into_iter().flatten().chain([&aws.service, &aws.region]).collect()
            }
        }
    }

    /// Whether using it may change it, so that what comes must be kept.
    pub fn rotates(&self) -> bool {
        matches!(self, Auth::OAuth2(oauth) if oauth.rotates)
    }
}

impl OAuth2 {
    fn templates(&self) -> Vec<&Template> {
        let mut all: Vec<&Template> = vec![&self.token_url, &self.place.value];
        let given = [&self.client_id, &self.client_secret, &self.refresh_token, &self.username, &self.password];
        all.extend(given.into_iter().flatten());
        all.extend(self.assertion.iter().flat_map(Assertion::templates));
        let params = self.params.iter().map(|(_, param)| param).chain(&self.scopes);
        params.for_each(|param| super::request::of_param(param, &mut all));
        all
    }
}

impl Assertion {
    fn templates(&self) -> Vec<&Template> {
        let mut all = vec![&self.key];
        self.head.iter().chain(&self.claims).for_each(|(_, value)| super::request::of_json(value, &mut all));
        all
    }
}

#[derive(Clone, Copy)]
enum Kind {
    None,
    Basic,
    Bearer,
    ApiKey,
    OAuth2,
    Jwt,
    Session,
    Digest,
    Hmac,
    SigV4,
}

const KINDS: [(&str, Kind); 10] = [
    ("none", Kind::None),
    ("basic", Kind::Basic),
    ("bearer", Kind::Bearer),
    ("api_key", Kind::ApiKey),
    ("oauth2", Kind::OAuth2),
    ("jwt", Kind::Jwt),
    ("session", Kind::Session),
    ("digest", Kind::Digest),
    ("hmac", Kind::Hmac),
    ("aws_sigv4", Kind::SigV4),
];

/// How long a token of our own making holds where nobody says.
const SELF_SIGNED: Duration = Duration::from_secs(5 * 60);

/// `[auth]` or `[[auth]]`; none given is [`Auth::None`].
pub(super) fn read_auth(table: &Table<'_, '_>, names: &Names) -> Vec<Auth> {
    let Some(value) = table.take("auth") else { return vec![Auth::None] };
    let ways = value.one_or_list();
    ways.iter().filter_map(|way| read_way(way, names)).collect()
}

fn read_way(value: &Value<'_, '_>, names: &Names) -> Option<Auth> {
    let table = value.table()?;
    let help = "one of none, basic, bearer, api_key, oauth2, jwt, session, digest, hmac, aws_sigv4";
    let Some(kind) = table.require("type", help).and_then(|kind| kind.choice(&KINDS)) else {
        // Its other keys belong to a way that is not known; one fault is enough.
        table.entries();
        return None;
    };
    let way = Way { table: &table, names };
    let auth = match kind {
        Kind::None => Some(Auth::None),
        Kind::Basic => way.pair().map(|(username, password)| Auth::Basic { username, password }),
        Kind::Digest => way.pair().map(|(username, password)| Auth::Digest { username, password }),
        Kind::Bearer => way.text("token").map(|token| Auth::Bearer { token }),
        Kind::ApiKey => way.api_key(),
        Kind::OAuth2 => way.oauth2().map(|oauth| Auth::OAuth2(Box::new(oauth))),
        Kind::Jwt => way.self_signed().map(|jwt| Auth::Jwt(Box::new(jwt))),
        Kind::Session => way.session().map(|session| Auth::Session(Box::new(session))),
        Kind::Hmac => way.signed().map(|signed| Auth::Hmac(Box::new(signed))),
        Kind::SigV4 => way.sigv4().map(|aws| Auth::SigV4(Box::new(aws))),
    };
    table.finish();
    auth
}

/// One table of a way to log in, being read.
struct Way<'w, 'r, 't> {
    table: &'w Table<'r, 't>,
    names: &'w Names,
}

impl Way<'_, '_, '_> {
    fn text(&self, key: &str) -> Option<Template> {
        let help = format!("add it, such as {key} = \"{{{{ secrets.{key} }}}}\"");
        self.table.require(key, &help).and_then(|value| template(&value, Place::Auth, self.names))
    }

    /// Err: it is there and is no template.
    fn given(&self, key: &str) -> Result<Option<Template>, ()> {
        match self.table.take(key) {
            Some(value) => template(&value, Place::Auth, self.names).map(Some).ok_or(()),
            None => Ok(None),
        }
    }

    fn pair(&self) -> Option<(Template, Template)> {
        self.text("username").zip(self.text("password"))
    }

    fn key_place(&self) -> Option<KeyPlace> {
        let places = [("header", KeyPlace::Header), ("query", KeyPlace::Query), ("cookie", KeyPlace::Cookie)];
        self.table.take("in").map_or(Some(KeyPlace::Header), |value| value.choice(&places))
    }

    fn key_name(&self, value: &Value<'_, '_>, place: Option<KeyPlace>) -> Option<String> {
        let name = value.filled_text()?;
        match place {
            Some(KeyPlace::Header) => check_header_name(&name, value)?,
            Some(KeyPlace::Cookie) if !is_token(&name) => {
                value.fault(format!("`{}` is `{name}`, which cannot be the name of a cookie", value.name), None);
                return None;
            }
            Some(KeyPlace::Cookie | KeyPlace::Query) | None => {}
        }
        Some(name)
    }

    fn api_key(&self) -> Option<Auth> {
        let place = self.key_place();
        let name = self.table.require("name", "the name of the header, of the query parameter or of the cookie");
        let name = name.and_then(|value| self.key_name(&value, place));
        let value = self.text("value");
        Some(Auth::ApiKey { place: place?, name: name?, value: value? })
    }

    /// Where the token goes: `Authorization: Bearer …` unless the file says otherwise.
    fn token_place(&self) -> Option<TokenPlace> {
        let place = self.key_place();
        let Some(named) = self.table.take("name") else {
            let value = match self.table.take("value") {
                Some(value) => template(&value, Place::Token, self.names)?,
                None => Template::parse("Bearer {{ token }}").ok()?,
            };
            if place? != KeyPlace::Header {
                self.table.require("name", "the name of the query parameter or of the cookie that holds the token");
                return None;
            }
            return Some(TokenPlace { place: KeyPlace::Header, name: "Authorization".into(), value });
        };
        let name = self.key_name(&named, place);
        let value = match self.table.take("value") {
            Some(value) => template(&value, Place::Token, self.names)?,
            None => Template::parse("{{ token }}").ok()?,
        };
        Some(TokenPlace { place: place?, name: name?, value })
    }

    fn oauth2(&self) -> Option<OAuth2> {
        let grants = [
            ("client_credentials", Grant::ClientCredentials),
            ("refresh_token", Grant::RefreshToken),
            ("password", Grant::Password),
            ("jwt_bearer", Grant::JwtBearer),
        ];
        let grant = self.table.take("grant").map_or(Some(Grant::ClientCredentials), |value| value.choice(&grants))?;
        let token_url = self.table.require("token_url", "the address that gives tokens: token_url = \"https://…\"");
        let token_url = token_url.and_then(|value| read_url(&value, Place::Auth, self.names));
        let clients = [("basic", ClientAuth::Basic), ("body", ClientAuth::Body)];
        let client_auth =
            self.table.take("client_auth").map_or(Some(ClientAuth::Basic), |value| value.choice(&clients));
        // A client shows itself, but for grants that say by themselves whose they are.
        let client_id = match grant {
            Grant::ClientCredentials => self.text("client_id").map(Some).ok_or(()),
            Grant::RefreshToken | Grant::Password | Grant::JwtBearer => self.given("client_id"),
        };
        let client_secret = match grant {
            Grant::ClientCredentials => self.text("client_secret").map(Some).ok_or(()),
            Grant::RefreshToken | Grant::Password | Grant::JwtBearer => self.given("client_secret"),
        };
        let refresh_token = match grant {
            Grant::RefreshToken => self.text("refresh_token").map(Some),
            Grant::ClientCredentials | Grant::Password | Grant::JwtBearer => Some(None),
        };
        let pair = match grant {
            Grant::Password => self.pair().map(|(username, password)| (Some(username), Some(password))),
            Grant::ClientCredentials | Grant::RefreshToken | Grant::JwtBearer => Some((None, None)),
        };
        let assertion = match grant {
            Grant::JwtBearer => self.assertion(SELF_SIGNED).map(Some),
            Grant::ClientCredentials | Grant::RefreshToken | Grant::Password => Some(None),
        };
        let rotates = match (grant, self.table.has("rotates")) {
            (Grant::RefreshToken, _) => self.table.take("rotates").map_or(Some(true), |value| value.boolean()),
            _ => Some(false),
        };
        let scopes = self.table.take("scopes").and_then(|value| read_param(&value, Place::Auth, self.names));
        let params = self.table.take("params").map(|value| read_params(&value, Place::Auth, self.names));
        let token_path =
            self.table.take("token_path").map_or(Jq::parse(".access_token").ok(), |value| check_jq(&value));
        let lifetime = self.lifetime();
        let place = self.token_place();
        let (username, password) = pair?;
        Some(OAuth2 {
            grant,
            token_url: token_url?,
            client_id: client_id.ok()?,
            client_secret: client_secret.ok()?,
            client_auth: client_auth?,
            scopes,
            params: params.unwrap_or_default(),
            refresh_token: refresh_token?,
            rotates: rotates?,
            username,
            password,
            assertion: assertion?,
            token_path: token_path?,
            lifetime: lifetime.ok()?,
            place: place?,
        })
    }

    /// What is signed by ourselves, and with what.
    fn assertion(&self, lifetime: Duration) -> Option<Assertion> {
        let algorithms =
            [("HS256", TokenAlgorithm::Hs256), ("RS256", TokenAlgorithm::Rs256), ("ES256", TokenAlgorithm::Es256)];
        let help = "say how the token is signed: HS256 (shared key), RS256 or ES256 (private key as PEM)";
        let algorithm = self.table.require("algorithm", help).and_then(|value| value.choice(&algorithms));
        let key = self.text("key");
        let members = |key: &str| {
            let entries = self.table.take(key).and_then(|value| value.table()).map(|inner| inner.entries());
            let read =
                |(name, value): (String, Value<'_, '_>)| Some((name, read_json(&value, Place::Auth, self.names)?));
            entries.unwrap_or_default().into_iter().filter_map(read).collect::<Vec<_>>()
        };
        let (head, claims) = (members("head"), members("claims"));
        Some(Assertion { algorithm: algorithm?, key: key?, head, claims, lifetime })
    }

    fn self_signed(&self) -> Option<SelfSigned> {
        let lifetime = self.table.take("lifetime").map_or(Some(SELF_SIGNED), |value| value.duration());
        let assertion = self.assertion(lifetime.unwrap_or(SELF_SIGNED));
        let place = self.token_place();
        lifetime?;
        Some(SelfSigned { assertion: assertion?, place: place? })
    }

    /// Err: it is there and cannot be read.
    fn lifetime(&self) -> Result<Option<Lifetime>, ()> {
        let Some(value) = self.table.take("lifetime") else { return Ok(None) };
        let text = value.filled_text().ok_or(())?;
        if text.starts_with(|c: char| c.is_ascii_digit()) {
            return value.duration().map(|duration| Some(Lifetime::For(duration))).ok_or(());
        }
        check_jq(&value).map(|jq| Some(Lifetime::Answer(jq))).ok_or(())
    }

    fn session(&self) -> Option<Session> {
        let login =
            self.table.require("login", "the request that logs in: login = { path = \"/login\", json = { … } }");
        let login = login.and_then(|value| self.request(&value, Place::Auth));
        let logout = match self.table.take("logout") {
            Some(value) => self.request(&value, Place::Token).map(Some),
            None => Some(None),
        };
        // Where nothing says what becomes of a token there is none: its cookies are the session.
        let has_token = ["name", "value", "in", "token_path"].iter().any(|key| self.table.has(key));
        let token_path = match self.table.take("token_path") {
            Some(value) => check_jq(&value).map(Some),
            None if has_token => Jq::parse(".access_token").ok().map(Some),
            None => Some(None),
        };
        let placed = ["name", "value", "in"].iter().any(|key| self.table.has(key));
        let place = if placed { self.token_place().map(Some) } else { Some(None) };
        let lifetime = self.lifetime();
        Some(Session {
            login: login?,
            logout: logout?,
            token_path: token_path?,
            place: place?,
            lifetime: lifetime.ok()?,
        })
    }

    fn request(&self, value: &Value<'_, '_>, place: Place) -> Option<Request> {
        let table = value.table()?;
        let request = read_request(&table, place, self.names);
        let said = table.has("path") || table.has("url");
        table.finish();
        if !said {
            value.fault(format!("`{}` does not say where to", value.name), Some("give it path or url"));
            return None;
        }
        Some(request)
    }

    fn signed(&self) -> Option<SignedRequests> {
        let algorithms = [
            ("sha256", Algorithm::Sha256),
            ("sha1", Algorithm::Sha1),
            ("sha384", Algorithm::Sha384),
            ("sha512", Algorithm::Sha512),
        ];
        let encodings = [("hex", Encoding::Hex), ("base64", Encoding::Base64), ("base64url", Encoding::Base64Url)];
        let keys = [("text", KeyEncoding::Text), ("hex", KeyEncoding::Hex), ("base64", KeyEncoding::Base64)];
        let table = self.table;
        let algorithm = table.take("algorithm").map_or(Some(Algorithm::Sha256), |value| value.choice(&algorithms));
        let encoding = table.take("encoding").map_or(Some(Encoding::Hex), |value| value.choice(&encodings));
        let key_encoding = table.take("key_encoding").map_or(Some(KeyEncoding::Text), |value| value.choice(&keys));
        let key = self.text("key");
        let content = table.require("content", "the signed text: content = \"{{ method }}{{ path }}{{ body }}\"");
        let content = content.and_then(|value| super::language::plain_template(&value, Place::Signed, self.names));
        Some(SignedRequests {
            algorithm: algorithm?,
            key: key?,
            key_encoding: key_encoding?,
            content: content?,
            encoding: encoding?,
        })
    }

    fn sigv4(&self) -> Option<SigV4> {
        let pair = self.pair();
        let (service, region) = (self.text("service"), self.text("region"));
        let session_token = self.given("token");
        let (access_key, secret_key) = pair?;
        Some(SigV4 { access_key, secret_key, session_token: session_token.ok()?, service: service?, region: region? })
    }
}

/// What RFC 6265 lets the name of a cookie be.
fn is_token(name: &str) -> bool {
    name.bytes().all(|b| b.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?={}".contains(&b))
}
