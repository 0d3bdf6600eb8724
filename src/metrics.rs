//! Every counter and histogram, named in one place. Labels are names of sources, streams and handlers, never keys, types or URLs.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::model::{AttemptResult, ChangeKind, DeliveryState, HandlerName, SourceName, StreamName, Timestamp};

/// All metrics of the process. Cheap to clone; clones count together.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    polls: Family<PollLabels, Counter>,
    poll_duration: Family<StreamLabels, Histogram>,
    poll_last_success: Family<StreamLabels, Gauge>,
    records: Family<ResultLabels, Counter>,
    webhooks: Family<WebhookLabels, Counter>,
    events: Family<KindLabels, Counter>,
    first_seen: Family<SeenLabels, Counter>,
    recovered: Family<StreamLabels, Counter>,
    attempts: Family<AttemptLabels, Counter>,
    attempt_duration: Family<HandlerLabels, Histogram>,
    latency: Histogram,
    deliveries: Family<DeliveryLabels, Gauge>,
    oldest_pending: Family<HandlerLabels, Gauge>,
    /// Whose deliveries were counted last.
    counted: Mutex<BTreeSet<HandlerName>>,
    problems: Family<KindLabels, Gauge>,
    disk_free: Gauge,
    certificates: Family<CertificateLabels, Gauge>,
    lag: Family<StreamLabels, Seconds>,
    skew: Family<SourceLabels, Seconds>,
    quota: Family<StreamLabels, Gauge>,
    loops: Family<LoopLabels, Gauge>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct PollLabels {
    source: String,
    stream: String,
    result: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct StreamLabels {
    source: String,
    stream: String,
}

/// A gauge with fractions.
type Seconds = Gauge<f64, AtomicU64>;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct SourceLabels {
    source: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct SeenLabels {
    source: String,
    stream: String,
    by: Label,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ResultLabels {
    result: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct WebhookLabels {
    source: String,
    result: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct KindLabels {
    kind: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct AttemptLabels {
    handler: String,
    result: Label,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct HandlerLabels {
    handler: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct DeliveryLabels {
    handler: String,
    state: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CertificateLabels {
    key: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct LoopLabels {
    r#loop: String,
}

/// A label of a closed set, without an allocation for each use.
#[derive(Clone, Debug, Hash, PartialEq, Eq)]
struct Label(&'static str);

impl EncodeLabelValue for Label {
    fn encode(&self, encoder: &mut prometheus_client::encoding::LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        self.0.encode(encoder)
    }
}

fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.5, 12))
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics::new()
    }
}

impl Metrics {
    pub fn new() -> Metrics {
        let mut inner = Inner {
            registry: Registry::with_prefix("ringback"),
            polls: Family::default(),
            poll_duration: Family::new_with_constructor(seconds),
            poll_last_success: Family::default(),
            records: Family::default(),
            webhooks: Family::default(),
            events: Family::default(),
            first_seen: Family::default(),
            recovered: Family::default(),
            attempts: Family::default(),
            attempt_duration: Family::new_with_constructor(seconds),
            latency: seconds(),
            deliveries: Family::default(),
            oldest_pending: Family::default(),
            counted: Mutex::default(),
            problems: Family::default(),
            disk_free: Gauge::default(),
            certificates: Family::default(),
            lag: Family::default(),
            skew: Family::default(),
            quota: Family::default(),
            loops: Family::default(),
        };
        inner.register();
        Metrics(Arc::new(inner))
    }

    /// A poll ended.
    pub fn poll(&self, stream: &StreamName, result: &'static str, duration: Duration, now: Timestamp) {
        let (source, name) = (stream.source.to_string(), stream.stream.to_string());
        self.0
            .polls
            .get_or_create(&PollLabels { source: source.clone(), stream: name.clone(), result: result.into() })
            .inc();
        let labels = StreamLabels { source, stream: name };
        self.0.poll_duration.get_or_create(&labels).observe(duration.as_secs_f64());
        if matches!(result, "ok" | "not_modified") {
            self.0.poll_last_success.get_or_create(&labels).set(now.unix_seconds());
        }
    }

    /// Records of a poll, by what became of them.
    pub fn records(&self, result: &'static str, count: u64) {
        self.0.records.get_or_create(&ResultLabels { result: result.into() }).inc_by(count);
    }

    /// A real webhook was answered. `source` is empty where the path names none of ours.
    pub fn webhook(&self, source: Option<&SourceName>, result: &'static str) {
        let source = source.map(SourceName::to_string).unwrap_or_default();
        self.0.webhooks.get_or_create(&WebhookLabels { source, result: result.into() }).inc();
    }

    pub fn event(&self, kind: ChangeKind) {
        self.0.events.get_or_create(&KindLabels { kind: kind.as_str().into() }).inc();
    }

    /// A change was announced that this way saw first: `poll` or `webhook`.
    pub fn first_seen(&self, stream: &StreamName, by: &'static str) {
        let (source, stream) = (stream.source.to_string(), stream.stream.to_string());
        self.0.first_seen.get_or_create(&SeenLabels { source, stream, by: Label(by) }).inc();
    }

    /// How the two ways in stand by now: changes that both showed, and those that only a poll found in time.
    pub fn score(&self, stream: &StreamName, both: u64, recovered: u64) {
        let (source, stream) = (stream.source.to_string(), stream.stream.to_string());
        let labels = SeenLabels { source: source.clone(), stream: stream.clone(), by: Label("both") };
        self.0.first_seen.get_or_create(&labels).inner().store(both, Ordering::Relaxed);
        self.0.recovered.get_or_create(&StreamLabels { source, stream }).inner().store(recovered, Ordering::Relaxed);
    }

    /// An attempt ended; `latency` is the time since the event was seen, when this attempt delivered it.
    pub fn attempt(&self, handler: &HandlerName, result: AttemptResult, duration: Duration, latency: Option<Duration>) {
        let handler = handler.to_string();
        self.0
            .attempts
            .get_or_create(&AttemptLabels { handler: handler.clone(), result: Label(result.as_str()) })
            .inc();
        self.0.attempt_duration.get_or_create(&HandlerLabels { handler }).observe(duration.as_secs_f64());
        if let Some(latency) = latency {
            self.0.latency.observe(latency.as_secs_f64());
        }
    }

    /// How many deliveries of a handler are in a state now.
    pub fn deliveries(&self, handler: &HandlerName, state: &'static str, count: u64) {
        let labels = DeliveryLabels { handler: handler.to_string(), state: state.into() };
        self.0.deliveries.get_or_create(&labels).set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// These are the handlers whose deliveries are counted now: of one that is gone nothing is shown for ever.
    pub fn counted_handlers(&self, there: BTreeSet<HandlerName>) {
        let mut counted = self.0.counted.lock().unwrap_or_else(PoisonError::into_inner);
        for gone in counted.difference(&there) {
            for state in DeliveryState::ALL {
                let labels = DeliveryLabels { handler: gone.to_string(), state: state.as_str().into() };
                self.0.deliveries.remove(&labels);
            }
            self.0.oldest_pending.remove(&HandlerLabels { handler: gone.to_string() });
        }
        *counted = there;
    }

    /// When the oldest pending delivery of a handler became due; 0: none.
    pub fn oldest_pending(&self, handler: &HandlerName, at: Option<Timestamp>) {
        let labels = HandlerLabels { handler: handler.to_string() };
        self.0.oldest_pending.get_or_create(&labels).set(at.map_or(0, Timestamp::unix_seconds));
    }

    /// How many problems of a kind are open now.
    pub fn problems(&self, kind: &'static str, count: u64) {
        self.0.problems.get_or_create(&KindLabels { kind: kind.into() }).set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    pub fn disk_free(&self, bytes: u64) {
        self.0.disk_free.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// When the first of the certificates expires that this key of the configuration names.
    pub fn certificate_expiry(&self, key: &str, at: Timestamp) {
        self.0.certificates.get_or_create(&CertificateLabels { key: key.to_owned() }).set(at.unix_seconds());
    }

    /// The configuration may name other certificates from now on.
    pub fn forget_certificates(&self) {
        self.0.certificates.clear();
    }

    /// How long after the provider's time of a change it was seen: the longest of the last poll that found one.
    pub fn stream_lag(&self, stream: &StreamName, lag: Duration) {
        self.0.lag.get_or_create(&stream_labels(stream)).set(lag.as_secs_f64());
    }

    /// How far a source's clock is ahead of ours, in milliseconds.
    pub fn provider_clock_skew(&self, source: &SourceName, millis: i64) {
        let labels = SourceLabels { source: source.to_string() };
        self.0.skew.get_or_create(&labels).set(millis as f64 / 1000.0);
    }

    /// Requests that a stream may still make, by the provider's word or by its declared limits.
    pub fn quota_remaining(&self, stream: &StreamName, left: u64) {
        self.0.quota.get_or_create(&stream_labels(stream)).set(i64::try_from(left).unwrap_or(i64::MAX));
    }

    /// A loop made progress.
    pub fn loop_progress(&self, name: &'static str, now: Timestamp) {
        self.0.loops.get_or_create(&LoopLabels { r#loop: name.into() }).set(now.unix_seconds());
    }

    /// The text that a scraper reads (OpenMetrics).
    pub fn render(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.0.registry).expect("writing to a String does not fail");
        text
    }
}

fn stream_labels(stream: &StreamName) -> StreamLabels {
    StreamLabels { source: stream.source.to_string(), stream: stream.stream.to_string() }
}

impl Inner {
    fn register(&mut self) {
        let r = &mut self.registry;
        r.register("polls", "Polls by result", self.polls.clone());
        r.register_with_unit("poll_duration", "Time a poll took", Unit::Seconds, self.poll_duration.clone());
        r.register(
            "poll_last_success_timestamp_seconds",
            "When a stream was last looked at with success",
            self.poll_last_success.clone(),
        );
        r.register("records", "Records polled, by what became of them", self.records.clone());
        r.register("webhooks_received", "Real webhooks by answer", self.webhooks.clone());
        r.register("events", "Events stored, by kind of change", self.events.clone());
        r.register(
            "changes_first_seen",
            "Changes by the way that saw them first; both: the other way showed them too",
            self.first_seen.clone(),
        );
        r.register(
            "changes_recovered",
            "Changes that a poll found and no real webhook announced in time",
            self.recovered.clone(),
        );
        r.register("delivery_attempts", "Attempts by result", self.attempts.clone());
        r.register_with_unit("delivery_duration", "Time an attempt took", Unit::Seconds, self.attempt_duration.clone());
        r.register_with_unit(
            "delivery_latency",
            "From seeing a change to its acceptance",
            Unit::Seconds,
            self.latency.clone(),
        );
        r.register("deliveries", "Deliveries by state now", self.deliveries.clone());
        r.register(
            "oldest_pending_timestamp_seconds",
            "When the oldest pending delivery became due",
            self.oldest_pending.clone(),
        );
        r.register("problems", "Open problems by kind", self.problems.clone());
        r.register("disk_free_bytes", "Free space where the database is", self.disk_free.clone());
        r.register(
            "certificate_expiry_timestamp_seconds",
            "When the first of the certificates expires that a key of the configuration names",
            self.certificates.clone(),
        );
        r.register("stream_lag_seconds", "From a change at the provider to seeing it, last found", self.lag.clone());
        r.register("provider_clock_skew_seconds", "How far a provider's clock is ahead of ours", self.skew.clone());
        r.register("quota_remaining", "Requests that a stream may still make", self.quota.clone());
        r.register("loop_last_progress_timestamp_seconds", "When a loop last made progress", self.loops.clone());
        r.register("build", "Version of the program", Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handler_that_is_gone_leaves_no_count_behind() {
        let metrics = Metrics::new();
        for name in ["billing", "billing~7"] {
            metrics.deliveries(&name.into(), "pending", 3);
            metrics.oldest_pending(&name.into(), None);
        }
        metrics.counted_handlers(["billing".into(), "billing~7".into()].into());
        assert!(metrics.render().contains("billing~7"));
        metrics.counted_handlers(["billing".into()].into());
        let text = metrics.render();
        assert!(text.contains("{handler=\"billing\",state=\"pending\"} 3") && !text.contains("billing~7"), "{text}");
    }

    #[test]
    fn names_and_labels_are_the_documented_ones() {
        let metrics = Metrics::new();
        metrics.poll(&StreamName::new("core", "payments"), "ok", Duration::from_millis(20), Timestamp(1_000_000));
        metrics.event(ChangeKind::Created);
        metrics.first_seen(&StreamName::new("core", "payments"), "webhook");
        metrics.score(&StreamName::new("core", "payments"), 3, 2);
        metrics.attempt(
            &"billing".into(),
            AttemptResult::Delivered,
            Duration::from_millis(3),
            Some(Duration::from_millis(9)),
        );
        metrics.loop_progress("deliver", Timestamp(5_000));
        metrics.stream_lag(&StreamName::new("core", "payments"), Duration::from_millis(2_500));
        metrics.provider_clock_skew(&"core".into(), -1_500);
        metrics.quota_remaining(&StreamName::new("core", "payments"), 3);
        let text = metrics.render();
        for line in [
            "ringback_polls_total{source=\"core\",stream=\"payments\",result=\"ok\"} 1",
            "ringback_poll_last_success_timestamp_seconds{source=\"core\",stream=\"payments\"} 1000",
            "ringback_events_total{kind=\"created\"} 1",
            "ringback_changes_first_seen_total{source=\"core\",stream=\"payments\",by=\"webhook\"} 1",
            "ringback_changes_first_seen_total{source=\"core\",stream=\"payments\",by=\"both\"} 3",
            "ringback_changes_recovered_total{source=\"core\",stream=\"payments\"} 2",
            "ringback_delivery_attempts_total{handler=\"billing\",result=\"delivered\"} 1",
            "ringback_loop_last_progress_timestamp_seconds{loop=\"deliver\"} 5",
            "ringback_stream_lag_seconds{source=\"core\",stream=\"payments\"} 2.5",
            "ringback_provider_clock_skew_seconds{source=\"core\"} -1.5",
            "ringback_quota_remaining{source=\"core\",stream=\"payments\"} 3",
            "ringback_build_info{version=",
        ] {
            assert!(text.contains(line), "{line} is missing in:\n{text}");
        }
    }
}
