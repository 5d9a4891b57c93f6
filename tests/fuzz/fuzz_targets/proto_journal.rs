//! Bytes as a journal: a voter remembers or refuses, and goes on either way.
#![no_main]

use std::sync::Mutex;

use cluster_proto::ids::{BoardId, Incarnation, Micros, Span};
use cluster_proto::ledger::types::Capacity;
use cluster_proto::node::{Effect, Node, Setup};
use cluster_proto::wire::auth::ClusterKey;
use libfuzzer_sys::fuzz_target;

static NODE: Mutex<Node<ClusterKey, 4, 4, 4, 16>> = Mutex::new(Node::new());

/// FNV-1a, which ends every record.
fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum: u64, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

fuzz_target!(|data: &[u8]| {
    let Ok(mut node) = NODE.lock() else { return };
    let setup = Setup {
        board: BoardId(0),
        cluster: 7,
        key: [3; 32],
        incarnation: Incarnation(5),
        seed: 6,
        capacity: Capacity { memory_mib: 0, cores: 0, class: 0 },
        journal: true,
        heartbeat: Span::millis(50),
        lease: Span::millis(250),
        drift_ppm: 200,
    };
    node.boot(&setup, Micros(1), |_| {});
    // Records from the data: length and body, each with a right sum.
    let mut records = Vec::new();
    let mut rest = data;
    while let [length, tail @ ..] = rest {
        let length = usize::from(*length).min(tail.len());
        let body = &tail[..length];
        records.push([body, &sum(body).to_le_bytes()].concat());
        rest = &tail[length..];
    }
    if node.recall(records.iter().map(Vec::as_slice)).is_err() {
        node.boot(&setup, Micros(2), |_| {});
    }
    for at in 1..20 {
        node.tick(Micros(at * 50_000), &mut |_: Effect<'_>| {});
    }
});
