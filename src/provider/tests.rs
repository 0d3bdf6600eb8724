//! Provider files read whole: what is right is taken, what is wrong is named.
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::schedule::{FirstRun, Schedule};
use crate::shape::{Fault, Level, SourceFile};
use crate::signature::{SignaturePlace, TimestampPlace, TimestampUnit};

fn file(text: &str) -> Arc<SourceFile> {
    SourceFile::new("providers/test.toml", text)
}

fn good(text: &str) -> Provider {
    match read(file(text)) {
        Ok((provider, _)) => provider,
        Err(faults) => panic!("{}", crate::shape::render(&faults, false)),
    }
}

/// Each fault as `LINE: message; help`.
fn faults(text: &str) -> Vec<String> {
    read(file(text)).err().unwrap_or_default().iter().map(line).collect()
}

fn line(fault: &Fault) -> String {
    format!("{}: {}; {}", fault.line(), fault.message, fault.help.as_deref().unwrap_or_default())
}

const SMALL: &str = "schema = 1\nbase_url = \"https://a.example\"\n[streams.s]\npath = \"/s\"\nkey = \".id\"\n";

/// The file `SMALL` with lines at its end, which belong to its stream.
fn small(lines: &str) -> String {
    format!("{SMALL}{lines}\n")
}

#[test]
fn the_smallest_file_has_the_defaults_of_the_reference() {
    let provider = good(SMALL);
    assert_eq!((provider.name.as_str(), provider.title.as_str()), ("test", "test"));
    assert!(matches!(provider.auth.as_slice(), [Auth::None]));
    assert_eq!(provider.limits, Limits::default());
    assert_eq!(provider.time_format, TimeFormat::Rfc3339);
    assert!(provider.webhook.is_none() && provider.native.is_none() && provider.tests.is_empty());
    let stream = &provider.streams[0];
    assert_eq!((stream.name.as_str(), stream.title.as_str(), stream.enabled), ("s", "s", true));
    assert_eq!((stream.records.text(), stream.records_as, stream.detect), (".", RecordsAs::List, Detect::Changed));
    assert_eq!(stream.key.iter().map(Jq::text).collect::<Vec<_>>(), [".id"]);
    assert!(stream.order_key.is_empty() && stream.cursor.is_none() && stream.conditional == Conditional::No);
    assert!(matches!(stream.pagination.kind, PageKind::None));
    assert_eq!(stream.pagination.max_pages, 1_000);
    let Deletes { when, confirm_after, max_percent, max_count } = &stream.deletes;
    assert_eq!((when.is_none(), *confirm_after, *max_percent, *max_count), (true, 2, 10, 1_000));
    assert_eq!((stream.types.created.as_str(), stream.types.deleted.as_str()), ("s.created", "s.deleted"));
    assert_eq!(stream.settings, StreamSettings::default());
}

#[test]
fn the_file_of_the_design_is_read_in_full() {
    let provider = good(include_str!("../../tests/fixtures/providers/design.toml"));
    let payments = &provider.streams[0];
    assert_eq!(provider.limits.rates, [(5, Duration::from_secs(1))]);
    assert!(matches!(provider.auth.as_slice(), [Auth::Basic { .. }]));
    let cursor = payments.cursor.as_ref().expect("a cursor");
    assert_eq!((cursor.kind, cursor.order, cursor.start.clone()), (CursorKind::Time, CursorOrder::Asc, Start::Now));
    assert_eq!(cursor.lookback, Lookback::Time(Duration::from_secs(600)));
    assert_eq!((cursor.precision, cursor.inclusive), (Duration::from_secs(1), true));
    assert!(matches!(payments.pagination.kind, PageKind::Page));
    assert_eq!(payments.pagination.size, Some(200));
    assert_eq!(payments.version.as_ref().map(|v| v.kind), Some(VersionKind::Time));
    assert_eq!((payments.ignore.len(), payments.unordered.len(), payments.types.when.len()), (2, 1, 1));
    let customers = &provider.streams[1];
    assert_eq!((customers.detect, customers.conditional), (Detect::Snapshot, Conditional::Page));
    let webhook = provider.webhook.as_ref().expect("webhooks");
    assert_eq!(webhook.schemes[0].name, "core-banking");
    assert_eq!(webhook.schemes[0].place, SignaturePlace::Header(vec!["X-Signature".into()]));
    assert_eq!(webhook.messages[0].on_webhook, OnWebhook::Merge);
    assert_eq!(webhook.redelivers, Duration::from_secs(7 * 24 * 3600));
    assert_eq!(provider.tests[0].polls.iter().map(Vec::len).collect::<Vec<_>>(), [2, 1]);
}

#[test]
fn every_built_in_provider_is_valid() {
    let names = built_in_names();
    assert!(names.len() >= 6, "the catalogue is missing: {names:?}");
    for name in names {
        let file = built_in(&name).expect("its file");
        let (provider, warnings) =
            read(file).unwrap_or_else(|faults| panic!("{}", crate::shape::render(&faults, false)));
        assert_eq!(provider.name, name);
        assert!(warnings.is_empty(), "{name}: {warnings:?}");
    }
    assert!(built_in("nope").is_none() && built_in("fixtures/x").is_none());
}

#[test]
fn the_played_example_of_a_form_and_composite_keys() {
    let provider = good(
        r#"
schema      = 1
base_url    = "http://legacy.internal/api"
timezone    = "Europe/Kyiv"
time_format = "%d.%m.%Y %H:%M:%S"
secrets.api_key = "key of the technical user"
[auth]
type  = "api_key"
in    = "header"
name  = "X-Api-Key"
value = "{{ secrets.api_key }}"
[streams.documents]
path       = "/documents"
query      = { modifiedFrom = "{{ cursor | date('%d.%m.%Y %H:%M') }}", offset = "{{ page.offset }}", limit = "{{ page.size }}", all = true, n = [1, "{{ page.size }}"] }
records    = ".items"
key        = [".branch", ".number", ".line"]
time       = ".modified"
cursor     = { field = ".modified", precision = "1m", lookback = "10m" }
pagination = { type = "offset", size = 100, total = ".total" }
deletes    = { when = ".deleted == 1" }
ignore     = [".fetchedAt"]
cron       = "*/5 * * * *"
first_run  = "send-all"
"#,
    );
    let stream = &provider.streams[0];
    assert_eq!(stream.key.len(), 3);
    let cursor = stream.cursor.as_ref().expect("a cursor");
    assert_eq!(cursor.format, TimeFormat::Pattern("%d.%m.%Y %H:%M:%S".into()));
    assert_eq!(cursor.timezone.map(|zone| zone.name()), Some("Europe/Kyiv"));
    assert!(matches!(&stream.settings.schedule, Some(Schedule::Cron { .. })));
    assert_eq!(stream.settings.first_run, Some(FirstRun::SendAll));
    let query = &stream.request.as_ref().expect("a request").query;
    assert_eq!(
        query.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
        ["modifiedFrom", "offset", "limit", "all", "n"]
    );
    assert!(matches!(&query[3].1, Param::Literal(text) if text == "true"));
    assert!(matches!(&query[4].1, Param::List(items) if items.len() == 2));
}

#[test]
fn the_played_example_of_several_schemes_is_read_with_its_handshakes() {
    let text = include_str!("../../tests/fixtures/providers/schemes.toml");
    let provider = good(text);
    let schemes = &provider.webhook.as_ref().expect("webhooks").schemes;
    assert_eq!(schemes.len(), 3);
    let timestamp = schemes[0].timestamp.as_ref().expect("a timestamp");
    assert_eq!(timestamp.place, Some(TimestampPlace::Header("X-Example-Request-Timestamp".into())));
    assert_eq!((timestamp.unit, timestamp.past), (TimestampUnit::Millis, Duration::from_secs(300)));
    assert_eq!(schemes[2].place, SignaturePlace::Form(vec!["signature".into()]));
    assert!(matches!(provider.native.expect("native").body, Some(Body::Form(_))));
    let with_handshake =
        format!("{text}\n[[webhook.handshakes]]\nwhen = '.type == \"x\"'\nanswer = {{ body = \"x\" }}\n");
    let handshakes = good(&with_handshake).webhook.expect("webhooks").handshakes;
    let [one] = handshakes.as_slice() else { panic!("{handshakes:?}") };
    assert_eq!((one.method.as_str(), one.signed, one.refuse, one.answer.status), ("POST", true, 403, 200));
}

#[test]
fn the_played_example_of_a_bank_reads() {
    let bank = good(include_str!("../../tests/fixtures/providers/bank.toml"));
    assert_eq!(bank.streams.len(), 1);
}

#[test]
fn what_one_request_for_several_parents_cannot_be_is_refused() {
    let with = |parent: &str, more: &str| format!("{SMALL}parent = {{ values = [\"a\"], {parent} }}\n{more}");
    good(&with("batch = 5", ""));
    good(&with("batch = 5, owner = { value = \".a\" }", "detect = \"snapshot\"\n"));
    for (parent, more, expected) in [
        ("batch = 0", "", "1 to 1000"),
        ("batch = \"5\"", "", "must be an integer"),
        ("owner = { value = \".a\" }", "", "several parents in one request"),
        ("batch = 5, owner = { id = \".a\" }", "", "hand down no `id`"),
        ("batch = 5, owner = {}", "", "exactly one entry"),
        ("batch = 5", "detect = \"snapshot\"\n", "would delete its children"),
        ("batch = 5", "cursor = { answer = \".next\", type = \"text\" }\n", "opaque cursor"),
    ] {
        let found = faults(&with(parent, more));
        assert!(found.iter().any(|fault| fault.contains(expected)), "{parent} {more}: {found:#?}");
    }
}

#[test]
fn a_stream_reads_answers_as_the_file_says_and_as_it_says_itself() {
    use crate::answer::{Charset, FormatKind};
    let text = format!(
        "format = \"csv\"\ncharset = \"koi8-u\"\ncsv = {{ delimiter = \";\", header = false }}\n{SMALL}csv = {{ quote = \"\" }}\n\
         [streams.feed]\npath = \"/f\"\nkey = \".id\"\nformat = \"feed\"\n"
    );
    let provider = good(&text);
    let [rows, feed] = provider.streams.as_slice() else { panic!("{:?}", provider.streams) };
    assert_eq!((rows.answer.kind, rows.answer.charset), (FormatKind::Csv, Charset::named("koi8-u")));
    let csv = &rows.answer.csv;
    assert_eq!((csv.delimiter, csv.quote, csv.header), (b';', None, false), "what it does not say is as around it");
    assert_eq!((feed.answer.kind, feed.records.text()), (FormatKind::Feed, ".entries"));
    let files = good("schema = 1\n[streams.s]\nfiles = \"/in/*.xml\"\nkey = \".id\"\nformat = \"xml\"\n");
    assert!(files.base_url.is_none() && files.streams[0].is_polled() && files.streams[0].request.is_none());
}

#[test]
fn parts_of_a_signature_that_do_not_go_together_are_faults() {
    for (added, wanted) in [
        ("type = \"hmac\"\nheader = \"X\"\nkeys = { url = \"https://k\" }", "belongs to jwt, rsa"),
        ("type = \"jwt\"\nheader = \"X\"\nkeys = { read = \".key\" }", "does not say where to"),
        ("type = \"rsa\"\nheader = \"X\"\nkeys = { url = \"https://k/{{ key_id }}\" }", "`key_id`, which is not known"),
        ("type = \"jwt\"\nheader = \"X\"\nkeys = { url = \"https://{{ key_id }}/\" }", "takes its host from `key_id`"),
        (
            "type = \"rsa\"\nheader = \"X\"\nkeys = { url = \"https://k\", id = { header = \"K\", json = \".k\" } }",
            "where the id stands",
        ),
        ("type = \"hmac\"\nheader = \"X\"\nkey_encoding = \"pem\"", "is not written so"),
        ("type = \"ed25519\"\nheader = \"X\"\nkey_encoding = \"text\"", "is not written so"),
        ("type = \"ecdsa\"\nheader = \"X\"\nalgorithm = \"sha1\"", "ecdsa is P-256 with sha256"),
        ("type = \"hmac\"\nheader = \"X\"\nalgorithm = { map = { a = \"sha1\" } }", "where the algorithm is named"),
        ("type = \"hmac\"\nheader = \"X\"\nalgorithm = { header = \"A\" }", "`map` is missing"),
        ("type = \"hmac\"\nheader = \"X\"\nbody_hash = { query = \"h\", claim = \"c\" }", "in one place"),
        ("type = \"hmac\"\nheader = \"X\"\ncertificate = { header = \"C\", host = \"h\" }", "belongs to type"),
        ("type = \"rsa\"\nheader = \"X\"\ncertificate = { host = \"h\" }", "where its address stands"),
        ("type = \"jwt\"\nheader = \"X\"\ncontent = \"{{ body }}\"", "says itself what is signed"),
        (
            "type = \"hmac\"\nheader = \"X\"\nvalue = \"{{ timestamp }}{{ signature }}\"\ntimestamp = { unit = \"s\" }",
            "more than one of",
        ),
        (
            "type = \"hmac\"\nheader = \"X\"\n[[webhook.handshakes]]\nfetch = \"{{ body.url }}\"",
            "make us call an address",
        ),
        (
            "type = \"hmac\"\nheader = \"X\"\n[[webhook.handshakes]]\nanswer = { body = \"{{ boddy }}\" }",
            "not known in this template",
        ),
    ] {
        let text = format!("{SMALL}[[webhook.messages]]\non_webhook = \"ignore\"\n[[webhook.signature]]\n{added}\n");
        let found = faults(&text);
        assert!(found.len() == 1 && found[0].contains(wanted), "{added}: {found:#?}");
    }
}

#[test]
fn parts_of_a_stream_that_do_not_go_together_are_faults() {
    let cases = [
        (
            "detect = \"snapshot\"\ncursor = { field = \".a\" }",
            "7: `streams.s.cursor`: detect = \"snapshot\" reads everything",
        ),
        ("detect = \"changed\"\ndeletes = { max_percent = 5 }", "7: `streams.s.deletes.max_percent` is about records"),
        ("cursor = { field = \".a\", start = \"7d\" }", "6: `streams.s.cursor.start`: a record older than the start"),
        ("query = { since = \"{{ cursor }}\" }", "needs a `cursor`"),
        ("query = { n = \"{{ page.size }}\" }", "needs `pagination.size`"),
        ("query = { p = \"{{ page.number }}\" }", "has no value with this pagination"),
        ("pagination = { type = \"page\" }", "6: no request of `streams.s` names `{{ page.number }}`"),
        (
            "pagination = { type = \"token\" }\nquery = { t = \"{{ page.token }}\" }",
            "6: `next` is missing in `streams.s.pagination`",
        ),
        ("pagination = { type = \"link_header\", next = \".a\" }", "6: `streams.s.pagination.next` is read only"),
        (
            "pagination = { type = \"offset\" }\nquery = { o = \"{{ page.offset }}\" }",
            "`streams.s.pagination.size` is missing",
        ),
        (
            "pagination = { type = \"token\", first = 0, next = \".n\" }\nquery = { t = \"{{ page.token }}\" }",
            "these pages have none",
        ),
        ("cursor = { field = \".a\", type = \"number\", lookback = \"5m\" }", "must be an integer"),
        ("cursor = { field = \".a\", type = \"number\", format = \"unix\" }", "is about times"),
        (
            "cursor = { field = \".a\", start = \"soon\" }\ncreated = \".c\"",
            "6: `streams.s.cursor.start` must be a time",
        ),
        ("url = \"https://b.example\"", "6: `streams.s.path` and `streams.s.url` exclude each other"),
        ("body = \"x\"\nform = { a = \"b\" }", "exclude each other"),
        ("types = { created = \"a b\" }", "6: `streams.s.types.created` is `a b`, which is no event type"),
        (
            "types = { when = [{ when = \"true\", type = \"x\", on = \"gone\" }] }",
            "must be one of updated, created, deleted",
        ),
        ("headers = { \"a b\" = \"x\" }", "cannot be the name of a header"),
        ("headers = { a = \"x\\ny\" }", "holds a line break"),
        ("method = \"post\"", "did you mean `POST`?"),
        ("version = \".a |\"", "6: `streams.s.version` is no jq filter: term is expected"),
        ("filter = \"nope\"", "filter `nope` is not known"),
        ("limits = { rate = \"5\" }", "must be a rate as text"),
        ("time_format = \"rfc3399\"", "did you mean `rfc3339`?"),
        ("timezone = \"Europe/Kjiv\"", "did you mean `Europe/Kyiv`?"),
        ("response_actions = [{ action = \"ok\" }]", "matches every answer"),
        ("response_actions = [{ status = 700, action = \"ok\" }]", "must be 100 to 599"),
    ];
    for (added, want) in cases {
        let found = faults(&small(added));
        assert!(found.len() == 1 && found[0].contains(want), "{added}: wanted {want}, found {found:#?}");
    }
    for (text, want) in [
        ("schema = 1\n[streams.s]\npath = \"/s\"\nkey = \".id\"\n", "3: `streams.s.path` needs `base_url`"),
        ("schema = 1\n[streams.s]\nkey = \".id\"\n", "2: nothing feeds `streams.s`"),
        ("schema = 1\n", "`streams` is missing"),
        ("schema = 2\n[streams.s]\nurl = \"https://a\"\nkey = \".id\"\n", "1: `schema` is 2, but this version"),
        (
            "schema = 1\n[streams.\"a b\"]\nurl = \"https://a\"\nkey = \".id\"\n",
            "2: `a b` cannot be the name of a stream",
        ),
        (
            "schema = 1\n[streams.d]\nurl = \"https://a\"\ndetect = \"document\"\nkey = \".id\"\n",
            "5: `streams.d.key`: a document has no key",
        ),
    ] {
        let found = faults(text);
        assert!(found.len() == 1 && found[0].contains(want), "{text}: wanted {want}, found {found:#?}");
    }
}

#[test]
fn a_request_for_all_streams_may_name_what_only_some_have() {
    let text = "schema = 1\nbase_url = \"https://a.example\"\n[request]\nquery = { p = \"{{ page.number }}\", s = \"{{ page.size }}\" }\n\
                [streams.one]\npath = \"/1\"\nkey = \".id\"\n\
                [streams.many]\npath = \"/2\"\nkey = \".id\"\npagination = { type = \"page\", size = 10 }\n";
    assert_eq!(good(text).streams.len(), 2);
}

#[test]
fn a_template_may_name_only_what_its_place_has() {
    let cases = [
        ("query = { a = \"{{ setings.x }}\" }", "did you mean `settings`?"),
        ("query = { a = \"{{ settings.acount }}\" }", "did you mean `settings.account`?"),
        ("query = { a = \"{{ secrets.tokn }}\" }", "did you mean `secrets.token`?"),
        ("query = { a = \"{{ page.nmber }}\" }", "did you mean `page.number`?"),
        (
            "query = { a = \"{{ record.id }}\" }",
            "known here: cursor, run, window, parent, page, settings, secrets, token, signature, nonce, now",
        ),
        ("query = { a = \"{{ now | dat('unix') }}\" }", "did you mean `date`?"),
        ("headers = { a = \"{{ settings.acount }}\" }", "did you mean `settings.account`?"),
        ("json = { a = [{ b = \"{{ settings.acount }}\" }] }", "did you mean `settings.account`?"),
    ];
    let head = "settings.account = \"a\"\nsecrets.token = \"t\"\n";
    for (added, want) in cases {
        let found = faults(&format!("{head}{}", small(added)));
        assert!(found.len() == 1 && found[0].starts_with("8:") && found[0].contains(want), "{added}: {found:#?}");
    }
    let found = faults(&SMALL.replace("https://a.example", "https://{{ secrets.host }}"));
    assert!(found.len() == 1 && found[0].contains("known here: settings"), "{found:#?}");
    let found = faults(&SMALL.replace("path = \"/s\"", "path = \"{% if now %}/s{% endif %}\""));
    assert!(found.len() == 1 && found[0].contains("no {% %}"), "{found:#?}");
}

#[test]
fn webhooks_that_cannot_work_are_faults() {
    let head = format!("{SMALL}[streams.t]\npath = \"/t\"\nkey = \".id\"\nversion = \".v\"\n");
    let hmac = "[[webhook.signature]]\ntype = \"hmac\"\nheader = \"X\"\n";
    let cases = [
        (format!("{hmac}[[webhook.messages]]\nwhen = \"true\"\n"), "does not say which stream it belongs to; add stream, one of s, t"),
        (format!("{hmac}[[webhook.messages]]\nstream = \"q\"\n"), "is `q`, which is no stream of this file"),
        (format!("{hmac}[[webhook.messages]]\nstream = \"s\"\non_webhook = \"merge\"\n"), "cannot be told old from new"),
        (format!("{hmac}[[webhook.messages]]\nstream = \"t\"\npolled = \"u\"\n"), "is `u`, which is no stream of this file"),
        (format!("{hmac}{hmac}[[webhook.messages]]\nstream = \"t\"\n"), "two signatures are named `test`"),
        ("[webhook]\nsetup = \"x\"\n[[webhook.messages]]\nstream = \"t\"\n".into(), "has no signature"),
        (format!("{hmac}value = \"t={{{{ timestamp }}}}\"\n[[webhook.messages]]\nstream = \"t\"\n"), "must hold {{ signature }}"),
        (format!("{hmac}content = \"{{{{ timestamp }}}}.{{{{ body }}}}\"\n[[webhook.messages]]\nstream = \"t\"\n"), "but has no `timestamp`"),
        (format!("{hmac}content = \"{{{{ bdy }}}}\"\n[[webhook.messages]]\nstream = \"t\"\n"), "did you mean `body`?"),
        (format!("{hmac}timestamp = {{ unit = \"s\" }}\n[[webhook.messages]]\nstream = \"t\"\n"), "does not say where the time stands"),
        (format!("{hmac}tolerance = \"5m\"\n[[webhook.messages]]\nstream = \"t\"\n"), "is the age of a `timestamp`"),
        (format!("{hmac}form = \"y\"\n[[webhook.messages]]\nstream = \"t\"\n"), "exclude each other"),
        ("[[webhook.signature]]\ntype = \"hmac\"\n[[webhook.messages]]\nstream = \"t\"\n".into(), "where the signature stands"),
        ("[[webhook.signature]]\ntype = \"digest\"\nheader = \"X\"\n[[webhook.messages]]\nstream = \"t\"\n".into(), "proves nothing"),
        ("[[webhook.signature]]\ntype = \"token\"\nheader = \"X\"\ncontent = \"{{ body }}\"\n[[webhook.messages]]\nstream = \"t\"\n".into(), "nothing is signed"),
        (format!("{hmac}[[webhook.messages]]\nstream = \"t\"\n[native]\nscheme = \"tset\"\n"), "did you mean `test`?"),
        (format!("{hmac}[[webhook.messages]]\nstream = \"t\"\n[native]\nbody = \"{{{{ cursor }}}}\"\n"), "`cursor` is not known in this template"),
    ];
    for (added, want) in cases {
        let found = faults(&format!("{head}{added}"));
        assert!(found.len() == 1 && found[0].contains(want), "{added}: wanted {want}, found {found:#?}");
    }
    let (_, warnings) = read(file(&format!("{head}{hmac}"))).expect("valid");
    assert!(warnings.len() == 1 && warnings[0].level == Level::Warning, "{warnings:?}");
}

#[test]
fn an_id_of_the_records_own_is_doubted_where_records_change() {
    let warned = |stream: &str| {
        let text = format!(
            "schema = 1\nbase_url = \"https://a.example\"\n[streams.s]\npath = \"/s\"\nkey = \".id\"\n{stream}\nevent_id = \".id\"\n"
        );
        let (_, warnings) = read(file(&text)).expect("valid");
        warnings.iter().any(|warning| warning.message.contains("`streams.s.event_id`"))
    };
    assert!(!warned("detect = \"new\""));
    assert!(warned("detect = \"changed\"") && warned("detect = \"snapshot\""));
}

#[test]
fn a_message_is_merged_or_a_notice_by_what_its_stream_is() {
    let hmac = "[[webhook.signature]]\ntype = \"hmac\"\nheader = \"X\"\n[[webhook.messages]]\n";
    let on = |stream: &str, message: &str| {
        let base = "schema = 1\nbase_url = \"https://a.example\"\n";
        let provider = good(&format!("{base}[streams.s]\nkey = \".id\"\n{stream}\n{hmac}{message}\n"));
        provider.webhook.expect("webhooks").messages[0].on_webhook
    };
    assert_eq!(on("path = \"/s\"", ""), OnWebhook::Poll);
    assert_eq!(on("path = \"/s\"\nversion = \".v\"", ""), OnWebhook::Merge);
    assert_eq!(on("path = \"/s\"", "version = \".v\""), OnWebhook::Merge);
    assert_eq!(on("path = \"/s\"\ndetect = \"new\"", ""), OnWebhook::Merge);
    assert_eq!(on("detect = \"new\"", ""), OnWebhook::Merge);
    assert_eq!(on("path = \"/s\"\nversion = \".v\"", "on_webhook = \"poll\""), OnWebhook::Poll);
}

#[test]
fn a_message_may_count_only_where_a_stream_is_polled_its_own_or_another() {
    let of = |polled: &str| {
        let streams = "[streams.t]\nkey = \".id\"\ndetect = \"new\"\n";
        let message = format!("[[webhook.messages]]\nstream = \"s\"\n{polled}\n[[webhook.messages]]\nstream = \"t\"\n");
        let text = format!("{SMALL}{streams}[[webhook.signature]]\ntype = \"hmac\"\nheader = \"X\"\n{message}");
        read(file(&text)).map(|(provider, _)| provider.webhook.expect("webhooks").messages[0].where_polled.clone())
    };
    assert_eq!(of("polled = true").ok().flatten().as_deref(), Some("s"));
    assert_eq!(of("polled = false").ok(), Some(None));
    assert_eq!(of("polled = \"s\"").ok().flatten().as_deref(), Some("s"));
    let fault = of("polled = \"t\"").expect_err("it is not polled");
    assert!(fault.iter().any(|fault| fault.message.contains("fed by webhooks alone")), "{fault:?}");
}

#[test]
fn a_file_that_is_missing_or_no_toml_is_a_fault() {
    let missing = load(std::path::Path::new("providers/does-not-exist.toml")).expect_err("no such file");
    assert!(missing[0].message.contains("does-not-exist.toml: cannot be read"), "{missing:?}");
    let found = faults("schema = 1\nbase_url = = 5\n[streams.s]\nurl = \"https://a\"\nkey = \".id\"\n");
    assert!(found.iter().any(|fault| fault.starts_with("2: this is not valid TOML")), "{found:?}");
}

#[test]
fn every_key_of_any_kind_is_a_fault_and_never_a_panic() {
    let keys = [
        "schema",
        "name",
        "title",
        "notes",
        "base_url",
        "timezone",
        "time_format",
        "secrets",
        "settings",
        "request",
        "format",
        "response_actions",
        "auth",
        "limits",
        "streams",
        "webhook",
        "native",
        "tests",
    ];
    let inner = [
        "path",
        "query",
        "headers",
        "json",
        "records",
        "key",
        "version",
        "types",
        "cursor",
        "pagination",
        "deletes",
        "every",
        "cron",
        "first_run",
        "limits",
        "ignore",
        "conditional",
        "order_key",
        "response_actions",
        "detect",
        "records_as",
    ];
    let values = ["5", "1.5", "true", "\"x\"", "[]", "[1]", "{}", "{ a = 1 }", "2026-01-01", "[[1]]", "\"\"", "[{}]"];
    for value in values {
        for key in keys {
            let _ = read(file(&format!("{key} = {value}\n")));
        }
        for key in inner {
            let _ = read(file(&small(&format!("{key} = {value}"))));
        }
        for key in ["setup", "answer", "signature", "messages", "redelivers", "exclusive"] {
            let _ = read(file(&format!("{SMALL}[webhook]\n{key} = {value}\n")));
        }
    }
}
