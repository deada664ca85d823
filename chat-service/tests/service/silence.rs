//! An edge whose network is gone while its connection seems open.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    task::JoinSet,
};

use crate::running::Running;

/// Carries bytes between an edge and the service, until it swallows them. It closes nothing.
struct Network {
    address: SocketAddr,
    is_silent: Arc<AtomicBool>,
    _tasks: JoinSet<()>,
}

impl Network {
    async fn to(service: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let is_silent = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        let silent = Arc::clone(&is_silent);
        tasks.spawn(async move {
            let mut directions = JoinSet::new();
            while let Ok((edge, _)) = listener.accept().await {
                let (from_edge, to_edge) = edge.into_split();
                let (from_service, to_service) =
                    TcpStream::connect(service).await.unwrap().into_split();
                directions.spawn(carry(from_edge, to_service, Arc::clone(&silent)));
                directions.spawn(carry(from_service, to_edge, Arc::clone(&silent)));
            }
        });
        Self { address, is_silent, _tasks: tasks }
    }
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, is_silent: Arc<AtomicBool>) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        if !is_silent.load(Ordering::Relaxed) && to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn the_users_of_an_edge_that_falls_silent_are_gone_within_one_lease() {
    let lease = Duration::from_secs(4);
    let mut service = Running::start_with(&["--chat-link-grace=4s"]).await;
    let mut watcher = service.edge("watcher").await;
    watcher.open(1, "ann").await;
    watcher.join(1, "lobby").await;
    let network = Network::to(service.address).await;
    service.address = network.address;
    let mut edge = service.edge("one").await;
    edge.open(1, "bob").await;
    edge.join(1, "lobby").await;
    watcher.next().await;

    let before = Instant::now();
    network.is_silent.store(true, Ordering::Relaxed);

    watcher
        .expect(&[
            r#"emit to room lobby: presence [{"room":"lobby","joined":[],"left":[{"id":"bob"}],"count":1}]"#,
        ])
        .await;
    // A busy machine may be late, but a lease that began only when the silence was noticed would be later.
    let taken = before.elapsed();
    assert!(taken >= lease / 2 && taken < lease + Duration::from_millis(1500), "{taken:?}");
}
