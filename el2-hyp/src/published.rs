//! A thing that all cores find without a lock, and that can be taken away from under them.
//!
//! Each core counts its laps ([`Laps`]): it *passes* where it holds nothing that it has found. Who withdraws a thing notes how far each core is, and has the thing for
//! itself when each has passed since ([`Withdrawn::take`]): none that found it before can still have it in hand, and none has found it after. So to find
//! costs one load. Whoever withdraws sees to it that every core passes soon, and never waits: it asks again.

use alloc::boxed::Box;
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering, fence};

/// How often each of `CORES` cores has passed.
pub struct Laps<const CORES: usize>([AtomicU64; CORES]);

impl<const CORES: usize> Default for Laps<CORES> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const CORES: usize> Laps<CORES> {
    /// Nobody has.
    pub const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; CORES])
    }

    /// Core `core` passes.
    ///
    /// # Safety
    /// It is that core which calls, and it keeps no reference that [`Published::find`] gave it, but to things that nobody withdraws while it keeps it.
    #[inline]
    pub unsafe fn pass(&self, core: usize) {
        // What was done with things that were found comes before, and what is found comes after.
        self.0[core].fetch_add(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    fn now(&self) -> [u64; CORES] {
        core::array::from_fn(|core| self.0[core].load(Ordering::SeqCst))
    }

    /// Where the first `running` cores are: see [`Round::is_over`].
    pub fn begin_round(&self, running: usize) -> Round<CORES> {
        fence(Ordering::SeqCst);
        Round {
            noted: self.now(),
            running,
        }
    }
}

/// A moment, which every core is to pass.
#[derive(Clone, Copy, Debug)]
pub struct Round<const CORES: usize> {
    noted: [u64; CORES],
    running: usize,
}

impl<const CORES: usize> Round<CORES> {
    /// Whether each of the cores has passed since.
    pub fn is_over(&self, laps: &Laps<CORES>) -> bool {
        let now = laps.now();
        (0..self.running).all(|core| now[core] != self.noted[core])
    }
}

/// A place where cores find a thing.
pub struct Published<T: 'static>(AtomicPtr<T>);

impl<T: Send + Sync> Default for Published<T> {
    fn default() -> Self {
        Self::nothing()
    }
}

impl<T: Send + Sync> Published<T> {
    /// Nothing is here.
    pub const fn nothing() -> Self {
        Self(AtomicPtr::new(ptr::null_mut()))
    }

    /// The thing that is here. It is not kept beyond the core's next pass; what else it may be used for is [`Laps::pass`]'s contract.
    #[inline(always)]
    pub fn find(&self) -> Option<&'static T> {
        // SAFETY: it came from a box, and nobody has that box back before this core has passed.
        unsafe { self.0.load(Ordering::Acquire).as_ref() }
    }

    /// Puts a thing here.
    ///
    /// # Panics
    /// If there is one.
    pub fn publish(&self, thing: Box<T>) {
        let former = self.0.swap(Box::into_raw(thing), Ordering::AcqRel);
        assert!(former.is_null(), "a place holds one thing");
    }

    /// Takes away what is here: from now on nobody finds it. `running` cores, the first ones, may have it in hand.
    pub fn withdraw<const CORES: usize>(
        &self,
        laps: &Laps<CORES>,
        running: usize,
    ) -> Option<Withdrawn<T, CORES>> {
        let at = self.0.swap(ptr::null_mut(), Ordering::SeqCst);
        (!at.is_null()).then(|| Withdrawn {
            at,
            round: laps.begin_round(running),
        })
    }
}

/// A thing that nobody finds any more.
pub struct Withdrawn<T, const CORES: usize> {
    at: *mut T,
    round: Round<CORES>,
}

// SAFETY: it owns the thing.
unsafe impl<T: Send, const CORES: usize> Send for Withdrawn<T, CORES> {}

impl<T, const CORES: usize> Withdrawn<T, CORES> {
    /// The thing, once nobody has it in hand; else itself, to be asked again.
    ///
    /// # Errors
    /// While a core has not passed since the thing was withdrawn.
    pub fn take(self, laps: &Laps<CORES>) -> Result<Box<T>, Self> {
        if !self.round.is_over(laps) {
            return Err(self);
        }
        // SAFETY: it came from a box in `publish`. Nobody finds it since `withdraw`, and whoever had found it has passed since, as `pass` was promised.
        Ok(unsafe { Box::from_raw(self.at) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::{AtomicBool, AtomicUsize};
    use std::thread;

    #[test]
    fn nothing_is_given_back_before_every_core_has_passed() {
        let laps = Laps::<4>::new();
        let place = Published::nothing();
        assert!(place.find().is_none());
        place.publish(Box::new(7));
        assert_eq!(place.find(), Some(&7));
        // SAFETY: nothing is kept.
        let pass = |core| unsafe { laps.pass(core) };
        pass(0);
        let mut withdrawn = place.withdraw(&laps, 3).unwrap();
        assert!(place.find().is_none() && place.withdraw(&laps, 3).is_none());
        for core in [0, 0, 3, 2] {
            withdrawn = withdrawn.take(&laps).unwrap_err();
            pass(core);
        }
        // The fourth core is not up, and the second has yet to pass.
        withdrawn = withdrawn.take(&laps).unwrap_err();
        pass(1);
        assert_eq!(withdrawn.take(&laps).ok(), Some(Box::new(7)));
        place.publish(Box::new(8));
        assert_eq!(place.find(), Some(&8));
        drop(place.withdraw(&laps, 0).unwrap().take(&laps));
    }

    /// A thing that says when it is gone.
    struct Canary {
        alive: AtomicBool,
    }

    impl Drop for Canary {
        fn drop(&mut self) {
            self.alive.store(false, Ordering::Relaxed);
        }
    }

    #[test]
    fn nobody_meets_what_is_gone() {
        static LAPS: Laps<3> = Laps::new();
        static PLACE: Published<Canary> = Published::nothing();
        static ENDED: AtomicBool = AtomicBool::new(false);
        static MET: AtomicUsize = AtomicUsize::new(0);
        let readers: Vec<_> = (0..3)
            .map(|core| {
                thread::spawn(move || {
                    while !ENDED.load(Ordering::Relaxed) {
                        for _ in 0..50 {
                            if let Some(canary) = PLACE.find() {
                                MET.fetch_add(1, Ordering::Relaxed);
                                assert!(canary.alive.load(Ordering::Relaxed));
                            }
                        }
                        // SAFETY: the canary is not looked at any more.
                        unsafe { LAPS.pass(core) };
                    }
                })
            })
            .collect();
        for _ in 0..2_000 {
            let alive = AtomicBool::new(true);
            PLACE.publish(Box::new(Canary { alive }));
            thread::yield_now();
            let mut withdrawn = PLACE.withdraw(&LAPS, 3).unwrap();
            let canary = loop {
                match withdrawn.take(&LAPS) {
                    Ok(canary) => break canary,
                    Err(again) => withdrawn = again,
                }
                thread::yield_now();
            };
            drop(canary);
        }
        ENDED.store(true, Ordering::Relaxed);
        for reader in readers {
            reader.join().unwrap();
        }
        assert_ne!(MET.load(Ordering::Relaxed), 0);
    }
}
