//! What is published, whatever the broker, and why it was not.

use bytes::Bytes;
use http::HeaderMap;

use crate::deliver::outcome::Tried;
use crate::deliver::transport::Carried;
use crate::deliver::{Handler, context, format, sent};
use crate::model::{AttemptDetail, AttemptResult, ErrorClass, Timestamp};
use crate::store::ClaimedDelivery;
use crate::template::Context;

/// What is published, whatever the broker.
pub struct Message {
    pub headers: HeaderMap,
    pub body: Bytes,
    pub context: Context,
    /// Its target is the broker's to say.
    pub detail: AttemptDetail,
}

/// The request that HTTP would carry, as a message.
pub fn message(handler: &Handler, delivery: &ClaimedDelivery, now: Timestamp) -> Result<Message, String> {
    let request = format::request(handler, delivery, now)?;
    let detail = sent::over_http(handler, &request);
    let context = context::of(delivery, &handler.config.url, None, now);
    Ok(Message { headers: request.headers, body: request.body, context, detail })
}

/// Why an event was not published.
#[derive(Clone, Debug)]
pub struct Failure {
    pub tried: Tried,
    pub class: ErrorClass,
    pub error: String,
}

impl Failure {
    pub fn new(result: AttemptResult, class: ErrorClass, error: String) -> Failure {
        Failure { tried: Tried::new(result), class, error }
    }

    /// Nothing could be sent: it speaks of the broker.
    pub fn unreachable(class: ErrorClass, error: String) -> Failure {
        Failure::new(AttemptResult::Unreachable, class, error)
    }

    pub fn broken(error: String) -> Failure {
        Failure::new(AttemptResult::Broken, ErrorClass::Broken, error)
    }

    /// Our own trouble: it says nothing of the event.
    pub fn own(class: ErrorClass, error: String) -> Failure {
        let tried = Tried { own_fault: true, ..Tried::new(AttemptResult::NotSent) };
        Failure { tried, class, error }
    }

    /// The broker took nothing: it cannot now, or it never will take this event.
    pub fn refused(busy: bool, status: Option<u16>, error: String) -> Failure {
        let tried = Tried { busy, status, ..Tried::new(AttemptResult::Refused) };
        Failure { tried, class: ErrorClass::Broker, error }
    }

    pub fn carried(self, detail: AttemptDetail) -> Carried {
        Carried::failed(self.tried, self.class, self.error, detail)
    }
}
