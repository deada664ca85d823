//! Whom an audience means where tenants, or two issuers of one, have users of the same subjects.

use proto::edge::v1::{Audience, Emit, Join, instruction::Kind};

use crate::support::{Client, Edge, Stream, get};

/// Longest name of a room, in bytes.
const ROOM_BYTES_MAX: usize = 512;

fn emit(audience: Audience, event: &str) -> Kind {
    let audience = Some(Audience { namespace: "/chat".to_owned(), ..audience });
    let event = event.to_owned();
    Kind::Emit(Emit { audience, event, args: "[]".into(), ..Emit::default() })
}

fn join(socket: u64, room: &str) -> Kind {
    Kind::Join(Join { sockets: vec![socket], room: room.to_owned(), position: String::new() })
}

/// Emits to an audience, then a mark to each client; tells which of the clients got the emit, and how often.
async fn reached(
    clients: &mut [(Client, u64)],
    stream: &mut Stream,
    audience: Audience,
) -> Vec<usize> {
    let sockets = clients.iter().map(|(_, socket)| *socket).collect();
    let all = Audience { sockets, ..Audience::default() };
    stream.instruct([emit(audience, "hit"), emit(all, "mark")]).await;
    let mut hits = Vec::new();
    for (client, _) in clients {
        let mut count = 0;
        loop {
            match client.text().await.as_str() {
                r#"42/chat,["hit"]"# => count += 1,
                r#"42/chat,["mark"]"# => break,
                other => panic!("{other}"),
            }
        }
        hits.push(count);
    }
    hits
}

#[tokio::test]
async fn an_audience_is_of_one_tenant_and_its_users_of_an_issuer() {
    let (edge, mut stream) = Edge::attached(&[]).await;
    let mut clients = Vec::new();
    for who in ["ann", "ann@acme", "ann@acme%other", "ann@zinc", "bob@acme"] {
        clients.push(edge.in_chat(&mut stream, who).await);
    }
    for (_, socket) in &clients {
        stream.instruct([join(*socket, "lobby")]).await;
    }
    let of = |tenant: &str| Audience { tenant: tenant.to_owned(), ..Audience::default() };
    let everyone = |tenant| Audience { everyone: true, ..of(tenant) };
    let ann = |tenant, issuer: &str| Audience {
        users: vec!["ann".to_owned()],
        users_issuer: issuer.to_owned(),
        ..of(tenant)
    };
    let but_ann = |audience| Audience { except_users: vec!["ann".to_owned()], ..audience };
    let lobby = |tenant| Audience { rooms: vec!["lobby".to_owned()], ..of(tenant) };

    for (audience, expected) in [
        (everyone(""), [1, 0, 0, 0, 0]),
        (everyone("acme"), [0, 1, 1, 0, 1]),
        (everyone("nobody's"), [0; 5]),
        (ann("", ""), [1, 0, 0, 0, 0]),
        (ann("acme", ""), [0, 1, 1, 0, 0]),
        (ann("acme", "test"), [0, 1, 0, 0, 0]),
        (ann("acme", "other"), [0, 0, 1, 0, 0]),
        (ann("zinc", "other"), [0; 5]),
        (ann("acme", "nobody's"), [0; 5]),
        (but_ann(everyone("acme")), [0, 0, 0, 0, 1]),
        (Audience { everyone: true, ..ann("acme", "test") }, [0, 1, 1, 0, 1]),
        // Rooms have no tenant here.
        (lobby("acme"), [1; 5]),
        (but_ann(lobby("acme")), [1, 0, 0, 1, 1]),
    ] {
        let hits = reached(&mut clients, &mut stream, audience.clone()).await;
        assert_eq!(hits, expected, "{audience:?}");
    }
}

#[tokio::test]
async fn a_room_has_a_name_of_at_most_512_bytes() {
    let (edge, mut stream) = Edge::attached(&[]).await;
    let mut clients = vec![edge.in_chat(&mut stream, "ann").await];
    let longest = "x".repeat(ROOM_BYTES_MAX);
    let longer = format!("{longest}x");
    let socket = clients[0].1;
    let before = refused(&edge).await;
    stream.instruct([join(socket, &longest), join(socket, &longer), join(socket, "")]).await;

    for (room, expected) in [(longest, 1), (longer, 0), (String::new(), 0)] {
        let audience = Audience { rooms: vec![room], ..Audience::default() };
        assert_eq!(reached(&mut clients, &mut stream, audience).await, [expected]);
    }
    assert!(refused(&edge).await >= before + 2);
}

/// How many instructions were refused, by this edge or one of another test in this process.
async fn refused(edge: &Edge) -> u64 {
    let metrics = get(edge.ops, "/metrics").await;
    let prefix = "sockeye_edge_drops_total{reason=\"bad_instruction\"} ";
    let line = metrics.lines().find_map(|line| line.strip_prefix(prefix));
    line.map_or(0, |count| count.trim().parse().unwrap())
}
