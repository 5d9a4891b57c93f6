//! The golden vectors of `docs/protocol-vectors.txt`: frames as they must be on the wire, byte for byte.

use cluster_proto::ids::*;
use cluster_proto::ledger::page::Cursor;
use cluster_proto::ledger::types::*;
use cluster_proto::limits::MAX_FRAME;
use cluster_proto::wire::auth::{Authenticator, ClusterKey};
use cluster_proto::wire::codec::{Wire, Writer};
use cluster_proto::wire::frame::{self, Envelope, HEADER, Party, Recipient};
use cluster_proto::wire::message::*;

const FILE: &str = include_str!("../../docs/protocol-vectors.txt");
const ERA: Era = Era {
    generation: 2,
    nonce: 0x1122_3344_5566_7788,
};
const CLUSTER: u32 = 0x00c0_ffee;

fn key() -> [u8; 32] {
    core::array::from_fn(|at| at as u8)
}

fn bytes(value: &impl Wire) -> Vec<u8> {
    let mut buffer = [0; 1_024];
    let mut to = Writer::new(&mut buffer);
    assert_eq!(value.put(&mut to), Ok(()));
    to.bytes().to_vec()
}

fn status() -> Status {
    Status {
        speaks: 4,
        era: ERA,
        memory: Memory(0xa1),
        term: Term(7),
        role: Role::Leader,
        leader: Some(BoardId(1)),
        commit: Index(40),
        last: Index(41),
        last_term: Term(6),
        votes: true,
        reforming: false,
        tenure: Tenure(9),
        stamp: Micros(123_456_789),
        leaseless_ms: 0,
        config_at: Index(1),
        unwanted: BoardSet(4),
        manifest: 0xfeed,
    }
}

fn echo() -> Vec<u8> {
    let echo = Echo {
        board: BoardId(2),
        heard: true,
        promised: true,
        incarnation: Incarnation(0xb2),
        stamp: Micros(55_000),
    };
    bytes(&echo)
}

fn entries() -> Vec<u8> {
    let fence = Decree::Fence {
        board: BoardId(2),
        tenure: Tenure(9),
        reason: Reason::Silent,
    };
    let place = Decree::Place {
        guest: GuestId(3),
        epoch: Epoch((2 << 32) + 1),
        board: BoardId(0),
        tenure: Tenure(12),
        reason: Reason::Placed,
    };
    let hand = Decree::Hand {
        guest: GuestId(4),
        epoch: Epoch((2 << 32) + 5),
        complete: None,
        reason: Reason::DestinationLost,
    };
    [
        bytes(&Entry {
            term: Term(7),
            decree: hand,
        }),
        bytes(&Entry {
            term: Term(7),
            decree: fence,
        }),
        bytes(&Entry {
            term: Term(7),
            decree: place,
        }),
    ]
    .concat()
}

/// A frame of board 1 for each message, with sequence numbers from 1.
fn frames() -> Vec<(&'static str, Vec<u8>)> {
    let (echo, entries) = (echo(), entries());
    let seats = (0..3).fold(Seats::NONE, |mut seats, board| {
        seats.add(BoardId(board));
        seats.with(BoardId(board), Memory(0xa0 + u64::from(board)))
    });
    let append = AppendHead {
        era: ERA,
        term: Term(7),
        previous: Index(41),
        previous_term: Term(6),
        commit: Index(40),
        count: 3,
    };
    let id = RequestId {
        operator: 0x0f,
        request: 1,
    };
    let page = PageHead {
        era: ERA,
        term: Term(7),
        index: Index(40),
        from: Cursor::START,
        next: Cursor::END,
        checksum: 5,
    };
    let all = Recipient::All;
    let one = Recipient::One(Party::Board(BoardId(0)));
    let operator = Recipient::One(Party::Operator(200));
    let messages = [
        (
            "hello",
            one,
            Message::Hello(Hello {
                challenge: 0x0102,
                answer: 0x0304,
            }),
        ),
        ("heartbeat", all, Message::Heartbeat(status(), &echo)),
        (
            "ask",
            one,
            Message::Ask(Ask {
                era: ERA,
                term: Term(8),
                before: true,
                last: Index(41),
                last_term: Term(7),
            }),
        ),
        (
            "vote",
            one,
            Message::Vote(Vote {
                era: ERA,
                term: Term(8),
                before: true,
                granted: true,
                memory: Memory(0xa1),
            }),
        ),
        ("append", one, Message::Append(append, &entries)),
        (
            "appended",
            one,
            Message::Appended(Appended {
                era: ERA,
                term: Term(7),
                memory: Memory(0xa1),
                matched: Index(41),
                fits: true,
                hold: Span(90_000),
            }),
        ),
        ("page", one, Message::Page(page.clone(), &[])),
        (
            "page-ack",
            one,
            Message::PageAck(PageAck {
                era: ERA,
                term: Term(7),
                index: Index(40),
                next: Cursor::END,
            }),
        ),
        (
            "found",
            one,
            Message::Found(Found {
                era: ERA,
                seats,
                manifest: 0xfeed,
            }),
        ),
        (
            "noted",
            one,
            Message::Noted(Noted {
                era: ERA,
                memory: Memory(0xa1),
            }),
        ),
        (
            "join-me",
            one,
            Message::JoinMe(JoinMe {
                era: ERA,
                after: Index(30),
                capacity: Capacity {
                    memory_mib: 2_048,
                    cores: 4,
                    class: 1,
                },
            }),
        ),
        (
            "report",
            one,
            Message::Report(Report {
                era: ERA,
                guest: GuestId(3),
                epoch: Epoch((2 << 32) + 2),
                seen: Observation::Gone {
                    reason: Reason::Crashed,
                },
            }),
        ),
        (
            "forward",
            one,
            Message::Forward(Forward {
                id: id.clone(),
                operation: Operation::Drain {
                    board: BoardId(2),
                    on: true,
                    downtime: Some(50),
                },
            }),
        ),
        (
            "answer",
            operator,
            Message::Answer(Answer {
                id: id.clone(),
                outcome: Outcome::Refused { why: Denied::Busy },
            }),
        ),
        (
            "request",
            one,
            Message::Request(Request::Order {
                id,
                operation: Operation::Restart { guest: GuestId(3) },
            }),
        ),
        ("shown", operator, Message::Shown(page, &[])),
        ("peers", operator, Message::Peers(status(), &echo)),
        (
            "parcel",
            one,
            Message::Parcel(&[6, 3, 0, 9, 0, 0, 0, 0, 0, 0, 0]),
        ),
        (
            "hand-over",
            one,
            Message::HandOver(HandOver {
                era: ERA,
                guest: GuestId(3),
                epoch: Epoch((2 << 32) + 2),
                complete: Some(MoveId(44)),
                reason: Reason::None,
            }),
        ),
    ];
    let auth = ClusterKey::new(&key());
    let incarnation = Incarnation(0xb1);
    let life = auth.life(1, incarnation);
    let sealed =
        |(at, (name, recipient, message)): (usize, (&'static str, Recipient, Message<'_>))| {
            let mut buffer = [0; MAX_FRAME];
            let mut body = Writer::new(&mut buffer[HEADER..]);
            assert_eq!(message.put(&mut body), Ok(()));
            let used = body.used();
            let sequence = at as u64 + 1;
            let kind = message.kind();
            let envelope = Envelope {
                cluster: CLUSTER,
                kind,
                sender: Party::Board(BoardId(1)),
                recipient,
                incarnation,
                sequence,
            };
            let length = frame::seal(&mut buffer, used, &envelope, |covered| {
                auth.tag(&life, covered)
            });
            (name, buffer[..length].to_vec())
        };
    messages.into_iter().enumerate().map(sealed).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn frames_are_the_golden_ones() {
    let made: Vec<String> = frames()
        .iter()
        .map(|(name, frame)| format!("{name} {}", hex(frame)))
        .collect();
    let golden: Vec<&str> = FILE
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .collect();
    assert_eq!(
        made, golden,
        "the wire format changed; a peer of another build would not understand it"
    );
}

/// The first and the sixteenth of the published vectors of SipHash-2-4 with 128 bits: key 00..0f, input 00, 01, 02, ...
#[test]
fn a_tag_is_siphashs() {
    let life = cluster_proto::wire::auth::LifeKey(core::array::from_fn(|at| at as u8));
    let input: [u8; 15] = core::array::from_fn(|at| at as u8);
    let auth = ClusterKey::new(&key());
    assert_eq!(
        hex(&auth.tag(&life, &[])),
        "a3817f04ba25a8e66df67214c7550293"
    );
    assert_eq!(
        hex(&auth.tag(&life, &input)),
        "5493e99933b0a8117e08ec0f97cfc3d9"
    );
}

/// The derivation is HChaCha20; its published vector (draft-irtf-cfrg-xchacha-03, 2.2.1) has a nonce that no sender has, so what is checked here is
/// that the input is laid out as `docs/protocol.md` says.
#[test]
fn a_life_has_its_own_key() {
    let auth = ClusterKey::new(&key());
    let lives = [(1, 5), (2, 5), (1, 6)]
        .map(|(sender, incarnation)| auth.life(sender, Incarnation(incarnation)));
    assert!(lives[0] != lives[1] && lives[0] != lives[2] && lives[1] != lives[2]);
    let mut input = [0u8; 16];
    input[0] = 1;
    input[8] = 5;
    let derived = chacha20::hchacha::<chacha20::R20>(&key().into(), &input.into());
    assert_eq!(lives[0].0, derived[..16]);
}
