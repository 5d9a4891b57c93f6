//! What a vCPU and a guest may have of the board: weights, and caps with the budgets that keep them. Numbers alone, without the queue.
//!
//! All of it is zeros when nobody has said anything, so that the queue takes no room of the image.

use core::num::NonZeroU16;

use super::CoreId;

/// A cap is kept over so long: a guest has that much of a core in each period as its cap says.
pub const PERIOD_MICROSECONDS: u64 = 10_000;

/// How much a vCPU counts beside others that want a core: one of twice the weight gets twice as much.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weight(Option<NonZeroU16>);

impl Weight {
    /// What a vCPU has if nobody says otherwise: 100. Its service is counted in ticks.
    pub const DEFAULT: Self = Self(None);
    /// The most that one may have.
    pub const MAX: u16 = 10_000;
    const NORMAL: u16 = 100;
    /// A turn of a light vCPU is not shorter than this part of a lead, or the board would do nothing but switch.
    const SHORTEST: u64 = 10;

    /// This weight, 1 to [`MAX`](Self::MAX).
    pub fn new(weight: u16) -> Option<Self> {
        let weight = NonZeroU16::new(weight).filter(|weight| weight.get() <= Self::MAX)?;
        Some(Self(Some(weight)))
    }

    fn get(self) -> u64 {
        u64::from(self.0.map_or(Self::NORMAL, NonZeroU16::get))
    }

    /// What so many ticks on a core count, and what is left over of the division, for the next time.
    pub(super) fn service(self, ticks: u64, rest: u16) -> (u64, u16) {
        let scaled = ticks.saturating_mul(Self::NORMAL.into()) + u64::from(rest);
        (scaled / self.get(), (scaled % self.get()) as u16)
    }

    /// Ticks on a core until the service has grown by so much.
    pub(super) fn ticks(self, service: u64) -> u64 {
        (service.saturating_mul(self.get())).div_ceil(Self::NORMAL.into())
    }

    /// How much more service than the least served that waits a running vCPU may have, where one of the default weight may have `lead`. A heavy one may have no more time on a
    /// core for it, so that heavy ones take turns as others do; a light one has less, within reason.
    pub(super) fn lead(self, lead: u64) -> u64 {
        let ticks = lead * self.get() / u64::from(Self::NORMAL);
        self.service(ticks.clamp(lead / Self::SHORTEST, lead), 0).0
    }
}

/// The most that a vCPU of any weight is ahead by its [`Weight::lead`], in leads.
pub(super) const LONGEST_LEAD: u64 = Weight::NORMAL as u64 / Weight::SHORTEST;

/// Percent of one core that a guest has at the most, all its vCPUs together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cap(NonZeroU16);

impl Cap {
    /// So many percent; 0 is none.
    pub fn new(percent: u16) -> Option<Self> {
        NonZeroU16::new(percent).map(Self)
    }

    /// Percent of one core.
    pub fn percent(self) -> u16 {
        self.0.get()
    }
}

/// Who caps a guest. Each has a word of its own, and the lowest counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capper {
    /// The operator, as long as he likes.
    Operator,
    /// A move, until it is over.
    Move,
}

/// How many periods' budgets a guest has at most, if it did not use those before.
const KEPT: u64 = 4;

/// A guest's caps, and what is left of its budget.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    caps: [Option<Cap>; 2],
    /// Ticks on cores in a period; 0 without a cap.
    ticks: u64,
    /// Ticks that are left of it and of what was kept; below zero, what was had too much.
    left: i64,
    /// When the period ends.
    refill_at: u64,
    /// The budget was found used: none of its vCPUs is to have a core until this core finds it refilled.
    pub(super) out: Option<CoreId>,
}

impl Budget {
    /// No cap.
    pub(super) const NONE: Self = Self {
        caps: [None; 2],
        ticks: 0,
        left: 0,
        refill_at: 0,
        out: None,
    };

    /// Takes a cap, or takes it away, and begins anew. The guest is not out from here on.
    pub(super) fn set(&mut self, by: Capper, cap: Option<Cap>, now: u64, period: u64) {
        self.caps[by as usize] = cap;
        let lowest = self.caps.iter().flatten().min();
        let ticks = lowest.map_or(0, |cap| (period * u64::from(cap.percent()) / 100).max(1));
        *self = Self {
            caps: self.caps,
            ticks,
            left: ticks as i64,
            refill_at: now + period,
            ..Self::NONE
        };
    }

    /// Whether there is a cap.
    pub(super) fn is_capped(&self) -> bool {
        self.ticks > 0
    }

    /// Takes account of so many ticks that a vCPU has had until now. More than a period too many are forgiven: a board that stood still for a minute has not given a guest a minute.
    pub(super) fn charge(&mut self, ticks: u64, now: u64, period: u64) {
        debug_assert!(self.is_capped());
        self.left = self.left.saturating_sub_unsigned(ticks);
        self.refill(now, period);
        self.left = self.left.max(-(period as i64));
    }

    /// Begins a new period if one is over. What was used too much is taken off it, and so much that was not used is added as [`KEPT`] says: a vCPU that waits longer
    /// than a period for its turn has not lost its guest's share.
    pub(super) fn refill(&mut self, now: u64, period: u64) {
        if now >= self.refill_at {
            let periods = (now - self.refill_at) / period + 1;
            let more = periods.saturating_mul(self.ticks);
            let most = (self.ticks * KEPT) as i64;
            self.left = self.left.saturating_add_unsigned(more).min(most);
            self.refill_at += periods * period;
        }
        assert!(self.refill_at > now);
    }

    /// Whether nothing is left of it.
    pub(super) fn is_used(&self) -> bool {
        self.is_capped() && self.left <= 0
    }

    /// Ticks that are left if so many were had besides.
    pub(super) fn left(&self, besides: u64) -> u64 {
        let left = self.left.saturating_sub_unsigned(besides);
        u64::try_from(left).unwrap_or(0)
    }

    /// When there is more of it.
    pub(super) fn refill_at(&self) -> u64 {
        self.refill_at
    }
}
