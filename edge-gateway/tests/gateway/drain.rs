//! What clients see of an edge that is being stopped.

use service_kit::shutdown::Shutdown;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{echo::Echo, within};

#[tokio::test]
async fn who_waits_to_be_accepted_when_the_edge_is_stopped_is_answered() {
    let edge = Echo::bound(&[]).await;
    let mut waiting = Vec::new();
    for _ in 0..32 {
        let mut client = TcpStream::connect(edge.local_addr()).await.unwrap();
        let request = "GET /engine.io/?EIO=4&transport=polling HTTP/1.1\r\nhost: edge\r\n\r\n";
        client.write_all(request.as_bytes()).await.unwrap();
        waiting.push(client);
    }
    let (trigger, shutdown) = Shutdown::new();

    trigger.trigger();
    within("the edge's end", edge.run(shutdown)).await.unwrap();

    for mut client in waiting {
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
    }
}
