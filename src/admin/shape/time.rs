//! A moment as the API writes it.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::model::Timestamp;

/// A moment, written as RFC 3339 in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub Timestamp);

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let time = chrono::DateTime::parse_from_rfc3339(&text)
            .map_err(|_| serde::de::Error::custom(format!("`{text}` is not a time such as 2026-11-20T09:24:07Z")))?;
        Ok(Time(Timestamp::from(time.to_utc())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_go_out_and_come_back_as_rfc_3339_in_utc() {
        for (time, text) in
            [(Timestamp(0), "\"1970-01-01T00:00:00Z\""), (Timestamp(1_500), "\"1970-01-01T00:00:01.500Z\"")]
        {
            assert_eq!(serde_json::to_string(&Time(time)).expect("written"), text);
            assert_eq!(serde_json::from_str::<Time>(text).expect("read"), Time(time));
        }
        let elsewhere: Time = serde_json::from_str("\"1970-01-01T02:00:00+02:00\"").expect("read");
        assert_eq!(elsewhere, Time(Timestamp(0)));
        assert!(serde_json::from_str::<Time>("\"yesterday\"").is_err());
    }
}
