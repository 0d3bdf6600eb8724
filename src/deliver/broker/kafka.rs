//! Kafka: the answer of a partition's leader, given once every replica in sync has the record (`acks=all`), is the verdict. The event's id
//! is in the header `webhook-id`, and the key decides the partition, so that what has one key stays in order.
//!
//! No client that can be had lets us judge the addresses that a cluster tells of at the moment of dialling; so the connections are ours.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use kafka_protocol::error::ResponseError;
use kafka_protocol::indexmap::IndexMap;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{ApiKey, MetadataRequest, ProduceRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records::{
    Compression, NO_PARTITION_LEADER_EPOCH, NO_PRODUCER_EPOCH, NO_PRODUCER_ID, NO_SEQUENCE, Record, RecordBatchEncoder,
    RecordEncodeOptions, TimestampType,
};

use super::Broker;
use super::leaders::Topic;
use super::message::{Failure, Message, message};
use super::way::Way;
use super::wire::{Connection, Dial, Reader, Request, not_understood, unwritten};
use crate::certificate::Presented;
use crate::client::tls;
use crate::config::{self, BrokerAddress, Network};
use crate::deliver::Handler;
use crate::deliver::transport::Carried;
use crate::model::{AttemptDetail, AttemptResult, ErrorClass, Timestamp, Timings};
use crate::store::ClaimedDelivery;

/// Longer at rest, and a broker may have closed it.
const REST_MAX: Duration = Duration::from_secs(60);
/// So long what a cluster said of its leaders is taken for true; a refusal ends it at once.
const TOPIC_MAX: Duration = Duration::from_secs(300);
/// Connections at rest to one broker.
const KEPT_MAX: usize = 16;
const TOPIC_LENGTH: usize = 249;

/// Publishes to the topics of one handler.
pub struct KafkaBroker {
    kafka: config::Kafka,
    dial: Dial,
    resting: Mutex<BTreeMap<BrokerAddress, Vec<Connection>>>,
    topics: Mutex<BTreeMap<String, (Instant, Topic)>>,
}

impl KafkaBroker {
    pub fn new(
        kafka: &config::Kafka,
        tls: &config::Tls,
        network: &Network,
        presented: &Presented,
    ) -> Result<KafkaBroker, String> {
        let login = kafka.login.as_ref().map(|login| {
            let password = login.password.load().map_err(|error| error.to_string())?;
            Ok::<_, String>((login.user.clone(), password, login.mechanism))
        });
        let dial = Dial {
            way: Way::new(network),
            tls: kafka.tls.then(|| tls::fresh(tls, network)).transpose()?,
            server_name: tls.server_name.clone(),
            presented: presented.clone(),
            login: login.transpose()?,
        };
        Ok(KafkaBroker { kafka: kafka.clone(), dial, resting: Mutex::default(), topics: Mutex::default() })
    }

    /// Asks a broker over a connection that rested, or a new one.
    async fn ask(&self, broker: &BrokerAddress, request: &Request, timings: &mut Timings) -> Result<Bytes, Failure> {
        // One that the broker closed meanwhile says nothing of the broker. A record may so be written twice, under one id.
        if let Some(mut rested) = self.rested(broker) {
            let began = Instant::now();
            if let Ok(answer) = rested.ask(request).await {
                timings.first_byte = Some(began.elapsed());
                self.rest(broker, rested);
                return Ok(answer);
            }
        }
        let mut connection = self.dial.to(broker, timings).await?;
        let began = Instant::now();
        let answer = connection.ask(request).await?;
        timings.first_byte = Some(began.elapsed());
        self.rest(broker, connection);
        Ok(answer)
    }

    fn rested(&self, broker: &BrokerAddress) -> Option<Connection> {
        let mut resting = self.resting.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = resting.get_mut(broker)?;
        kept.retain(|connection| connection.used.elapsed() < REST_MAX);
        kept.pop()
    }

    fn rest(&self, broker: &BrokerAddress, connection: Connection) {
        let mut resting = self.resting.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = resting.entry(broker.clone()).or_default();
        if kept.len() < KEPT_MAX {
            kept.push(connection);
        }
    }

    /// Who leads what of a topic: as known, or as the first broker tells it that can be asked.
    async fn topic(&self, name: &str, timings: &mut Timings) -> Result<Topic, Failure> {
        let known = self.topics.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        if let Some((_, topic)) = known.filter(|(since, _)| since.elapsed() < TOPIC_MAX) {
            return Ok(topic);
        }
        let topic = MetadataRequestTopic::default().with_name(Some(topic_name(name)));
        // A topic is made by a person, with the partitions and copies that it should have.
        let request = MetadataRequest::default().with_topics(Some(vec![topic])).with_allow_auto_topic_creation(false);
        let request = Request::new(ApiKey::Metadata, 4, &request)?;
        let mut last = Failure::unreachable(ErrorClass::Connect, "no broker is named".into());
        for broker in &self.kafka.brokers {
            match self.ask(broker, &request, timings).await {
                Ok(answer) => {
                    let read = Topic::read(Reader(answer)).ok_or_else(|| not_understood(&broker.to_string()))?;
                    let topic = read.map_err(|code| refused(code, name, broker))?;
                    let mut topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
                    topics.insert(name.to_owned(), (Instant::now(), topic.clone()));
                    return Ok(topic);
                }
                Err(failure) => last = failure,
            }
        }
        Err(last)
    }

    fn forget(&self, topic: &str) {
        self.topics.lock().unwrap_or_else(PoisonError::into_inner).remove(topic);
    }

    /// Has a record written; the answer is its partition and offset there.
    async fn produce(
        &self,
        topic: &str,
        record: &Record,
        limit: Duration,
        timings: &mut Timings,
    ) -> Result<(i32, i64), Failure> {
        let mut moved = None;
        // What was known of the leaders may be out of date: once more by what is true now.
        for _ in 0..2 {
            let known = self.topic(topic, timings).await?;
            let (partition, leader) = known.place(record.key.as_deref().unwrap_or_default());
            let Some(leader) = leader else {
                self.forget(topic);
                let error = format!("partition {partition} of `{topic}` has no leader now");
                return Err(Failure::refused(true, None, error));
            };
            let request = produce_request(topic, partition, record, limit)?;
            let asked = self.ask(leader, &request, timings).await;
            let answer = asked.inspect_err(|_| self.forget(topic))?;
            let (code, offset) = produced(Reader(answer)).ok_or_else(|| not_understood(&leader.to_string()))?;
            if code == 0 {
                return Ok((partition, offset));
            }
            self.forget(topic);
            let failure = refused(code, topic, leader);
            if !led_by_another(code) {
                return Err(failure);
            }
            moved = Some(failure);
        }
        Err(moved.unwrap_or_else(|| not_understood(topic)))
    }
}

#[async_trait]
impl Broker for KafkaBroker {
    async fn publish(&self, handler: &Handler, delivery: &ClaimedDelivery, now: Timestamp) -> Carried {
        let unsendable = |error| Carried::not_sent(ErrorClass::Unsendable, error, AttemptDetail::default());
        let message = match message(handler, delivery, now) {
            Ok(message) => message,
            Err(error) => return unsendable(error),
        };
        let topic = match self.kafka.topic.text(&message.context) {
            Ok(text) => permissible(&text),
            Err(error) => return unsendable(format!("kafka.topic: {error}")),
        };
        let key = match self.kafka.key.text(&message.context) {
            Ok(key) => key,
            Err(error) => return unsendable(format!("kafka.key: {error}")),
        };
        let first = self.kafka.brokers.first().map(ToString::to_string).unwrap_or_default();
        let detail = AttemptDetail { target: format!("kafka://{first}/{topic}"), ..message.detail.clone() };
        let record = record(message, key, now);
        let (mut timings, limit) = (Timings::default(), handler.config.timeout);
        let produced = tokio::time::timeout(limit, self.produce(&topic, &record, limit, &mut timings)).await;
        let produced = produced.unwrap_or_else(|_| {
            self.forget(&topic);
            let error = format!("{first} did not acknowledge within {limit:?}");
            Err(Failure::new(AttemptResult::Timeout, ErrorClass::Timeout, error))
        });
        let detail = AttemptDetail { timings, ..detail };
        match produced {
            Ok((partition, offset)) => {
                let answer = serde_json::json!({ "topic": topic, "partition": partition, "offset": offset });
                Carried { answer: answer.to_string().into(), ..Carried::delivered(detail) }
            }
            Err(failure) => failure.carried(detail),
        }
    }
}

fn record(message: Message, key: String, now: Timestamp) -> Record {
    let mut headers = IndexMap::new();
    for (name, value) in &message.headers {
        // As the binding of CloudEvents to Kafka writes its attributes.
        let name = match name.as_str().strip_prefix("ce-") {
            Some(attribute) => format!("ce_{attribute}"),
            None => name.as_str().to_owned(),
        };
        headers.insert(StrBytes::from_string(name), Some(Bytes::copy_from_slice(value.as_bytes())));
    }
    Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: NO_PARTITION_LEADER_EPOCH,
        producer_id: NO_PRODUCER_ID,
        producer_epoch: NO_PRODUCER_EPOCH,
        timestamp_type: TimestampType::Creation,
        offset: 0,
        sequence: NO_SEQUENCE,
        timestamp: now.0,
        key: Some(key.into()),
        value: Some(message.body),
        headers,
    }
}

fn produce_request(topic: &str, partition: i32, record: &Record, limit: Duration) -> Result<Request, Failure> {
    let options = RecordEncodeOptions { version: 2, compression: Compression::None };
    let mut batch = BytesMut::new();
    RecordBatchEncoder::encode(&mut batch, [record], &options).map_err(unwritten)?;
    let data = PartitionProduceData::default().with_index(partition).with_records(Some(batch.freeze()));
    let data = TopicProduceData::default().with_name(topic_name(topic)).with_partition_data(vec![data]);
    let request = ProduceRequest::default()
        // Every replica in sync.
        .with_acks(-1)
        .with_timeout_ms(i32::try_from(limit.as_millis()).unwrap_or(i32::MAX))
        .with_topic_data(vec![data]);
    Request::new(ApiKey::Produce, 7, &request)
}

/// The error's code and the record's offset, of an answer about one record (version 7).
fn produced(mut answer: Reader) -> Option<(i16, i64)> {
    let topics = answer.each(|reader| {
        reader.text()?;
        reader.each(|reader| {
            reader.i32()?;
            let (code, offset) = (reader.i16()?, reader.i64()?);
            reader.i64()?;
            reader.i64()?;
            Some((code, offset))
        })
    })?;
    topics.into_iter().flatten().next()
}

fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

/// A text as the name of a topic, whatever the event holds.
fn permissible(text: &str) -> String {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let name: String = text.chars().map(|c| if good(c) { c } else { '_' }).take(TOPIC_LENGTH).collect();
    match name.as_str() {
        "" | "." | ".." => "_".repeat(name.len().max(1)),
        _ => name,
    }
}

/// The leader has changed, or nobody knows yet who it is.
fn led_by_another(code: i16) -> bool {
    use ResponseError::{
        FencedLeaderEpoch, LeaderNotAvailable, NotLeaderOrFollower, UnknownLeaderEpoch, UnknownTopicOrPartition,
    };
    [UnknownTopicOrPartition, LeaderNotAvailable, NotLeaderOrFollower, FencedLeaderEpoch, UnknownLeaderEpoch]
        .iter()
        .any(|error| error.code() == code)
}

/// What a broker said: of this record, or of itself.
fn refused(code: i16, topic: &str, broker: &BrokerAddress) -> Failure {
    use ResponseError::{
        CorruptMessage, InvalidRecord, InvalidTimestamp, MessageTooLarge, PolicyViolation, RecordListTooLarge,
        TopicAuthorizationFailed, UnknownTopicOrPartition, UnsupportedForMessageFormat,
    };
    let error = ResponseError::try_from_code(code);
    let reason = match error {
        Some(UnknownTopicOrPartition) => format!("there is no topic `{topic}`, or we may not see it"),
        Some(TopicAuthorizationFailed) => format!("we may not write to `{topic}`"),
        Some(error) => format!("`{topic}`: {error}"),
        None => format!("`{topic}`: error {code}"),
    };
    let of_the_record = matches!(
        error,
        Some(
            CorruptMessage
                | InvalidRecord
                | InvalidTimestamp
                | MessageTooLarge
                | PolicyViolation
                | RecordListTooLarge
                | UnsupportedForMessageFormat
        )
    );
    Failure::refused(!of_the_record, None, format!("{broker}: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_speaks_of_the_record_is_told_from_what_speaks_of_the_broker() {
        let at = BrokerAddress { host: "k".into(), port: 9092 };
        for (code, busy) in [
            (2, false),
            (10, false),
            (18, false),
            (87, false),
            (3, true),
            (6, true),
            (19, true),
            (29, true),
            (999, true),
        ] {
            assert_eq!(refused(code, "payments", &at).tried.busy, busy, "{code}");
        }
        assert_eq!(refused(3, "payments", &at).error, "k:9092: there is no topic `payments`, or we may not see it");
        assert!(led_by_another(6) && led_by_another(3) && !led_by_another(10));
    }

    #[test]
    fn any_text_is_the_name_of_a_topic() {
        for (text, want) in [("pay.v1_A-b", "pay.v1_A-b"), ("a b/é", "a_b__"), ("", "_"), ("..", "__")] {
            assert_eq!(permissible(text), want);
        }
        assert_eq!(permissible(&"x".repeat(300)).len(), 249);
    }
}
