//! Templates, rendered as requests and bodies need them.
use bytes::Bytes;
use serde_json::json;

use super::*;
use crate::model::Timestamp;

fn template(text: &str) -> Template {
    Template::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// 2023-11-14T22:13:20Z
const AT: Timestamp = Timestamp(1_700_000_000_000);

fn context() -> Context {
    let mut context = Context::new();
    context
        .set("page.number", 3)
        .set_number("number", "12345678901234567890123")
        .set_number("amount", "1.50")
        .set_number("offset", "41")
        .set_time("now", AT, &TimeFormat::Rfc3339, None)
        .set_time("local", AT, &TimeFormat::Pattern("%d.%m.%Y %H:%M".into()), "Europe/Kyiv".parse().ok())
        .set_time("unix", AT, &TimeFormat::Unix, None)
        .set("odd", "a/b c?é&<\"'")
        .set("key", "k")
        .set("yes", true)
        .set("nothing", ())
        .set_value(
            "settings",
            &json!({"account": "acc 1", "kinds": ["a", "b"], "size": 5, "table": {"z": 1, "a": 2.5}}),
        )
        .set_received(
            "record",
            Bytes::from_static(br#"{ "id" : 7, "amount": 1.50, "tags": ["x"], "o": {"n": 1.10} }"#),
        );
    context.set_lookup("header", |name| (name == "x-id").then(|| "h1".to_owned()));
    context
}

#[test]
fn text_is_what_stands_there_with_its_values() {
    let cases = [
        ("plain", "plain"),
        ("", ""),
        ("a {{ page.number }} b{{ offset + 1 }}", "a 3 b42"),
        ("{{ number }} {{ number + 1 }}", "12345678901234567890123 12345678901234567890124"),
        ("{{ amount }}", "1.50"),
        ("{{ yes }}", "true"),
        ("{{ now }}", "2023-11-14T22:13:20Z"),
        ("{{ local }}", "15.11.2023 00:13"),
        ("{{ unix }}", "1700000000"),
        ("{{ now | date('unix') }}", "1700000000"),
        ("{{ now | date('unix_ms') }}", "1700000000000"),
        ("{{ local | date('%H:%M') }} {{ local | date('%H:%M', 'UTC') }}", "00:13 22:13"),
        ("{{ now | date('rfc3339', 'Europe/Kyiv') }}", "2023-11-15T00:13:20+02:00"),
        ("{{ now | plus('1h') }} {{ now | minus('1d') | date('%Y-%m-%d') }}", "2023-11-14T23:13:20Z 2023-11-13"),
        ("{{ unix | minus('10s') }}", "1699999990"),
        ("{{ '2023-11-14T22:13:20+02:00' | date('unix') }}", "1699992800"),
        ("{{ settings.kinds | json }}", r#"["a","b"]"#),
        ("{{ settings.table | json }}", r#"{"z":1,"a":2.5}"#),
        ("{{ odd | json }}", r#""a/b c?é&<\"'""#),
        ("{{ odd | xml }}", "a/b c?é&amp;&lt;&quot;&apos;"),
        ("{{ odd | urlencode }}", "a%2Fb%20c%3F%C3%A9%26%3C%22%27"),
        ("{{ 'abc' | base64 }} {{ 'a?>' | base64url }} {{ 'abc' | hex }}", "YWJj YT8- 616263"),
        ("{{ 'abc' | hash('sha256') | hex }}", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        ("{{ 'abc' | hash('md5') | hex }}", "900150983cd24fb0d6963f7d28e17f72"),
        ("{{ 'abc' | hash('sha1') | base64 }}", "qZk+NkcGgWq6PiVxeFDCbJzQ2J0="),
        (
            "{{ 'what do ya want for nothing?' | hmac('sha256', 'Jefe') | hex }}",
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
        ),
        ("{{ '123456789' | crc32 }}", "3421780262"),
        ("{{ settings.kinds | join(',') }}", "a,b"),
        ("{{ 'aB' | lower }}{{ 'aB' | upper }}", "abAB"),
        ("{{ cursor | default('none') }} {{ nothing | default(0) }}", "none 0"),
        ("{{ record.id }} {{ record.amount }} {{ record.tags[0] }} {{ record['o'].n }}", "7 1.50 x 1.10"),
        ("{{ record }}", r#"{ "id" : 7, "amount": 1.50, "tags": ["x"], "o": {"n": 1.10} }"#),
        ("{{ record | hash('sha1') | hex }}", "2d75bae9a521916015cb6c2fb94b847c442bc1e7"),
        ("{{ record.o | json }}", r#"{"n":1.10}"#),
        ("{{ header['x-id'] }}", "h1"),
        ("{{ '}}' }}{{ \"{{\" }}", "}}{{"),
        ("{{ {'a': 1} | json }}", r#"{"a":1}"#),
        ("{% if cursor %}<from>{{ cursor }}</from>{% endif %}<page>{{ page.number }}</page>\n", "<page>3</page>\n"),
        ("{% for k in settings.kinds %}{{ k }};{% endfor %}", "a;b;"),
        ("{% if cursor is defined %}x{% else %}y{% endif %}", "y"),
    ];
    for (text, want) in cases {
        let rendered = template(text).text(&context());
        assert_eq!(rendered, Ok(want.to_owned()), "{text}");
    }
}

#[test]
fn what_is_not_there_is_named() {
    let cases = [
        ("x {{ cursor }}", "`cursor` is not defined here"),
        ("{{ page.token }}", "`page.token` is not defined here"),
        ("{{ page.token.x }}", "`page.token.x` is not defined here"),
        ("{{ cursor + 1 }}", "`cursor` is not defined here"),
        ("{{ cursor | date('unix') }}", "`cursor` is not defined here"),
        ("{{ cursor | json }}", "`cursor` is not defined here"),
        ("{{ cursor | base64 }}", "`cursor` is not defined here"),
        ("{% for x in cursor %}{% endfor %}", "`cursor` is not defined here"),
        ("{% if yes %}{{ settings.nope }}{% endif %}", "`settings.nope` is not defined here"),
        ("{{ nothing }}", "null"),
        ("{{ amount + 1 }}", ""),
        ("{{ odd | date('unix') }}", "is not a time such as"),
        ("{{ now | date('iso') }}", "no time format"),
        ("{{ now | date('unix', 'Kyiv/Europe') }}", "no time zone"),
        ("{{ now | plus('10 parsecs') }}", "no duration"),
        ("{{ 'a' | hash('md9') }}", "no algorithm"),
        ("{{ 'a' | hash('sha256') }}", "no text"),
        ("{% for a in range(1) %}{% endfor %}", ""),
    ];
    for (text, want) in cases {
        let error = template(text).text(&context()).expect_err(text);
        assert!(error.contains(want), "{text}: {error}");
    }
}

#[test]
fn a_lone_expression_keeps_its_type_or_is_left_out() {
    let text = |text: &str| Some(Rendered::Text(text.into()));
    let number = |digits: &str| Some(Rendered::Number(digits.into()));
    let cases = [
        ("{{ offset }}", number("41")),
        ("{{ offset + 1 }}", number("42")),
        ("{{ amount }}", number("1.50")),
        ("{{ record.amount }}", number("1.50")),
        ("{{ unix }}", number("1700000000")),
        ("{{ now }}", text("2023-11-14T22:13:20Z")),
        ("{{ yes }}", Some(Rendered::Bool(true))),
        ("{{ settings.kinds }}", Some(Rendered::List(vec![Rendered::Text("a".into()), Rendered::Text("b".into())]))),
        ("{{ settings.account }}", text("acc 1")),
        ("{{ now | date('unix') }}", number("1700000000")),
        ("{{ cursor }}", None),
        ("{{ cursor + 1 }}", None),
        ("{{ cursor | date('unix') }}", None),
        ("{{ page.token }}", None),
        ("{{ cursor | default(5) }}", number("5")),
        (" {{ offset }}", text(" 41")),
        ("n{{ offset }}", text("n41")),
        ("plain", text("plain")),
    ];
    for (text, want) in cases {
        assert_eq!(template(text).value(&context()), Ok(want), "{text}");
    }
    let json = |text: &str| template(text).value(&context()).expect("a value").expect("defined").to_json();
    assert_eq!(json("{{ record.o }}"), r#"{"n":1.10}"#);
    assert_eq!(json("{{ nothing }}"), "null");
    assert_eq!(json("{{ record }}"), r#"{ "id" : 7, "amount": 1.50, "tags": ["x"], "o": {"n": 1.10} }"#);
    assert_eq!(json("{{ [offset, odd] }}"), r#"[41,"a/b c?é&<\"'"]"#);
    assert!(template("a{{ cursor }}").value(&context()).is_err(), "undefined within a text is an error");
    assert!(template("{{ now | date('x') }}").value(&context()).is_err(), "a fault is no undefined variable");
}

#[test]
fn a_value_in_a_path_is_one_segment() {
    let cases = [
        ("/a/{{ odd }}/b", Ok("/a/a%2Fb%20c%3F%C3%A9%26%3C%22%27/b")),
        ("/{{ settings.account }}?x=1", Ok("/acc%201?x=1")),
        ("/{{ '..' }}/x", Err("cannot stand in a path")),
        ("/{{ cursor }}", Err("`cursor` is not defined here")),
        ("{% if yes %}/x{% endif %}", Err("{{ }} only")),
    ];
    for (text, want) in cases {
        match (template(text).segment(&context()), want) {
            (Ok(found), Ok(want)) => assert_eq!(found, want, "{text}"),
            (Err(error), Err(want)) => assert!(error.contains(want), "{text}: {error}"),
            (found, _) => panic!("{text}: {found:?}"),
        }
    }
}

#[test]
fn signed_content_is_bytes_as_received() {
    let body = b"\xff\x00{\"a\":1}";
    let mut context = Context::new();
    context.set("timestamp", "17").set("secret", "s");
    let cases: &[(&str, &[u8])] = &[
        ("{{ body }}", body),
        ("{{ timestamp }}.{{ body }}", b"17.\xff\x00{\"a\":1}"),
        ("{{ timestamp }}.{{body}}.{{ body | hex }}", b"17.\xff\x00{\"a\":1}.ff007b2261223a317d"),
        (
            "{{ 'abc' | hash('sha1') }}",
            b"\xa9\x99\x3e\x36\x47\x06\x81\x6a\xba\x3e\x25\x71\x78\x50\xc2\x6c\x9c\xd0\xd8\x9d",
        ),
    ];
    for (text, want) in cases {
        assert_eq!(template(text).bytes(&context, body).as_deref(), Ok(*want), "{text}");
    }
    assert!(template("{{ url }}{{ body }}").bytes(&context, body).is_err());
    assert_eq!(template("{{ body.a }}").bytes(&context, b"{\"a\":1.0}"), Ok(b"1.0".to_vec()));
}

#[test]
fn the_variables_of_a_template_are_known_before_it_is_used() {
    let names = |text: &str| template(text).names().into_iter().collect::<Vec<_>>().join(" ");
    assert_eq!(names("/{{ secrets.token }}/{{ cursor + page.size }}"), "cursor page.size secrets.token");
    assert_eq!(names("{% for x in settings.kinds %}{{ x }}{% endfor %}{{ uuid() }}"), "settings.kinds");
    assert_eq!(names("{{ header['x'] | hmac('sha256', secret) }}"), "header secret");
    assert_eq!(template("{{ page.size }}{{ page.token }}").variables().len(), 1);
}

#[test]
fn a_faulty_template_is_refused_when_it_is_read() {
    let cases = [
        ("{{ a", "not closed"),
        ("{{ }}", "empty"),
        ("{{ a b }}", "syntax error"),
        ("{{ a | dat('x') }}", "there is no filter `dat`; did you mean `date`?"),
        ("{% if a %}{{ a | shout }}{% endif %}", "there is no filter `shout`; known: date"),
        ("{% if a %}", "syntax error"),
        ("{{ a | }}", "syntax error"),
        ("{{ {'a': 1 }}", "not closed"),
    ];
    for (text, want) in cases {
        let error = Template::parse(text).expect_err(text);
        assert!(error.contains(want), "{text}: {error}");
    }
    assert!(Template::parse(&format!("{{{{ {}", "(".repeat(100_000))).is_err());
    assert!(Template::parse(&format!("{{{{ {}1{} }}}}", "(".repeat(5_000), ")".repeat(5_000))).is_err());
    assert_eq!(Template::literal("{{ x").text(&Context::new()), Ok("{{ x".into()));
}

#[test]
fn a_uuid_is_random_and_of_version_four() {
    let uuid = || template("{{ uuid() }}").text(&Context::new()).expect("a uuid");
    let one = uuid();
    assert!(one.len() == 36 && one.as_bytes()[14] == b'4' && one != uuid(), "{one}");
}

#[test]
fn a_template_that_runs_away_is_stopped() {
    let mut context = Context::new();
    context.set("l", (0..2_000).collect::<Vec<i64>>());
    let endless = "{% for a in l %}{% for b in l %}{% for c in l %}x{% endfor %}{% endfor %}{% endfor %}";
    assert!(template(endless).text(&context).is_err());
}

#[test]
fn a_clone_of_a_context_goes_its_own_way() {
    let mut one = Context::new();
    one.set("page.size", 1).set("a", 1);
    let mut two = one.clone();
    two.set("page.size", 2).set("a", Value::UNDEFINED);
    assert_eq!(template("{{ page.size }}{{ a }}").text(&one), Ok("11".into()));
    assert_eq!(template("{{ page.size }}").text(&two), Ok("2".into()));
    assert_eq!(template("{{ a }}").value(&two), Ok(None));
}
