//! Holds what the services say of their queues against their bounds, and in the end against who is there.

use crate::{
    client::{EDGES, ROOMS},
    gauges::Gauges,
    run::CLIENTS,
};

/// Most bytes that an edge keeps for a service, sent or not: its bound, and the events that were under way when it was reached.
const LINK_QUEUE_BYTES_MAX: f64 = 4.0 * 1024.0 * 1024.0 + 64.0 * 1024.0;

/// Most bytes that wait for one client.
const OUTBOX_BYTES_MAX: f64 = 1024.0 * 1024.0;

const LINK_QUEUE: &str = "sockeye_edge_link_queue_bytes";
const OUTBOX: &str = "sockeye_edge_outbox_bytes";

/// Those services of which a gauge shows what cannot be.
pub(crate) fn exceeded(hosts: &[(String, Gauges)]) -> Vec<String> {
    let mut found = Vec::new();
    for (host, gauges) in hosts {
        let value = |name: &str| gauges.value(name).unwrap_or(0.0);
        found.extend(gauges.negative().into_iter().map(|text| format!("{host}: {text}")));
        let outbox_bytes_max = value("sockeye_edge_connections") * OUTBOX_BYTES_MAX;
        let bounds = [
            (LINK_QUEUE, LINK_QUEUE_BYTES_MAX),
            (OUTBOX, outbox_bytes_max),
            ("sockeye_chat_rooms", ROOMS.len() as f64),
        ];
        let beyond = bounds.into_iter().filter(|(name, bound)| value(name) > *bound);
        found.extend(beyond.map(|(name, _)| format!("{host}: {name} {}", value(name))));
    }
    found
}

/// What is left of those who are gone, when all clients are connected and nothing is under way.
pub(crate) fn left_over(hosts: &[(String, Gauges)]) -> Vec<String> {
    let clients = CLIENTS as f64;
    let expected = [
        ("sockeye_edge_connections", clients),
        ("sockeye_edge_sockets", clients),
        ("sockeye_edge_links_up", EDGES as f64),
        (OUTBOX, 0.0),
        (LINK_QUEUE, 0.0),
        ("sockeye_chat_sockets", clients),
        ("sockeye_chat_links", EDGES as f64),
    ];
    let sum = |name: &str| hosts.iter().filter_map(|(_, gauges)| gauges.value(name)).sum::<f64>();
    let sums = expected.into_iter().map(|(name, expected)| (name, expected, sum(name)));
    sums.filter(|(_, expected, sum)| sum != expected)
        .map(|(name, expected, sum)| format!("{name} is {sum} and not {expected}"))
        .collect()
}
