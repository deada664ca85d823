//! Objects in which a member is there twice, so that readers may differ in which of both counts.

use proto::edge::v1::{Accept, instruction::Kind};

use crate::support::Edge;

#[tokio::test]
async fn a_token_that_is_there_twice_lets_nobody_in() {
    let (edge, mut stream) = Edge::attached(&[]).await;
    let mut client = edge.socket_io().await;
    let unauthorized = r#"44/chat,{"message":"Unauthorized","data":{"code":"unauthorized"}}"#;

    for auth in [
        r#"{"token":"ok:alice","token":"ok:bob"}"#,
        r#"{"token":"ok:alice","token":"ok:alice"}"#,
        r#"{"token":"ok:alice","a":1,"\u0074oken":"ok:bob"}"#,
        r#"{"token":null,"token":"ok:alice"}"#,
        r#"{"token":"ok:alice","token":{}}"#,
    ] {
        client.send(&format!("40/chat,{auth}")).await;
        assert_eq!(client.text().await, unauthorized, "{auth}");
    }

    client.send(r#"40/chat,{"token":"ok:alice","__proto__":{},"__proto__":{}}"#).await;
    let opened = stream.opened().await.1;
    assert_eq!(opened.identity.unwrap().subject, "alice", "the first that the service hears of");
}

#[tokio::test]
async fn a_service_is_given_both_as_the_client_wrote_them() {
    let (edge, mut stream) = Edge::with_terms("", &[]).await;
    let mut client = edge.socket_io().await;

    client.send(r#"40/chat,{"token":"ok:alice","a":1,"a":[2]}"#).await;
    let (socket, opened) = stream.opened().await;
    assert_eq!(opened.handshake.unwrap().auth, r#"{"a":1,"a":[2]}"#);

    stream.instruct([Kind::Accept(Accept { socket })]).await;
    client.text().await;
    client.send(r#"42/chat,["e",{"a":1, "a":2,"__proto__":{},"__proto__":3}]"#).await;
    let event = stream.event().await.1;
    assert_eq!(event.args, r#"[{"a":1, "a":2,"__proto__":{},"__proto__":3}]"#);
}

#[tokio::test]
async fn of_two_members_of_a_plain_json_message_the_last_counts() {
    let (edge, mut stream) = Edge::attached(&[]).await;
    let (mut client, _) = edge.json_in_chat(&mut stream, "alice").await;

    client.send(r#"{"event":"a","data":1,"id":1,"\u0065vent":"b","data":{"c":1,"c":2}}"#).await;

    let event = stream.event().await.1;
    assert_eq!((event.name.as_str(), &event.args[..]), ("b", &br#"[{"c":1,"c":2}]"#[..]));
}
