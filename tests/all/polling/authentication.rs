//! Logging in: tokens that end, rotate, are refused; sessions, challenges and signed requests, against token servers on loopback.
//! What banks lock accounts for must not happen: a login is tried once.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ringback::store::PollResult;

use super::kit::*;

const HOUR: Duration = Duration::from_secs(3600);
const STREAM: &str = "[streams.s]\npath = \"/items\"\nrecords = \".items\"\nkey = \".id\"\nevery = \"60s\"\n";

fn empty() -> Answer {
    ok(r#"{"items":[]}"#)
}

/// A source whose secrets are all in one file, and the keys of its `[auth]`.
fn wish(auth: &str) -> Wish {
    Wish {
        provider: format!("secrets.a = \"one\"\n[auth]\n{auth}"),
        source: "secrets = { a = { file = \"secret\" } }".into(),
        config: "state_key = { file = \"state.key\" }".into(),
    }
}

const CLIENT: &str =
    "type = \"oauth2\"\ntoken_url = \"{base}/token\"\nclient_id = \"me\"\nclient_secret = \"{{ secrets.a }}\"";
const REFRESH: &str = "type = \"oauth2\"\ngrant = \"refresh_token\"\ntoken_url = \"{base}/token\"\nclient_id = \"me\"\nrefresh_token = \"{{ secrets.a }}\"";

/// A token server beside the listing, as a provider has it.
#[derive(Clone, Default)]
struct Tokens(Arc<Book>);

#[derive(Default)]
struct Book {
    given: AtomicUsize,
    /// The refresh token that the next request must show.
    refresh: Mutex<String>,
    /// Access tokens that are refused from now on.
    revoked: Mutex<Vec<String>>,
}

impl Tokens {
    fn given(&self) -> usize {
        self.0.given.load(Ordering::SeqCst)
    }

    fn revoke(&self, token: &str) {
        self.0.revoked.lock().expect("lock").push(token.to_owned());
    }

    /// The newest token alone is taken by the listing.
    fn listing(&self, asked: &Asked) -> Answer {
        let token = format!("tok-{}", self.given());
        let revoked = self.0.revoked.lock().expect("lock").contains(&token);
        if !revoked && asked.header("authorization") == format!("Bearer {token}") { empty() } else { status(401) }
    }

    fn give(&self, more: &str) -> Answer {
        let number = self.0.given.fetch_add(1, Ordering::SeqCst) + 1;
        ok(format!(r#"{{"access_token":"tok-{number}","token_type":"Bearer"{more}}}"#))
    }

    /// Every use of a refresh token brings another one, and the former is dead.
    fn rotate(&self, asked: &Asked) -> Answer {
        let mut valid = self.0.refresh.lock().expect("lock");
        if asked.field("refresh_token").as_deref() != Some(valid.as_str()) {
            let mut refused = status(400);
            refused.body = r#"{"error":"invalid_grant","error_description":"the token was used"}"#.into();
            return refused;
        }
        *valid = format!("refresh-{}", self.given() + 1);
        self.give(&format!(r#","expires_in":3600,"refresh_token":"{valid}""#))
    }
}

/// The world of a token server that gives tokens with these members.
async fn world(tokens: &Tokens, auth: &str, more: &'static str) -> World {
    let served = tokens.clone();
    World::wishing(wish(auth), STREAM, move |asked| match asked.path.as_str() {
        "/token" => served.give(more),
        _ => served.listing(asked),
    })
    .await
}

async fn rotating(tokens: &Tokens) -> World {
    *tokens.0.refresh.lock().expect("lock") = "s3cret".into();
    let served = tokens.clone();
    World::wishing(wish(REFRESH), STREAM, move |asked| match asked.path.as_str() {
        "/token" => served.rotate(asked),
        _ => served.listing(asked),
    })
    .await
}

#[tokio::test]
async fn a_token_is_got_once_used_until_shortly_before_its_end_and_then_renewed() {
    let tokens = Tokens::default();
    let world = world(&tokens, CLIENT, r#","expires_in":"3600""#).await;
    for (advance, given) in [(0, 1), (1, 1), (3538, 1), (1, 2), (3539, 2), (1, 3)] {
        world.clock.advance(Duration::from_secs(advance));
        world.polls().await;
        assert_eq!(tokens.given(), given, "after {advance} s more");
    }
    let asked = world.asked();
    let first = &asked[0];
    assert_eq!((first.method.as_str(), first.path.as_str()), ("POST", "/token"));
    assert_eq!(first.header("authorization"), "Basic bWU6czNjcmV0");
    assert_eq!(first.body, "grant_type=client_credentials");
}

#[tokio::test]
async fn every_grant_asks_as_the_standard_says() {
    for (keys, body) in [
        (
            "client_auth = \"body\"\nscopes = [\"a\", \"b:c\"]\nparams = { audience = \"x\" }",
            "grant_type=client_credentials&scope=a+b%3Ac&client_id=me&client_secret=s3cret&audience=x",
        ),
        (
            "grant = \"password\"\nusername = \"u\"\npassword = \"p w\"\nclient_auth = \"body\"",
            "grant_type=password&username=u&password=p+w&client_id=me&client_secret=s3cret",
        ),
    ] {
        let world = world(&Tokens::default(), &format!("{CLIENT}\n{keys}"), "").await;
        world.polls().await;
        assert_eq!(world.asked()[0].body, body);
    }
    let keys = "type = \"oauth2\"\ngrant = \"jwt_bearer\"\ntoken_url = \"{base}/token\"\nalgorithm = \"HS256\"\n\
                key = \"{{ secrets.a }}\"\nclaims = { iss = \"me\", aud = \"{{ settings.aud }}\" }\nhead = { kid = \"k1\" }";
    let mut wished = wish(keys);
    wished.provider = format!("settings.aud = {{ default = \"them\" }}\n{}", wished.provider);
    let tokens = Tokens::default();
    let served = tokens.clone();
    let world = World::wishing(wished, STREAM, move |asked| match asked.path.as_str() {
        "/token" => served.give(""),
        _ => served.listing(asked),
    })
    .await;
    world.polls().await;
    let asked = &world.asked()[0];
    assert_eq!(asked.field("grant_type").as_deref(), Some("urn:ietf:params:oauth:grant-type:jwt-bearer"));
    let (head, claims) = parts_of(&asked.field("assertion").expect("an assertion"));
    assert_eq!(head, serde_json::json!({ "alg": "HS256", "typ": "JWT", "kid": "k1" }));
    let now = START.0 / 1000;
    assert_eq!(claims, serde_json::json!({ "iss": "me", "aud": "them", "iat": now, "exp": now + 300 }));
}

fn parts_of(token: &str) -> (serde_json::Value, serde_json::Value) {
    use base64::Engine as _;
    let part = |text: &str| {
        let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text).expect("base64url");
        serde_json::from_slice(&bytes).expect("JSON")
    };
    let parts: Vec<&str> = token.split('.').collect();
    assert_eq!(parts.len(), 3, "{token}");
    (part(parts[0]), part(parts[1]))
}

#[tokio::test]
async fn pitfall_56_a_refused_token_is_renewed_once_and_the_request_is_asked_again() {
    let tokens = Tokens::default();
    let world = world(&tokens, CLIENT, r#","expires_in":36000"#).await;
    world.polls().await;
    world.clock.advance(HOUR);
    tokens.revoke("tok-1");
    world.asked();
    world.polls().await;
    let paths: Vec<String> = world.asked().into_iter().map(|asked| asked.path).collect();
    assert_eq!(paths, ["/items", "/token", "/items"]);
    assert_eq!(world.problems().await, Vec::<String>::new());
}

#[tokio::test]
async fn pitfall_56_a_token_that_is_refused_twice_is_the_end_over_restarts_too_until_a_person_asks() {
    let tokens = Tokens::default();
    let served = tokens.clone();
    let auth = CLIENT;
    let mut world = World::wishing(wish(auth), STREAM, move |asked| match asked.path.as_str() {
        "/token" => served.give(r#","expires_in":3600"#),
        _ => status(401),
    })
    .await;
    for round in 0..6 {
        world.polls_what_is_due().await;
        world.clock.advance(HOUR);
        if round % 2 == 1 {
            world = world.restart().await;
        }
    }
    let paths: Vec<String> = world.asked().into_iter().map(|asked| asked.path).collect();
    assert_eq!(paths, ["/token", "/items"], "a token that was just got is not got again");
    assert!(world.problems().await.contains(&"auth.failed core".to_owned()), "{:?}", world.problems().await);
    let says = world.says("auth.failed").await;
    assert!(says.contains("401") && !says.contains("tok-"), "{says}");
    let served = tokens.clone();
    world.answers(move |asked| match asked.path.as_str() {
        "/token" => served.give(r#","expires_in":3600"#),
        _ => served.listing(asked),
    });
    world.polls().await;
    assert_eq!(world.problems().await, Vec::<String>::new());
    let world = world.restart().await;
    world.polls().await;
    world.clock.advance(Duration::from_secs(120));
    assert_eq!(world.polls_what_is_due().await, 1);
    assert_eq!(world.problems().await, Vec::<String>::new());
}

#[tokio::test]
async fn an_old_token_that_is_refused_and_its_successor_too_is_the_end() {
    let tokens = Tokens::default();
    let world = world(&tokens, CLIENT, "").await;
    world.polls().await;
    let served = tokens.clone();
    world.answers(move |asked| match asked.path.as_str() {
        "/token" => served.give(""),
        _ => status(401),
    });
    world.clock.advance(HOUR);
    world.asked();
    for _ in 0..5 {
        world.polls_what_is_due().await;
        world.clock.advance(HOUR);
    }
    let paths: Vec<String> = world.asked().into_iter().map(|asked| asked.path).collect();
    assert_eq!(paths, ["/items", "/token", "/items"]);
}

#[tokio::test]
async fn a_refused_login_stops_all_streams_and_says_why_without_the_secret() {
    let other = STREAM.replace("streams.s", "streams.t");
    let refused = |_: &Asked| {
        let mut answer = status(401);
        answer.body = r#"{"error":"invalid_client","error_description":"no s3cret for you\u0007"}"#.into();
        answer
    };
    let mut world = World::wishing(wish(CLIENT), &format!("{STREAM}{other}"), refused).await;
    for _ in 0..3 {
        world.polls_what_is_due().await;
        world.clock.advance(HOUR);
        world = world.restart().await;
    }
    assert_eq!(world.asked().len(), 1, "one login in all");
    let says = world.says("auth.failed").await;
    for words in ["127.0.0.1", "invalid_client", "no *** for you", "secrets"] {
        assert!(says.contains(words), "{words}: {says}");
    }
    assert!(!says.contains("s3cret"), "{says}");
}

#[tokio::test]
async fn a_login_that_fails_for_a_while_is_tried_again_with_growing_waits_and_not_by_each_stream() {
    let other = STREAM.replace("streams.s", "streams.t");
    let tokens = Tokens::default();
    let world = World::wishing(wish(CLIENT), &format!("{STREAM}{other}"), |_| status(503)).await;
    world.polls_what_is_due().await;
    assert_eq!(world.asked().len(), 1, "the second stream finds out from the first");
    assert_eq!(world.problems().await, Vec::<String>::new());
    let served = tokens.clone();
    world.answers(move |asked| match asked.path.as_str() {
        "/token" => served.give(""),
        _ => served.listing(asked),
    });
    world.clock.advance(HOUR);
    assert_eq!(world.polls_what_is_due().await, 2);
    assert_eq!(tokens.given(), 1);
}

#[tokio::test]
async fn two_streams_of_a_source_share_one_token_and_renew_it_once() {
    let other = STREAM.replace("streams.s", "streams.t");
    let tokens = Tokens::default();
    let served = tokens.clone();
    let world = World::wishing(wish(CLIENT), &format!("{STREAM}{other}"), move |asked| match asked.path.as_str() {
        "/token" => served.give(r#","expires_in":7200"#),
        _ => served.listing(asked),
    })
    .await;
    for (advance, given) in [(0, 1), (3600, 1), (3600, 2)] {
        world.clock.advance(Duration::from_secs(advance));
        let (one, other) = tokio::join!(world.poll_stream("s"), world.poll_stream("t"));
        assert_eq!((one.result, other.result), (PollResult::Ok, PollResult::Ok), "{:?} {:?}", one.error, other.error);
        assert_eq!(tokens.given(), given);
    }
    world.clock.advance(HOUR);
    tokens.revoke("tok-2");
    let (one, other) = tokio::join!(world.poll_stream("s"), world.poll_stream("t"));
    assert_eq!((one.result, other.result), (PollResult::Ok, PollResult::Ok), "{:?} {:?}", one.error, other.error);
    assert_eq!(tokens.given(), 3, "both were refused, and one renewed");
}

#[tokio::test]
async fn r10_3_a_rotated_refresh_token_outlives_a_restart_sealed() {
    let tokens = Tokens::default();
    let mut world = rotating(&tokens).await;
    for given in 1..=4 {
        world.polls().await;
        assert_eq!(tokens.given(), given);
        let disk = world.on_disk();
        for secret in ["tok-", "refresh-", "s3cret"] {
            assert!(!disk.windows(secret.len()).any(|bytes| bytes == secret.as_bytes()), "`{secret}` is on disk");
        }
        world = world.restart().await;
        world.polls().await;
        assert_eq!(tokens.given(), given, "the access token was kept as well");
        world.clock.advance(HOUR);
    }
    assert_eq!(world.problems().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_changed_configured_refresh_token_wins_over_the_stored_one() {
    let tokens = Tokens::default();
    let world = rotating(&tokens).await;
    world.polls().await;
    *tokens.0.refresh.lock().expect("lock") = "another".into();
    world.clock.advance(HOUR);
    let report = world.poll().await;
    let error = report.error.expect("the stored one is dead");
    assert!(error.contains("invalid_grant") && error.contains("authorize again"), "{error}");
    world.write("secret", "another");
    let world = world.restart().await;
    world.clock.advance(HOUR);
    assert_eq!(world.polls_what_is_due().await, 1);
    assert_eq!(tokens.given(), 2);
    assert_eq!(world.problems().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_mended_client_secret_is_tried_at_once_and_finds_the_stored_refresh_token() {
    let tokens = Tokens::default();
    *tokens.0.refresh.lock().expect("lock") = "s3cret".into();
    let mut wished = wish(&format!("{REFRESH}\nclient_secret = \"{{{{ settings.client }}}}\""));
    wished.provider = format!("settings.client = {{ default = \"right\" }}\n{}", wished.provider);
    let served = tokens.clone();
    let world = World::wishing(wished, STREAM, move |asked| match asked.path.as_str() {
        "/token" if asked.header("authorization") != "Basic bWU6cmlnaHQ=" => status(401),
        "/token" => served.rotate(asked),
        _ => served.listing(asked),
    })
    .await;
    world.polls().await;
    world.clock.advance(HOUR);
    let edit = |from: &'static str, to: &'static str| move |_: &str, text: String| text.replace(from, to);
    let world = world.restart_with(edit("right", "wrong")).await;
    assert_eq!(world.poll().await.result, PollResult::Failed);
    world.clock.advance(HOUR);
    let world = world.restart_with(edit("wrong", "right")).await;
    assert_eq!(world.polls_what_is_due().await, 1);
    assert_eq!((tokens.given(), world.problems().await), (2, Vec::<String>::new()));
}

#[tokio::test]
async fn a_rotated_refresh_token_is_kept_also_when_the_rest_of_its_answer_cannot_be_used() {
    let tokens = Tokens::default();
    *tokens.0.refresh.lock().expect("lock") = "s3cret".into();
    let served = tokens.clone();
    let world = World::wishing(wish(&format!("{REFRESH}\ntoken_path = \".token\"")), STREAM, move |asked| match asked
        .path
        .as_str()
    {
        "/token" => served.rotate(asked),
        _ => served.listing(asked),
    })
    .await;
    let error = world.poll().await.error.expect("no token");
    assert!(error.contains("gave no token at `.token`"), "{error}");
    let world = world.restart_with(|_, text| text.replace("\".token\"", "\".access_token\"")).await;
    world.polls().await;
    assert_eq!(tokens.given(), 2, "asked with what came the first time");
}

#[tokio::test]
async fn a_refresh_token_that_was_sealed_with_another_key_is_not_replaced_by_the_one_that_is_used_up() {
    let tokens = Tokens::default();
    let world = rotating(&tokens).await;
    world.polls().await;
    world.write("state.key", "another key of sixteen letters");
    let world = world.restart().await;
    world.asked();
    let error = world.poll().await.error.expect("it cannot be opened");
    assert!(error.contains("state_key"), "{error}");
    assert_eq!(world.asked().len(), 0, "a used refresh token would cost the grant");
    world.write("state.key", "a key of more than sixteen letters");
    let world = world.restart().await;
    world.clock.advance(HOUR / 2);
    assert_eq!(world.polls_what_is_due().await, 1);
    assert_eq!((tokens.given(), world.problems().await), (1, Vec::<String>::new()));
}

#[tokio::test]
async fn a_session_is_opened_kept_by_its_cookies_and_closed() {
    let auth = "type = \"session\"\nlogin = { path = \"/login\", json = { user = \"u\", password = \"{{ secrets.a }}\" } }\n\
                logout = { path = \"/logout\", method = \"DELETE\" }\nlifetime = \"20m\"";
    let sessions = Arc::new(AtomicUsize::new(0));
    let served = sessions.clone();
    let world = World::wishing(wish(auth), STREAM, move |asked| match asked.path.as_str() {
        "/login" => {
            let number = served.fetch_add(1, Ordering::SeqCst) + 1;
            let mut answer = status(204).with("set-cookie", format!("sid=s{number}; Path=/; HttpOnly"));
            answer.body = String::new();
            answer.with("set-cookie", "lang=uk")
        }
        "/logout" => status(200),
        _ if asked.header("cookie") == format!("sid=s{}; lang=uk", served.load(Ordering::SeqCst)) => empty(),
        _ => status(401),
    })
    .await;
    world.polls().await;
    let asked = world.asked();
    assert_eq!(asked[0].body, r#"{"user":"u","password":"s3cret"}"#);
    assert_eq!((asked[0].method.as_str(), asked[1].header("cookie")), ("POST", "sid=s1; lang=uk"));
    world.clock.advance(Duration::from_secs(19 * 60 - 1));
    world.polls().await;
    world.clock.advance(Duration::from_secs(2 * 60));
    world.asked();
    world.polls().await;
    let seen: Vec<String> = world.asked().iter().map(|asked| format!("{} {}", asked.method, asked.path)).collect();
    assert_eq!(seen, ["GET /items", "DELETE /logout", "POST /login", "GET /items"][1..]);
    world.poller.log_out().await;
    let last = world.asked();
    assert_eq!((last[0].path.as_str(), last[0].header("cookie")), ("/logout", "sid=s2; lang=uk"));
    world.polls().await;
    assert_eq!(sessions.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_sessions_token_goes_where_the_file_says_and_its_end_is_read_from_the_answer() {
    let auth = "type = \"session\"\nlogin = { path = \"/login\", form = { p = \"{{ secrets.a }}\" } }\n\
                token_path = \".data.id\"\nin = \"query\"\nname = \"sid\"\nlifetime = \".data.ends\"";
    let stream = STREAM.replace("path =", "headers = { X-Also = \"<{{ token }}>\" }\npath =");
    let ends = at(600_000);
    let world = World::wishing(wish(auth), &stream, move |asked| match asked.path.as_str() {
        "/login" => ok(format!(r#"{{"data":{{"id":"sess-77","ends":"{ends}"}}}}"#)),
        _ => empty(),
    })
    .await;
    let report = world.poll().await;
    assert_eq!(report.requests[0].url, format!("{}/items?sid=***", world.base), "masked where a person sees it");
    let asked = world.asked();
    assert_eq!((asked[1].get("sid"), asked[1].header("x-also")), (Some("sess-77"), "<sess-77>"));
    for (advance, logins) in [(539, 0), (1, 1)] {
        world.clock.advance(Duration::from_secs(advance));
        world.polls().await;
        let count = world.asked().iter().filter(|asked| asked.path == "/login").count();
        assert_eq!(count, logins, "after {advance} s more");
    }
}

#[tokio::test]
async fn a_core_system_in_xml_opens_its_session_in_xml_as_well() {
    let auth = "type = \"session\"\nlogin = { path = \"/login\", body = \"<login><pass>{{ secrets.a | xml }}</pass></login>\" }\n\
                token_path = \".loginResponse.sessionId\"\nname = \"X-Session-Id\"";
    let mut wished = wish(auth);
    wished.provider = format!(
        "format = \"xml\"\nxml_lists = [\"Payment\"]\nrequest = {{ headers = {{ Content-Type = \"text/xml\" }} }}\n\
         response_actions = [{{ when = '.fault.code == \"EXPIRED\"', action = \"login\" }}]\n{}",
        wished.provider
    );
    let stream =
        "[streams.s]\npath = \"/payments\"\nrecords = \".search.Payment\"\nkey = \".Id\"\nfirst_run = \"send-all\"\n";
    let logins = Arc::new(AtomicUsize::new(0));
    let served = logins.clone();
    let world = World::wishing(wished, stream, move |asked| match asked.path.as_str() {
        "/login" => {
            let number = served.fetch_add(1, Ordering::SeqCst) + 1;
            ok(format!("<loginResponse><sessionId>s-{number}</sessionId></loginResponse>")).with("x-kind", "xml")
        }
        _ if asked.header("x-session-id") == format!("s-{}", served.load(Ordering::SeqCst).max(2)) => {
            ok("<search><Payment><Id>P-1</Id></Payment></search>")
        }
        _ => ok("<fault><code>EXPIRED</code></fault>"),
    })
    .await;
    assert_eq!(world.poll().await.result, PollResult::Failed, "a session that was just opened is not opened again");
    let asked = world.asked();
    assert_eq!(
        (asked[0].header("content-type"), asked[0].body.as_str()),
        ("text/xml", "<login><pass>s3cret</pass></login>")
    );
    world.clock.advance(HOUR);
    world.polls().await;
    assert_eq!(logins.load(Ordering::SeqCst), 2);
    assert_eq!(world.events().await, ["s.created P-1"]);
}

#[tokio::test]
async fn an_answer_that_says_login_inside_of_a_200_opens_a_new_session_once() {
    let auth =
        "type = \"session\"\nlogin = { path = \"/login\", form = { p = \"{{ secrets.a }}\" } }\nname = \"X-Session\"";
    let mut wished = wish(auth);
    wished.provider.push_str("\n[[response_actions]]\nwhen = '.fault == \"expired\"'\naction = \"login\"\n");
    let logins = Arc::new(AtomicUsize::new(0));
    let served = logins.clone();
    let world = World::wishing(wished, STREAM, move |asked| match asked.path.as_str() {
        "/login" => ok(format!(r#"{{"access_token":"sess-{}"}}"#, served.fetch_add(1, Ordering::SeqCst) + 1)),
        _ if asked.header("x-session") == "sess-2" => empty(),
        _ => ok(r#"{"fault":"expired"}"#),
    })
    .await;
    let first = world.poll().await;
    assert_eq!(first.result, PollResult::Failed, "a session that was just opened is not opened again");
    world.clock.advance(HOUR);
    world.polls().await;
    assert_eq!(logins.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_digest_answers_its_challenge_counts_on_and_takes_a_new_nonce() {
    let auth = "type = \"digest\"\nusername = \"u\"\npassword = \"{{ secrets.a }}\"";
    let challenge = |nonce: &str, stale: &str| {
        let value = format!("Digest realm=\"r\", qop=\"auth\", algorithm=SHA-256, nonce=\"{nonce}\"{stale}");
        status(401).with("www-authenticate", value)
    };
    let nonce = Arc::new(Mutex::new("n1"));
    let valid = nonce.clone();
    let world = World::wishing(wish(auth), STREAM, move |asked| {
        let (given, valid) = (asked.header("authorization"), *valid.lock().expect("lock"));
        match given.contains(&format!("nonce=\"{valid}\"")) {
            true if given.contains(&answer_of(given, valid)) => empty(),
            true => challenge(valid, ""),
            false if given.is_empty() => challenge(valid, ""),
            false => challenge(valid, ", stale=true"),
        }
    })
    .await;
    world.polls().await;
    world.polls().await;
    *nonce.lock().expect("lock") = "n2";
    world.polls().await;
    let seen: Vec<String> = world
        .asked()
        .iter()
        .map(|asked| {
            let header = asked.header("authorization");
            ["nonce=\"n1\"", "nonce=\"n2\"", "nc=00000001", "nc=00000002", "nc=00000003"]
                .iter()
                .filter(|part| header.contains(**part))
                .copied()
                .collect::<Vec<_>>()
                .join(" ")
        })
        .collect();
    let want = [
        "",
        "nonce=\"n1\" nc=00000001",
        "nonce=\"n1\" nc=00000002",
        "nonce=\"n1\" nc=00000003",
        "nonce=\"n2\" nc=00000001",
    ];
    assert_eq!(seen, want);
    world.write("secret", "wrong");
    let world = world.restart().await;
    world.asked();
    for _ in 0..3 {
        world.polls_what_is_due().await;
        world.clock.advance(HOUR);
    }
    assert_eq!(world.asked().len(), 2, "a wrong password is shown once");
    assert!(world.problems().await.contains(&"auth.failed core".to_owned()));
}

/// The answer of RFC 7616 with the right password, made anew from what the client said of it.
fn answer_of(header: &str, nonce: &str) -> String {
    use sha2::Digest as _;
    let hash = |text: String| hex::encode(sha2::Sha256::digest(text.as_bytes()));
    let part = |name: &str| {
        let after = header.split(&format!("{name}=")).nth(1).unwrap_or_default();
        after.trim_start_matches('"').split(['"', ',']).next().unwrap_or_default().to_owned()
    };
    let (first, second) = (hash("u:r:s3cret".into()), hash("GET:/items".into()));
    hash(format!("{first}:{nonce}:{}:{}:auth:{second}", part("nc"), part("cnonce")))
}

#[tokio::test]
async fn a_request_carries_the_hmac_of_its_own_content() {
    use hmac::{KeyInit, Mac};
    let auth = "type = \"hmac\"\nkey = \"{{ secrets.a }}\"\nencoding = \"base64\"\n\
                content = \"{{ now | date('unix') }}{{ nonce }}{{ method }}{{ path }}?{{ query_string }}{{ body }}\"";
    let stream = "[streams.s]\npath = \"/items\"\nquery = { b = \"2\", a = \"x y\" }\njson = { want = 1 }\nrecords = \".items\"\nkey = \".id\"\n\
                  [streams.s.headers]\nX-Time = \"{{ now | date('unix') }}\"\nX-Nonce = \"{{ nonce }}\"\nX-Sign = \"v1 {{ signature }}\"\n";
    let world = World::wishing(wish(auth), stream, |_| empty()).await;
    world.polls().await;
    world.polls().await;
    let asked = world.asked();
    for asked in &asked {
        let content = format!(
            "{}{}POST/items?{}{}",
            asked.header("x-time"),
            asked.header("x-nonce"),
            asked.query_string,
            asked.body
        );
        let mut mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(b"s3cret").expect("a key");
        mac.update(content.as_bytes());
        use base64::Engine as _;
        let want = base64::engine::general_purpose::STANDARD.encode(mac.finalize().into_bytes());
        assert_eq!(asked.header("x-sign"), format!("v1 {want}"), "{content}");
    }
    assert_ne!(asked[0].header("x-nonce"), asked[1].header("x-nonce"));
    assert_eq!(asked[0].header("x-time"), (START.0 / 1000).to_string());
}

#[tokio::test]
async fn aws_requests_are_signed_for_their_day_and_a_self_signed_token_is_made_anew_in_time() {
    let auth = "type = \"aws_sigv4\"\nusername = \"AKID\"\npassword = \"{{ secrets.a }}\"\nservice = \"events\"\nregion = \"eu-central-1\"";
    let world = World::wishing(wish(auth), STREAM, |_| empty()).await;
    world.polls().await;
    let asked = &world.asked()[0];
    assert_eq!(asked.header("x-amz-date"), "20260105T120000Z");
    let value = asked.header("authorization");
    assert!(value.contains("Credential=AKID/20260105/eu-central-1/events/aws4_request"), "{value}");
    let auth = "type = \"jwt\"\nalgorithm = \"HS256\"\nkey = \"{{ secrets.a }}\"\nclaims = { iss = \"me\" }\nlifetime = \"10m\"";
    let world = World::wishing(wish(auth), STREAM, |_| empty()).await;
    let mut starts = Vec::new();
    for advance in [0, 539, 1] {
        world.clock.advance(Duration::from_secs(advance));
        world.polls().await;
        let value = world.asked()[0].header("authorization").to_owned();
        starts.push(parts_of(value.strip_prefix("Bearer ").expect("a bearer")).1["iat"].as_i64().expect("a number"));
    }
    let start = START.0 / 1000;
    assert_eq!(starts, [start, start, start + 540]);
}

#[tokio::test]
async fn of_several_ways_the_first_counts_whose_secrets_are_all_given() {
    for (source, want) in [
        ("secrets = { key = { file = \"secret\" } }", "Bearer s3cret"),
        ("secrets = { user = { file = \"secret\" }, key = { file = \"secret\" } }", "Basic czNjcmV0OnMzY3JldA=="),
        ("", ""),
    ] {
        let wished = Wish {
            provider: "secrets.user = { optional = true }\nsecrets.key = { optional = true }\n\
                       [[auth]]\ntype = \"basic\"\nusername = \"{{ secrets.user }}\"\npassword = \"{{ secrets.key }}\"\n\
                       [[auth]]\ntype = \"bearer\"\ntoken = \"{{ secrets.key }}\"\n[[auth]]\ntype = \"none\"\n"
                .into(),
            source: source.into(),
            ..Wish::default()
        };
        let world = World::wishing(wished, STREAM, |_| empty()).await;
        world.polls().await;
        assert_eq!(world.asked()[0].header("authorization"), want, "{source}");
    }
}

#[tokio::test]
async fn a_login_to_the_host_that_is_polled_spends_its_budget_and_a_dry_run_shows_no_token() {
    let mut wished = wish(CLIENT);
    wished.provider = format!("limits = {{ rate = \"2/24h\" }}\n{}", wished.provider);
    let tokens = Tokens::default();
    let served = tokens.clone();
    let world = World::wishing(wished, STREAM, move |asked| match asked.path.as_str() {
        "/token" => served.give(r#","expires_in":86400"#),
        _ => served.listing(asked),
    })
    .await;
    let report = world.poller.poll_once(&stream("s"), ringback::poll::Mode::DryRun).await.expect("polled");
    assert_eq!(report.result, PollResult::Ok, "{:?}", report.error);
    assert!(!format!("{report:?}").contains("tok-1"), "{report:?}");
    assert_eq!(world.poll().await.result, PollResult::Deferred, "the login was one of two");
}

/// Every listing that is answered with a token proves that its refresh token is on disk: at that moment the power goes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r10_3_a_rotated_token_that_was_used_is_on_disk_whenever_the_process_is_killed() {
    let tokens = Tokens::default();
    *tokens.0.refresh.lock().expect("lock") = "first".into();
    let (used, mut uses) = tokio::sync::mpsc::unbounded_channel::<String>();
    let (served, refusals) = (tokens.clone(), Arc::new(AtomicUsize::new(0)));
    let refused = refusals.clone();
    let router = axum::Router::new()
        .route(
            "/token",
            axum::routing::post(move |body: String| async move {
                let shown = url::form_urlencoded::parse(body.as_bytes()).find(|(name, _)| name == "refresh_token");
                let shown = shown.map(|(_, value)| value.into_owned()).unwrap_or_default();
                let mut valid = served.0.refresh.lock().expect("lock");
                if shown != *valid {
                    refused.fetch_add(1, Ordering::SeqCst);
                    return (axum::http::StatusCode::BAD_REQUEST, r#"{"error":"invalid_grant"}"#.to_owned());
                }
                let number = served.0.given.fetch_add(1, Ordering::SeqCst) + 1;
                *valid = format!("refresh-{number}");
                let answer = format!(r#"{{"access_token":"tok-{number}","expires_in":0,"refresh_token":"{valid}"}}"#);
                (axum::http::StatusCode::OK, answer)
            }),
        )
        .fallback(move |headers: axum::http::HeaderMap| {
            let used = used.clone();
            async move {
                let token = headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
                let _ = used.send(token.to_owned());
                // The process is killed while it waits.
                std::future::pending::<&'static str>().await
            }
        });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let api = listener.local_addr().expect("an address");
    tokio::spawn(async move { axum::serve(listener, router).await });
    let mut daemon = crate::rig::Daemon::new(api);
    let provider = format!(
        "schema = 1\nbase_url = \"http://{api}\"\nsecrets.r = \"a refresh token\"\n[auth]\ntype = \"oauth2\"\ngrant = \"refresh_token\"\n\
         token_url = \"http://{api}/token\"\nrefresh_token = \"{{{{ secrets.r }}}}\"\n{}",
        STREAM
    );
    let config = "schema = 1\ndata_dir = \"data\"\nmin_free = \"1MiB\"\nstate_key = { file = \"state.key\" }\n[admin]\nlisten = \"off\"\n\
                  [sources.core]\nprovider = \"./tokens.toml\"\nsecrets = { r = { file = \"refresh\" } }\n";
    for (name, text) in [
        ("tokens.toml", provider.as_str()),
        ("config.toml", config),
        ("refresh", "first"),
        ("state.key", "0123456789abcdef"),
    ] {
        std::fs::write(daemon.path(name), text).expect("written");
    }
    for round in 1..=6 {
        daemon.start();
        let token = tokio::time::timeout(Duration::from_secs(20), uses.recv()).await;
        let token = token.unwrap_or_else(|_| panic!("no poll in round {round}; its log:\n{}", daemon.log()));
        assert_eq!(token, Some(format!("Bearer tok-{round}")));
        daemon.kill();
    }
    assert_eq!(refusals.load(Ordering::SeqCst), 0, "its log:\n{}", daemon.log());
}
