//! `drivers`: the board's own drivers (`platform`) against QEMU's devices, and what they cost in instructions.
//!
//! Run it directly on QEMU, without a hypervisor, with `-global virtio-mmio.force-legacy=false` and, joined by a hub, two cards, so that
//! what one sends the other receives; and with a disk that may be written. Instructions are counted under `-icount shift=0,sleep=off`,
//! where a nanosecond of virtual time is one.
//!
//! Beside each figure stands the same by the device drivers of the crate `virtio-drivers`: why Hearth has its own.
//!
//! Parameters: `rounds=` (64), batches of [`BATCH`] frames or requests. Output: a case for each check, `BENCH key value` for each
//! figure, `PASS drivers`.
#![no_std]
#![no_main]

use core::hint::black_box;

use guest::{Machine, println, report, timer, virtio};
use platform::disk::{self, Disk, Flush, Operation, Sector, Segment, Tag};
use platform::dma::Page;
use platform::nic::{self, Control, Link, Receive, Transmit};
use platform::tree::{Region, VirtioSlot};
use platform::virtio::{Device, Kind};
use virtio_drivers::device::blk::{BlkReq, BlkResp, VirtIOBlk};
use virtio_drivers::device::net::VirtIONetRaw;
use virtio_drivers::transport::DeviceType;

/// Frames or requests of a batch.
const BATCH: usize = 32;
/// A frame with 1,500 bytes behind its header.
const FRAME: usize = 1514;
/// A request's data, bytes.
const BLOCK: usize = 4096;
/// What a device may take, milliseconds of the guest's time.
const PATIENCE: u64 = 10_000;

guest::entry!(main);

fn main(machine: &'static Machine) {
    let rounds = machine.number("rounds", 64).max(1);
    report::case("cards", |name| cards(machine, rounds, name));
    report::case("disk", |name| disk(machine, rounds, name));
    report::case("crate", |_| peers(machine, rounds));
    report::conclude("drivers");
}

/// Adds up the time of pieces of work.
struct Clock {
    ticks: u64,
}

impl Clock {
    const fn new() -> Self {
        Self { ticks: 0 }
    }

    fn time<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let start = timer::now();
        let result = black_box(work());
        self.ticks += timer::now() - start;
        result
    }

    /// Prints tenths of instructions for each of `count`.
    fn print(&self, key: &str, count: u64) {
        let tenths = u128::from(self.ticks) * 10_000_000_000
            / u128::from(timer::frequency())
            / u128::from(count.max(1));
        println!("BENCH {key} {}.{}", tenths / 10, tenths % 10);
    }
}

fn pages(count: usize) -> &'static mut [Page] {
    let memory = virtio::pages(count).expect("memory");
    // SAFETY: nobody else has the memory, and it is never given back.
    unsafe { core::slice::from_raw_parts_mut(memory.cast().as_ptr(), count) }
}

/// The devices of a kind, by the board's own way.
fn devices(machine: &'static Machine, kind: Kind) -> impl Iterator<Item = Device> {
    machine.slots().iter().filter_map(move |slot| {
        let slot = VirtioSlot {
            region: Region::new(slot.base as u64, slot.bytes as u64)?,
            interrupt: None,
            coherent: true,
        };
        // SAFETY: the device tree named the slot; no other driver uses its device now.
        let device = unsafe { Device::probe(&slot) }.expect("a sound slot")?;
        (device.kind() == kind).then_some(device)
    })
}

fn byte(round: u64, frame: usize) -> u8 {
    (round as usize * 31 + frame * 7) as u8
}

/// Two cards: all that one sends, the other receives, in order and unharmed.
fn cards(machine: &'static Machine, rounds: u64, name: &str) {
    let mut found = devices(machine, Kind::Network);
    let (Some(first), Some(second)) = (found.next(), found.next()) else {
        return report::skip(name, "fewer than two cards");
    };
    let open = |device| nic::virtio::open(device, pages(nic::virtio::PAGES)).expect("a card");
    let (mut from, mut to) = (open(first), open(second));
    println!("cards: {} and {}", from.control.mac(), to.control.mac());
    report::expect(name, "the link is down", from.control.link() == Link::Up);
    to.receive.suppress();
    let all = from.transmit.room().expect("a sound card");
    let [mut put, mut kick, mut reclaim, mut receive] = [const { Clock::new() }; 4];
    for round in 0..rounds {
        put.time(|| {
            for n in 0..BATCH {
                // The frame's bytes are the caller's work: only the last is written.
                let taken = from.transmit.put(|room| {
                    room[FRAME - 1] = byte(round, n);
                    FRAME
                });
                assert!(taken.is_ok(), "the card is full");
            }
        });
        kick.time(|| from.transmit.kick());
        let sent = timer::wait_until(PATIENCE, || {
            // So long that they are found sent all at once, most times.
            timer::delay(1_000);
            reclaim.time(|| from.transmit.room()) == Ok(all)
        });
        report::expect(name, "nothing is sent", sent);
        let mut n = 0;
        let got = receive.time(|| {
            to.receive.receive(2 * BATCH, |frame| {
                let good = frame.len() == FRAME && frame[FRAME - 1] == byte(round, n);
                n += if good { 1 } else { BATCH };
            })
        });
        report::expect(
            name,
            "frames are lost or changed",
            got == Ok(BATCH) && n == BATCH,
        );
    }
    put.print("nic_put", rounds * BATCH as u64);
    kick.print("nic_kick", rounds);
    reclaim.print("nic_reclaim", rounds * BATCH as u64);
    receive.print("nic_receive", rounds * BATCH as u64);
    report::expect(name, "frames were dropped", to.receive.dropped() == 0);
}

/// A disk: what is written is read back, from pieces of memory.
fn disk(machine: &'static Machine, rounds: u64, name: &str) {
    let Some(device) = devices(machine, Kind::Block).next() else {
        return report::skip(name, "no disk");
    };
    let mut disk = disk::virtio::open(device, pages(disk::virtio::PAGES)).expect("a disk");
    let blocks = disk.sectors().0 / (BLOCK as u64 / disk::SECTOR_BYTES);
    println!(
        "disk: {blocks} blocks, {} pieces a request",
        disk.most_segments()
    );
    disk.suppress();
    let memory = virtio::pages(2 * BATCH).expect("memory").as_ptr() as u64;
    let [mut submit, mut kick, mut complete] = [const { Clock::new() }; 3];
    for round in 0..rounds {
        for operation in [Operation::Write, Operation::Read] {
            let first = memory
                + if operation == Operation::Read {
                    (BATCH * BLOCK) as u64
                } else {
                    0
                };
            for n in 0..BATCH {
                let value = if operation == Operation::Write {
                    byte(round, n)
                } else {
                    0
                };
                // SAFETY: the driver's caller owns the memory until it submits it.
                unsafe { ((first + (n * BLOCK) as u64) as *mut u8).write_bytes(value, BLOCK) };
            }
            submit.time(|| {
                for n in 0..BATCH {
                    // Scattered over the disk and over memory: the second half of a block lies before the first.
                    let block = (n as u64 * 7919 + round) % blocks;
                    let half = (BLOCK / 2) as u32;
                    let at = first + (n * BLOCK) as u64;
                    let data = [
                        Segment {
                            address: at + u64::from(half),
                            bytes: half,
                        },
                        Segment {
                            address: at,
                            bytes: half,
                        },
                    ];
                    // SAFETY: the memory is not touched before the completion.
                    let taken =
                        unsafe { disk.submit(Tag(n as u64), operation, Sector(block * 8), &data) };
                    assert!(taken.is_ok(), "the disk does not take a request");
                }
            });
            kick.time(|| disk.kick());
            let mut seen = 0u32;
            let done = timer::wait_until(PATIENCE, || {
                // So long that they are found complete all at once, most times.
                timer::delay(1_000);
                let found = complete.time(|| {
                    disk.completions(BATCH, |tag, outcome| {
                        assert!(outcome.is_ok(), "a request failed");
                        seen |= 1 << tag.0;
                    })
                });
                found.is_ok() && seen == u32::MAX
            });
            report::expect(name, "requests do not complete", done);
        }
        for n in 0..BATCH {
            let at = |part: usize| memory + ((part * BATCH + n) * BLOCK) as u64;
            // SAFETY: all requests are complete.
            let same = unsafe {
                core::slice::from_raw_parts(at(0) as *const u8, BLOCK)
                    == core::slice::from_raw_parts(at(1) as *const u8, BLOCK)
            };
            report::expect(name, "what is read is not what was written", same);
        }
    }
    report::expect(name, "no flush", disk.flush(Tag(99)) == Ok(Flush::Underway));
    disk.kick();
    let mut flushed = false;
    let done = timer::wait_until(PATIENCE, || {
        let _ = disk.completions(1, |tag, outcome| {
            flushed = tag == Tag(99) && outcome.is_ok()
        });
        flushed
    });
    report::expect(name, "the flush does not complete", done);
    let requests = 2 * rounds * BATCH as u64;
    submit.print("disk_submit", requests);
    kick.print("disk_kick", 2 * rounds);
    complete.print("disk_complete", requests);
}

/// The same by the device drivers of the crate: one frame or request at a time is what they offer.
fn peers(machine: &'static Machine, rounds: u64) {
    let mut found = virtio::devices(machine, DeviceType::Network);
    let (Some((_, first)), Some((_, second))) = (found.next(), found.next()) else {
        return report::skip("crate", "fewer than two cards");
    };
    let open = |transport| VirtIONetRaw::<virtio::Memory, _, 128>::new(transport).expect("a card");
    let (mut from, mut to) = (open(first), open(second));
    from.disable_interrupts();
    to.disable_interrupts();
    let [mut begin, mut finish, mut listen, mut receive] = [const { Clock::new() }; 4];
    let memory = virtio::pages(BATCH).expect("memory");
    let frame = |n: usize| {
        // SAFETY: two frames fit in a page, one for each direction; each is used by one card at a time.
        unsafe {
            let at = memory.as_ptr().add(n / 2 * 4096 + n % 2 * 2048);
            core::slice::from_raw_parts_mut(at, FRAME + 12)
        }
    };
    for _ in 0..rounds {
        // SAFETY: the frames live for ever, and are not touched before they are complete.
        unsafe {
            listen.time(|| {
                for n in 0..BATCH {
                    to.receive_begin(frame(BATCH + n)).expect("room");
                }
            });
            begin.time(|| {
                for n in 0..BATCH {
                    from.transmit_begin(frame(n)).expect("room");
                }
            });
            for n in 0..BATCH {
                timer::wait_until(PATIENCE, || {
                    from.poll_transmit().is_some() && to.poll_receive().is_some()
                });
                finish
                    .time(|| {
                        let token = from.poll_transmit().expect("a frame");
                        from.transmit_complete(token, frame(n))
                    })
                    .expect("a frame");
                receive
                    .time(|| {
                        let token = to.poll_receive().expect("a frame");
                        to.receive_complete(token, frame(BATCH + n))
                    })
                    .expect("a frame");
            }
        }
    }
    begin.print("crate_nic_put_and_kick", rounds * BATCH as u64);
    finish.print("crate_nic_reclaim", rounds * BATCH as u64);
    listen.print("crate_nic_receive_begin", rounds * BATCH as u64);
    receive.print("crate_nic_receive_complete", rounds * BATCH as u64);
    peer_disk(machine, rounds);
}

fn peer_disk(machine: &'static Machine, rounds: u64) {
    let Some((_, transport)) = virtio::devices(machine, DeviceType::Block).next() else {
        return;
    };
    let mut disk = VirtIOBlk::<virtio::Memory, _>::new(transport).expect("a disk");
    let [mut submit, mut complete] = [const { Clock::new() }; 2];
    let memory = virtio::pages(1).expect("memory");
    // SAFETY: nobody else has the page.
    let block = unsafe { core::slice::from_raw_parts_mut(memory.as_ptr(), BLOCK) };
    let (mut request, mut response) = (BlkReq::default(), BlkResp::default());
    for _ in 0..rounds * BATCH as u64 {
        // SAFETY: nothing is touched before the request is complete.
        unsafe {
            let token = submit
                .time(|| disk.read_blocks_nb(8, &mut request, block, &mut response))
                .expect("room");
            timer::wait_until(PATIENCE, || disk.peek_used() == Some(token));
            complete
                .time(|| disk.complete_read_blocks(token, &request, block, &mut response))
                .expect("a block");
        }
    }
    submit.print("crate_disk_submit_and_kick", rounds * BATCH as u64);
    complete.print("crate_disk_complete", rounds * BATCH as u64);
}
