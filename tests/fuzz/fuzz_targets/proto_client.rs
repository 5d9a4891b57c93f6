//! Bytes from the network into an operator's tool, as they are and with a right tag from a board that it knows; and whatever is a page, into a ledger.
#![no_main]

use cluster_proto::client::{Client, Question, Reply, gather};
use cluster_proto::ids::{BoardId, BoardSet, Incarnation, Micros};
use cluster_proto::ledger::Ledger;
use cluster_proto::ledger::page::Cursor;
use cluster_proto::wire::auth::{Authenticator, ClusterKey};
use cluster_proto::wire::codec::{Reader, Wire, Writer};
use cluster_proto::wire::frame::{self, Envelope, HEADER, Party, Recipient};
use cluster_proto::wire::message::{Hello, KIND_HELLO, Message};
use libfuzzer_sys::fuzz_target;

const CLUSTER: u32 = 7;
const KEY: [u8; 32] = [3; 32];
const PEER: Incarnation = Incarnation(99);

fn sealed(auth: &ClusterKey, to: Party, kind: u8, body: &[u8], sequence: u64) -> Vec<u8> {
    let mut buffer = [0; cluster_proto::limits::MAX_FRAME];
    let length = body.len().min(frame::MAX_BODY);
    buffer[HEADER..HEADER + length].copy_from_slice(&body[..length]);
    let sender = Party::Board(BoardId(1));
    let recipient = Recipient::One(to);
    let envelope = Envelope { cluster: CLUSTER, kind, sender, recipient, incarnation: PEER, sequence };
    let life = auth.life(1, PEER);
    let whole = frame::seal(&mut buffer, length, &envelope, |covered| auth.tag(&life, covered));
    buffer[..whole].to_vec()
}

fuzz_target!(|data: &[u8]| {
    let auth = ClusterKey::new(&KEY);
    let mut client = Client::new(auth.clone(), &KEY, CLUSTER, BoardSet(2), 5);
    let mut challenge = (Party::Operator(128), 0);
    client.ask(Micros(1), Question::Show { from: Cursor::START }, &mut |_, frame| {
        if let Ok(view) = frame::view(frame, CLUSTER)
            && let Ok(hello) = Hello::get(&mut Reader::new(view.body))
        {
            challenge = (view.sender, hello.challenge);
        }
    });
    client.receive(Micros(2), data, &mut |_, _| {});
    let (own, challenge) = challenge;
    let mut body = [0; 16];
    assert!(Message::Hello(Hello { challenge: 0, answer: challenge }).put(&mut Writer::new(&mut body)).is_ok());
    client.receive(Micros(3), &sealed(&auth, own, KIND_HELLO, &body, 1), &mut |_, _| {});
    let mut ledger = Ledger::<4, 4, 4>::new();
    let (mut rest, mut sequence) = (data, 2);
    while let [kind, length, tail @ ..] = rest {
        let length = usize::from(*length).min(tail.len());
        let frame = sealed(&auth, own, *kind % 18, &tail[..length], sequence);
        let reply = client.receive(Micros(sequence), &frame, &mut |_, _| {});
        if let Some(Reply::Page(head, page)) = reply {
            let from = gather(&mut ledger, &head, page).unwrap_or(Cursor::START);
            client.ask(Micros(sequence), Question::Show { from }, &mut |_, _| {});
        }
        rest = &tail[length..];
        sequence += 1;
    }
});
