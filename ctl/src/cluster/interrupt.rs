//! Ctrl-C as an event, for verbs that have something to say or to put in order before they end.

use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::report::Failure;

/// Waits for Ctrl-C or a polite end (SIGTERM). Both no longer end this program by themselves.
pub struct Interrupt {
    signals: SignalFd,
}

impl Interrupt {
    /// From now on.
    ///
    /// # Errors
    /// What the system says.
    pub fn catch() -> Result<Self, Failure> {
        let trouble = |error| Failure::Trouble(format!("cannot wait for signals: {error}"));
        let mut mask = SigSet::empty();
        mask.add(Signal::SIGINT);
        mask.add(Signal::SIGTERM);
        mask.thread_block().map_err(trouble)?;
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        let signals = SignalFd::with_flags(&mask, flags).map_err(trouble)?;
        Ok(Self { signals })
    }

    /// Waits for at most `span`; whether the signal came.
    pub fn wait(&self, span: Duration) -> bool {
        let until = Instant::now() + span;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            let mut watched = [PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
            match poll(&mut watched, timeout) {
                Ok(ready) if ready > 0 => return true,
                _ if Instant::now() >= until => return false,
                _ => {}
            }
        }
    }
}
