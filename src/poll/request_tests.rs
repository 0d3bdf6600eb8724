//! Requests as they go out, for what a provider file says.

use super::*;
use crate::jq::Jq;
use crate::poll::fixtures::{get, params, source, stream, template};
use crate::provider::{CursorKind, CursorOrder, Lookback, Start, Stream};
use crate::template::TimeFormat;

/// 2026-11-20T09:24:04.512Z.
const THEN: Timestamp = Timestamp(1_795_166_644_512);

fn cursor(kind: CursorKind, format: TimeFormat, zone: Option<Tz>, precision: u64) -> Option<CursorSpec> {
    Some(CursorSpec {
        field: Some(Jq::parse(".at").expect("valid")),
        answer: None,
        kind,
        format,
        timezone: zone,
        precision: Duration::from_secs(precision),
        inclusive: true,
        order: CursorOrder::None,
        start: Start::All,
        lookback: Lookback::Number(0),
        settle: Duration::ZERO,
        max_future: Duration::from_secs(300),
    })
}

fn built(spec: Stream, cursor: Option<CursorValue>, page: &PageValues) -> Result<Outgoing> {
    built_over(Request::default(), spec, cursor, page)
}

fn built_over(all: Request, spec: Stream, cursor: Option<CursorValue>, page: &PageValues) -> Result<Outgoing> {
    let source = source("https://api.example/v1", vec![spec], |_, provider| provider.request = all);
    let frozen = Frozen { cursor, run_start: THEN, window: None, parent: None };
    let context = context(&source, &source.streams[0], &frozen, page, THEN);
    build(&source, &source.streams[0], &context, None, None)
}

fn url_of(request: Request) -> Result<String> {
    let spec = Stream { request: Some(request), ..stream("items") };
    built(spec, None, &PageValues::default()).map(|out| out.url.to_string())
}

#[test]
fn the_path_goes_after_the_base_and_never_to_another_host() {
    for (path, want) in [
        ("/items", "https://api.example/v1/items"),
        ("items", "https://api.example/v1/items"),
        ("", "https://api.example/v1"),
        ("?all=1", "https://api.example/v1?all=1"),
        ("/of/{{ settings.region }}/x", "https://api.example/v1/of/eu/x"),
        ("/bot{{ secrets.key }}/get", "https://api.example/v1/bots3cr%2Ft/get"),
        ("@evil.example/", "https://api.example/v1/@evil.example/"),
        (".evil.example/", "https://api.example/v1/.evil.example/"),
        ("//evil.example/", "https://api.example/v1//evil.example/"),
        ("https://evil.example/", "https://api.example/v1/https://evil.example/"),
    ] {
        assert_eq!(url_of(get(path, &[])).as_deref(), Ok(want), "{path}");
    }
    assert!(url_of(get("/x/{{ page.token }}", &[])).is_err(), "undefined in a path is an error");
    let absolute = Request { target: Some(Target::Url(template("https://other.example/x"))), ..Request::default() };
    assert_eq!(url_of(absolute).as_deref(), Ok("https://other.example/x"));
    for text in ["file:///etc/passwd", "no url", "mailto:a@b"] {
        let bad = Request { target: Some(Target::Url(template(text))), ..Request::default() };
        assert!(url_of(bad).is_err(), "{text}");
    }
}

#[test]
fn parameters_keep_their_order_lists_repeat_and_the_undefined_is_left_out() {
    let request = get(
        "/items?fixed=1",
        &[
            ("z", "last & first"),
            ("types[]", "{{ settings.types }}"),
            ("after", "{{ cursor }}"),
            ("token", "{{ page.token }}"),
            ("n", "{{ page.size }}"),
            ("a", "{{ settings.region }}+1"),
            ("list", "{{ settings.types | json }}"),
        ],
    );
    let spec = Stream { request: Some(request), ..stream("items") };
    let page = PageValues { size: Some(50), ..PageValues::default() };
    let out = built(spec, None, &page).expect("built");
    let want =
        "fixed=1&z=last%20%26%20first&types%5B%5D=a&types%5B%5D=b%20c&n=50&a=eu%2B1&list=%5B%22a%22%2C%22b%20c%22%5D";
    assert_eq!(out.url.query(), Some(want));
    let inside = get("/items", &[("q", "since {{ cursor }}")]);
    let fault = url_of(inside).expect_err("undefined inside a text is an error");
    assert!(fault.to_string().contains("query parameter `q`"), "{fault}");
}

#[test]
fn a_time_cursor_prints_in_its_own_format_and_zone_rounded_down() {
    let kyiv = Some(chrono_tz::Europe::Kyiv);
    let pattern = |text: &str| TimeFormat::Pattern(text.to_owned());
    for (format, zone, precision, want) in [
        (TimeFormat::Rfc3339, None, 1, "2026-11-20T09:24:04Z"),
        (TimeFormat::Rfc3339, None, 60, "2026-11-20T09:24:00Z"),
        (TimeFormat::Unix, None, 1, "1795166644"),
        (TimeFormat::UnixMillis, None, 0, "1795166644512"),
        (pattern("%d.%m.%Y %H:%M"), kyiv, 60, "20.11.2026 11:24"),
        (pattern("%Y-%m-%d %H:%M"), kyiv, 86_400, "2026-11-20 00:00"),
        (pattern("%Y-%m-%d"), Some(chrono_tz::Pacific::Kiritimati), 86_400, "2026-11-20"),
    ] {
        let spec = Stream {
            request: Some(get("/items", &[("since", "{{ cursor }}")])),
            cursor: cursor(CursorKind::Time, format.clone(), zone, precision),
            ..stream("items")
        };
        let out = built(spec, Some(CursorValue::Time(THEN)), &PageValues::default()).expect("built");
        let (_, shown) = out.url.query_pairs().next().expect("a parameter");
        assert_eq!(shown, want, "{format:?} {zone:?} {precision}");
    }
}

#[test]
fn rounding_never_moves_a_cursor_up() {
    for zone in [None, Some(chrono_tz::Europe::Kyiv), Some(chrono_tz::America::St_Johns)] {
        for precision in [0, 1, 60, 3600, 86_400] {
            let spec = cursor(CursorKind::Time, TimeFormat::Rfc3339, zone, precision).expect("given");
            // Over both clock changes of 2026, in steps that hit no round number.
            for hour in 0..9000 {
                let time = Timestamp(1_767_225_600_000 + hour * 3_601_017);
                let down = round_down(time, &spec, zone);
                let step = Duration::from_secs(precision.max(1));
                assert!(down <= time && time.since(down) < step, "{time} {zone:?} {precision}");
            }
        }
    }
    let edge = cursor(CursorKind::Time, TimeFormat::Rfc3339, None, 86_400).expect("given");
    assert!(round_down(Timestamp(i64::MIN), &edge, None) <= Timestamp(i64::MIN));
}

#[test]
fn a_number_cursor_counts_and_a_text_cursor_stands_as_it_is() {
    for (value, text, want) in [
        (CursorValue::Number("41".into()), "{{ cursor + 1 }}", "42"),
        (CursorValue::Number("41".into()), "{{ cursor }}", "41"),
        (CursorValue::Number("12345678901234567890123".into()), "{{ cursor }}", "12345678901234567890123"),
        (CursorValue::Text("a/b=".into()), "{{ cursor }}", "a/b="),
    ] {
        let spec = Stream { request: Some(get("/items", &[("o", text)])), ..stream("items") };
        let out = built(spec, Some(value), &PageValues::default()).expect("built");
        assert_eq!(out.url.query_pairs().next().expect("a parameter").1, want);
    }
}

#[test]
fn the_streams_entries_win_over_the_providers_key_by_key() {
    let header = |name: &str, text: &str| (name.to_owned(), template(text));
    let all = Request {
        query: params(&[("v", "1"), ("lang", "en")]),
        headers: vec![header("X-App", "all"), header("Accept", "text/plain")],
        ..Request::default()
    };
    let own = Request {
        query: params(&[("limit", "5"), ("v", "2")]),
        headers: vec![header("x-app", "own"), header("x-run", "{{ run.start }}"), header("x-none", "{{ cursor }}")],
        ..get("/items", &[])
    };
    let out = built_over(all, Stream { request: Some(own), ..stream("items") }, None, &PageValues::default());
    let out = out.expect("built");
    assert_eq!(out.url.query(), Some("v=2&lang=en&limit=5"));
    let shown = |name: &str| out.headers.get(name).and_then(|value| value.to_str().ok());
    assert_eq!(shown("x-app"), Some("own"));
    assert_eq!(shown("accept"), Some("text/plain"));
    assert!(shown("x-run").is_some_and(|text| text.starts_with("2026-11-20T09:24:04")));
    assert_eq!(shown("x-none"), None);
    assert!(shown("user-agent").is_some_and(|text| text.starts_with("ringback/")));
    assert_eq!((out.method, out.body.len()), (Method::GET, 0));
}

#[test]
fn a_line_break_in_a_header_is_refused_without_showing_the_value() {
    let headers = vec![("x-a".to_owned(), template("s3cret\r\nX-Evil: 1"))];
    let request = Request { headers, ..get("/items", &[]) };
    let fault = url_of(request).expect_err("refused");
    assert!(fault.to_string().contains("header `x-a`") && !fault.to_string().contains("s3cret"), "{fault}");
}

#[test]
fn bodies_are_json_form_or_text_and_post_unless_said_otherwise() {
    let text = |text: &str| JsonTemplate::Template(template(text));
    let json = Body::Json(JsonTemplate::Object(vec![
        ("after".into(), text("{{ page.token }}")),
        ("size".into(), text("{{ page.size }}")),
        ("since".into(), text("{{ cursor }}")),
        ("types".into(), text("{{ settings.types }}")),
        ("say".into(), text("\"{{ settings.region }}\"")),
        ("list".into(), JsonTemplate::List(vec![text("{{ page.token }}"), JsonTemplate::Literal(true.into())])),
    ]));
    let form = Body::Form(params(&[("a b", "c&d"), ("t", "{{ settings.types }}"), ("x", "{{ page.token }}")]));
    let soap = Body::Text(template("<size>{{ page.size }}</size>"));
    let page = PageValues { size: Some(9), ..PageValues::default() };
    let number = Some(CursorValue::Number("12345678901234567890".into()));
    for (body, method, content_type, want) in [
        (
            json,
            Method::POST,
            Some("application/json"),
            r#"{"size":9,"since":12345678901234567890,"types":["a","b c"],"say":"\"eu\"","list":[true]}"#,
        ),
        (form, Method::POST, Some("application/x-www-form-urlencoded"), "a+b=c%26d&t=a&t=b+c"),
        (soap, Method::POST, None, "<size>9</size>"),
    ] {
        let request = Request { body: Some(body), ..get("/search", &[]) };
        let spec = Stream { request: Some(request), ..stream("items") };
        let out = built(spec, number.clone(), &page).expect("built");
        assert_eq!(out.method, method);
        assert_eq!(out.headers.get("content-type").map(|v| v.to_str().expect("text")), content_type);
        assert_eq!(std::str::from_utf8(&out.body), Ok(want));
    }
    let odd = Request { method: Some("NO SPACE".into()), ..get("/items", &[]) };
    assert!(url_of(odd).is_err());
    let undefined = Request { body: Some(Body::Text(template("{{ page.token }}"))), ..get("/items", &[]) };
    assert!(url_of(undefined).is_err(), "undefined in a text body is an error");
}
