//! The log of what a guest writes, from its beginning to its end, in steps.

use el2_hyp::published::Round;
use el2_hyp::stage2::dirty::Progress;

use crate::guests::Slot;
use crate::percore::{self, LAPS};
use crate::smp::{self, MAX_CORES};

/// The board has no memory for the tables of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoTables;

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// It has not begun.
    Off,
    /// Blocks are taken apart.
    Starting,
    /// Every core is to have seen that the log is on, so that none still has a write of EL2's own in hand that it does not log.
    Lap(Round<MAX_CORES>),
    /// It is on.
    On,
    /// Blocks are put together.
    Ending,
}

/// A guest's log, as somebody uses it who has marked the guest as copied.
#[derive(Debug)]
pub struct Log(Phase);

impl Log {
    /// It has not begun.
    pub const fn new() -> Self {
        Self(Phase::Off)
    }

    /// Goes on with beginning; whether it is on.
    ///
    /// # Errors
    /// [`NoTables`].
    pub fn begin(&mut self, slot: &Slot) -> Result<bool, NoTables> {
        match self.0 {
            Phase::Off => {
                let (stage2, log, mut tlb) = slot.log();
                let mut stage2 = stage2.lock();
                if stage2.begin(log).is_ok() {
                    self.0 = Phase::Starting;
                } else {
                    // One that is still ending begins when it has.
                    let _ = stage2.step(log, &mut tlb).map_err(|_| NoTables)?;
                }
            }
            Phase::Starting => {
                if step(slot)? == Progress::Done {
                    // First it is noted where each core is, then they are woken: one that passed before and sleeps would not pass again.
                    self.0 = Phase::Lap(LAPS.begin_round(smp::running()));
                    percore::reschedule_all();
                }
            }
            Phase::Lap(round) if round.is_over(&LAPS) => self.0 = Phase::On,
            Phase::Lap(_) => smp::relax(),
            Phase::On | Phase::Ending => return Ok(true),
        }
        Ok(false)
    }

    /// Goes on with ending; whether it has ended.
    pub fn end(&mut self, slot: &Slot) -> bool {
        if !matches!(self.0, Phase::Ending) {
            let (stage2, log, _) = slot.log();
            stage2.lock().end(log);
            self.0 = Phase::Ending;
        }
        // To end takes no memory.
        step(slot) != Ok(Progress::More)
    }
}

fn step(slot: &Slot) -> Result<Progress, NoTables> {
    let (stage2, log, mut tlb) = slot.log();
    let step = stage2.lock().step(log, &mut tlb);
    step.map_err(|_| NoTables)
}
