//! What is kept of an attempt beside its verdict: one short JSON text, since nothing ever asks for one of its parts.

use std::borrow::Cow;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::rows::micros;
use crate::model::{AttemptDetail, ErrorClass, Timings, Trigger};

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Kept<'d> {
    #[serde(skip_serializing_if = "str::is_empty")]
    to: Cow<'d, str>,
    #[serde(rename = "h", skip_serializing_if = "<[_]>::is_empty")]
    headers: Cow<'d, [(String, String)]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    class: Option<Cow<'d, str>>,
    #[serde(rename = "why")]
    trigger: Cow<'d, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dns: Option<i64>,
    #[serde(rename = "con", skip_serializing_if = "Option::is_none")]
    connect: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<i64>,
    #[serde(rename = "first", skip_serializing_if = "Option::is_none")]
    first_byte: Option<i64>,
}

pub(super) fn write(detail: &AttemptDetail) -> String {
    let kept = Kept {
        to: (&*detail.target).into(),
        headers: (&*detail.headers).into(),
        class: detail.class.map(|class| class.as_str().into()),
        trigger: detail.trigger.as_str().into(),
        dns: detail.timings.dns.map(micros),
        connect: detail.timings.connect.map(micros),
        tls: detail.timings.tls.map(micros),
        first_byte: detail.timings.first_byte.map(micros),
    };
    serde_json::to_string(&kept).expect("texts and numbers are always JSON")
}

/// What an older or newer version wrote otherwise is left out, not refused.
pub(super) fn read(text: Option<&str>) -> AttemptDetail {
    let kept: Kept<'_> = text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let time = |micros: Option<i64>| micros.and_then(|micros| u64::try_from(micros).ok()).map(Duration::from_micros);
    AttemptDetail {
        target: kept.to.into_owned(),
        headers: kept.headers.into_owned(),
        class: kept.class.as_deref().and_then(ErrorClass::find),
        trigger: Trigger::find(&kept.trigger).unwrap_or_default(),
        timings: Timings {
            dns: time(kept.dns),
            connect: time(kept.connect),
            tls: time(kept.tls),
            first_byte: time(kept.first_byte),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_what_is_unknown_is_left_out() {
        let detail = AttemptDetail {
            target: "https://h.example/x".into(),
            headers: vec![("content-type".into(), "application/json".into())],
            class: Some(ErrorClass::Tls),
            trigger: Trigger::Probe,
            timings: Timings {
                dns: Some(Duration::from_micros(1_200)),
                connect: None,
                tls: Some(Duration::from_micros(900)),
                first_byte: Some(Duration::from_millis(3)),
            },
        };
        assert_eq!(read(Some(&write(&detail))), detail);
        assert_eq!(read(Some(&write(&AttemptDetail::default()))), AttemptDetail::default());
        assert_eq!(read(None), AttemptDetail::default());
        assert_eq!(read(Some(r#"{"to":"x","class":"later","why":"later","more":1}"#)).target, "x");
    }
}
