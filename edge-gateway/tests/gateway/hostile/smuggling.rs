//! Requests whose end a proxy may see elsewhere than the edge does: one answer, and the connection is closed.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{
    Edge,
    poller::{Poller, ok},
    within,
};

/// What follows each of them, and must never be answered.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

/// All that is answered to these bytes, until the edge closes the connection.
async fn answers(edge: &Edge, sent: &str) -> String {
    let mut stream = TcpStream::connect(edge.address).await.unwrap();
    stream.write_all(sent.as_bytes()).await.unwrap();
    let mut received = Vec::new();
    // The edge does not read what follows, so its end may be a reset.
    within("the connection's end", stream.read_to_end(&mut received)).await.ok();
    String::from_utf8(received).unwrap()
}

fn statuses(answers: &str) -> Vec<&str> {
    answers.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect()
}

/// Heads of posts to a session, with the status that each is answered with. RFC 9112 §6.3 lets a server go by the chunks where
/// there is a length too, if it then closes.
const POSTS: [(&str, &str, &str); 22] = [
    ("two lengths", "Content-Length: 1\r\nContent-Length: 2\r\n\r\n33", "400"),
    ("a list of lengths", "Content-Length: 1, 2\r\n\r\n33", "400"),
    ("a length with a sign", "Content-Length: +1\r\n\r\n3", "400"),
    ("a negative length", "Content-Length: -1\r\n\r\n3", "400"),
    ("a length in hex", "Content-Length: 0x1\r\n\r\n3", "400"),
    ("a length with a space in it", "Content-Length: 1 1\r\n\r\n3", "400"),
    ("a length beyond 64 bits", "Content-Length: 18446744073709551617\r\n\r\n3", "400"),
    ("an empty length", "Content-Length: \r\n\r\n3", "400"),
    (
        "a length, and chunks",
        "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n3\r\n0\r\n\r\n",
        "200",
    ),
    (
        "chunks, and a length",
        "Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n1\r\n3\r\n0\r\n\r\n",
        "200",
    ),
    ("chunks alone", "Transfer-Encoding: chunked\r\n\r\n1\r\n3\r\n0\r\n\r\n", "200"),
    (
        "an encoding that is not chunked",
        "Transfer-Encoding: xchunked\r\n\r\n1\r\n3\r\n0\r\n\r\n",
        "400",
    ),
    (
        "chunks inside of another encoding",
        "Transfer-Encoding: chunked, identity\r\n\r\n1\r\n3\r\n0\r\n\r\n",
        "400",
    ),
    ("a space before the colon", "Transfer-Encoding : chunked\r\n\r\n1\r\n3\r\n0\r\n\r\n", "400"),
    ("a folded header", "X: a\r\n Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n3", "400"),
    (
        "a bare CR in a header",
        "X: a\rTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n3",
        "400",
    ),
    ("a NUL in a header", "X: a\0b\r\nContent-Length: 1\r\n\r\n3", "400"),
    ("a header without a name", ": a\r\nContent-Length: 1\r\n\r\n3", "400"),
    ("a header without a colon", "Content-Length\r\n\r\n3", "400"),
    ("two hosts", "Host: b\r\nContent-Length: 1\r\n\r\n3", "400"),
    (
        "an encoding named twice",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n1\r\n3\r\n0\r\n\r\n",
        "400",
    ),
    ("65 headers", "", "431"),
];

#[tokio::test]
async fn a_request_that_others_may_read_differently_is_the_last_of_its_connection() {
    let edge = Edge::start(&[]).await;
    let victim = Poller::open(&edge).await;
    let path = victim.path("polling");

    for (name, head, status) in POSTS {
        let many: String = (0..65).map(|n| format!("X-{n}: a\r\n")).collect();
        let head = if head.is_empty() { many + "\r\n" } else { head.to_owned() };
        let sent = format!("POST {path} HTTP/1.1\r\nHost: a\r\n{head}{SMUGGLED}");

        let answers = answers(&edge, &sent).await;

        assert_eq!(statuses(&answers), [status], "{name}: {answers}");
    }

    assert_eq!(victim.post("3").await, ok(), "the session goes on");
}

#[tokio::test]
async fn a_request_line_that_is_none_is_the_last_of_its_connection() {
    let edge = Edge::start(&[]).await;
    let long = "a".repeat(20_000);
    let rows = [
        ("no host", "GET / HTTP/1.1\r\n\r\n".to_owned(), "400"),
        ("an empty host", "GET / HTTP/1.1\r\nHost:\r\n\r\n".to_owned(), "400"),
        (
            "chunks in HTTP/1.0",
            "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
            "400",
        ),
        ("a version that is none", "GET / HTTP/9.9\r\nHost: a\r\n\r\n".to_owned(), "400"),
        ("a space in the path", "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), "400"),
        ("a method that is none", "G@T / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), "400"),
        (
            "a header that is too long",
            format!("GET / HTTP/1.1\r\nHost: a\r\nX: {long}\r\n\r\n"),
            "431",
        ),
        ("a path that is too long", format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n"), "431"),
        ("the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), ""),
    ];
    for (name, request, status) in rows {
        let answers = answers(&edge, &format!("{request}{SMUGGLED}")).await;

        let expected: Vec<_> =
            Some(status).filter(|status| !status.is_empty()).into_iter().collect();
        assert_eq!(statuses(&answers), expected, "{name}: {answers}");
    }
}
