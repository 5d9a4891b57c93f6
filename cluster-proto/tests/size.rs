//! How large a node of default capacity is.

use cluster_proto::limits::{BOARDS, GUESTS, LOG, VOLUMES};
use cluster_proto::node::Node;
use cluster_proto::wire::auth::ClusterKey;

/// What a board sets aside for it.
const ROOM: usize = 512 * 1_024;

#[test]
fn a_node_of_default_capacity_fits_its_room() {
    let size = size_of::<Node<ClusterKey, BOARDS, GUESTS, VOLUMES, LOG>>();
    println!(
        "a node for {BOARDS} boards, {GUESTS} guests, {VOLUMES} volumes, {LOG} entries: {size} bytes"
    );
    assert!(size <= ROOM, "{size} bytes");
}

/// That this compiles means that a board's node is a static, and is never built on a stack.
static NODE: std::sync::Mutex<Node<ClusterKey, BOARDS, GUESTS, VOLUMES, LOG>> =
    std::sync::Mutex::new(Node::new());

#[test]
fn a_node_can_be_a_static() {
    assert!(NODE.lock().is_ok_and(|node| node.era().is_blank()));
}
