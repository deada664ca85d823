//! JSON whose arrays and objects lie in each other.

use proto::edge::v1::{Accept, instruction::Kind};

use crate::support::{Client, Edge, Stream, limit_hits};

/// JSON text of so many arrays in each other.
fn nested(depth: usize) -> String {
    "[".repeat(depth) + &"]".repeat(depth)
}

#[tokio::test]
async fn json_is_nested_so_deep_and_no_deeper() {
    for (flags, depth_max) in [(&[][..], 64), (&["--edge-json-depth-max=3"], 3)] {
        let (edge, mut stream) = Edge::attached(flags).await;

        deepest_is_passed_on(&edge, &mut stream, &nested(depth_max)).await;
        for too_deep in [nested(depth_max + 1), nested(10_000)] {
            too_deep_ends_a_socket_io_connection(&edge, &mut stream, &too_deep).await;
            too_deep_is_answered_with_plain_json(&edge, &mut stream, &too_deep).await;
        }
        deepest_auth_lets_in_and_a_deeper_one_does_not(&edge, &mut stream, depth_max).await;
    }
}

async fn deepest_is_passed_on(edge: &Edge, stream: &mut Stream, deepest: &str) {
    let (mut client, _) = edge.in_chat(stream, "alice").await;
    client.send(&format!(r#"42/chat,["deep",1,{deepest}]"#)).await;
    assert_eq!(stream.event().await.1.args, format!("[1,{deepest}]"));
    client.send(&format!(r#"451-/chat,["deep",{deepest}]"#)).await;
    client.send_binary(b"attached").await;
    assert_eq!(stream.event().await.1.args, format!("[{deepest}]"));

    let (mut json, _) = edge.json_in_chat(stream, "bob").await;
    json.send(&format!(r#"{{"event":"deep","data":{deepest}}}"#)).await;
    assert_eq!(stream.event().await.1.args, format!("[{deepest}]"));
    drop((client, json));
    stream.closed().await;
    stream.closed().await;
}

async fn too_deep_ends_a_socket_io_connection(edge: &Edge, stream: &mut Stream, too_deep: &str) {
    for packet in [r#"42/chat,["deep",1,{}]"#, r#"451-/chat,["deep",{}]"#, "43/chat,1[{}]"] {
        let (mut client, _) = edge.in_chat(stream, "alice").await;
        let before = limit_hits(edge.ops, "json_depth").await;

        client.send(&packet.replace("{}", too_deep)).await;

        assert_eq!(client.close_code().await, Some(4500), "{packet}");
        assert!(limit_hits(edge.ops, "json_depth").await > before, "{packet}");
        stream.closed().await;
    }
}

async fn too_deep_is_answered_with_plain_json(edge: &Edge, stream: &mut Stream, too_deep: &str) {
    let (mut client, _) = edge.json_in_chat(stream, "bob").await;
    let error =
        r#"{"code":"bad_request","message":"the message is nested too deeply","retryable":false}"#;
    let before = limit_hits(edge.ops, "json_depth").await;

    client.send(&format!(r#"{{"event":"deep","data":{too_deep},"id":7}}"#)).await;
    assert_eq!(client.text().await, format!(r#"{{"id":7,"error":{error}}}"#));
    client.send(&format!(r#"{{"event":"deep","data":{too_deep},"id":8,"attachments":1}}"#)).await;
    client.send_binary(b"attached").await;
    assert_eq!(client.text().await, format!(r#"{{"id":8,"error":{error}}}"#));

    assert!(limit_hits(edge.ops, "json_depth").await >= before + 2);
    client.send(r#"{"event":"flat"}"#).await;
    assert_eq!(stream.event().await.1.name, "flat", "its connection goes on");
    drop(client);
    stream.closed().await;
}

async fn deepest_auth_lets_in_and_a_deeper_one_does_not(
    edge: &Edge,
    stream: &mut Stream,
    depth_max: usize,
) {
    // The object itself is the first level.
    let auth = |depth| format!(r#"{{"token":"ok:alice","more":{}}}"#, nested(depth - 1));
    let connect = async |depth| -> Client {
        let mut client = edge.socket_io().await;
        client.send(&format!("40/chat,{}", auth(depth))).await;
        client
    };

    let mut client = connect(depth_max).await;
    let (socket, _) = stream.opened().await;
    stream.instruct([Kind::Accept(Accept { socket })]).await;
    assert!(client.packet().await.starts_with("40/chat,"));

    let before = limit_hits(edge.ops, "json_depth").await;
    assert_eq!(connect(depth_max + 1).await.close_code().await, Some(4500));
    assert!(limit_hits(edge.ops, "json_depth").await > before);
}
