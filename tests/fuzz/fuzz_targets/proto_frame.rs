//! Bytes from the network into a board, by both ways: as they are (headers, tags, sessions), and with a right tag from a known peer
//! or operator (every message and what it does).
#![no_main]

use std::sync::Mutex;

use cluster_proto::ids::{BoardId, Incarnation, Micros, Span};
use cluster_proto::ledger::types::{Board, Capacity, Seats};
use cluster_proto::node::{Effect, Node, Setup};
use cluster_proto::wire::auth::{Authenticator, ClusterKey};
use cluster_proto::wire::codec::{Reader, Wire, Writer};
use cluster_proto::wire::frame::{self, Envelope, HEADER, Party, Recipient};
use cluster_proto::wire::message::{Hello, KIND_HELLO, Message};
use libfuzzer_sys::fuzz_target;

type Board0 = Node<ClusterKey, 4, 4, 4, 32>;

static NODE: Mutex<Board0> = Mutex::new(Board0::new());
const CLUSTER: u32 = 7;
const PEER: Incarnation = Incarnation(99);

fn boot(node: &mut Board0) {
    let setup = Setup {
        board: BoardId(0),
        cluster: CLUSTER,
        key: [3; 32],
        incarnation: Incarnation(5),
        seed: 6,
        capacity: Capacity { memory_mib: 1_024, cores: 4, class: 1 },
        journal: true,
        heartbeat: Span::millis(50),
        lease: Span::millis(250),
        drift_ppm: 200,
    };
    node.boot(&setup, Micros(1), |ledger| {
        let mut seats = Seats::NONE;
        for at in 0..3u8 {
            ledger.boards[usize::from(at)] = Some(Board {
                name: Default::default(),
                votes: true,
                witness: false,
                drained: false,
                downtime: None,
                disarmed: false,
                incarnation: Incarnation(0),
                tenure: cluster_proto::ids::Tenure(0),
                fenced_at: cluster_proto::ids::Index(0),
                capacity: Capacity { memory_mib: 0, cores: 0, class: 0 },
            });
            seats.add(BoardId(at));
        }
        ledger.seats = seats;
    });
}

fn sealed(sender: Party, kind: u8, body: &[u8], sequence: u64) -> Vec<u8> {
    let auth = ClusterKey::new(&[3; 32]);
    let mut buffer = [0; cluster_proto::limits::MAX_FRAME];
    let length = body.len().min(frame::MAX_BODY);
    buffer[HEADER..HEADER + length].copy_from_slice(&body[..length]);
    let recipient = Recipient::One(Party::Board(BoardId(0)));
    let envelope =
        Envelope { cluster: CLUSTER, kind, sender, recipient, incarnation: PEER, sequence };
    let life = auth.life(sender.number(), PEER);
    let whole = frame::seal(&mut buffer, length, &envelope, |covered| auth.tag(&life, covered));
    buffer[..whole].to_vec()
}

/// Answers the board's challenge, so that it takes the sender for alive.
fn meet(node: &mut Board0, sender: Party) {
    let mut challenge = 0;
    node.receive(Micros(10), &sealed(sender, 2, &[], 1), &mut |effect: Effect<'_>| {
        if let Effect::Send { frame, .. } = effect
            && let Ok(view) = frame::view(frame, CLUSTER)
            && view.kind == KIND_HELLO
            && let Ok(hello) = Hello::get(&mut Reader::new(view.body))
        {
            challenge = hello.challenge;
        }
    });
    let mut body = [0; 16];
    let hello = Message::Hello(Hello { challenge: 0, answer: challenge });
    assert!(hello.put(&mut Writer::new(&mut body)).is_ok());
    assert!(node.receive(Micros(20), &sealed(sender, KIND_HELLO, &body, 2), &mut |_: Effect<'_>| {}), "the session did not begin");
}

fuzz_target!(|data: &[u8]| {
    let Ok(mut node) = NODE.lock() else { return };
    boot(&mut node);
    node.receive(Micros(5), data, &mut |_: Effect<'_>| {});
    let senders = [Party::Board(BoardId(1)), Party::Operator(200)];
    senders.iter().for_each(|sender| meet(&mut node, *sender));
    // Frames from the data: kind, length, body; between them time goes on.
    let (mut rest, mut now, mut sequence) = (data, 30, 3);
    while let [kind, length, pause, tail @ ..] = rest {
        let length = usize::from(*length).min(tail.len());
        now += u64::from(*pause) * 1_000;
        let sender = senders[usize::from(*kind >> 7)];
        let frame = sealed(sender, *kind % 18, &tail[..length], sequence);
        node.receive(Micros(now), &frame, &mut |_: Effect<'_>| {});
        node.tick(Micros(now), &mut |_: Effect<'_>| {});
        rest = &tail[length..];
        sequence += 1;
    }
});
