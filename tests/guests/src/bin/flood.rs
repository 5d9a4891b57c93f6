//! `flood`: sends as fast as it can, for the sake of its neighbours' tests.
//!
//! Parameters: `secs=` (5); `mode=`: `broadcast`; `unknown`, to addresses that nobody has, each time another; `spoof`, from addresses that
//! are not its own; `loop`, which sends back whatever comes, to everybody, and starts with a broadcast; `knock`, which tells the card that there is
//! something when there is nothing; `length=` (1514); `seed=` (1); `turns=`
//! ([`guest::turns`]). Output: each second `FLOOD second count`, and `PASS flood sent=N`.
//! The card may refuse frames; nothing that it does with them is a failure but that it stops taking them.
#![no_std]
#![no_main]

use guest::rng::Rng;
use guest::traffic::{self, BATCH};
use guest::turns::Turns;
use guest::virtio::net::{Card, FRAME, Mac};
use guest::{Machine, println, report, timer, virtio};
use virtio_drivers::transport::DeviceType;

/// Everybody.
const BROADCAST: Mac = [0xff; 6];
/// A card that takes nothing for so long is stuck, microseconds.
const STUCK_US: u64 = 2_000_000;

guest::entry!(main);

fn main(machine: &'static Machine) {
    let found = virtio::devices(machine, DeviceType::Network).next();
    let Some(card) = found.and_then(|(slot, device)| Card::open(slot, device)) else {
        return report::fail("flood", format_args!("no card"));
    };
    let mut flood = Flood {
        mode: machine.text("mode").unwrap_or("broadcast"),
        length: (machine.number("length", FRAME as u64) as usize).clamp(traffic::SHORT, FRAME),
        rng: Rng::new(machine.number("seed", 1)),
        card,
        number: 0,
        turns: Turns::new(machine),
    };
    let sent = flood.run(machine.number("secs", 5).max(1));
    match report::failures() {
        0 => println!("PASS flood sent={sent}"),
        failures => println!("FAIL flood failures={failures}"),
    }
}

struct Flood {
    card: Card,
    mode: &'static str,
    length: usize,
    rng: Rng,
    number: u32,
    turns: Turns,
}

impl Flood {
    fn run(&mut self, seconds: u64) -> u64 {
        let mut all = 0;
        let mut alive = timer::now();
        self.send(BROADCAST, self.card.mac());
        for second in 1..=seconds {
            let end = timer::now() + timer::frequency();
            let mut sent = 0;
            while timer::now() < end {
                self.turns.look();
                let count = self.step();
                sent += count;
                if count > 0 {
                    alive = timer::now();
                }
                // One that loops may wait for ever for others.
                if self.mode != "loop" && timer::now() > alive + timer::micros(STUCK_US) {
                    report::fail("flood", format_args!("the card takes nothing any more"));
                    return all;
                }
            }
            println!("FLOOD {second} {sent}");
            all += sent;
        }
        all
    }

    /// One batch; how many frames, or knocks, it had.
    fn step(&mut self) -> u64 {
        match self.mode {
            "knock" => {
                for _ in 0..BATCH {
                    self.card.knock();
                }
                return BATCH.into();
            }
            "loop" => return self.turn(),
            _ => {}
        }
        let mut sent = 0;
        for _ in 0..BATCH {
            let own = self.card.mac();
            let any = self.any();
            let (to, from) = match self.mode {
                "unknown" => (any, own),
                "spoof" => (BROADCAST, any),
                _ => (BROADCAST, own),
            };
            sent += u64::from(self.send(to, from));
        }
        self.card.kick();
        // What comes meanwhile is not looked at.
        self.card.receive(BATCH as usize, |_| ());
        sent
    }

    /// Sends back what came, to everybody.
    fn turn(&mut self) -> u64 {
        let came = self.card.receive(BATCH as usize, |_| ());
        let mut sent = 0;
        for _ in 0..came {
            sent += u64::from(self.send(BROADCAST, self.card.mac()));
        }
        self.card.kick();
        sent
    }

    /// An address of one station.
    fn any(&mut self) -> Mac {
        let [a, b, c, d, e, _, _, _] = self.rng.draw().to_le_bytes();
        [0x02, a, b, c, d, e]
    }

    fn send(&mut self, to: Mac, from: Mac) -> bool {
        self.number = self.number.wrapping_add(1);
        let number = self.number;
        self.card.put(self.length, |frame| {
            frame.fill(0);
            frame[..6].copy_from_slice(&to);
            frame[6..12].copy_from_slice(&from);
            frame[12..14].copy_from_slice(&traffic::TYPE);
            frame[14] = traffic::Kind::Data as u8;
            frame[16..20].copy_from_slice(&number.to_le_bytes());
        })
    }
}
