//! Bytes as each value of the protocol: what is read is written back the same.
#![no_main]

use std::cell::RefCell;

use cluster_proto::ledger::Ledger;
use cluster_proto::ledger::types::{Entry, Seats};
use cluster_proto::wire::codec::{Reader, Wire, Writer};
use cluster_proto::wire::message::{Message, read_echoes, read_entries};
use libfuzzer_sys::fuzz_target;

thread_local! {
    static LEDGER: RefCell<Ledger<4, 4, 4>> = const { RefCell::new(Ledger::new()) };
}

fn same<T: Wire>(data: &[u8]) {
    let mut from = Reader::new(data);
    if let Ok(value) = T::get(&mut from) {
        let mut buffer = [0; 2_048];
        let mut to = Writer::new(&mut buffer);
        assert!(value.put(&mut to).is_ok());
        assert_eq!(to.bytes(), &data[..data.len() - from.left()], "one value has one encoding");
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((kind, body)) = data.split_first() else { return };
    if let Ok(message) = Message::get(*kind % 18, body) {
        let mut buffer = [0; 4_096];
        let mut to = Writer::new(&mut buffer);
        if message.put(&mut to).is_ok() {
            assert_eq!(to.bytes(), body, "one message has one encoding");
        }
    }
    same::<Entry>(body);
    same::<Seats>(body);
    read_echoes(body).for_each(drop);
    read_entries(body).for_each(drop);
    LEDGER.with_borrow_mut(|ledger| {
        ledger.clear();
        let _ = ledger.read_page(body);
    });
});
