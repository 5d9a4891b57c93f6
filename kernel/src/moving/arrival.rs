//! The end of a guest that comes from another board, or from a tool that has it in a file.
//!
//! What comes is taken in, in a place that was made for it. When all of it is here, it waits for the cluster's word: the agent takes it and lets it go on, or closes its lane.

use alloc::boxed::Box;

use cluster_proto::agent::book::Endpoint;
use cluster_proto::bulk::frame::{Body, Key, MAX_FRAME, Name};
use cluster_proto::bulk::{Chunk, Incoming, MAX_RING, Refusal, Verdict};
use el2_hyp::arch::{maintenance, timer};
use el2_hyp::host::Network as _;
use el2_hyp::record::MAX_SECTION;

use super::hold::{self, Step};
use super::lanes::{self, Pause};
use super::receiver::{Receiver, Refused};
use super::{progress, room};
use crate::guests::{self, Slot};
use crate::host::CoreHost;
use crate::{net, warn};

/// Frames that are looked at before the other board is told what has come.
const BATCH: usize = 16;
/// How often it is told while nothing comes, microseconds: that this board is there.
const TELL_EVERY_US: u64 = 200_000;
/// How long a tool that brings a guest may be silent, microseconds. Of a board's silence the ledger judges.
const TOOL_PATIENCE_US: u64 = 3_000_000;

/// A guest that comes.
pub struct Arrival {
    place: usize,
    peer: Endpoint,
    key: Key,
    into: Incoming<Box<[Chunk]>>,
    receiver: Receiver,
    /// The section that is coming, and how much of it has come.
    section: Box<[u8; MAX_SECTION]>,
    have: usize,
    verdict: Verdict,
    /// When the other board was told last, by the counter.
    told: u64,
    /// When the other end was heard last, by the counter.
    heard: u64,
}

impl Arrival {
    /// A guest is to come to the place `slot`.
    pub fn new(slot: &Slot, key: Key, peer: Endpoint) -> Box<Self> {
        let ring = alloc::vec![Chunk::EMPTY; MAX_RING].into_boxed_slice();
        Box::new(Self {
            place: slot.guest.id,
            peer,
            key,
            into: Incoming::new(ring),
            receiver: Receiver::new(&slot.guest),
            section: room(),
            have: 0,
            verdict: Verdict::Going,
            told: 0,
            heard: timer::now(),
        })
    }

    pub fn place(&self) -> usize {
        self.place
    }

    pub fn name(&self) -> Name {
        self.key.name()
    }

    /// Takes what has come, and tells the other board.
    pub fn turn(&mut self, host: &CoreHost) -> Pause {
        // The agent may have taken the guest, or given it up.
        if !lanes::is_open(self.place, self.name()) {
            return Pause::Over;
        }
        if let Some(due) = self.held() {
            return Pause::Until(due);
        }
        let slot = guests::find(self.place).filter(|_| self.verdict == Verdict::Going);
        let due = self.told + net::ticks(TELL_EVERY_US);
        if let Some(slot) = slot
            && self.receiver.prepare(slot)
        {
            self.heard = timer::now();
            if timer::now() >= due {
                self.tell(host);
            }
            return Pause::Busy;
        }
        let mut frame = [0; MAX_FRAME];
        let mut heard = 0;
        while heard < BATCH
            && let Some(length) = lanes::next_frame(self.place, &mut frame)
        {
            heard += 1;
            if let Some(Body::Chunk { number, bytes }) = self.key.read(&frame[..length]) {
                self.heard = timer::now();
                self.take(slot, number, bytes);
            }
        }
        if self.verdict == Verdict::Whole
            && let Some(due) = self.held()
        {
            return Pause::Until(due);
        }
        let silent = timer::now() - self.heard >= net::ticks(TOOL_PATIENCE_US);
        if silent && self.verdict == Verdict::Going && self.name().id.is_of_file() {
            self.refuse(Refusal::CalledOff);
        }
        if heard == 0 && timer::now() < due {
            return Pause::Until(due);
        }
        self.tell(host);
        Pause::Busy
    }

    /// Whether it is to wait before what it does next; until when.
    fn held(&self) -> Option<u64> {
        let step = match self.verdict {
            Verdict::Whole => Step::Whole,
            Verdict::Going if self.told == 0 => Step::Comes,
            _ => return None,
        };
        hold::waits(step, &guests::find(self.place)?.guest.name)
    }

    /// Takes a chunk in.
    fn take(&mut self, slot: Option<&'static Slot>, number: u32, bytes: &[u8]) {
        let Some(slot) = slot.filter(|_| self.verdict == Verdict::Going) else {
            return;
        };
        let (receiver, section, have) = (&mut self.receiver, &mut self.section, &mut self.have);
        let mut is_whole = false;
        let taken: Result<(), Refused> = self.into.take(number, bytes, |bytes| {
            let end = *have + bytes.len();
            let room = section.get_mut(*have..end).ok_or(Refused::Cut)?;
            room.copy_from_slice(bytes);
            *have = end;
            // Chunks do not reach from one section into the next.
            if let Some(is_last) = receiver.take_if_whole(slot, &section[..end])? {
                *have = 0;
                is_whole = is_last;
            }
            Ok(())
        });
        let finished = taken.and_then(|()| {
            if is_whole {
                let parts = self.receiver.finish(slot)?;
                maintenance::invalidate_instructions();
                lanes::put_whole(self.place, self.key.name(), parts);
                progress::is_whole(self.key.name());
                self.verdict = Verdict::Whole;
            }
            Ok(())
        });
        if let Err(why) = finished {
            warn!("guest {} is not taken: {why}", slot.guest.name);
            self.refuse(why.told());
        }
    }

    fn refuse(&mut self, why: Refusal) {
        self.verdict = Verdict::Refused(why);
        lanes::put_refused(self.place, self.key.name());
    }

    /// Tells the other board what has come.
    fn tell(&mut self, host: &CoreHost) {
        self.told = timer::now();
        let Some(network) = net::network() else {
            return;
        };
        let mut frame = [0; MAX_FRAME];
        let seen = self.into.seen(self.verdict);
        let length = self.key.write(&Body::Seen(seen), &mut frame);
        let view = network.view(host);
        network.send_bulk(self.peer, &frame[..length], &view);
        view.finish();
    }
}
