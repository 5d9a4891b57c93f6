//! Whatever can be written can be read back the same, and whatever comes from outside is read or refused, without a panic.

use cluster_proto::ids::*;
use cluster_proto::ledger::Ledger;
use cluster_proto::ledger::page::Cursor;
use cluster_proto::ledger::types::*;
use cluster_proto::limits::MAX_FRAME;
use cluster_proto::wire::auth::{Authenticator, ClusterKey};
use cluster_proto::wire::codec::{Reader, Wire, Writer};
use cluster_proto::wire::frame::{self, Envelope, HEADER, Party, Recipient};
use cluster_proto::wire::message::*;
use proptest::prelude::*;

fn text<const N: usize>() -> impl Strategy<Value = heapless::String<N>> {
    proptest::collection::vec("[a-zäß0-9 ]", 0..N / 2)
        .prop_map(|parts| heapless::String::try_from(parts.concat().as_str()).unwrap_or_default())
}

fn spec() -> impl Strategy<Value = GuestSpec> {
    let numbers = (
        any::<u32>(),
        any::<u16>(),
        any::<u32>(),
        any::<u8>(),
        any::<u8>(),
        any::<u64>(),
        any::<bool>(),
    );
    (text(), numbers, any::<[u8; 6]>(), any::<[u8; 32]>(), text()).prop_map(
        |(name, numbers, mac, kernel, command_line)| {
            let (memory_mib, vcpus, class, priority, apart, allowed, runs) = numbers;
            GuestSpec {
                name,
                memory_mib,
                vcpus,
                class,
                priority,
                apart,
                allowed: BoardSet(allowed),
                wanted: if runs {
                    Wanted::Running
                } else {
                    Wanted::Stopped
                },
                mac,
                kernel,
                initrd: kernel,
                command_line,
            }
        },
    )
}

fn board() -> impl Strategy<Value = BoardId> {
    (0u8..64).prop_map(BoardId)
}

fn seats() -> impl Strategy<Value = Seats> {
    proptest::collection::btree_map(0u8..64, any::<u64>(), 0..7).prop_map(|members| {
        members
            .into_iter()
            .fold(Seats::NONE, |mut seats, (board, memory)| {
                seats.add(BoardId(board));
                seats.with(BoardId(board), Memory(memory))
            })
    })
}

fn capacity() -> impl Strategy<Value = Capacity> {
    (any::<u32>(), any::<u16>(), any::<u32>()).prop_map(|(memory_mib, cores, class)| Capacity {
        memory_mib,
        cores,
        class,
    })
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        spec().prop_map(|spec| Operation::CreateGuest { spec }),
        any::<u16>().prop_map(|guest| Operation::DeleteGuest {
            guest: GuestId(guest)
        }),
        any::<u16>().prop_map(|guest| Operation::Want {
            guest: GuestId(guest),
            wanted: Wanted::Stopped
        }),
        (board(), any::<bool>(), any::<Option<u16>>()).prop_map(|(board, on, downtime)| {
            Operation::Drain {
                board,
                on,
                downtime,
            }
        }),
        any::<bool>().prop_map(|on| Operation::DisarmAll { on }),
        (
            any::<u16>(),
            proptest::option::of(board()),
            any::<Option<u16>>()
        )
            .prop_map(|(guest, to, downtime)| {
                Operation::Migrate {
                    guest: GuestId(guest),
                    to,
                    downtime,
                }
            }),
        any::<u16>().prop_map(|guest| Operation::CancelMove {
            guest: GuestId(guest)
        }),
        (any::<(u16, u64, u32)>(), proptest::option::of(board())).prop_map(|(it, to)| {
            Operation::Restore {
                guest: GuestId(it.0),
                id: MoveId::of_file(it.1),
                class: it.2,
                to,
            }
        }),
        any::<(u16, Option<u16>, Option<u16>)>().prop_map(|(guest, weight, cap)| {
            Operation::Scale {
                guest: GuestId(guest),
                weight,
                cap,
            }
        }),
        (
            text(),
            any::<u16>(),
            board(),
            any::<u32>(),
            any::<[u8; 32]>()
        )
            .prop_map(|(name, guest, board, size_mib, image)| {
                let kind = VolumeKind::Local;
                Operation::CreateVolume {
                    volume: Volume {
                        name,
                        guest: GuestId(guest),
                        kind,
                        board,
                        size_mib,
                        image,
                    },
                }
            }),
        (any::<[u8; 32]>(), any::<u64>(), any::<u64>()).prop_map(|(digest, size, held)| {
            Operation::HoldImage {
                image: Image {
                    digest,
                    size,
                    held: BoardSet(held),
                },
            }
        }),
    ]
}

fn decree() -> impl Strategy<Value = Decree> {
    let id = (any::<u64>(), any::<u64>())
        .prop_map(|(operator, request)| RequestId { operator, request });
    prop_oneof![
        Just(Decree::Begin {}),
        (seats(), any::<u64>(), board()).prop_map(|(seats, previous, board)| Decree::Configure {
            seats,
            previous: Index(previous),
            board
        }),
        (board(), any::<u64>(), any::<u64>(), capacity()).prop_map(
            |(board, incarnation, after, capacity)| {
                Decree::Join {
                    board,
                    incarnation: Incarnation(incarnation),
                    after: Index(after),
                    capacity,
                }
            }
        ),
        (board(), any::<u64>()).prop_map(|(board, tenure)| Decree::Fence {
            board,
            tenure: Tenure(tenure),
            reason: Reason::Silent
        }),
        (any::<u16>(), any::<u64>(), board(), any::<u64>()).prop_map(
            |(guest, epoch, board, tenure)| Decree::Place {
                guest: GuestId(guest),
                epoch: Epoch(epoch),
                board,
                tenure: Tenure(tenure),
                reason: Reason::Placed,
            }
        ),
        (any::<u16>(), any::<u64>()).prop_map(|(guest, epoch)| Decree::Observe {
            guest: GuestId(guest),
            epoch: Epoch(epoch),
            seen: Observation::Gone {
                reason: Reason::Hung
            },
        }),
        (any::<u16>(), any::<u64>(), any::<u64>()).prop_map(|(guest, epoch, id)| {
            Decree::Observe {
                guest: GuestId(guest),
                epoch: Epoch(epoch),
                seen: Observation::Stays {
                    id: MoveId(id),
                    reason: Reason::NotConverged,
                },
            }
        }),
        (any::<u16>(), any::<u64>(), board(), any::<u64>()).prop_map(
            |(guest, epoch, to, tenure)| Decree::Send {
                guest: GuestId(guest),
                epoch: Epoch(epoch),
                to,
                tenure: Tenure(tenure),
                reason: Reason::Drained,
            }
        ),
        (
            any::<u16>(),
            any::<u64>(),
            proptest::option::of(any::<u64>())
        )
            .prop_map(|(guest, epoch, complete)| Decree::Hand {
                guest: GuestId(guest),
                epoch: Epoch(epoch),
                complete: complete.map(MoveId),
                reason: Reason::CannotMove,
            }),
        (id, operation()).prop_map(|(id, operation)| Decree::Operate { id, operation }),
    ]
}

fn status() -> impl Strategy<Value = Status> {
    let names = (
        any::<u32>(),
        any::<u64>(),
        any::<u64>(),
        any::<u64>(),
        proptest::option::of(board()),
    );
    (names, any::<[u64; 7]>(), any::<u16>()).prop_map(
        |((generation, nonce, memory, term, leader), n, leaseless_ms)| Status {
            speaks: leaseless_ms as u8,
            era: Era { generation, nonce },
            memory: Memory(memory),
            term: Term(term),
            role: Role::Candidate,
            leader,
            commit: Index(n[0]),
            last: Index(n[1]),
            last_term: Term(n[0]),
            votes: leaseless_ms > 9,
            reforming: leaseless_ms > 99,
            tenure: Tenure(n[2]),
            stamp: Micros(n[3]),
            leaseless_ms,
            config_at: Index(n[4]),
            unwanted: BoardSet(n[5]),
            manifest: n[6],
        },
    )
}

fn same<T: Wire + PartialEq + std::fmt::Debug>(value: &T) -> Result<(), TestCaseError> {
    let mut buffer = [0; 2_048];
    let mut to = Writer::new(&mut buffer);
    prop_assert_eq!(value.put(&mut to), Ok(()));
    let mut from = Reader::new(to.bytes());
    let read = T::get(&mut from);
    prop_assert_eq!(read.as_ref(), Ok(value));
    prop_assert_eq!(from.end(), Ok(()));
    // Nothing shorter is the same value, nor a panic.
    for length in 0..to.bytes().len() {
        prop_assert!(T::get(&mut Reader::new(&to.bytes()[..length])).is_err());
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_decree_is_read_as_it_was_written(decree in decree()) {
        same(&decree)?;
        let mut buffer = [0; cluster_proto::limits::MAX_DECREE];
        prop_assert!(decree.put(&mut Writer::new(&mut buffer)).is_ok(), "a decree outgrew its limit");
    }

    #[test]
    fn a_status_is_read_as_it_was_written(status in status()) {
        same(&status)?;
    }

    #[test]
    fn a_message_survives_its_frame(status in status(), sequence in 1u64.., incarnation in 1u64.., key in any::<[u8; 32]>(), flip in any::<usize>()) {
        let auth = ClusterKey::new(&key);
        let message = Message::Heartbeat(status, &[]);
        let mut buffer = [0; MAX_FRAME];
        let mut body = Writer::new(&mut buffer[HEADER..]);
        prop_assert_eq!(message.put(&mut body), Ok(()));
        let used = body.used();
        let envelope = Envelope {
            cluster: 9,
            kind: message.kind(),
            sender: Party::Board(BoardId(3)),
            recipient: Recipient::All,
            incarnation: Incarnation(incarnation),
            sequence,
        };
        let life = auth.life(3, envelope.incarnation);
        let length = frame::seal(&mut buffer, used, &envelope, |covered| auth.tag(&life, covered));
        let view = frame::view(&buffer[..length], 9).map_err(|refusal| TestCaseError::fail(format!("{refusal:?}")))?;
        prop_assert!(auth.check(&life, view.covered, view.tag));
        prop_assert_eq!(Message::get(view.kind, view.body), Ok(message));
        prop_assert!(frame::view(&buffer[..length], 8).is_err(), "another cluster's");

        buffer[flip % length] ^= 1 << (flip % 8);
        if let Ok(view) = frame::view(&buffer[..length], 9) {
            let life = auth.life(view.sender.number(), view.incarnation);
            prop_assert!(!auth.check(&life, view.covered, view.tag), "a flipped bit was not noticed");
        }
    }

    #[test]
    fn any_bytes_are_a_message_or_none(kind in any::<u8>(), body in proptest::collection::vec(any::<u8>(), 0..400)) {
        if let Ok(message) = Message::get(kind, &body) {
            let mut buffer = [0; 2_048];
            let mut to = Writer::new(&mut buffer);
            prop_assert_eq!(message.put(&mut to), Ok(()));
            prop_assert_eq!(to.bytes(), &body[..], "one value has one encoding");
        }
    }

    #[test]
    fn a_ledger_survives_its_pages(decrees in proptest::collection::vec(decree(), 0..40), page in cluster_proto::limits::MAX_DECREE..1_300) {
        let mut ledger = Ledger::<16, 8, 8>::new();
        let mut index = Index(0);
        for decree in decrees {
            index = index.next();
            ledger.apply(index, &Entry { term: Term(1), decree });
        }
        let mut copy = Ledger::<16, 8, 8>::new();
        let mut at = Cursor::START;
        while at != Cursor::END {
            let mut buffer = [0; 1_300];
            let mut to = Writer::new(&mut buffer[..page]);
            let next = ledger.write_page(at, &mut to);
            prop_assert!(next > at, "a page takes at least one item");
            prop_assert_eq!(copy.read_page(to.bytes()), Ok(()));
            at = next;
        }
        prop_assert_eq!(ledger.checksum(), copy.checksum());
        // The rings may begin elsewhere; what they hold is the same.
        prop_assert!(ledger.events.iter().eq(copy.events.iter()));
        prop_assert_eq!(&ledger.guests, &copy.guests);
    }

    #[test]
    fn any_bytes_are_a_page_or_none(page in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut ledger = Ledger::<16, 8, 8>::new();
        let _ = ledger.read_page(&page);
    }
}
