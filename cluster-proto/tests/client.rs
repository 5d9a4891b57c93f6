//! An operator's tool and three boards, with the real cipher: what is asked of any board is answered once.

use cluster_proto::client::{Client, Question, Reply, Unanswered, gather};
use cluster_proto::ids::{BoardId, BoardSet, GuestId, Incarnation, Micros};
use cluster_proto::ledger::Ledger;
use cluster_proto::ledger::page::Cursor;
use cluster_proto::ledger::types::{
    Board, Capacity, Denied, GuestSpec, Happening, Operation, Outcome, RequestId, Seats, Wanted,
};
use cluster_proto::limits::{HEARTBEAT, LEASE};
use cluster_proto::node::{Effect, Node, Setup};
use cluster_proto::wire::auth::ClusterKey;
use cluster_proto::wire::frame::{Party, Recipient};
use cluster_proto::wire::message::{Role, read_echoes};

type TestNode = Node<ClusterKey, 4, 8, 8, 32>;
const KEY: [u8; 32] = [9; 32];
const CLUSTER: u32 = 4;
const BOARDS: usize = 3;

/// Three boards on a perfect network, and the tool; frames take a millisecond.
struct World {
    nodes: Vec<Box<TestNode>>,
    off: [bool; BOARDS],
    client: Client<ClusterKey>,
    now: u64,
    mail: Vec<(Option<usize>, Recipient, Vec<u8>)>,
    /// Every frame that a board sent to the tool.
    answers: Vec<Vec<u8>>,
    outcome: Option<Result<(RequestId, Outcome), Unanswered>>,
    copy: Box<Ledger<4, 8, 8>>,
    next_page: Option<Option<Cursor>>,
    hears: Option<usize>,
}

fn setup(board: usize) -> Setup {
    Setup {
        board: BoardId(board as u8),
        cluster: CLUSTER,
        key: KEY,
        incarnation: Incarnation(board as u64 + 1),
        seed: board as u64 + 50,
        capacity: Capacity {
            memory_mib: 1_024,
            cores: 4,
            class: 1,
        },
        journal: false,
        heartbeat: HEARTBEAT,
        lease: LEASE,
        drift_ppm: 200,
        #[cfg(feature = "mutations")]
        mutation: None,
    }
}

fn first(ledger: &mut Ledger<4, 8, 8>) {
    let mut seats = Seats::NONE;
    for at in 0..BOARDS {
        let capacity = Capacity {
            memory_mib: 0,
            cores: 0,
            class: 0,
        };
        ledger.boards[at] = Some(Board {
            name: Default::default(),
            votes: true,
            witness: false,
            drained: false,
            downtime: None,
            disarmed: false,
            incarnation: Incarnation(0),
            tenure: cluster_proto::ids::Tenure(0),
            fenced_at: cluster_proto::ids::Index(0),
            capacity,
        });
        seats.add(BoardId(at as u8));
    }
    ledger.seats = seats;
}

fn guest(name: &str) -> Operation {
    Operation::CreateGuest {
        spec: GuestSpec {
            name: name.try_into().unwrap_or_default(),
            memory_mib: 128,
            vcpus: 1,
            class: 0,
            priority: 1,
            apart: 0,
            allowed: BoardSet(0),
            wanted: Wanted::Stopped,
            mac: [0; 6],
            kernel: [1; 32],
            initrd: [0; 32],
            command_line: "x".repeat(1_024).as_str().try_into().unwrap_or_default(),
        },
    }
}

impl World {
    fn new() -> Self {
        let nodes = (0..BOARDS).map(|board| {
            let mut node = Box::new(TestNode::new());
            node.boot(&setup(board), Micros(1), first);
            node
        });
        let client = Client::new(ClusterKey::new(&KEY), &KEY, CLUSTER, BoardSet(7), 77);
        let mut world = Self {
            nodes: nodes.collect(),
            off: [false; BOARDS],
            client,
            now: 0,
            mail: Vec::new(),
            answers: Vec::new(),
            outcome: None,
            copy: Box::new(Ledger::new()),
            next_page: None,
            hears: None,
        };
        world.run(2_000);
        assert!(world.leader().is_some(), "they found a cluster");
        world
    }

    fn leader(&self) -> Option<usize> {
        (0..BOARDS).find(|&at| !self.off[at] && self.nodes[at].leads())
    }

    fn run(&mut self, ms: u64) {
        for _ in 0..ms {
            self.now += 1_000;
            let now = Micros(self.now);
            for (from, to, frame) in std::mem::take(&mut self.mail) {
                self.deliver(from, to, &frame);
            }
            for at in (0..BOARDS).filter(|&at| !self.off[at]) {
                if self.nodes[at].deadline() <= now {
                    let mail = &mut self.mail;
                    self.nodes[at].tick(now, &mut post(Some(at), mail));
                }
            }
            let mail = &mut self.mail;
            let ticked = self.client.tick(now, &mut |board, frame| {
                let to = Recipient::One(Party::Board(board));
                mail.push((None, to, frame.to_vec()));
            });
            if ticked.is_err() {
                self.outcome = Some(Err(Unanswered));
            }
        }
    }

    fn deliver(&mut self, from: Option<usize>, to: Recipient, frame: &[u8]) {
        let now = Micros(self.now);
        for at in (0..BOARDS).filter(|&at| Some(at) != from && !self.off[at]) {
            let meant = match to {
                Recipient::All => true,
                Recipient::One(party) => party == Party::Board(BoardId(at as u8)),
            };
            if meant {
                self.nodes[at].receive(now, frame, &mut post(Some(at), &mut self.mail));
            }
        }
        if let Recipient::One(Party::Operator(_)) = to {
            self.answers.push(frame.to_vec());
            self.answer(frame);
        }
    }

    fn answer(&mut self, frame: &[u8]) {
        let mail = &mut self.mail;
        let reply = self
            .client
            .receive(Micros(self.now), frame, &mut |board, frame| {
                let to = Recipient::One(Party::Board(board));
                mail.push((None, to, frame.to_vec()));
            });
        match reply {
            Some(Reply::Outcome(id, outcome)) => self.outcome = Some(Ok((id, outcome))),
            Some(Reply::Page(head, page)) => {
                self.next_page = Some(gather(&mut self.copy, &head, page))
            }
            Some(Reply::Peers(_, echoes)) => {
                self.hears = Some(read_echoes(echoes).filter(|echo| echo.heard).count())
            }
            Some(Reply::Parcel(board, _)) => panic!("board {board} sent a parcel unasked"),
            None => {}
        }
    }

    fn ask(&mut self, question: Question) -> RequestId {
        self.outcome = None;
        let mail = &mut self.mail;
        self.client
            .ask(Micros(self.now), question, &mut |board, frame| {
                let to = Recipient::One(Party::Board(board));
                mail.push((None, to, frame.to_vec()));
            })
    }

    fn order(&mut self, operation: Operation) -> Option<Outcome> {
        let id = self.ask(Question::Order(operation));
        for _ in 0..400 {
            self.run(100);
            match self.outcome.take() {
                Some(Ok((answered, outcome))) => {
                    assert_eq!(answered, id);
                    return Some(outcome);
                }
                Some(Err(Unanswered)) => return None,
                None => {}
            }
        }
        None
    }
}

fn post(
    from: Option<usize>,
    mail: &mut Vec<(Option<usize>, Recipient, Vec<u8>)>,
) -> impl FnMut(Effect<'_>) {
    move |effect| {
        if let Effect::Send { to, frame } = effect {
            mail.push((from, to, frame.to_vec()));
        }
    }
}

#[test]
fn any_board_passes_an_order_to_the_leader_and_answers_it() {
    let mut world = World::new();
    let done = Some(Outcome::Done { number: 0 });
    assert_eq!(
        world.order(guest("web")),
        done,
        "the longest description fits"
    );
    let taken = Some(Outcome::Refused { why: Denied::Taken });
    assert_eq!(world.order(guest("web")), taken);
    for node in &world.nodes {
        assert!(node.ledger().guest(GuestId(0)).is_some());
    }
}

#[test]
fn a_board_that_dies_before_it_answers_is_given_up_and_the_order_is_carried_out_once() {
    let mut world = World::new();
    let asked = world.client.asked().at();
    let id = world.ask(Question::Order(guest("web")));
    world.run(4);
    world.off[asked] = true;
    world.run(3_000);
    assert!(
        matches!(&world.outcome, Some(Ok((answered, Outcome::Done { .. }))) if *answered == id)
    );
    let leader = world.leader();
    assert!(leader.is_some_and(|leader| leader != asked));
    let ledger = world.nodes[leader.unwrap_or(0)].ledger();
    assert_eq!(ledger.guests().count(), 1);
}

#[test]
fn nobody_answers_when_nobody_lives_and_the_tool_says_so() {
    let mut world = World::new();
    world.off = [true; BOARDS];
    assert_eq!(world.order(guest("web")), None);
    assert!(!world.client.is_waiting());
}

#[test]
fn the_ledger_is_shown_whole_and_a_board_says_whom_it_hears() {
    let mut world = World::new();
    for name in ["a", "b", "c", "d"] {
        assert!(matches!(
            world.order(guest(name)),
            Some(Outcome::Done { .. })
        ));
    }
    let mut from = Cursor::START;
    for _ in 0..50 {
        world.ask(Question::Show { from });
        world.run(200);
        match world.next_page.take() {
            Some(Some(next)) => from = next,
            Some(None) => break,
            None => panic!("no page came"),
        }
    }
    let at = world.leader().unwrap_or(0);
    assert_eq!(world.copy.checksum(), world.nodes[at].ledger().checksum());
    let joined = |ledger: &Ledger<4, 8, 8>| {
        let joins = ledger.events.iter();
        joins
            .filter(|event| event.what == Happening::Joined)
            .count()
    };
    assert_eq!(joined(&world.copy), BOARDS);
    world.ask(Question::Peers { board: BoardId(2) });
    world.run(200);
    assert_eq!(world.hears, Some(2));
}

#[test]
fn an_answer_from_a_former_life_is_not_believed() {
    let mut world = World::new();
    assert!(world.order(guest("web")).is_some());
    let asked = world.client.asked();
    // The board reboots; everything that its former life said comes again.
    let mut reborn = setup(asked.at());
    reborn.incarnation = Incarnation(1_000);
    world.nodes[asked.at()].boot(&reborn, Micros(world.now), first);
    world.ask(Question::Order(guest("second")));
    for frame in world.answers.clone() {
        world.answer(&frame);
    }
    assert_eq!(world.outcome, None, "old frames answer nothing");
    world.run(6_000);
    assert!(matches!(
        &world.outcome,
        Some(Ok((_, Outcome::Done { .. })))
    ));
}

#[test]
fn a_reform_is_refused_while_the_cluster_lives() {
    let mut world = World::new();
    let follower = (0..BOARDS).find(|&at| world.nodes[at].role() == Role::Follower);
    let board = BoardId(follower.unwrap_or(0) as u8);
    let lost = BoardSet(0);
    world.ask(Question::Reform { board, lost });
    world.run(500);
    let why = Denied::NotAlone;
    assert!(
        matches!(&world.outcome, Some(Ok((_, Outcome::Refused { why: said }))) if *said == why)
    );
}

/// The byte of a frame's header that is its sender's number.
const SENDER: usize = 8;

fn tool(entropy: u64) -> Client<ClusterKey> {
    Client::new(ClusterKey::new(&KEY), &KEY, CLUSTER, BoardSet(1), entropy)
}

/// Has a tool ask a board whom it hears, on a wire that takes no time; the frames that pass, the tool's first one first.
fn frames(node: &mut TestNode, tool: &mut Client<ClusterKey>, now: Micros) -> Vec<Vec<u8>> {
    let mut passed = Vec::new();
    let mut sent = Vec::new();
    let board = BoardId(0);
    tool.ask(now, Question::Peers { board }, &mut |_, frame| {
        sent.push(frame.to_vec());
    });
    while let Some(frame) = sent.pop() {
        let mut answers = Vec::new();
        node.receive(now, &frame, &mut post(Some(0), &mut answers));
        passed.push(frame);
        for (_, _, answer) in answers {
            tool.receive(now, &answer, &mut |_, frame| sent.push(frame.to_vec()));
            passed.push(answer);
        }
    }
    assert!(!tool.is_waiting(), "it was answered");
    passed
}

#[test]
fn two_tools_of_one_number_do_not_displace_each_other() {
    let mut world = World::new();
    let node = &mut world.nodes[0];
    let mut now = Micros(world.now);
    let mut one = tool(0);
    let number = frames(node, &mut one, now)[0][SENDER];
    let others = (1..10_000).map(tool);
    let mut others = others.filter(|other| {
        let board = BoardId(0);
        let mut found = false;
        let question = Question::Peers { board };
        other.clone().ask(now, question, &mut |_, frame| {
            found = frame[SENDER] == number;
        });
        found
    });
    let mut other = others.next().expect("there are 127 numbers");
    // A board greets no two at once.
    now = now.after(cluster_proto::limits::HELLO_GAP);
    assert!(frames(node, &mut other, now).len() > 2, "they meet");
    for _ in 0..3 {
        // A question, and its answer.
        assert_eq!(frames(node, &mut one, now).len(), 2);
        assert_eq!(frames(node, &mut other, now).len(), 2);
    }
}
