//! The place for a provider's handshake challenges. This version answers none: provider files that declare one are refused when
//! they are read, so nothing is left out silently here.

use bytes::Bytes;
use http::Response;
use http_body_util::Full;

use crate::signature::Request;
use crate::source::Source;

/// The answer to a challenge; None: it is an ordinary webhook.
pub fn answer(_source: &Source, _request: &Request<'_>) -> Option<Response<Full<Bytes>>> {
    None
}
