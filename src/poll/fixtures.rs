//! Sources and streams for the tests of this room, as small as they can be.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use url::Url;

use crate::config;
use crate::jq::Jq;
use crate::model::StreamName;
use crate::provider::{
    Auth, Conditional, Deletes, Detect, Limits, PageKind, Pagination, Param, Provider, RecordsAs, Request, Stream,
    Target, Types,
};
use crate::schedule::{FirstRun, Schedule, StreamSettings};
use crate::secret::Secret;
use crate::source::{Source, SourceStream};
use crate::template::{Template, TimeFormat};

pub fn template(text: &str) -> Template {
    Template::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

pub fn params(entries: &[(&str, &str)]) -> Vec<(String, Param)> {
    entries.iter().map(|(name, text)| ((*name).to_owned(), Param::Template(template(text)))).collect()
}

pub fn get(path: &str, query: &[(&str, &str)]) -> Request {
    Request { target: Some(Target::Path(template(path))), query: params(query), ..Request::default() }
}

/// One page at `/items`, its records in `.items`, no cursor.
pub fn stream(name: &str) -> Stream {
    let jq = |text| Jq::parse(text).expect("valid");
    Stream {
        name: name.to_owned(),
        title: name.to_owned(),
        enabled: true,
        request: Some(get("/items", &[])),
        files: None,
        answer: Default::default(),
        response_actions: vec![],
        records: jq(".items"),
        records_as: RecordsAs::List,
        filter: None,
        key: vec![jq(".id")],
        version: None,
        time: None,
        created: None,
        order_key: vec![],
        event_id: None,
        detect: Detect::Changed,
        ignore: vec![],
        unordered: vec![],
        types: Types {
            created: format!("{name}.created"),
            updated: format!("{name}.updated"),
            deleted: format!("{name}.deleted"),
            from: None,
            when: vec![],
        },
        timezone: None,
        time_format: TimeFormat::Rfc3339,
        cursor: None,
        pagination: Pagination {
            kind: PageKind::None,
            first: 1,
            size: None,
            more: None,
            total: None,
            stop_when: None,
            numbered: false,
            max_pages: 100,
            split_at: None,
        },
        deletes: Deletes { when: None, confirm_after: 2, max_percent: 10, max_count: 1000 },
        conditional: Conditional::No,
        long_poll: None,
        history: None,
        only: vec![],
        equal: Default::default(),
        mask: vec![],
        lag: Duration::ZERO,
        parent: None,
        late: None,
        window: None,
        complete_when: None,
        stable: false,
        data_max: 1 << 20,
        confirm: None,
        limits: None,
        settings: StreamSettings::default(),
    }
}

fn provider(streams: Vec<Stream>) -> Provider {
    Provider {
        name: "api".into(),
        title: "An API".into(),
        notes: None,
        file: "api.toml".into(),
        base_url: None,
        timezone: None,
        time_format: TimeFormat::Rfc3339,
        secrets: vec![],
        settings: vec![],
        request: Request::default(),
        answer: Default::default(),
        response_actions: vec![],
        auth: vec![],
        limits: Limits::default(),
        streams,
        webhook: None,
        native: None,
        tests: vec![],
    }
}

/// The source `core` with these streams, secrets `user`, `password` and `key`, and two settings.
pub fn source(base_url: &str, streams: Vec<Stream>, adapt: impl FnOnce(&mut Source, &mut Provider)) -> Arc<Source> {
    let settings = serde_json::json!({ "types": ["a", "b c"], "region": "eu" });
    let settings = settings.as_object().expect("an object").clone();
    let shared = Arc::new(settings.clone());
    let joined = |spec: &Stream| {
        Arc::new(SourceStream {
            name: StreamName::new("core", &spec.name),
            spec: spec.clone(),
            polled: true,
            schedule: Schedule::Every(Duration::from_secs(60)),
            first_run: FirstRun::SendAll,
            comparing: Default::default(),
            mass_change: Default::default(),
            announced: false,
            active: None,
            every_healthy: None,
            max_per_run: 10_000,
            expect_every: None,
            late_after: None,
            limits: Limits::default(),
            definition: "d".into(),
            comparison: "c".into(),
            settings: shared.clone(),
            files: None,
        })
    };
    let mut provider = provider(streams.clone());
    let secrets = [("user", "svc"), ("password", "p:w d"), ("key", "s3cr/t")];
    let mut source = Source {
        name: "core".into(),
        provider: Arc::new(provider.clone()),
        base_url: Some(Url::parse(base_url).expect("a URL")),
        settings,
        secrets: secrets.map(|(name, value)| (name.to_owned(), Secret::new(value))).into(),
        auth: Auth::None,
        sealer: None,
        config: config_source(),
        streams: streams.iter().map(joined).collect(),
        webhook: None,
    };
    adapt(&mut source, &mut provider);
    source.provider = Arc::new(provider);
    Arc::new(source)
}

fn config_source() -> config::Source {
    config::Source {
        name: "core".into(),
        provider: config::ProviderRef::BuiltIn("api".into()),
        base_url: None,
        secrets: BTreeMap::new(),
        settings: BTreeMap::new(),
        only: None,
        enabled: true,
        proxy: config::Proxy::None,
        tls: config::Tls::default(),
        keep: None,
        renamed_from: None,
        webhook: None,
        streams: BTreeMap::new(),
        place: config::Place { file: crate::shape::SourceFile::new("config.toml", ""), span: 0..0 },
    }
}
