//! `frames`: what the network costs EL2, counted without a hypervisor: from a guest's ring to the buffer of the board's card, from there to a ring, and
//! from guest to guest.
//!
//! The board's own code runs here as plain code, over memory that stands for guests'; under `-icount shift=0` a nanosecond is an instruction. What the
//! drivers do is not counted, nor is the board's card. Output: `BENCH key value`, instructions for one frame, and `PASS frames`.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::vec;
use alloc::vec::Vec;
use core::alloc::{GlobalAlloc, Layout};
use core::cell::RefCell;
use core::hint::black_box;
use core::num::NonZeroU64;
use core::sync::atomic::{AtomicUsize, Ordering};

use el2_hyp::addr::Ipa;
use el2_hyp::device::virtio::net::{
    Control, Delivered, Progress, RECEIVE, Receive, Sent, TRANSMIT, Transmit,
};
use el2_hyp::device::virtio::signals::Signals;
use el2_hyp::device::virtio::testing::{Buffer, Driver, Ram, Register, bring_up};
use el2_hyp::frame::{Frame, MAX_WIRE, Mac, VirtioNetHeader};
use el2_hyp::gate::{Authority, Permit, Ticks};
use el2_hyp::switch::{
    Delivery, Forwarded, Loss, OwnFrame, PortId, Ports, Rules, Switch, Uplink, Wire,
};
use el2_hyp::vgic::Width;
use guest::{Machine, println, report, timer};

/// Frames in a batch, and batches.
const BATCH: u64 = 32;
const ROUNDS: u64 = 64;
/// Slots of the board's card, and where in one a frame begins.
const SLOTS: usize = 128;
const FRAME_AT: usize = 16;
/// What the heap gives to two guests of two blocks with a guard at each end, and their drivers.
const HEAP_BYTES: usize = 32 << 20;
/// In a guest's memory: indirect tables, received frames, frames to be sent.
const TABLES: u64 = 0x8_0000;
const RECEIVED: u64 = 0x10_0000;
const SENT: u64 = 0x20_0000;

const SENDER: Mac = Mac([2, 0, 0, 0, 0, 1]);
const NEIGHBOUR: Mac = Mac([2, 0, 0, 0, 0, 2]);
const BOARD: Mac = Mac([2, 0, 0, 0, 0, 3]);
const OUTSIDE: Mac = Mac([2, 0, 0, 0, 0, 9]);

/// Memory that is handed out and never taken back.
struct Bump;
static NEXT: AtomicUsize = AtomicUsize::new(0);
static END: AtomicUsize = AtomicUsize::new(0);

// SAFETY: no two allocations overlap, as only what was not taken yet is given, and each is aligned.
unsafe impl GlobalAlloc for Bump {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let at = NEXT
            .load(Ordering::Relaxed)
            .next_multiple_of(layout.align());
        if at + layout.size() > END.load(Ordering::Relaxed) {
            return core::ptr::null_mut();
        }
        NEXT.store(at + layout.size(), Ordering::Relaxed);
        core::ptr::with_exposed_provenance_mut(at)
    }
    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

#[global_allocator]
static ALLOCATOR: Bump = Bump;

/// The board's vectors are linked in with its code; nothing here uses them.
#[unsafe(no_mangle)]
extern "C" fn hearth_fault() -> ! {
    guest::psci::system_off()
}

guest::entry!(main);

fn main(machine: &'static Machine) {
    let Some(range) = machine.spare(HEAP_BYTES) else {
        return report::fail("frames", format_args!("no room for guests' memory"));
    };
    NEXT.store(range.start, Ordering::Relaxed);
    END.store(range.end, Ordering::Relaxed);
    let hertz = NonZeroU64::new(timer::frequency()).expect("a counter");
    let rules = Rules {
        cluster_udp: Some(5405..=5405),
    };
    let switch = Switch::new(BOARD, hertz, rules);
    let ports = [SENDER, NEIGHBOUR].map(|mac| switch.attach(mac).expect("a port"));
    let mut scene = Scene {
        switch,
        port: ports[0],
        sender: Guest::new(SENDER),
        neighbour: Guest::new(NEIGHBOUR),
        uplink: RefCell::new(Uplink::new(Card {
            slots: vec![[0; 2048]; SLOTS],
            used: 0,
        })),
        authority: Authority::new(),
    };
    // The outside station is heard, so that what goes there is no flood.
    scene.receive(&packet(BOARD, OUTSIDE, 1, None).1, 1);
    for (name, to, kind) in [("tx", OUTSIDE, Some(0)), ("local", NEIGHBOUR, Some(0))] {
        scene.send(name, "plain", &packet(to, SENDER, 1460, None).0, &[]);
        scene.send(name, "checksum", &packet(to, SENDER, 1460, kind).0, &[]);
        scene.send(
            name,
            "checksum_indirect_3",
            &packet(to, SENDER, 1460, kind).0,
            &[12, 66],
        );
    }
    let large = packet(OUTSIDE, SENDER, 44 * 1460, Some(1460)).0;
    let cuts: Vec<usize> = [12, 66]
        .into_iter()
        .chain((1..16).map(|n| 66 + n * 4096))
        .collect();
    scene.send("tx", "uncut_44", &large, &cuts);
    let ticks = scene.receive(&packet(SENDER, OUTSIDE, 1460, None).1, ROUNDS);
    tell("rx", "plain", ticks, ROUNDS * BATCH);
    report::conclude("frames");
}

/// Instructions for one of `count` things that took `ticks`.
fn tell(path: &str, kind: &str, ticks: u64, count: u64) {
    let instructions = ticks * 1_000_000_000 / timer::frequency() / count;
    println!("BENCH {path}_{kind} {instructions}");
}

/// A TCP packet, with a guest's header and without. The device is to fill in its checksum if `cut` is given, and to cut it if that is not zero.
fn packet(to: Mac, from: Mac, payload: usize, cut: Option<u16>) -> (Vec<u8>, Vec<u8>) {
    let mut frame = [&to.0[..], &from.0, &[8, 0, 0x45, 0]].concat();
    frame.extend(((40 + payload) as u16).to_be_bytes());
    frame.extend([0, 1, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    frame.extend([
        0, 80, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 0x18, 1, 0, 0, 0, 0, 0,
    ]);
    frame.extend((0..payload).map(|n| (n * 13) as u8));
    let header = VirtioNetHeader {
        flags: cut.is_some().into(),
        gso_type: cut.is_some_and(|size| size > 0).into(),
        hdr_len: 54,
        gso_size: cut.unwrap_or(0),
        csum_start: 34,
        csum_offset: 16,
        num_buffers: 0,
    };
    ([&header.to_bytes()[..], &frame].concat(), frame)
}

/// The board's card: memory to write frames to, which is empty again whenever one looks.
struct Card {
    slots: Vec<[u8; 2048]>,
    used: usize,
}

impl Wire for Card {
    fn slots(&self) -> usize {
        SLOTS
    }
    fn room(&mut self) -> Option<usize> {
        self.used = 0;
        Some(SLOTS)
    }
    #[inline]
    fn put(&mut self, write: impl FnOnce(&mut [u8]) -> usize) -> bool {
        let Some(slot) = self.slots.get_mut(self.used) else {
            return false;
        };
        self.used += 1;
        black_box(write(&mut slot[FRAME_AT..FRAME_AT + MAX_WIRE]));
        true
    }
    fn kick(&mut self) {}
    fn listen(&mut self, _: usize) -> bool {
        true
    }
}

/// A guest: its card, and its driver's side.
struct Guest {
    ram: Ram,
    transmit: Transmit,
    receive: RefCell<Receive>,
    drivers: Vec<Driver>,
}

impl Guest {
    fn new(mac: Mac) -> Self {
        let ram = Ram::new(2);
        let rings = |n: u64| Driver::new(Ipa(ram.base().0 + n * 0x1_0000), 256, u64::MAX);
        let drivers: Vec<Driver> = (0..3).map(rings).collect();
        let layouts: Vec<_> = drivers.iter().map(Driver::layout).collect();
        let (signals, mut control) = (Signals::new(), Control::new(mac));
        let (mut transmit, mut receive) = (Transmit::new(), Receive::new());
        bring_up(u64::MAX, &layouts, |access| match access {
            Register::Read(offset) => control.read(offset, Width::Word, &signals),
            Register::Write(offset, value) => {
                let written = control.write(&ram, offset, Width::Word, value.into(), &signals);
                control.carry_out(written, &mut transmit, &mut receive, &signals);
                0
            }
        });
        Self {
            ram,
            transmit,
            receive: RefCell::new(receive),
            drivers,
        }
    }

    /// Takes what was received, and has buffers for a batch.
    fn give(&mut self) {
        let driver = &mut self.drivers[usize::from(RECEIVE)];
        while driver.take(&self.ram).is_some() {}
        for n in 0..BATCH.min(driver.free() as u64) {
            let at = Ipa(self.ram.base().0 + RECEIVED + 2048 * n + 10);
            driver
                .add(&self.ram, &[], &[(at, 1536)])
                .expect("a descriptor");
        }
    }

    /// Makes a batch available, each frame in pieces that end at `cuts`, by way of a table if there are several.
    fn queue(&mut self, bytes: &[u8], cuts: &[usize]) {
        let driver = &mut self.drivers[usize::from(TRANSMIT)];
        while driver.take(&self.ram).is_some() {}
        let base = self.ram.base().0;
        self.ram.write(Ipa(base + SENT), bytes).expect("RAM");
        let mut from = 0;
        let mut pieces: Vec<Buffer> = Vec::new();
        for &cut in cuts.iter().chain([&bytes.len()]) {
            pieces.push((Ipa(base + SENT + from as u64), (cut - from) as u32));
            from = cut;
        }
        for n in 0..BATCH {
            let table = Ipa(base + TABLES + 512 * n);
            let added = match pieces.len() {
                1 => driver.add(&self.ram, &pieces, &[]),
                _ => driver.add_indirect(&self.ram, table, &pieces, &[]),
            };
            added.expect("a descriptor");
        }
    }
}

struct Ends<'a> {
    uplink: &'a RefCell<Uplink<Card>>,
    guest: &'a Guest,
    permit: Permit,
}

impl Ports for Ends<'_> {
    #[inline]
    fn guest(&self, _: PortId, frame: &Frame) -> Delivery {
        match self
            .guest
            .receive
            .borrow_mut()
            .deliver(&self.guest.ram, frame)
        {
            Ok(Delivered::Whole) => Delivery::Done,
            _ => Delivery::Lost(Loss::NoBuffers),
        }
    }
    #[inline]
    fn uplink(&self, from: PortId, frame: &Frame) -> Delivery {
        let now = Ticks(timer::now());
        self.uplink
            .borrow_mut()
            .send(&self.permit, now, from, frame)
            .into()
    }
    fn uplink_own(&self, _: &OwnFrame) -> Delivery {
        Delivery::Lost(Loss::Down)
    }
    fn board(&self, _: &Frame) -> Delivery {
        Delivery::Done
    }
}

struct Scene {
    switch: Switch,
    port: PortId,
    sender: Guest,
    neighbour: Guest,
    uplink: RefCell<Uplink<Card>>,
    authority: Authority,
}

impl Scene {
    /// Has the sender send, and counts.
    fn send(&mut self, path: &str, kind: &str, bytes: &[u8], cuts: &[usize]) {
        let mut ticks = 0;
        let lost = |switch: &Switch| {
            let ports = [self.port, PortId::UPLINK, PortId::card(1).expect("a port")];
            ports.map(|port| switch.counters(port).snapshot().lost)
        };
        let before = lost(&self.switch);
        for _ in 0..ROUNDS {
            self.sender.queue(bytes, cuts);
            self.neighbour.give();
            let ends = Ends {
                uplink: &self.uplink,
                guest: &self.neighbour,
                permit: self.authority.always(),
            };
            let (switch, port) = (&self.switch, self.port);
            let Guest { transmit, ram, .. } = &mut self.sender;
            let start = timer::now();
            let progress = transmit.serve(ram, 2 * BATCH as usize, |frame| {
                let forwarded = match frame {
                    Ok(frame) => switch.forward(port, frame, Ticks(timer::now()), &ends),
                    Err(malformed) => switch.refuse(port, malformed),
                };
                match forwarded {
                    Forwarded::Done => Sent::Done,
                    Forwarded::Wait => Sent::Wait,
                }
            });
            self.uplink.borrow_mut().flush();
            let asked = transmit.should_interrupt(ram);
            let neighbour = &self.neighbour;
            let told = neighbour
                .receive
                .borrow_mut()
                .should_interrupt(&neighbour.ram);
            ticks += timer::now() - start;
            if progress != Ok(Progress::Idle) || asked.is_err() || told.is_err() {
                report::fail("frames", format_args!("{path} {kind}: {progress:?}"));
            }
        }
        if lost(&self.switch) != before {
            report::fail("frames", format_args!("{path} {kind}: frames were lost"));
        }
        tell(path, kind, ticks, ROUNDS * BATCH);
    }

    /// Has batches of a frame come from the wire; the ticks.
    fn receive(&mut self, bytes: &[u8], rounds: u64) -> u64 {
        let mut ticks = 0;
        for _ in 0..rounds {
            self.sender.give();
            let ends = Ends {
                uplink: &self.uplink,
                guest: &self.sender,
                permit: self.authority.always(),
            };
            let start = timer::now();
            for _ in 0..BATCH {
                if let Ok(frame) = Frame::finished(black_box(bytes)) {
                    let now = Ticks(timer::now());
                    self.switch.forward(PortId::UPLINK, &frame, now, &ends);
                }
            }
            let sender = &self.sender;
            let told = sender.receive.borrow_mut().should_interrupt(&sender.ram);
            ticks += timer::now() - start;
            if told.is_err() {
                report::fail("frames", format_args!("rx"));
            }
        }
        ticks
    }
}
