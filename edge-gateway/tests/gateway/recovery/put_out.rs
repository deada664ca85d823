//! Sockets that are taken out of a room while they move.

use proto::edge::v1::{Accept, Leave, instruction::Kind};

use super::{
    moves::{come_back_elsewhere, edge_has_carried_out, in_a_room, two_shards},
    next_event, resumed, suspended, to_room,
};

fn leave(socket: u64) -> Kind {
    Kind::Leave(Leave { sockets: vec![socket], room: "a".to_owned() })
}

#[tokio::test]
async fn a_socket_that_is_taken_out_before_it_is_let_in_never_is_in_the_room() {
    let (edge, mut streams) = two_shards().await;
    let (client, home, socket, names) = in_a_room(&edge, &mut streams).await;
    drop(client);
    suspended(&mut streams[home]).await;
    streams[home].instruct([Kind::Emit(to_room("a", "missed"))]).await;
    let (mut client, here, _) = come_back_elsewhere(&edge, &mut streams, home, &names, None).await;
    let other = 1 - home;

    streams[home].instruct([leave(socket), Kind::Emit(to_room("a", "later, there"))]).await;
    edge_has_carried_out(&mut streams[home]).await;
    let accept = Kind::Accept(Accept { socket: here });
    let later = Kind::Emit(to_room("a", "later, here"));
    streams[other].instruct([leave(here), accept, later]).await;

    assert_eq!(streams[home].closed().await, (socket, "moved".to_owned()));
    assert_eq!(resumed(&mut streams[other]).await, here);
    assert_eq!(next_event(&mut client).await.0, "missed");
    assert!(client.text().await.starts_with("40/chat,"), "nothing else was missed");
    streams[other].instruct([Kind::Emit(to_room("a", "later still"))]).await;
    edge_has_carried_out(&mut streams[other]).await;
    streams[other].instruct([super::join(here, "b"), Kind::Emit(to_room("b", "elsewhere"))]).await;
    assert_eq!(next_event(&mut client).await.0, "elsewhere");
}
