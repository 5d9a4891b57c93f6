//! What goes wrong in a run, decided before it begins, so that a failing run can be shrunk by leaving things out.

use cluster_proto::ids::{BoardId, GuestId, MoveId};
use cluster_proto::ledger::types::{Operation, Wanted};

use crate::dice::Dice;
use crate::machine::BOARDS;
use crate::oracle::Violation;
use crate::world::{Cast, FAIR, Weather, World};

/// Something that goes wrong, or that an operator does.
#[derive(Clone, Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "a plan has some hundred of them, and lives once"
)]
pub enum Act {
    /// A board loses power.
    Crash(usize),
    /// Whoever leads loses power.
    CrashLeader,
    /// A board gets power.
    Boot(usize),
    /// Every board loses power.
    Blackout,
    /// Every board gets power.
    BootAll,
    /// A board stops for so many microseconds.
    Pause(usize, u64),
    /// Frames from one board to another are lost, or no longer.
    Cut(usize, usize, bool),
    /// A board is cut off, both ways.
    Isolate(usize),
    /// No link is cut any more.
    Mend,
    /// The network changes.
    Turn(Weather),
    /// Starts fail so often, per million.
    StartFails(u32),
    /// Moves are given up so often, before and after they are asked for, per million.
    MoveFails(u32),
    /// Tools do not bring all of a guest from its file so often, per million.
    RestoreFails(u32),
    /// Old frames come again.
    Replay(usize),
    /// A guest ends by itself.
    CrashGuest(usize),
    /// An order, by a board.
    Order(usize, Operation),
    /// An order, by the operator's tool.
    Ask(Operation),
    /// Many orders at once, by a board.
    Flood(usize),
    /// A reform around that board, ordered by somebody who does not ask whether it is needed.
    Reform(usize),
    /// A reform by somebody who does, if the cluster cannot agree any more.
    ReformWell,
}

/// The acts of a run, with their times in microseconds.
pub type Plan = Vec<(u64, Act)>;

/// A cast for a seed.
#[must_use]
pub fn cast(dice: &mut Dice) -> Cast {
    let boards = [3, 3, 4, 5, 5, 6][dice.pick(6)];
    let witness = dice.chance(300_000);
    let seatless = !witness && boards > 3 && dice.chance(400_000);
    let mut disks = if witness { 1 << (boards - 1) } else { 0 };
    if dice.chance(150_000) {
        disks |= dice.roll() & ((1 << boards) - 1);
    }
    Cast {
        boards,
        witness,
        seatless,
        disks,
        drift_ppm: [0, 200, 1_000, 50_000][dice.pick(4)],
        guests: dice.between(1, 5) as u8,
        mixed: dice.chance(250_000),
        #[cfg(feature = "mutations")]
        mutation: None,
    }
}

fn weather(dice: &mut Dice) -> Weather {
    match dice.below(6) {
        0 | 1 => FAIR,
        2 => Weather {
            loss: 200_000,
            ..FAIR
        },
        3 => Weather {
            loss: 20_000,
            twice: 50_000,
            flipped: 10_000,
            delay_min: 100,
            delay_max: 30_000,
        },
        4 => Weather {
            loss: 5_000,
            twice: 10_000,
            flipped: 0,
            delay_min: 5_000,
            delay_max: 120_000,
        },
        _ => Weather {
            loss: 50_000,
            twice: 200_000,
            flipped: 100_000,
            delay_min: 100,
            delay_max: 5_000,
        },
    }
}

fn operation(dice: &mut Dice, boards: usize) -> Operation {
    let guest = GuestId(dice.below(6) as u16);
    let board = BoardId(dice.pick(boards) as u8);
    let on = dice.chance(500_000);
    match dice.below(8) {
        0 | 1 => Operation::Want {
            guest,
            wanted: if on { Wanted::Running } else { Wanted::Stopped },
        },
        2 => Operation::Restart { guest },
        3 | 4 => Operation::Drain {
            board,
            on,
            downtime: None,
        },
        5 => Operation::Disarm { board, on },
        6 => Operation::CreateGuest {
            spec: World::spec(dice.below(6) as u8),
        },
        _ => Operation::DeleteGuest { guest },
    }
}

fn migration(dice: &mut Dice, boards: usize) -> Operation {
    let to = BoardId(dice.pick(boards) as u8);
    Operation::Migrate {
        guest: GuestId(dice.below(6) as u16),
        to: dice.chance(500_000).then_some(to),
        downtime: None,
    }
}

fn act(dice: &mut Dice, boards: usize) -> Act {
    let board = dice.pick(boards);
    match dice.below(46) {
        0..=3 => Act::Crash(board),
        4 | 5 => Act::CrashLeader,
        6..=11 => Act::Boot(board),
        12 => [Act::Blackout, Act::BootAll, Act::BootAll][dice.pick(3)].clone(),
        13 | 14 => Act::Pause(board, dice.between(10_000, 900_000)),
        15 => Act::Pause(board, dice.between(1_000_000, 4_000_000)),
        16..=18 => Act::Cut(board, dice.pick(boards), true),
        19 => Act::Isolate(board),
        20..=22 => Act::Mend,
        23 | 24 => Act::Turn(weather(dice)),
        25 => Act::StartFails([0, 300_000][dice.pick(2)]),
        26 | 27 => Act::Replay(dice.between(1, 40) as usize),
        28 => Act::CrashGuest(dice.pick(6)),
        29..=31 => Act::Order(board, operation(dice, boards)),
        32 => Act::Flood(board),
        33 => Act::Reform(board),
        34 => Act::Ask(operation(dice, boards)),
        35..=41 => Act::Order(board, migration(dice, boards)),
        42 | 43 => Act::MoveFails([0, 200_000, 400_000][dice.pick(3)]),
        44 => Act::Order(
            board,
            Operation::CancelMove {
                guest: GuestId(dice.below(6) as u16),
            },
        ),
        _ => Act::ReformWell,
    }
}

/// The acts of a seed: bursts of faults between quiet stretches, for `span` microseconds.
#[must_use]
pub fn plan(dice: &mut Dice, cast: &Cast, span: u64) -> Plan {
    let boards = usize::from(cast.boards);
    let mut plan = Vec::new();
    let mut at = 1_500_000;
    // Rarely a board sleeps for minutes.
    if dice.chance(20_000) {
        let pause = dice.between(60_000_000, 180_000_000);
        plan.push((at, Act::Pause(dice.pick(boards), pause)));
        plan.push((at + pause + 500_000, Act::Mend));
        return plan;
    }
    while at < span {
        let burst = dice.between(1, 5);
        for _ in 0..burst {
            plan.push((at, act(dice, boards)));
            at += dice.between(0, 150_000);
        }
        at += dice.between(20_000, 1_200_000);
    }
    plan
}

/// In some runs guests are stopped, and go on from files, while what the plan has goes wrong.
pub fn restores(dice: &mut Dice, cast: &Cast, plan: &mut Plan) {
    let end = plan.last().map_or(0, |(at, _)| *at);
    if !dice.chance(300_000) {
        return;
    }
    plan.push((0, Act::RestoreFails([0, 400_000][dice.pick(2)])));
    let boards = usize::from(cast.boards);
    for _ in 0..dice.between(1, 4) {
        let guest = GuestId(dice.below(cast.guests.into()) as u16);
        let wanted = Wanted::Stopped;
        let mut at = dice.between(1_500_000, end.max(1_500_000));
        let stop = Operation::Want { guest, wanted };
        plan.push((at, Act::Order(dice.pick(boards), stop)));
        // A guest takes a while to stop, and whoever restores it tries again.
        for _ in 0..dice.between(1, 3) {
            at += dice.between(20_000, 600_000);
            let to = BoardId(dice.pick(boards) as u8);
            let restore = Operation::Restore {
                guest,
                id: MoveId::of_file(dice.roll()),
                class: if cast.mixed {
                    1 + dice.below(2) as u32
                } else {
                    1
                },
                to: dice.chance(300_000).then_some(to),
            };
            plan.push((at, Act::Order(dice.pick(boards), restore)));
        }
    }
    plan.sort_by_key(|(at, _)| *at);
}

/// Does it.
///
/// # Errors
/// The first property that does not hold.
pub fn perform(world: &mut World, act: &Act) -> Result<(), Violation> {
    let boards = world.machines.len();
    match act {
        Act::Crash(board) => crash(world, *board),
        Act::CrashLeader => {
            if let Some(board) = leader(world) {
                world.stats.see("leader_killed");
                crash(world, board);
            }
        }
        Act::Boot(board) => world.boot(*board),
        Act::Blackout => {
            world.stats.see("total_loss");
            for board in 0..boards {
                crash(world, board);
            }
        }
        Act::BootAll => (0..boards).for_each(|board| world.boot(board)),
        Act::Pause(board, span) => {
            if *span > 250_000 {
                world.stats.see("long_pause");
            }
            world.pause(*board, *span);
        }
        Act::Cut(from, to, on) => {
            if from != to {
                world.stats.see("one_way_cut");
                world.cut[*from][*to] = *on;
            }
        }
        Act::Isolate(board) => {
            for other in 0..BOARDS {
                if other != *board {
                    world.cut[*board][other] = true;
                    world.cut[other][*board] = true;
                }
            }
        }
        Act::Mend => world.cut = [[false; BOARDS]; BOARDS],
        Act::Turn(weather) => world.weather = *weather,
        Act::StartFails(ppm) => world.start_fails = *ppm,
        Act::MoveFails(ppm) => world.move_fails = *ppm,
        Act::RestoreFails(ppm) => world.restore_fails = *ppm,
        Act::Replay(count) => world.replay(*count),
        Act::CrashGuest(guest) => world.crash_guest(*guest)?,
        Act::Order(board, operation) => world.order(*board, operation.clone())?,
        Act::Flood(board) => {
            for step in 0..60 {
                let board = (board + step) % boards;
                world.order(
                    board,
                    Operation::Restart {
                        guest: GuestId((step % 6) as u16),
                    },
                )?;
            }
        }
        Act::Ask(operation) => world.ask(operation.clone()),
        Act::Reform(board) => world.reform(*board)?,
        Act::ReformWell => reform_well(world)?,
    }
    Ok(())
}

fn crash(world: &mut World, board: usize) {
    world.crash(board);
    if world.oracle.majority_lost() {
        world.stats.see("majority_lost");
    }
}

/// The board that leads, if one does and is awake.
#[must_use]
pub fn leader(world: &World) -> Option<usize> {
    world
        .machines
        .iter()
        .position(|machine| machine.on && machine.node.leads())
}

/// What an operator does who sees that the cluster cannot agree by itself any more: reforms around the board that remembers most, and takes out of
/// service for good whoever that board cannot talk to.
///
/// # Errors
/// The first property that does not hold.
pub fn reform_well(world: &mut World) -> Result<(), Violation> {
    if leader(world).is_some() || !world.oracle.cannot_agree() {
        return Ok(());
    }
    let awake = |world: &World, board: usize| {
        let machine = &world.machines[board];
        machine.on && machine.paused_until <= world.now
    };
    let seated = |world: &World, board: usize| {
        let seats = &world.machines[board].node.ledger().seats;
        seats.memory(BoardId(board as u8)).is_some()
    };
    let best = (0..world.machines.len())
        .filter(|&board| awake(world, board) && seated(world, board))
        .max_by_key(|&board| {
            let node = &world.machines[board].node;
            (node.era(), node.votes(), node.log_end())
        });
    let Some(best) = best else { return Ok(()) };
    for other in (0..world.machines.len()).filter(|&other| other != best) {
        let reached = awake(world, other) && !world.cut[best][other] && !world.cut[other][best];
        if !reached && seated(world, best) {
            world.retire(other);
        }
    }
    world.reform(best)
}
