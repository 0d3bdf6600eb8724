//! Answers of which not all arrives, requests that cannot be made, and connections that are never made: what each says of the delivery, and
//! what of the handler.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ringback::model::{AttemptResult, DeliveryState, ErrorClass, ProblemKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::ways::Bridge;

/// What a handler sends back, byte for byte; and whether it then keeps the connection open in silence.
struct Ear {
    url: String,
    requests: Arc<AtomicUsize>,
}

async fn ear(answer: &'static str, hangs: bool) -> Ear {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/", listener.local_addr().expect("bound"));
    let requests: Arc<AtomicUsize> = Arc::default();
    let count = requests.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let count = count.clone();
            tokio::spawn(async move {
                let mut request = Vec::new();
                while !request.ends_with(b"}}") {
                    match stream.read_u8().await {
                        Ok(byte) => request.push(byte),
                        Err(_) => return,
                    }
                }
                count.fetch_add(1, Ordering::SeqCst);
                let _ = stream.write_all(answer.as_bytes()).await;
                if hangs {
                    std::future::pending::<()>().await;
                }
            });
        }
    });
    Ear { url, requests }
}

async fn bridge(ear: &Ear, more: &str) -> Bridge {
    Bridge::start(&format!("url = \"{}\"\nsecret = {{ file = \"s.whsec\" }}\n{more}", ear.url), "").await
}

const SHORT: &str = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nthanks";

#[tokio::test]
async fn an_accepted_event_is_accepted_whatever_becomes_of_the_body() {
    const NOT_ZIPPED: &str = "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 6\r\n\r\nthanks";
    const BAD_CHUNK: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n";
    for (what, answer, hangs, kept) in [
        ("it ends too early", SHORT, false, "thanks"),
        ("it is not in the encoding that it says", NOT_ZIPPED, false, ""),
        ("it is no HTTP", BAD_CHUNK, false, ""),
        ("it never ends", SHORT, true, "thanks"),
    ] {
        let ear = ear(answer, hangs).await;
        let bridge = bridge(&ear, "timeout = \"1s\"").await;
        bridge.happens("a").await;
        let (state, attempts) = bridge.attempts("a", 1).await;
        assert_eq!((state, attempts[0].status), (DeliveryState::Delivered, Some(200)), "{what}: {attempts:?}");
        assert_eq!(&attempts[0].answer[..], kept.as_bytes(), "{what}");
        assert_eq!(ear.requests.load(Ordering::SeqCst), 1, "{what}");
    }
}

#[tokio::test]
async fn a_refusal_says_what_its_head_says_whatever_becomes_of_the_body() {
    let busy = ear("HTTP/1.1 503 Busy\r\nretry-after: 3600\r\ncontent-length: 100\r\n\r\nlater", false).await;
    let waiting = bridge(&busy, "").await;
    waiting.happens("a").await;
    let (state, attempts) = waiting.attempts("a", 1).await;
    assert_eq!((state, attempts[0].status), (DeliveryState::Pending, Some(503)), "{attempts:?}");
    let handler = waiting.store.handlers().await.expect("read").remove(0);
    let wait = handler.wait_until.expect("it waits").since(attempts[0].started_at);
    assert!(wait > Duration::from_secs(3_500), "{wait:?}");
    let detail = waiting.store.event(&"evt_a".into()).await.expect("read").expect("there");
    assert_eq!(detail.deliveries[0].counted, 0);

    let gone = ear("HTTP/1.1 410 Gone\r\ncontent-length: 100\r\n\r\nno more", false).await;
    let paused = bridge(&gone, "").await;
    paused.happens("a").await;
    paused.attempts("a", 1).await;
    assert!(paused.store.handlers().await.expect("read")[0].paused.is_some());
    let problems = paused.store.problems().await.expect("read");
    assert_eq!(problems.iter().map(|problem| problem.kind).collect::<Vec<_>>(), [ProblemKind::HandlerGone]);
}

/// R7.1, DESIGN §8. A blocked key delays no other key: one event of which no request can be made goes its own way to its end.
#[tokio::test]
async fn r7_1_an_event_of_which_no_request_can_be_made_fails_alone_and_nobody_waits_for_it() {
    let ear = ear("HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n", false).await;
    let bridge = bridge(&ear, "").await;
    // Its id holds what no header can.
    let broken = ["1\n", "2\n", "3\n", "4\n", "5\n", "6\n"];
    for key in broken {
        bridge.happens(key).await;
    }
    bridge.happens("well").await;
    assert_eq!(bridge.attempts("well", 1).await.0, DeliveryState::Delivered);
    for key in broken {
        // The schedule of this rig has one wait: a first and a second attempt, both of them counted.
        let (state, attempts) = bridge.attempts(key, 2).await;
        assert_eq!(state, DeliveryState::Failed, "{attempts:?}");
        let class = attempts[0].detail.class;
        assert_eq!((attempts[0].result, class), (AttemptResult::NotSent, Some(ErrorClass::Unsendable)));
    }
    let handler = bridge.store.handlers().await.expect("read").remove(0);
    assert_eq!((handler.strain, handler.wait_until), (0, None), "the handler is well");
}

/// R7.1. A failure to connect never counts: also where the time of the request is over first.
#[tokio::test]
async fn r7_1_a_connection_that_is_never_made_burns_no_attempt_and_a_silent_handler_does() {
    let silent = ear("", true).await;
    let over_tls = Ear { url: silent.url.replace("http:", "https:"), requests: silent.requests.clone() };
    for (url, result, counts) in
        [(&over_tls, AttemptResult::Unreachable, false), (&silent, AttemptResult::Timeout, true)]
    {
        let bridge = bridge(url, "timeout = \"1s\"").await;
        bridge.happens("a").await;
        let (_, attempts) = bridge.attempts("a", 1).await;
        assert_eq!(attempts[0].result, result, "{attempts:?}");
        let detail = bridge.store.event(&"evt_a".into()).await.expect("read").expect("there");
        assert_eq!(detail.deliveries[0].counted > 0, counts, "{}", url.url);
    }
}
