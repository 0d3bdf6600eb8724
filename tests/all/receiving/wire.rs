//! What arrives slowly, in pieces, too large or too often; and how the listener stops.

use std::sync::Arc;

use ringback::listener::bind_unix;
use ringback::receive::{Limits, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio_util::sync::CancellationToken;

use super::kit::{Gate, NOW, Wish, request};
use super::{ORDER, SHORT};

fn signed(gate: &Gate, body: &str) -> String {
    let signature = gate.signature("plain", "new secret", body, NOW);
    request("POST", "/webhooks/plain", &[("x-signature", &signature)], body)
}

#[tokio::test]
async fn a_request_may_come_byte_by_byte() {
    let gate = Gate::open().await;
    let mut client = gate.connect().await;
    client.0.set_nodelay(true).expect("no delay");
    for byte in signed(&gate, ORDER).chars() {
        client.send(&byte.to_string()).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(client.answer().await.status, 202);
    assert_eq!(gate.stored().await[0].request.body, ORDER.as_bytes());
}

#[tokio::test]
async fn requests_sent_without_waiting_are_answered_in_their_order() {
    let gate = Gate::open().await;
    let mut client = gate.connect().await;
    let wrong = request("POST", "/webhooks/plain", &[("x-signature", "sha256=00")], ORDER);
    client.send(&[signed(&gate, ORDER), wrong, signed(&gate, "{}")].concat()).await;
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(client.answer().await.status);
    }
    assert_eq!(statuses, [202, 401, 202]);
    assert_eq!(gate.stored().await.len(), 2);
}

#[tokio::test]
async fn a_body_in_chunks_is_one_body() {
    let gate = Gate::open().await;
    let mut client = gate.connect().await;
    let signature = gate.signature("plain", "new secret", ORDER, NOW);
    let (one, two) = ORDER.split_at(5);
    let head = format!(
        "POST /webhooks/plain HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\nx-signature: {signature}\r\n"
    );
    client.send(&format!("{head}\r\n{:x}\r\n{one}\r\n{:x}\r\n{two}\r\n0\r\n\r\n", one.len(), two.len())).await;
    assert_eq!(client.answer().await.status, 202);
    assert_eq!(gate.stored().await[0].request.body, ORDER.as_bytes());
}

#[tokio::test]
async fn a_body_over_the_cap_is_refused_by_its_announcement_or_as_it_grows() {
    let gate = Gate::with(Wish { max_body: 1000, ..Wish::default() }).await;
    let mut client = gate.connect().await;
    client.send("POST /webhooks/plain HTTP/1.1\r\nhost: x\r\ncontent-length: 1001\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 413, "before any of it was sent");
    assert!(client.is_closed().await, "the rest of the body is not waited for");

    let mut client = gate.connect().await;
    let chunk = format!("{:x}\r\n{}\r\n", 600, "x".repeat(600));
    let head = "POST /webhooks/plain HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
    client.send(&format!("{head}{chunk}{chunk}")).await;
    assert_eq!(client.answer().await.status, 413);

    let exact = "x".repeat(1000);
    let mut client = gate.connect().await;
    client.send(&signed(&gate, &exact)).await;
    assert_eq!(client.answer().await.status, 202, "the cap itself is allowed");
    assert_eq!(gate.count("plain", "too_large"), 2);
}

#[tokio::test]
async fn a_head_over_the_cap_is_refused() {
    let gate = Gate::open().await;
    for (size, statuses) in [(31 << 10, [401, 401]), (33 << 10, [431, 431]), (300 << 10, [431, 431])] {
        let long = "x".repeat(size);
        let in_header = request("POST", "/webhooks/plain", &[("x-long", &long)], "");
        let in_target = request("POST", &format!("/webhooks/plain?{long}"), &[], "");
        for (text, status) in [in_header, in_target].iter().zip(statuses) {
            let mut client = gate.connect().await;
            // The answer may come before all of it is sent.
            let _ = client.0.write_all(text.as_bytes()).await;
            assert_eq!(client.answer().await.status, status, "{size}");
        }
    }
}

#[tokio::test]
async fn a_slow_head_is_cut_off_and_an_idle_connection_is_not() {
    let gate = Gate::with(Wish { limits: Limits { head: SHORT, ..Limits::default() }, ..Wish::default() }).await;
    let mut silent = gate.connect().await;
    assert!(silent.is_closed().await, "a connection that never says anything");
    let mut slow = gate.connect().await;
    slow.send("POST /webhooks/plain HTTP/1.1\r\nho").await;
    assert!(slow.is_closed().await, "a head that stops in the middle");

    let mut kept = gate.connect().await;
    kept.send(&signed(&gate, ORDER)).await;
    assert_eq!(kept.answer().await.status, 202);
    // Nothing shows that a limit has passed by but time itself.
    tokio::time::sleep(SHORT * 3).await;
    kept.send(&signed(&gate, ORDER)).await;
    assert_eq!(kept.answer().await.status, 202, "between two requests there is more time");
    kept.send("POST /webhooks/plain HTTP/1.1\r\nho").await;
    assert!(kept.is_closed().await, "but not within a later head");
}

#[tokio::test]
async fn an_idle_connection_is_closed_in_the_end() {
    let limits = Limits { head: SHORT, idle: SHORT * 2, ..Limits::default() };
    let gate = Gate::with(Wish { limits, ..Wish::default() }).await;
    let mut client = gate.connect().await;
    client.send(&signed(&gate, ORDER)).await;
    assert_eq!(client.answer().await.status, 202);
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn a_body_that_stops_is_refused_in_time() {
    let gate = Gate::with(Wish { limits: Limits { body: SHORT, ..Limits::default() }, ..Wish::default() }).await;
    let mut client = gate.connect().await;
    let whole = signed(&gate, ORDER);
    client.send(&whole[..whole.len() - 1]).await;
    assert_eq!(client.answer().await.status, 408);
    assert_eq!(gate.count("plain", "slow"), 1);
    assert!(gate.stored().await.is_empty());
}

#[tokio::test]
async fn more_connections_than_allowed_are_closed_and_room_comes_back() {
    let limits = Limits { connections: 1, ..Limits::default() };
    let gate = Gate::with(Wish { limits, ..Wish::default() }).await;
    let mut first = gate.connect().await;
    first.send(&signed(&gate, ORDER)).await;
    assert_eq!(first.answer().await.status, 202);
    assert!(gate.connect().await.is_closed().await);
    first.0.shutdown().await.expect("closed");
    assert!(first.is_closed().await);
    let status = loop {
        let mut next = gate.connect().await;
        let _ = next.0.write_all(signed(&gate, ORDER).as_bytes()).await;
        if next.0.readable().await.is_ok() && next.0.peek(&mut [0]).await.is_ok_and(|read| read > 0) {
            break next.answer().await.status;
        }
    };
    assert_eq!(status, 202);
}

#[tokio::test]
async fn a_stop_ends_what_is_under_way_and_takes_nothing_new() {
    let gate = Gate::open().await;
    let mut idle = gate.connect().await;
    idle.send(&signed(&gate, ORDER)).await;
    assert_eq!(idle.answer().await.status, 202);
    let mut busy = gate.connect().await;
    let whole = signed(&gate, ORDER);
    // `100 Continue` shows that the head was read and the body is awaited.
    let (head, body) = whole.split_once("\r\n\r\n").expect("head and body");
    busy.send(&format!("{head}\r\nexpect: 100-continue\r\n\r\n")).await;
    assert_eq!(busy.answer().await.status, 100);
    gate.cancel.cancel();
    assert!(idle.is_closed().await, "an idle connection is not waited for");
    busy.send(body).await;
    assert_eq!(busy.answer().await.status, 202, "a webhook half sent is still taken");
    tokio::time::timeout(SHORT * 50, gate.serving).await.expect("the listener stops").expect("without a panic");
    assert!(tokio::net::TcpStream::connect(gate.address).await.is_err());
}

#[tokio::test]
async fn a_unix_socket_serves_the_same_and_takes_the_place_of_a_dead_one_only() {
    let gate = Gate::open().await;
    let path = gate.folder.path().join("in.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).expect("a socket that nobody listens on any more"));
    let cancel = CancellationToken::new();
    let serving = tokio::spawn({
        let (receiver, cancel) = (Arc::clone(&gate.receiver), cancel.clone());
        let socket = bind_unix(&path, 0o660).expect("bound").into();
        async move { serve(receiver, socket, Limits::default(), cancel).await }
    });
    let mut stream = loop {
        match UnixStream::connect(&path).await {
            Ok(stream) => break stream,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    stream.write_all(signed(&gate, ORDER).as_bytes()).await.expect("sent");
    let mut start = [0; 12];
    stream.read_exact(&mut start).await.expect("an answer");
    assert_eq!(&start, b"HTTP/1.1 202");
    cancel.cancel();
    serving.await.expect("no panic");

    let file = gate.folder.path().join("precious");
    std::fs::write(&file, "data").expect("written");
    assert!(bind_unix(&file, 0o660).is_err(), "a file that is no socket stands in the way");
    assert_eq!(std::fs::read_to_string(&file).expect("it is still there"), "data");
}
