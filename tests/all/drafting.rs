//! `provider new`, `provider test --junit` and `provider schema`, as a person types them.

use std::path::Path;
use std::process::{Command, Output};

use axum::Router;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;

/// Answers as odd as they come: where they are, their kind, and what a draft of them says.
const ODD: [(&str, &str, &str, &[&str]); 4] = [
    (
        "/statement",
        "application/xml",
        "<?xml version=\"1.0\"?><Orders xmlns=\"urn:a\"><Meta><Count>2</Count></Meta><Order id=\"1\"><Updated>2026-01-05T12:00:00Z</Updated></Order>\
         <Order id=\"2\"><Updated>2026-01-05T12:00:01Z</Updated></Order></Orders>",
        &["format   = \"xml\"", "xml_lists = [\"Order\"]", "\".Orders.Order\"", "key        = '.[\"@id\"]'"],
    ),
    (
        "/export",
        "text/csv",
        "order_no;amount;changed_at\n1;2,50;2026-01-05\n2;3,50;2026-01-06\n",
        &["format   = \"csv\"", "delimiter = \";\"", "key        = \".order_no\"", "time_format = \"%Y-%m-%d\""],
    ),
    (
        "/search",
        "application/json",
        r#"{"meta":{"took":3},"result":{"page":{"next":"abc"},"rows":{"data":[{"attributes":{"uuid":"a","modified":"2026-01-05T12:00:00Z"},"kind":"x"},{"attributes":{"uuid":"b","modified":"2026-01-05T12:00:01Z"},"kind":"x"}]}}}"#,
        &[
            "\".result.rows.data\"",
            "key        = \".attributes.uuid\"",
            "version    = \".attributes.modified\"",
            "\".result.page.next\"",
        ],
    ),
    ("/lines", "application/x-ndjson", "{\"id\":1}\n{\"id\":2}\n", &["format   = \"ndjson\"", "key        = \".id\""]),
];

#[tokio::test]
async fn odd_answers_give_drafts_that_are_good_files() {
    let (base, folder) = (api().await, tempfile::tempdir().expect("a folder"));
    for (path, _, _, says) in ODD {
        let name = path.trim_start_matches('/');
        let written = ringback(folder.path(), &["provider", "new", name, "--url", &format!("{base}{path}")]).await;
        assert_eq!(written.status.code(), Some(0), "{name}: {}", said(&written));
        let file = format!("./{name}.toml");
        let draft = std::fs::read_to_string(folder.path().join(&file)).expect("it is there");
        for wanted in says {
            assert!(draft.contains(wanted), "{name}: {wanted} in\n{draft}");
        }
        let shown = ringback(folder.path(), &["provider", "show", &file]).await;
        assert!(shown.status.success() && said(&shown).contains(name), "{}", said(&shown));
        let tested = ringback(folder.path(), &["provider", "test", &file]).await;
        assert!(tested.status.code() == Some(4) && said(&tested).contains("has no tests"), "{}", said(&tested));
        let config = format!("schema = 1\n[sources.mine]\nprovider = \"{file}\"\n");
        std::fs::write(folder.path().join("config.toml"), config).expect("written");
        // What a draft says is enough to look, and what it finds are the records. (The one that pages is answered the same again.)
        let looked = ringback(folder.path(), &["poll", "mine", "--dry-run"]).await;
        assert!(said(&looked).contains("2 records"), "{name}: {}", said(&looked));
    }
}

async fn api() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let orders = async |headers: HeaderMap| match headers.get("authorization").and_then(|value| value.to_str().ok()) {
        Some("Bearer s3cret") => {
            let body = r#"{"data":[{"id":"a","updated_at":"2026-01-05T12:00:00Z"},{"id":"b","updated_at":"2026-01-05T12:00:01Z"}]}"#;
            ([(header::CONTENT_TYPE, "application/json")], body).into_response()
        }
        _ => StatusCode::UNAUTHORIZED.into_response(),
    };
    let page = async || ([(header::CONTENT_TYPE, "text/html")], "<html>Log in</html>");
    let router = ODD.iter().fold(Router::new(), |router, (path, kind, body, _)| {
        router.route(path, get(async move || ([(header::CONTENT_TYPE, *kind)], *body)))
    });
    let router = router.route("/v1/orders", get(orders)).route("/page", get(page));
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

async fn ringback(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringback"));
    command.current_dir(folder).args(args).env_remove("RINGBACK_CONFIG").env("NO_COLOR", "1");
    tokio::task::spawn_blocking(move || command.output().expect("it runs")).await.expect("it ends")
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_draft_from_one_answer_can_be_shown_and_checked_and_is_never_overwritten() {
    let (base, folder) = (api().await, tempfile::tempdir().expect("a folder"));
    let url = format!("{base}/v1/orders");
    let refused = ringback(folder.path(), &["provider", "new", "mine", "--url", &url]).await;
    assert!(refused.status.code() == Some(1) && said(&refused).contains("wants a credential"), "{}", said(&refused));
    assert!(!folder.path().join("mine.toml").exists());
    std::fs::write(folder.path().join("token"), "Bearer s3cret\n").expect("written");
    let header = format!("Authorization: @{}", folder.path().join("token").display());
    let args = ["provider", "new", "mine", "--url", &url, "--header", &header];
    let written = ringback(folder.path(), &args).await;
    assert_eq!(written.status.code(), Some(0), "{}", said(&written));
    let draft = std::fs::read_to_string(folder.path().join("mine.toml")).expect("it is there");
    assert!(!draft.contains("s3cret") && draft.contains("records    = \".data\""), "{draft}");
    let shown = ringback(folder.path(), &["provider", "show", "./mine.toml"]).await;
    assert!(shown.status.success() && said(&shown).contains("orders"), "{}", said(&shown));
    let config = "schema = 1\n[sources.mine]\nprovider = \"./mine.toml\"\nsecrets = { token = { file = \"token\" } }\n";
    std::fs::write(folder.path().join("config.toml"), config).expect("written");
    let checked = ringback(folder.path(), &["check"]).await;
    assert_eq!(checked.status.code(), Some(0), "{}", said(&checked));
    let again = ringback(folder.path(), &args).await;
    assert!(again.status.code() == Some(2) && said(&again).contains("there already"), "{}", said(&again));
    assert_eq!(std::fs::read_to_string(folder.path().join("mine.toml")).expect("read"), draft);
    let page = format!("{base}/page");
    let page = ringback(folder.path(), &["provider", "new", "other", "--url", &page]).await;
    assert!(page.status.code() == Some(1) && said(&page).contains("HTML"), "{}", said(&page));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tests_are_told_to_build_servers_and_the_schema_is_printed() {
    let folder = tempfile::tempdir().expect("a folder");
    let provider = Path::new(env!("CARGO_MANIFEST_DIR")).join("providers/csv-export.toml");
    let provider = provider.to_str().expect("a path");
    let tested = ringback(folder.path(), &["provider", "test", provider, "--junit", "report.xml"]).await;
    assert_eq!(tested.status.code(), Some(0), "{}", said(&tested));
    let report = std::fs::read_to_string(folder.path().join("report.xml")).expect("written");
    assert!(report.contains("tests=\"1\" failures=\"0\"") && report.contains("<testcase "), "{report}");
    let schema = ringback(folder.path(), &["provider", "schema"]).await;
    let schema: serde_json::Value = serde_json::from_slice(&schema.stdout).expect("JSON");
    assert_eq!(schema["title"], "Ringback provider file");
}
