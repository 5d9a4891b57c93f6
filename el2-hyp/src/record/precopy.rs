//! When a guest's memory has been copied far enough for it to stop: the decisions of a live migration, without any of its doing.
//!
//! The guest runs while its pages go. A round sends what was written since the round before: the first all of it, each next less, if the line is
//! faster than the guest. After each round [`Precopy::round`] is told what the round was and says what is next:
//! - **Stop**: what is left, the guest's devices among it, goes in less time than the guest is to be still ([`Limits::downtime`]), or further rounds would not change that
//!   and it is bearable ([`Limits::at_worst`]).
//! - **Again**: another round, with the guest running as fast as this says. A guest that writes so fast that a round leaves not clearly less than the one
//!   before is slowed down, more with each such round: by [`FIRST_BRAKE`], then by [`NEXT_BRAKE`] more each time, to [`Limits::slowest`] of its speed at the least.
//! - **Never**: it does not converge within the limits. The guest goes on where it is, at full speed.
//!
//! Rates are measured, not assumed: bytes that went in the time that they took, and of the rounds the slowest of the last two, so that one lucky round does not
//! promise a stop that cannot be kept. The devices' bytes and what the stop costs besides are the caller's to measure, too.
//!
//! Time and speed are plain numbers: microseconds, bytes, percent. Nothing here looks at a clock.

/// Percent of its speed that are taken from a guest when it is first found too fast, and each further time.
pub const FIRST_BRAKE: u8 = 20;
/// See [`FIRST_BRAKE`].
pub const NEXT_BRAKE: u8 = 10;
/// A round that leaves more than this many percent of what the one before left does not converge.
const CONVERGES: u64 = 70;
/// Rounds after which it ends, whatever they were.
pub const MAX_ROUNDS: u32 = 50;

/// What a migration may cost its guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long the guest is to be still at most, microseconds: rounds go on as long as they bring that nearer.
    pub downtime: u64,
    /// How long it may be still if they do not, microseconds; no less than `downtime`.
    pub at_worst: u64,
    /// Percent of its speed that a guest keeps at the least, 1 to 100. With 100 it is never slowed.
    pub slowest: u8,
}

/// A round that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Round {
    /// Bytes that went over the line.
    pub sent: u64,
    /// How long that took, microseconds.
    pub took: u64,
    /// Bytes that were written meanwhile and are to be sent: pages with their heads.
    pub left: u64,
}

/// What a stop costs besides the pages that are left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stop {
    /// Bytes of vCPUs, interrupt controller and devices.
    pub state: u64,
    /// What else it takes, microseconds: to bring the vCPUs off their cores, the hand-over, to begin over there.
    pub fixed: u64,
}

/// What is next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The guest is to stop now, for so many microseconds by the estimate.
    Stop(u64),
    /// Another round, with the guest at so many percent of its speed.
    Again(u8),
    /// It does not converge.
    Never(Why),
}

/// Why a migration does not converge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The guest writes faster than the line carries, even as slow as it may be made.
    TooFast,
    /// What the stop costs with no page left is more than the guest may be still, microseconds.
    Downtime(u64),
    /// It took too many rounds.
    Rounds,
}

/// Where a migration stands, for whoever watches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Rounds that are over.
    pub rounds: u32,
    /// Bytes that have gone.
    pub sent: u64,
    /// Bytes that are left.
    pub left: u64,
    /// Bytes in a second, as measured.
    pub rate: u64,
    /// How long a stop now would be, microseconds.
    pub downtime: u64,
    /// Percent of its speed at which the guest runs.
    pub speed: u8,
}

/// A migration, as far as it has come.
#[derive(Clone, Debug)]
pub struct Precopy {
    limits: Limits,
    status: Status,
    /// Bytes in a second of the round before, if there was one.
    before: Option<u64>,
}

impl Precopy {
    /// A migration that begins. The first round sends all of the guest.
    pub const fn new(limits: Limits) -> Self {
        Self {
            limits,
            status: Status {
                rounds: 0,
                sent: 0,
                left: 0,
                rate: 0,
                downtime: 0,
                speed: 100,
            },
            before: None,
        }
    }

    /// Where it stands.
    pub fn status(&self) -> &Status {
        &self.status
    }

    /// A round is over; what is next. `stop` is what a stop costs as measured last.
    pub fn round(&mut self, round: Round, stop: Stop) -> Next {
        let first = self.status.rounds == 0;
        let left_before = self.status.left;
        self.measure(round, stop);
        let downtime = self.status.downtime;
        if downtime <= self.limits.downtime {
            return Next::Stop(downtime);
        }
        let least = self.time(stop.state).saturating_add(stop.fixed);
        if least > self.limits.at_worst {
            return Next::Never(Why::Downtime(least));
        }
        if self.status.rounds >= MAX_ROUNDS {
            return self.stop_or(Why::Rounds);
        }
        let converges =
            first || round.left.saturating_mul(100) <= left_before.saturating_mul(CONVERGES);
        // Nothing that takes any time is left: a slower guest would be still as long.
        let is_nothing_left = self.time(round.left) == 0;
        if !converges && (is_nothing_left || !self.brake()) {
            return self.stop_or(Why::TooFast);
        }
        Next::Again(self.status.speed)
    }

    /// More rounds would bring nothing: it stops if that is bearable.
    fn stop_or(&self, why: Why) -> Next {
        let downtime = self.status.downtime;
        if downtime <= self.limits.at_worst {
            Next::Stop(downtime)
        } else {
            Next::Never(why)
        }
    }

    fn measure(&mut self, round: Round, stop: Stop) {
        let it = &mut self.status;
        it.rounds = it.rounds.saturating_add(1);
        it.sent = it.sent.saturating_add(round.sent);
        it.left = round.left;
        // A round of a few pages says nothing about the line: it keeps the rate of the one before.
        if let Some(rate) = rate(round) {
            it.rate = self.before.map_or(rate, |before| before.min(rate));
            self.before = Some(rate);
        } else if self.before.is_none() && (round.sent > 0 || it.rate == 0) {
            // A guest of a few pages: nothing else is known. A round in which nothing went tells nothing at all.
            it.rate = rate_of(round).max(1);
        }
        let bytes = round.left.saturating_add(stop.state);
        self.status.downtime = self.time(bytes).saturating_add(stop.fixed);
    }

    /// How long so many bytes take, microseconds.
    fn time(&self, bytes: u64) -> u64 {
        match self.status.rate {
            0 => u64::MAX,
            rate => bytes.saturating_mul(1_000_000) / rate,
        }
    }

    /// Slows the guest down further; whether that could be.
    fn brake(&mut self) -> bool {
        let it = &mut self.status;
        let step = if it.speed == 100 {
            FIRST_BRAKE
        } else {
            NEXT_BRAKE
        };
        let slowest = self.limits.slowest.clamp(1, 100);
        let slower = it.speed.saturating_sub(step).max(slowest);
        let can = slower < it.speed;
        it.speed = slower;
        can
    }
}

/// Bytes below which a round does not tell how fast the line is.
const TELLING: u64 = 256 << 10;

/// Bytes in a second, if the round tells.
fn rate(round: Round) -> Option<u64> {
    let tells = round.sent >= TELLING && round.took > 0;
    tells.then(|| rate_of(round))
}

fn rate_of(round: Round) -> u64 {
    round.sent.saturating_mul(1_000_000) / round.took.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MIB: u64 = 1 << 20;

    /// A guest of `memory` bytes that writes `writes` bytes a second, of `set` different ones, over a line of `rate`.
    #[derive(Clone, Copy, Debug)]
    struct Scene {
        memory: u64,
        set: u64,
        writes: u64,
        rate: u64,
        stop: Stop,
    }

    impl Scene {
        /// Runs a migration to its end: what it said, how it stood, and how long the stop really was.
        fn run(self, limits: Limits) -> (Next, Status, u64) {
            let mut it = Precopy::new(limits);
            let (mut left, mut speed) = (self.memory, 100);
            loop {
                let took = (left * 1_000_000 / self.rate).max(1);
                let written = self.writes * u64::from(speed) / 100 * took / 1_000_000;
                let round = Round {
                    sent: left,
                    took,
                    left: written.min(self.set),
                };
                left = round.left;
                match it.round(round, self.stop) {
                    Next::Again(percent) => {
                        assert!(percent <= speed && percent >= limits.slowest.max(1));
                        speed = percent;
                    }
                    last => {
                        let stop =
                            (left + self.stop.state) * 1_000_000 / self.rate + self.stop.fixed;
                        return (last, *it.status(), stop);
                    }
                }
            }
        }
    }

    /// The busy guest of the peers' figures: 160 MiB of data, 1 MiB written every 20 ms; 117 MB in a second.
    const BUSY: Scene = Scene {
        memory: 160 * MIB,
        set: 160 * MIB,
        writes: 50 * MIB,
        rate: 117_000_000,
        stop: Stop {
            state: 20_000,
            fixed: 2_000,
        },
    };
    const LIMITS: Limits = Limits {
        downtime: 25_000,
        at_worst: 25_000,
        slowest: 20,
    };

    #[test]
    fn a_guest_that_is_slower_than_the_line_stops_by_itself() {
        let (last, status, stop) = BUSY.run(LIMITS);
        assert!(
            matches!(last, Next::Stop(estimate) if estimate.abs_diff(stop) < 100 && stop <= 25_000),
            "{last:?} {stop}"
        );
        assert_eq!(status.speed, 100);
        assert!((3..8).contains(&status.rounds), "{status:?}");
    }

    #[test]
    fn an_idle_guest_takes_one_round() {
        let (last, status, _) = Scene { writes: 0, ..BUSY }.run(LIMITS);
        assert!(matches!(last, Next::Stop(_)));
        assert_eq!((status.rounds, status.sent), (1, 160 * MIB));
    }

    #[test]
    fn a_guest_of_a_few_pages_stops_too() {
        let tiny = Scene {
            memory: 71_000,
            set: 4_101,
            ..BUSY
        };
        let (last, status, stop) = tiny.run(LIMITS);
        assert!(matches!(last, Next::Stop(_)) && stop <= 25_000, "{last:?}");
        assert_eq!(status.speed, 100);
    }

    #[test]
    fn a_round_in_which_nothing_went_says_nothing_of_the_line() {
        let mut it = Precopy::new(Limits {
            downtime: 10_000,
            at_worst: 300_000,
            slowest: 20,
        });
        let stop = BUSY.stop;
        let round = |sent, took, left| Round { sent, took, left };
        for (sent, took, left) in [(71_087, 104_881, 4_101), (4_117, 6_275, 0)] {
            assert!(matches!(
                it.round(round(sent, took, left), stop),
                Next::Again(_)
            ));
        }
        it.round(round(0, 3_786, 4_101), stop);
        assert!(it.status().downtime < 300_000, "{:?}", it.status());
    }

    #[test]
    fn a_fast_guest_is_slowed_until_it_converges() {
        let fast = Scene {
            writes: 150_000_000,
            ..BUSY
        };
        let (last, status, stop) = fast.run(LIMITS);
        assert!(matches!(last, Next::Stop(_)) && stop <= 25_000, "{last:?}");
        assert!((20..=70).contains(&status.speed), "{status:?}");
    }

    #[test]
    fn a_guest_is_not_slowed_for_a_stop_that_is_long_for_other_reasons() {
        let scene = Scene {
            memory: MIB,
            set: MIB,
            writes: 1_000_000,
            rate: 2_000_000,
            stop: Stop {
                state: 0,
                fixed: 5_798,
            },
        };
        let limits = Limits {
            downtime: 1_000,
            at_worst: 5_798,
            slowest: 1,
        };
        let (last, status, _) = scene.run(limits);
        assert_eq!((last, status.speed), (Next::Stop(5_798), 100));
    }

    #[test]
    fn one_that_does_not_converge_is_stopped_if_that_is_bearable() {
        let fast = Scene {
            writes: 150_000_000,
            ..BUSY
        };
        let unslowed = Limits {
            at_worst: 2_000_000,
            slowest: 100,
            ..LIMITS
        };
        let (last, status, stop) = fast.run(unslowed);
        assert!(matches!(last, Next::Stop(_)) && (25_000..2_000_000).contains(&stop));
        assert_eq!(status.speed, 100);
    }

    #[test]
    fn one_that_may_not_be_slowed_enough_ends_with_the_reason() {
        let fast = Scene {
            writes: 1_000_000_000,
            ..BUSY
        };
        assert_eq!(fast.run(LIMITS).0, Next::Never(Why::TooFast));
        let unslowed = Limits {
            slowest: 100,
            ..LIMITS
        };
        let (last, status, _) = Scene {
            writes: 150_000_000,
            ..BUSY
        }
        .run(unslowed);
        assert_eq!((last, status.speed), (Next::Never(Why::TooFast), 100));
        let heavy = Stop {
            state: 20_000,
            fixed: 30_000,
        };
        let (last, ..) = Scene {
            stop: heavy,
            ..BUSY
        }
        .run(LIMITS);
        assert!(matches!(last, Next::Never(Why::Downtime(least)) if least > 30_000));
    }

    proptest! {
        /// It always ends; a stop keeps its promise; a guest that converges by itself is never slowed.
        #[test]
        fn it_ends_and_keeps_its_word(
            memory in 1..4096_u64, set in 1..4096_u64, writes in 0..2_000_000_000_u64, rate in 1_000_000..1_000_000_000_u64,
            state in 0..200_000_u64, fixed in 0..20_000_u64, downtime in 1_000..500_000_u64, more in 0..500_000_u64, slowest in 1..=100_u8,
        ) {
            let at_worst = downtime + more;
            let memory = memory * MIB;
            let scene = Scene { memory, set: (set * MIB).min(memory), writes, rate, stop: Stop { state, fixed } };
            let (last, status, stop) = scene.run(Limits { downtime, at_worst, slowest });
            prop_assert!(status.rounds <= MAX_ROUNDS);
            match last {
                Next::Stop(estimate) => {
                    prop_assert!(estimate <= at_worst);
                    prop_assert!(stop <= estimate + estimate / 50 + 10, "{} for {}", stop, estimate);
                }
                Next::Never(Why::TooFast) => prop_assert_eq!(status.speed, slowest),
                Next::Never(Why::Downtime(least)) => prop_assert!(least > at_worst),
                Next::Never(Why::Rounds) => prop_assert_eq!(status.rounds, MAX_ROUNDS),
                Next::Again(_) => prop_assert!(false),
            }
            if writes <= rate / 2 {
                prop_assert_eq!(status.speed, 100);
            }
        }
    }
}
