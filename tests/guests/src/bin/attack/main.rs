//! `attack`: a million seeded hostile acts, to show that no guest can hurt its board.
//!
//! Each act is an instruction or two, made up at run time ([`classes::CLASSES`] is the table of what is tried), run in a probe that survives any fault. Where
//! the architecture leaves no choice the outcome is checked. Meanwhile one more vCPU dies and rises ([`deep`]), and towards the end the
//! others lose themselves in faults of their own that never end.
//!
//! Parameters: `count=` (1,000,000), `seed=` (1), `bare=1`. Output: `ATTACK n` each 100,000 acts, `CLASS name ran=… undef=… aborts=… other=…`
//! for each class, and `PASS attack count=… undef=… aborts=… other=… lives=… hash=…`; the hash is of all outcomes and depends on the seed
//! and the machine only. `FAIL class why` for an outcome that the architecture excludes.
#![no_std]
#![no_main]

mod act;
mod calls;
mod classes;
mod deep;
mod features;
mod memory;
mod registers;
mod user;
mod world;

use guest::rng::Rng;
use guest::{Machine, console, exception, gic, mmu, println, report, timer, write_sysreg};

use act::{Act, Place};
use classes::CLASSES;
use world::World;

/// Acts made up at once, before the instruction cache is told.
const BATCH: usize = 64;
/// Instructions that a slot holds: two of the act, the return, and one to align.
const SLOT_WORDS: usize = 4;
/// Batches between two clean-ups of the guest's own devices.
const CALM_EVERY: u64 = 16;
/// Acts between two lines of progress.
const PROGRESS: u64 = 100_000;
/// The longest that an act waits in WFI, in microseconds.
const PARKED_US: u64 = 50;
/// RET.
const RET: u32 = 0xd65f_03c0;
/// CPACR_EL1 with FP/SIMD, SVE and SME open, so that what the ID registers deny is denied by EL2 and not by EL1 itself.
const FP_OPEN: u64 = 3 << 20 | 3 << 16 | 3 << 24;

/// Where the acts' instructions are put.
#[repr(C, align(4096))]
struct Slots(core::cell::UnsafeCell<[u32; BATCH * SLOT_WORDS]>);

// SAFETY: only vCPU 0 writes and runs them.
unsafe impl Sync for Slots {}

static SLOTS: Slots = Slots(core::cell::UnsafeCell::new([0; BATCH * SLOT_WORDS]));

/// What became of a class's acts.
#[derive(Clone, Copy, Default)]
struct Tally {
    ran: u64,
    undefined: u64,
    aborts: u64,
    other: u64,
}

guest::entry!(main);

fn main(machine: &'static Machine) {
    exception::set_irq_handler(drain);
    mmu::map_everything();
    write_sysreg!("cpacr_el1", FP_OPEN);
    let world = World::new(machine);
    let count = machine.number("count", 1_000_000);
    let mut attack = Attack {
        world,
        rng: Rng::new(machine.number("seed", 1)),
        tallies: [Tally::default(); CLASSES.len()],
        hash: 0xcbf2_9ce4_8422_2325,
        done: 0,
    };
    attack.run(count);
    attack.conclude();
}

/// Takes whatever the attack has stirred up.
fn drain() {
    let id = gic::acknowledge();
    if id == timer::VIRTUAL_PPI {
        timer::disarm_virtual();
    }
    if id == timer::PHYSICAL_PPI {
        timer::disarm_physical();
    }
    if id & 0x3ff < gic::SPECIAL {
        gic::disable(id & 0x3ff);
        gic::end(id);
    }
}

/// Puts the guest's own devices in order: what it needs to print, to be woken, and not to drown in interrupts.
pub fn calm() {
    console::init();
    timer::disarm_virtual();
    timer::disarm_physical();
    gic::reset();
    exception::take_serror();
    exception::unmask_interrupts();
    exception::mask_interrupts();
}

struct Attack {
    world: World,
    rng: Rng,
    tallies: [Tally; CLASSES.len()],
    hash: u64,
    done: u64,
}

impl Attack {
    fn run(&mut self, count: u64) {
        let mut batches = 0;
        let mut deep = deep::Others::new(self.world.cpus, self.rng.draw());
        while self.done < count {
            self.batch((count - self.done).min(BATCH as u64) as usize);
            batches += 1;
            write_sysreg!("mdscr_el1", 0);
            if batches % CALM_EVERY == 0 {
                calm();
                deep.revive();
            }
            if self.done >= count - count / 16 {
                deep.lose();
            }
        }
        calm();
        deep.tell();
    }

    /// Makes up and runs so many acts.
    fn batch(&mut self, size: usize) {
        let mut acts: [(usize, Act); BATCH] = [(0, Act::NONE); BATCH];
        for (slot, entry) in acts.iter_mut().enumerate().take(size) {
            let class = classes::pick(&mut self.rng);
            let act = (CLASSES[class].make)(&mut self.rng, &self.world);
            write_slot(slot, act.words);
            *entry = (class, act);
        }
        let start = SLOTS.0.get() as usize;
        mmu::sync_instructions(start, start + size * SLOT_WORDS * 4);
        for (slot, (class, act)) in acts.iter().enumerate().take(size) {
            self.one(slot, *class, act);
            self.done += 1;
            if self.done.is_multiple_of(PROGRESS) {
                console::init();
                println!("\nATTACK {}", self.done);
            }
        }
    }

    fn one(&mut self, slot: usize, class: usize, act: &Act) {
        let code = SLOTS.0.get() as usize + slot * SLOT_WORDS * 4;
        let outcome = match act.place {
            Place::Here => probe(code, act.registers, false),
            Place::Untranslated => probe(code, act.registers, true),
            Place::Window {
                physical,
                kind,
                executable,
            } => {
                let mut registers = act.registers;
                registers[1] = mmu::map_window(physical, kind, executable) as u64;
                probe(code, registers, false)
            }
            Place::User { aarch32 } => user::run(act.words, act.registers, aarch32),
            Place::Parked => {
                calm();
                gic::enable(timer::VIRTUAL_PPI);
                timer::arm_virtual(timer::now() + timer::micros(self.rng.below(PARKED_US)));
                probe(code, act.registers, false)
            }
            Place::Closing => {
                let outcome = probe(code, act.registers, false);
                write_sysreg!("cpacr_el1", FP_OPEN);
                outcome
            }
        };
        self.judge(class, act, &outcome);
    }

    fn judge(&mut self, class: usize, act: &Act, outcome: &exception::Probed) {
        let tally = &mut self.tallies[class];
        tally.ran += 1;
        let code = match outcome {
            Ok(_) => 0,
            Err(fault) if fault.is_undefined() => {
                tally.undefined += 1;
                1 << 8
            }
            Err(fault) if fault.is_abort() => {
                tally.aborts += 1;
                2 << 8 | fault.status()
            }
            Err(fault) => {
                tally.other += 1;
                3 << 8 | fault.class()
            }
        };
        self.hash = (self.hash ^ code ^ (class as u64) << 16).wrapping_mul(0x100_0000_01b3);
        if !act.expect.holds(outcome) {
            console::init();
            let name = CLASSES[class].name;
            report::fail(
                name,
                format_args!(
                    "{:08x?} x1={:#x}: {outcome:x?}, should be {:x?}",
                    act.words, act.registers[1], act.expect
                ),
            );
        }
    }

    fn conclude(&self) {
        let mut all = Tally::default();
        console::put(b'\n');
        for (class, tally) in CLASSES.iter().zip(&self.tallies) {
            let Tally {
                ran,
                undefined,
                aborts,
                other,
            } = tally;
            println!(
                "CLASS {} ran={ran} undef={undefined} aborts={aborts} other={other}",
                class.name
            );
            all.undefined += undefined;
            all.aborts += aborts;
            all.other += other;
            if self.done >= PROGRESS && *ran == 0 {
                report::fail(class.name, format_args!("never tried"));
            }
        }
        let (
            done,
            Tally {
                undefined,
                aborts,
                other,
                ..
            },
        ) = (self.done, all);
        let (serrors, lives, hash) = (guest::smp::serrors(), deep::lives(), self.hash);
        let verdict = if report::failures() == 0 {
            "PASS"
        } else {
            "FAIL"
        };
        println!(
            "{verdict} attack count={done} undef={undefined} aborts={aborts} other={other} serrors={serrors} lives={lives} hash={hash:016x}"
        );
    }
}

/// Runs an act's instructions.
fn probe(code: usize, registers: [u64; 8], translation_off: bool) -> exception::Probed {
    // SAFETY: the classes make up nothing that breaks this program when it succeeds: `calls::ENDING`, `registers::is_vital` and `World` keep
    // to what only others could be hurt by.
    unsafe { exception::probe(code as *const u32, registers, translation_off) }
}

fn write_slot(slot: usize, words: [u32; 2]) {
    for (at, word) in [words[0], words[1], RET].into_iter().enumerate() {
        // SAFETY: in bounds, and no act runs now.
        unsafe {
            SLOTS
                .0
                .get()
                .cast::<u32>()
                .add(slot * SLOT_WORDS + at)
                .write_volatile(word)
        };
    }
}
