//! Listings as providers give them, page by page, and where each leads.

use super::*;

fn spec(kind: PageKind, size: Option<u64>) -> Pagination {
    let (more, total, stop_when, split_at) = (None, None, None, None);
    Pagination { kind, first: 1, size, more, total, stop_when, numbered: false, max_pages: 50, split_at }
}

fn asked() -> Url {
    Url::parse("https://api.example/v1/items?limit=2").expect("a URL")
}

/// A page of so many records that no other page has.
fn page(records: usize) -> PageEnd {
    use std::sync::atomic::{AtomicU8, Ordering};
    static PAGES: AtomicU8 = AtomicU8::new(0);
    PageEnd { records, digest: [PAGES.fetch_add(1, Ordering::Relaxed); 16], ..PageEnd::default() }
}

fn token(records: usize, token: Option<&str>) -> PageEnd {
    PageEnd { next: token.map(str::to_owned), ..page(records) }
}

fn of(records: usize, total: u64) -> PageEnd {
    PageEnd { total: Some(total), ..page(records) }
}

fn more(records: usize, more: bool) -> PageEnd {
    PageEnd { more: Some(more), ..page(records) }
}

fn any_jq() -> crate::jq::Jq {
    crate::jq::Jq::parse(".next").expect("valid")
}

/// What each page led to, up to the first that led nowhere.
fn walk(spec: &Pagination, pages: Vec<PageEnd>) -> (Vec<PageValues>, Result<Next, PageFault>) {
    let mut pager = Pager::new(spec, None);
    let mut values = vec![pager.context().clone()];
    let mut last = Ok(Next::Done);
    for end in pages {
        last = pager.next(&end, None, &asked());
        if last != Ok(Next::Page) {
            break;
        }
        values.push(pager.context().clone());
    }
    (values, last)
}

#[test]
fn numbered_pages_end_without_records_or_by_a_declared_rule_and_never_by_being_short() {
    let spec = spec(PageKind::Page, Some(2));
    for (pages, numbers, last) in [
        (vec![page(2), page(1), page(0)], vec![1, 2, 3], Ok(Next::Done)),
        (vec![of(2, 3), of(1, 3)], vec![1, 2], Ok(Next::Done)),
        (vec![more(2, true), more(2, false)], vec![1, 2], Ok(Next::Done)),
        (vec![more(2, true), more(0, true), more(1, false)], vec![1, 2, 3], Ok(Next::Done)),
        (vec![PageEnd { stop: true, ..page(2) }], vec![1], Ok(Next::Done)),
        (vec![page(1)], vec![1, 2], Ok(Next::Page)),
        (vec![page(0)], vec![1], Ok(Next::Done)),
    ] {
        let (values, got) = walk(&spec, pages.clone());
        assert_eq!(values.iter().filter_map(|v| v.number).collect::<Vec<_>>(), numbers, "{pages:?}");
        assert_eq!(got, last, "{pages:?}");
        assert!(values.iter().all(|v| v.size == Some(2) && v.offset.is_none() && v.token.is_none()));
    }
}

#[test]
fn silently_smaller_pages_are_a_fault_where_pages_are_numbered() {
    let clamped = |got| Err(PageFault::Clamped { asked: 200, got });
    for (pages, want) in [
        (vec![page(100), page(100)], clamped(100)),
        (vec![of(100, 140)], clamped(100)),
        (vec![page(100), page(40), page(0)], Ok(Next::Done)),
        (vec![of(140, 140)], Ok(Next::Done)),
        (vec![page(200), page(200), page(7), page(0)], Ok(Next::Done)),
    ] {
        assert_eq!(walk(&spec(PageKind::Page, Some(200)), pages.clone()).1, want, "{pages:?}");
    }
    let unsized_pages = walk(&spec(PageKind::Page, None), vec![page(100), page(100), page(0)]);
    assert_eq!(unsized_pages.1, Ok(Next::Done), "without a size asked for, clamping cannot be seen");
}

#[test]
fn offsets_go_on_by_the_records_received() {
    let spec = spec(PageKind::Offset, Some(200));
    let (values, last) = walk(&spec, vec![page(100), page(100), page(30), page(0)]);
    assert_eq!(values.iter().filter_map(|v| v.offset).collect::<Vec<_>>(), [0, 100, 200, 230]);
    assert_eq!(last, Ok(Next::Done));
    assert_eq!(walk(&spec, vec![of(100, 130), of(30, 130)]).1, Ok(Next::Done));
    assert!(matches!(walk(&spec, vec![more(0, true)]).1, Err(PageFault::Loop(_))));
}

#[test]
fn a_token_leads_on_until_there_is_none_also_over_empty_pages() {
    let spec = spec(PageKind::Token(any_jq()), None);
    for (pages, tokens, done) in [
        (vec![token(2, Some("a")), token(0, Some("b")), token(1, None)], vec!["a", "b"], true),
        (vec![token(2, Some("0")), token(2, None)], vec!["0"], true),
        (vec![token(2, Some("a")), token(0, Some("a"))], vec!["a"], true),
        (vec![token(2, Some("a")), token(2, Some("a"))], vec!["a"], false),
        (vec![token(2, Some("a")), token(2, Some("b")), token(2, Some("a"))], vec!["a", "b"], false),
        (vec![PageEnd { more: Some(false), ..token(2, Some("a")) }], vec![], true),
    ] {
        let (values, last) = walk(&spec, pages.clone());
        let got: Vec<_> = values.iter().filter_map(|v| v.token.as_deref()).collect();
        assert_eq!(got, tokens, "{pages:?}");
        assert_eq!(last.is_ok(), done, "{pages:?} {last:?}");
    }
    assert!(matches!(walk(&spec, vec![more(2, true)]).1, Err(PageFault::NoNext(_))));
}

#[test]
fn the_last_records_id_leads_on_until_a_page_is_empty() {
    let spec = spec(PageKind::LastId(any_jq()), Some(2));
    let (values, last) = walk(&spec, vec![token(2, Some("7")), token(1, Some("9")), token(0, None)]);
    assert_eq!(values.iter().filter_map(|v| v.last_id.as_deref()).collect::<Vec<_>>(), ["7", "9"]);
    assert_eq!(last, Ok(Next::Done));
    assert!(matches!(walk(&spec, vec![token(2, None)]).1, Err(PageFault::NoNext(_))));
    assert!(matches!(walk(&spec, vec![token(2, Some("7")), token(2, Some("7"))]).1, Err(PageFault::Loop(_))));
}

#[test]
fn the_same_page_twice_is_a_loop_in_every_kind() {
    for kind in [PageKind::Page, PageKind::Offset, PageKind::Token(any_jq())] {
        let spec = spec(kind, None);
        let mut pager = Pager::new(&spec, None);
        let first = PageEnd { records: 2, digest: [9; 16], next: Some("a".into()), ..PageEnd::default() };
        assert_eq!(pager.next(&first, None, &asked()), Ok(Next::Page));
        let again = PageEnd { next: Some("b".into()), ..first };
        assert!(matches!(pager.next(&again, None, &asked()), Err(PageFault::Loop(_))));
    }
}

#[test]
fn a_page_limit_is_an_error_and_never_an_end() {
    let limited = Pagination { max_pages: 3, ..spec(PageKind::Page, None) };
    assert_eq!(walk(&limited, vec![page(2), page(2), page(2)]).1, Err(PageFault::TooMany(3)));
    assert_eq!(walk(&limited, vec![page(2), page(2), page(0)]).1, Ok(Next::Done));
}

#[test]
fn next_addresses_are_resolved_and_stay_on_the_origin() {
    let spec = spec(PageKind::NextUrl(any_jq()), None);
    for (next, want) in [
        ("/v1/items?p=2", Ok("https://api.example/v1/items?p=2")),
        ("?p=2", Ok("https://api.example/v1/items?p=2")),
        ("more", Ok("https://api.example/v1/more")),
        ("https://api.example:443/v1/x#top", Ok("https://api.example/v1/x")),
        ("https://user:pw@api.example/v1/x", Ok("https://api.example/v1/x")),
        ("https://evil.example/v1", Err("https://evil.example")),
        ("//evil.example/v1", Err("https://evil.example")),
        ("http://api.example/v1", Err("http://api.example")),
        ("https://api.example:8443/v1", Err("https://api.example:8443")),
        ("https://api.example@evil.example/", Err("https://evil.example")),
        ("javascript:alert(1)", Err("null")),
    ] {
        let mut pager = Pager::new(&spec, None);
        match (pager.next(&token(1, Some(next)), None, &asked()), want) {
            (Ok(Next::Page), Ok(url)) => assert_eq!(pager.address().map(Url::as_str), Some(url), "{next}"),
            (Err(PageFault::OtherOrigin(origin)), Err(want)) => assert_eq!(origin, want, "{next}"),
            (got, want) => panic!("{next}: {got:?}, wanted {want:?}"),
        }
    }
    let mut pager = Pager::new(&spec, None);
    let bad = pager.next(&token(1, Some("https://[")), None, &asked());
    assert!(matches!(bad, Err(PageFault::BadAddress(_))), "{bad:?}");
}

#[test]
fn link_headers_lead_on_and_a_link_to_the_page_itself_is_a_loop_unless_it_is_empty() {
    let spec = spec(PageKind::LinkHeader, None);
    let mut pager = Pager::new(&spec, None);
    let link = r#"<https://api.example/v1/items?p=2>; rel="next""#;
    assert_eq!(pager.next(&page(2), Some(link), &asked()), Ok(Next::Page));
    let second = pager.address().expect("an address").clone();
    assert_eq!(second.as_str(), "https://api.example/v1/items?p=2");
    assert_eq!(pager.next(&page(0), Some(link), &second), Ok(Next::Done));
    let mut pager = Pager::new(&spec, None);
    pager.next(&page(2), Some(link), &asked()).expect("leads on");
    assert!(matches!(pager.next(&page(1), Some(link), &second), Err(PageFault::Loop(_))));
    let mut pager = Pager::new(&spec, None);
    assert_eq!(pager.next(&page(2), Some(r#"</x>; rel="prev""#), &asked()), Ok(Next::Done));
    assert_eq!(Pager::new(&spec, None).next(&page(2), None, &asked()), Ok(Next::Done));
}
