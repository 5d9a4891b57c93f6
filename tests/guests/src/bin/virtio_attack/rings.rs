//! Queues full of lies.
//!
//! Most acts begin with something sound and break a little of it, since a device looks no further than the first thing that is wrong.
//! Whatever a device may write to lies in the arena, or is no memory at all.

use guest::mmio;
use guest::rng::Rng;

use super::World;
use super::device::{
    BLOCK, CONSOLE, Device, INDIRECT, NETWORK, NEXT, VERSION_1, WRITE, put_descriptor, put8, put16,
    put32, put64, register,
};

/// Bytes of the arena's thirds: tables and rings, requests, and tables in tables.
const PART: u64 = 64 << 10;
/// Chains that an act makes, at most.
const MOST_CHAINS: u64 = 12;
/// Pieces of a chain, at most: more than a device takes.
const MOST_PIECES: u64 = 80;

/// One queue, or two, of a device, set up and filled, and the device told so; now and then a reset in the middle.
pub fn act(device: &Device, rng: &mut Rng, world: &World) {
    if rng.one_in(2) {
        device.write(register::STATUS, 0);
    }
    let features = features(device, rng);
    device.accept(features);
    let queues = if matches!(device.kind, NETWORK | CONSOLE) {
        2
    } else {
        1
    };
    for queue in 0..queues {
        let parts = Parts::draw(rng, world, queue);
        device.set_queue(queue as u32, parts.entries, parts.addresses(rng, world));
        if rng.one_in(2) {
            // Before it runs, or below while it does.
            parts.fill(device, rng, world, queue);
        }
        if !rng.one_in(8) {
            device.start();
        }
        for _ in 0..=rng.below(3) {
            parts.fill(device, rng, world, queue);
            device.notify(queue as u32);
            if rng.one_in(4) {
                // What the device may be looking at changes.
                scribble(rng, world);
            }
            if rng.one_in(6) {
                device.write(register::STATUS, 0);
            }
            if rng.one_in(6) {
                device.write(
                    register::INTERRUPT_ACK,
                    device.read(register::INTERRUPT_STATUS),
                );
            }
        }
    }
    mmio::barrier();
}

fn features(device: &Device, rng: &mut Rng) -> u64 {
    let offered = device.features();
    match rng.below(8) {
        0 => rng.draw(),
        1 => offered & rng.draw(),
        2 => VERSION_1,
        _ => offered & rng.draw() | VERSION_1 | offered & 3 << 28,
    }
}

/// Where a queue's parts are.
struct Parts {
    entries: u32,
    table: u64,
    driver: u64,
    device: u64,
}

impl Parts {
    fn draw(rng: &mut Rng, world: &World, queue: u64) -> Self {
        let start = world.arena.start as u64 + queue * PART / 2;
        Self {
            entries: match rng.below(8) {
                0 => rng.draw() as u32,
                1 => rng.below(300) as u32,
                _ => 1 << rng.below(9),
            },
            table: start,
            driver: start + 0x2000,
            device: start + 0x3000,
        }
    }

    /// What the device is told, which is not always where they are.
    fn addresses(&self, rng: &mut Rng, world: &World) -> [u64; 3] {
        let mut addresses = [self.table, self.driver, self.device];
        match rng.below(10) {
            0 => addresses[rng.below(3) as usize] = wild(rng, world),
            // All at one place.
            1 => addresses = [addresses[rng.below(3) as usize]; 3],
            2 => addresses[rng.below(3) as usize] |= 1 << rng.below(4),
            _ => {}
        }
        addresses
    }

    fn count(&self) -> u64 {
        u64::from(self.entries).clamp(1, 256)
    }

    /// Makes chains, and makes them available.
    fn fill(&self, device: &Device, rng: &mut Rng, world: &World, queue: u64) {
        let chains = rng.below(MOST_CHAINS);
        for chain in 0..=chains {
            let head = rng.below(self.count());
            self.chain(device, rng, world, head, queue);
            let named = if rng.one_in(12) {
                rng.draw() as u16
            } else {
                head as u16
            };
            put16(self.driver + 4 + 2 * (chain % self.count()), named);
        }
        put16(self.driver, rng.below(3) as u16);
        // The event index.
        put16(self.driver + 4 + 2 * self.count(), rng.draw() as u16);
        let index = match rng.below(8) {
            0 => rng.draw() as u16,
            1 => (self.count() + rng.below(3)) as u16,
            _ => (chains + 1) as u16,
        };
        mmio::barrier();
        put16(self.driver + 2, index);
    }

    /// A request from `head` on, with a few mistakes.
    fn chain(&self, device: &Device, rng: &mut Rng, world: &World, head: u64, queue: u64) {
        let requests = world.arena.start as u64 + PART + rng.below(PART - 0x3000);
        let pieces = match rng.below(6) {
            0 => 1 + rng.below(MOST_PIECES),
            _ => 1 + rng.below(4),
        };
        write_request(device, rng, requests);
        let (table, first, count) = if rng.one_in(3) {
            let inner = world.arena.start as u64 + 2 * PART + (rng.below(PART - 0x2000) & !0xf);
            put_descriptor(self.table, head, inner, 16 * pieces as u32, INDIRECT, 0);
            (inner, 0, 256)
        } else {
            (self.table, head, self.count())
        };
        for piece in 0..pieces {
            let index = (first + piece) % count;
            let next = ((first + piece + 1) % count) as u16;
            let last = piece + 1 == pieces;
            let (bytes, writes) = match (device.kind, piece) {
                (BLOCK, 0) => (16, false),
                (BLOCK, _) if last => (1, true),
                (BLOCK, _) => (512 * (1 + rng.below(9)) as u32, rng.one_in(2)),
                (NETWORK | CONSOLE, _) => (rng.below(1600) as u32, queue == 0),
                _ => (rng.below(100) as u32, true),
            };
            let flags = if last { 0 } else { NEXT } | if writes { WRITE } else { 0 };
            put_descriptor(table, index, requests + 64 * piece, bytes, flags, next);
        }
        for _ in 0..rng.below(3) {
            let index = (first + rng.below(pieces)) % count;
            mistake(rng, world, table, index);
        }
    }
}

/// One thing of a descriptor is wrong.
fn mistake(rng: &mut Rng, world: &World, table: u64, index: u64) {
    let at = table + 16 * index;
    match rng.below(7) {
        0 => put64(at, wild(rng, world)),
        1 => put32(
            at + 8,
            rng.pick(&[0, 1, 15, 17, 0x7fff_ffff, u32::MAX, 1 << 15]),
        ),
        2 => put16(at + 12, rng.below(8) as u16),
        3 => put16(at + 12, rng.draw() as u16),
        // To itself, or anywhere.
        4 => put16(at + 14, index as u16),
        5 => put16(at + 14, rng.draw() as u16),
        _ => put16(at + 12, NEXT | INDIRECT | WRITE),
    }
}

/// An address at which there is nothing of this guest's, or not enough.
fn wild(rng: &mut Rng, world: &World) -> u64 {
    let end = world.memory.end as u64;
    let edge = super::Range {
        start: world.memory.end - 16,
        end: world.memory.end,
    };
    match rng.below(7) {
        0 => 0,
        1 => 0x0a00_0000 + rng.below(0x4000),
        2 => world.memory.start as u64 - 1 - rng.below(64),
        // The last bytes of memory, of which nothing is used, unless that is the device tree.
        3 if !edge.overlaps(&world.tree) => end - 1 - rng.below(15),
        4 => u64::MAX - rng.below(4096),
        5 => end + (rng.below(1 << 30) << 4),
        _ => 1 << (31 + rng.below(33)),
    }
}

/// Bytes that begin a request, mostly of a kind that the device knows.
fn write_request(device: &Device, rng: &mut Rng, at: u64) {
    match device.kind {
        BLOCK => {
            put32(at, rng.pick(&[0, 0, 1, 1, 4, 8, 11, 13, 5, u32::MAX]));
            let sector = match rng.below(4) {
                0 => rng.draw(),
                1 => u64::MAX - rng.below(16),
                _ => rng.below(1 << 16),
            };
            put32(at + 8, sector as u32);
            put32(at + 12, (sector >> 32) as u32);
        }
        NETWORK => {
            for n in 0..64 {
                let header = n < 12;
                let byte = match rng.below(4) {
                    0 => rng.draw() as u8,
                    // Offloads that mean something.
                    _ if header => rng.pick(&[0, 0, 0, 1, 2, 3, 4, 5, 0x80]),
                    _ => rng.pick(&[0, 8, 0x45, 6, 17, 0xff]),
                };
                put8(at + n, byte);
            }
            if rng.one_in(2) {
                // From its own address, or the switch looks no further.
                for n in 0..6 {
                    put8(
                        at + 12 + 6 + n,
                        device
                            .read(register::CONFIG + (n as usize & 4))
                            .to_le_bytes()[n as usize & 3],
                    );
                }
            }
        }
        _ => {}
    }
}

/// Changes something in tables, rings or requests.
fn scribble(rng: &mut Rng, world: &World) {
    for _ in 0..rng.below(16) {
        let at = world.arena.start as u64 + (rng.below(3 * PART) & !1);
        put16(at, rng.below(512) as u16);
    }
}
