//! `frame_cost [BOARDS]`: receives the frames of a settled cluster (default 8 boards), for an instruction counter to watch. Run it as
//! `valgrind --tool=callgrind --collect-atstart=no --toggle-collect='*receive_one*' frame_cost`; its instructions over the frames printed here are a
//! frame's cost.

use cluster_proto::ids::Micros;
use cluster_proto::limits::BOARDS;
use cluster_proto::node::Sink;
use simulator::figures::{RealNode, exchange};

#[inline(never)]
fn receive_one(node: &mut RealNode<BOARDS>, now: Micros, frame: &[u8], out: &mut dyn Sink) {
    node.receive(now, frame, out);
}

fn main() {
    let boards = std::env::args()
        .nth(1)
        .and_then(|given| given.parse().ok())
        .unwrap_or(8);
    let mut frames = 0u64;
    exchange::<BOARDS>(boards, &mut |node, now, frame, out| {
        frames += 1;
        receive_one(node, now, frame, out);
    });
    println!("{frames} frames received");
}
