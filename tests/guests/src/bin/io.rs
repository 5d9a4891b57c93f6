//! `io`: loads the guest machine's network card and disk, so that what EL2 spends on it can be counted.
//!
//! It does what single characters on its console tell it, and says `IO done CHARACTER COUNT` after each:
//! - `n`: nothing, `rounds=` of nothing: what asking costs. - `x`: tells the card `rounds=` times that there is something, which there is not, and
//!   prints `BENCH virtio_exit_instructions`, by the counter under `-icount shift=0,sleep=off`.
//! - `t`: sends `frames=` frames to `peer=`. - `c`: asks `peer=` for `frames=` frames and takes them. - `s`: sends the frames
//!   that somebody asks for.
//! - `r`, `w`: reads or writes `blocks=` blocks anywhere on the first disk, [`DEPTH`] at a time. - `v`: writes the first `blocks=` blocks and reads them back.
//! - `q`: ends.
//!
//! Frames are as long as they get; the card is told of [`traffic::BATCH`] at a time and polled, as a busy driver does. Devices do not interrupt.
//! A count that is not whole is a failure.
//!
//! Parameters: `rounds=` (4096), `frames=` (16384), `blocks=` (4096), `seed=` (1), `peer=` (the address of whom to send to, twelve hexadecimal digits).
#![no_std]
#![no_main]

use guest::rng::Rng;
use guest::traffic::{self, Kind};
use guest::virtio::block::{BLOCK, Disk, Operation, SLOTS};
use guest::virtio::net::{Card, FRAME, Mac};
use guest::{Machine, console, println, report, timer, virtio};
use virtio_drivers::transport::DeviceType;

/// Requests that the disk has at a time.
const DEPTH: usize = 16;
const _: () = assert!(DEPTH <= SLOTS);
/// What any one thing may take, microseconds.
const PATIENCE_US: u64 = 60_000_000;
/// Time between looks at the console: each costs a trap, which is not what is to be counted.
const LOOK_US: u64 = 2_000;

guest::entry!(main);

/// What it has, and what it was told.
struct Io {
    card: Option<Card>,
    disk: Option<Disk>,
    peer: Mac,
    rounds: u64,
    frames: u32,
    blocks: u64,
    rng: Rng,
}

fn main(machine: &'static Machine) {
    let mut io = Io {
        card: virtio::devices(machine, DeviceType::Network)
            .next()
            .and_then(|(slot, device)| Card::open(slot, device)),
        disk: virtio::devices(machine, DeviceType::Block)
            .next()
            .and_then(|(_, device)| Disk::open(device)),
        peer: machine.text("peer").and_then(address).unwrap_or([0xff; 6]),
        rounds: machine.number("rounds", 4096).max(1),
        frames: machine.number("frames", 16_384).max(1) as u32,
        blocks: machine.number("blocks", 4096).max(1),
        rng: Rng::new(machine.number("seed", 1)),
    };
    let disk = io.disk.as_ref().map_or(0, Disk::blocks);
    match &io.card {
        Some(card) => println!("IO card {:02x?}, disk {disk} blocks", card.mac()),
        None => println!("IO no card, disk {disk} blocks"),
    }
    println!("IO ready");
    loop {
        timer::delay(LOOK_US);
        let Some(order) = console::get() else {
            continue;
        };
        let count = match order {
            b'n' => nothing(io.rounds),
            b'x' => io.knock(),
            b't' => io.send(),
            b'c' => io.catch(),
            b's' => io.serve(),
            b'r' => io.random(Operation::Read),
            b'w' => io.random(Operation::Write),
            b'v' => io.verify(),
            b'q' => break,
            _ => continue,
        };
        println!("IO done {} {count}", char::from(order));
    }
    report::conclude("io");
}

/// Twelve hexadecimal digits.
fn address(text: &str) -> Option<Mac> {
    let value = u64::from_str_radix(text, 16).ok()?;
    let [0, 0, mac @ ..] = value.to_be_bytes() else {
        return None;
    };
    Some(mac)
}

/// Whether there is still time.
fn patience() -> impl FnMut() -> bool {
    let end = timer::now() + timer::micros(PATIENCE_US);
    move || timer::now() < end
}

fn nothing(rounds: u64) -> u64 {
    for _ in 0..rounds {
        timer::delay(1);
    }
    rounds
}

impl Io {
    fn card(&mut self) -> &mut Card {
        self.card.as_mut().expect("a card")
    }

    fn knock(&mut self) -> u64 {
        let rounds = self.rounds;
        let card = self.card();
        let start = timer::now();
        for _ in 0..rounds {
            card.knock();
        }
        let ticks = timer::now() - start;
        let tenths = u128::from(ticks) * 10_000_000_000
            / u128::from(timer::frequency())
            / u128::from(rounds);
        println!(
            "BENCH virtio_exit_instructions {}.{}",
            tenths / 10,
            tenths % 10
        );
        rounds
    }

    fn send(&mut self) -> u64 {
        let (frames, peer) = (self.frames, self.peer);
        let card = self.card();
        // The answer teaches the switch where the peer is.
        let mut again = patience();
        traffic::tell(card, peer, Kind::Go, 0);
        let mut answered = false;
        while !answered && again() {
            card.receive(1, |frame| answered |= traffic::read(frame).is_some());
        }
        report::expect("send", "the peer does not answer", answered);
        let mut sent = 0;
        while sent < frames && again() {
            let batch = (frames - sent).min(traffic::BATCH);
            let put = (sent..sent + batch)
                .take_while(|&number| traffic::put(card, peer, Kind::Data, number, FRAME))
                .count() as u32;
            if put > 0 {
                card.kick();
            }
            sent += put;
        }
        while card.reclaim() > 0 && again() {}
        report::expect(
            "send",
            "not all was sent",
            sent == frames && card.reclaim() == 0,
        );
        sent.into()
    }

    fn catch(&mut self) -> u64 {
        let (frames, peer) = (self.frames, self.peer);
        let (came, highest) = traffic::catch(self.card(), peer, frames, patience());
        if came != frames || highest != frames {
            report::fail(
                "catch",
                format_args!("{came} frames came, the last was {highest} of {frames}"),
            );
        }
        came.into()
    }

    fn serve(&mut self) -> u64 {
        let sent = traffic::serve(self.card(), patience());
        report::expect("serve", "nobody asked", sent > 0);
        sent.into()
    }

    fn random(&mut self, operation: Operation) -> u64 {
        let (blocks, rng) = (self.blocks, &mut self.rng);
        let disk = self.disk.as_mut().expect("a disk");
        let mut again = patience();
        let (mut begun, mut done, mut bad) = (0, 0, 0);
        for request in 0..DEPTH.min(blocks as usize) {
            disk.submit(request, operation, rng.below(disk.blocks()));
            begun += 1;
        }
        disk.kick();
        while done < blocks && again() {
            let mut news = false;
            while let Some((request, good)) = disk.complete() {
                done += 1;
                bad += u64::from(!good);
                if begun < blocks {
                    disk.submit(request, operation, rng.below(disk.blocks()));
                    begun += 1;
                    news = true;
                }
            }
            if news {
                disk.kick();
            }
        }
        report::expect(
            "disk",
            "requests failed or did not complete",
            bad == 0 && done == blocks,
        );
        done
    }

    /// Each block gets its own number, and keeps it.
    fn verify(&mut self) -> u64 {
        let disk = self.disk.as_mut().expect("a disk");
        let mut again = patience();
        let blocks = disk.blocks().min(self.blocks);
        for operation in [Operation::Write, Operation::Read] {
            for block in 0..blocks {
                let mark = [block.to_le_bytes(), (!block).to_le_bytes()];
                if operation == Operation::Write {
                    for piece in disk.data(0).chunks_exact_mut(16) {
                        piece.copy_from_slice(mark.as_flattened());
                    }
                }
                disk.submit(0, operation, block);
                disk.kick();
                let outcome = loop {
                    if let Some((_, good)) = disk.complete() {
                        break good;
                    }
                    if !again() {
                        break false;
                    }
                };
                if !report::expect("disk", "a request failed or did not complete", outcome) {
                    return block;
                }
                let data = disk.data(0);
                let same = data.len() == BLOCK
                    && data
                        .chunks_exact(16)
                        .all(|piece| piece == mark.as_flattened());
                report::expect("disk", "a block is not what was written", same);
                data.fill(0);
            }
        }
        blocks
    }
}
