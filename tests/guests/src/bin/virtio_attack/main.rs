//! `virtio_attack`: seeded hostile acts on every virtio device that the guest has.
//!
//! An act writes registers that make no sense ([`registers`]), or sets a queue up and fills it with lies: loops, addresses outside of memory, indices that
//! jump, tables in tables, requests that no device knows, resets in between ([`rings`]). All of it goes on in an arena of memory that
//! nothing else of the guest uses, so what devices do there hurts nobody.
//!
//! After a number of acts each device is reset and has to be well again: it takes a sound set-up and serves a sound request. And what was
//! under way before the reset must not write to memory any more.
//!
//! Parameters: `count=` (100,000), `seed=` (1), `turns=` ([`guest::turns`]). Output: `ATTACK n` now and then, and `PASS virtio_attack acts=N …`, with how often devices had asked
//! to be reset and how often they had served; `FAIL virtio_attack why`.
#![no_std]
#![no_main]

mod device;
mod registers;
mod rings;

use guest::machine::Range;
use guest::rng::Rng;
use guest::turns::Turns;
use guest::{Machine, exception, println, report};

use device::Device;

/// Devices that are attacked.
const MAX_DEVICES: usize = 8;
/// Memory that devices may spoil.
const ARENA_BYTES: usize = 256 << 10;
/// Acts between two looks whether the devices are well.
const CALM_EVERY: u64 = 64;
/// Acts between two lines of progress.
const PROGRESS: u64 = 20_000;

guest::entry!(main);

fn main(machine: &'static Machine) {
    exception::mask_interrupts();
    let Some(arena) = machine.spare(ARENA_BYTES) else {
        return report::fail("virtio_attack", format_args!("no memory"));
    };
    let mut attack = Attack {
        world: World {
            arena,
            memory: machine.memory,
            tree: machine.tree,
        },
        rng: Rng::new(machine.number("seed", 1)),
        devices: [const { None }; MAX_DEVICES],
        broken: 0,
        turns: Turns::new(machine),
    };
    let found = machine
        .slots()
        .iter()
        .filter(|slot| device::kind(slot) != 0);
    for (place, slot) in attack.devices.iter_mut().zip(found) {
        *place = Some(Device::new(*slot));
    }
    let kinds = attack.devices.iter().flatten();
    for device in kinds.clone() {
        println!("virtio_attack: kind {} at {:#x}", device.kind, device.base);
    }
    if kinds.count() == 0 {
        return report::fail("virtio_attack", format_args!("no devices"));
    }
    attack.run(machine.number("count", 100_000));
}

/// What addresses mean.
pub struct World {
    /// Where devices may write.
    pub arena: Range,
    /// RAM.
    pub memory: Range,
    /// The device tree.
    pub tree: Range,
}

struct Attack {
    world: World,
    rng: Rng,
    devices: [Option<Device>; MAX_DEVICES],
    /// How often a device said that it needs a reset.
    broken: u64,
    turns: Turns,
}

impl Attack {
    fn run(&mut self, count: u64) {
        let mut served = 0;
        for act in 1..=count {
            self.turns.look();
            let devices = self.devices.iter().flatten().count() as u64;
            let at = self.rng.below(devices) as usize;
            if let Some(device) = &mut self.devices[at] {
                match self.rng.below(4) {
                    0 => registers::act(device, &mut self.rng, &self.world),
                    _ => rings::act(device, &mut self.rng, &self.world),
                }
                self.broken += u64::from(device.needs_reset());
            }
            if act % CALM_EVERY == 0 || act == count {
                served += self.calm();
            }
            if act % PROGRESS == 0 {
                println!("ATTACK {act}");
            }
            if report::failures() > 0 {
                break;
            }
        }
        match report::failures() {
            0 => println!(
                "PASS virtio_attack acts={count} broken={} served={served}",
                self.broken
            ),
            failures => println!("FAIL virtio_attack failures={failures}"),
        }
    }

    /// Every device is reset, leaves memory alone, and serves a sound request.
    fn calm(&mut self) -> u64 {
        for device in self.devices.iter_mut().flatten() {
            device.reset();
        }
        device::expect_untouched(&self.world.arena);
        let mut served = 0;
        for device in self.devices.iter_mut().flatten() {
            match device.serve_one(&self.world.arena) {
                Ok(()) => served += 1,
                Err(why) => report::fail(
                    "virtio_attack",
                    format_args!("kind {} at {:#x}: {why}", device.kind, device.base),
                ),
            }
            device.reset();
        }
        served
    }
}
