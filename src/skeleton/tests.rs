//! Every draft is a file that can be read, whatever it was drawn from.

use super::*;
use crate::provider::{self, Detect, PageKind, Provider};
use crate::shape::SourceFile;

fn answered(url: &str, body: &str) -> Answered {
    let url = Url::parse(url).expect("an address");
    let body = Bytes::copy_from_slice(body.as_bytes());
    Answered { url, headers: vec![], content_type: None, link: None, body }
}

fn draft(answered: &Answered) -> (String, Provider) {
    let text = write("mine", answered).expect("a draft");
    match provider::read(SourceFile::new("mine.toml", text.clone())) {
        Ok((provider, _)) => (text, provider),
        Err(faults) => panic!("{text}\n{}", crate::shape::render(&faults, false)),
    }
}

#[test]
fn the_list_its_key_its_times_and_its_next_page_are_found() {
    let body = r#"{"meta":{"next":"https://api.example/v1/orders?after=2"},"data":{"orders":[
        {"name":"x","orderId":"a","updated_at":"2026-01-05T12:00:00Z","created_at":"2026-01-04T12:00:00Z"},
        {"name":"x","orderId":"b","updated_at":"2026-01-05T12:00:01Z","created_at":"2026-01-04T12:00:00Z"}]}}"#;
    let (text, provider) = draft(&answered("https://api.example/v1/orders?status=all&api_key=s3cret", body));
    let stream = &provider.streams[0];
    assert_eq!((stream.name.as_str(), stream.records.text()), ("orders", ".data.orders"));
    assert_eq!(stream.key[0].text(), ".orderId");
    assert_eq!(stream.version.as_ref().map(|version| version.field.text()), Some(".updated_at"));
    assert_eq!(stream.created.as_ref().map(|created| created.text()), Some(".created_at"));
    assert!(matches!(&stream.pagination.kind, PageKind::NextUrl(next) if next.text() == ".meta.next"), "{text}");
    assert!(text.contains(r#"status = "all""#) && !text.contains("s3cret"), "{text}");
    assert_eq!(provider.secrets[0].name, "key");
}

#[test]
fn other_ways_to_go_on_are_found() {
    let list = r#""items":[{"id":1},{"id":2}]"#;
    let kind = |url: &str, body: String, link: Option<&str>| {
        let answered = Answered { link: link.map(str::to_owned), ..answered(url, &body) };
        let (text, provider) = draft(&answered);
        (provider.streams[0].pagination.clone(), text)
    };
    let plain = "https://api.example/items";
    let (paging, _) = kind(plain, format!("{{{list}}}"), Some("<https://api.example/items?p=2>; rel=\"next\""));
    assert!(matches!(paging.kind, PageKind::LinkHeader));
    let (paging, text) = kind(plain, format!("{{{list},\"nextPageToken\":\"abc\"}}"), None);
    assert!(matches!(paging.kind, PageKind::Token(_)) && text.contains("page_token = \"{{ page.token }}\""), "{text}");
    let (paging, text) = kind(&format!("{plain}?page=1&per_page=50"), format!("{{{list},\"total\":2}}"), None);
    assert!(matches!(paging.kind, PageKind::Page), "{text}");
    assert_eq!(
        (paging.first, paging.size, paging.total.map(|total| total.text().to_owned())),
        (1, Some(50), Some(".total".into()))
    );
    let (paging, _) = kind(&format!("{plain}?offset=0&limit=10"), format!("{{{list}}}"), None);
    assert!(matches!(paging.kind, PageKind::Offset));
    let (paging, text) = kind(plain, format!("{{{list}}}"), None);
    assert!(matches!(paging.kind, PageKind::None) && text.contains("snapshot"));
}

#[test]
fn every_format_leads_to_a_file_that_reads_it() {
    let soap =
        "<s:Envelope xmlns:s=\"x\"><s:Body><R><Item><Id>1</Id></Item><Item><Id>2</Id></Item></R></s:Body></s:Envelope>";
    for (body, records, key) in [
        ("[{\"id\":1},{\"id\":2}]", ".", ".id"),
        ("{\"id\":1}\n{\"id\":2}\n", ".", ".id"),
        ("<r><l><i Nr=\"1\"/><i Nr=\"2\"/></l></r>", ".r.l.i", ".[\"@Nr\"]"),
        (soap, ".R.Item", ".Id"),
        ("Nr;Betrag\n1;2,50\n2;2,50\n", ".", ".Nr"),
        ("odd name\tb\n1\t2\n2\t2\n", ".", ".[\"odd name\"]"),
        ("<feed><id>f</id><entry><id>a</id></entry><entry><id>b</id></entry></feed>", ".entries", ".id"),
    ] {
        let (text, provider) = draft(&answered("https://api.example/x.dat", body));
        let stream = &provider.streams[0];
        assert_eq!((stream.records.text(), stream.key[0].text()), (records, key), "{text}");
        let page = stream.answer.read(&Bytes::copy_from_slice(body.as_bytes()), None).expect("read");
        assert!(page.bad.is_empty());
    }
}

#[test]
fn odd_answers_lead_to_drafts_too_and_pages_for_people_to_none() {
    for (url, body) in [
        ("https://api.example/", "{\"rate\":1.5}"),
        ("https://api.example/status", "all is well"),
        ("https://api.example/x/%7B%7B", "{\"a b\":[{\"c\\\"d\":\"x\"}]}"),
        ("http://10.0.0.1:8080/list?q=%22a%22", "[]"),
        ("https://api.example/t", "[{\"id\":1,\"modified\":1767614400},{\"id\":2,\"modified\":1767614401}]"),
        ("https://api.example/t", "[{\"id\":1,\"Changed\":\"2026-01-05 12:00:00\"}]"),
    ] {
        draft(&answered(url, body));
    }
    let (_, document) = draft(&answered("https://api.example/rates", "{\"rate\":1.5}"));
    assert_eq!(document.streams[0].detect, Detect::Document);
    for body in ["", "<html>Log in</html>", "<a><b></a>"] {
        assert!(write("mine", &answered("https://api.example/x", body)).is_err(), "{body}");
    }
}

#[test]
fn what_looks_like_a_credential_in_the_address_is_written_nowhere() {
    let list = "[{\"id\":1},{\"id\":2}]";
    for (url, secrets, kept) in [
        (
            "https://api.example/bot123456:AAHsecretsecret/getUpdates?sid=SESSION123&limit=5",
            ["AAHsecret", "123456", "SESSION123"].as_slice(),
            ["path       = \"/{{ secrets.path }}/getUpdates\"", "name = \"sid\""].as_slice(),
        ),
        (
            "https://api.example/v1/hooks/9f86d081884c7d65?sid=A1&session=B2&jwt=C3&code=D4&credential=E5&status=all",
            &["9f86d081884c7d65", "A1", "B2", "C3", "D4", "E5"],
            &["status = \"all\"", "session = \"{{ secrets.session }}\"", "[streams.hooks]", "secrets.jwt = "],
        ),
        (
            "https://api.example/list?u=bot1:AAHsecretsecret&u=550e8400-e29b-41d4-a716-446655440000&since=2026-01-05T12:00:00Z",
            &["AAHsecret", "550e8400"],
            &["since = \"2026-01-05T12:00:00Z\""],
        ),
    ] {
        let (text, _) = draft(&answered(url, list));
        for secret in secrets {
            assert!(!text.contains(secret), "{secret} in\n{text}");
        }
        for part in kept {
            assert!(text.contains(part), "no {part} in\n{text}");
        }
        assert!(!text.contains("No credential was sent"), "{text}");
    }
}
