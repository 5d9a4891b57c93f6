//! How a guest's move goes and what it cost the guest, as the boards at its ends tell.

use std::fmt;

use cluster_proto::ids::GuestId;
use cluster_proto::service::progress::{Progress, Step};
use serde::Serialize;

use super::moves::Watched;
use super::session::{Look, Session};
use crate::report::Failure;

/// Bytes of a megabyte.
const MB: f64 = 1e6;

/// How a move goes that is under way.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Going {
    /// `waiting` for the destination, `copying`, `stopped` for the rest, or `handing over`.
    pub step: &'static str,
    /// Rounds that are over.
    pub rounds: u32,
    /// Bytes that have gone, in all.
    pub sent_bytes: u64,
    /// Bytes that are left of this round, at the most.
    pub left_bytes: u64,
    /// Megabytes in a second, in this round.
    pub mb_per_second: f64,
    /// How long the round goes on at the speed at which it has gone so far; nothing if nobody knows.
    pub seconds_left: Option<f64>,
    /// Percent of its speed that is left to the guest.
    pub guest_speed: u8,
}

impl Going {
    /// How the move of a guest goes that is under way, if its board tells.
    pub fn of(look: &Look, guest: GuestId) -> Option<Self> {
        let (_, told) = look.moves.iter().find(|(of, _)| *of == guest)?;
        let step = match told.step {
            Step::Knocks => "waiting",
            Step::Copies => "copying",
            Step::Stopped => "stopped",
            Step::Asks => "handing over",
            // What else a board may say is no move under way from it.
            _ => return None,
        };
        let known = told.left_ms != Progress::UNKNOWN;
        Some(Self {
            step,
            rounds: told.rounds,
            sent_bytes: told.sent,
            left_bytes: told.left,
            mb_per_second: tenths(told.rate as f64 / MB),
            seconds_left: known.then(|| tenths(f64::from(told.left_ms) / 1e3)),
            guest_speed: told.speed,
        })
    }
}

impl fmt::Display for Going {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.step {
            "waiting" => return f.write_str("waits to be let in"),
            "stopped" => return f.write_str("still, for what is left"),
            "handing over" => return f.write_str("still, until the cluster has agreed"),
            _ => {}
        }
        write!(
            f,
            "round {}: {:.1} MB left, at {:.1} MB in a second",
            self.rounds + 1,
            self.left_bytes as f64 / MB,
            self.mb_per_second
        )?;
        if let Some(seconds) = self.seconds_left {
            write!(f, ", some {seconds:.1} s")?;
        }
        match self.guest_speed {
            100.. => Ok(()),
            slowed => write!(f, "; slowed to {slowed} %"),
        }
    }
}

/// What is said of a move, with how it goes behind it.
pub fn with(said: String, going: &Option<Going>) -> String {
    match going {
        Some(going) => format!("{said} ({going})"),
        None => said,
    }
}

/// How long a guest was still for its move, as both boards have measured it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Downtime {
    /// In all.
    pub ms: f64,
    /// Until its vCPUs had left their cores, by the source's clock.
    pub stop_ms: f64,
    /// From then until the destination had said that it has all, by the source's clock.
    pub rest_ms: f64,
    /// From when the destination had all until the guest went on, by the destination's clock.
    pub hand_over_ms: f64,
}

impl Downtime {
    /// What the two ends of a move told.
    fn of(source: &Progress, destination: &Progress) -> Option<Self> {
        let told = (source.step, destination.step, source.id, source.epoch);
        if told != (Step::Left, Step::GoesOn, destination.id, destination.epoch) {
            return None;
        }
        let ms = |us: u32| (f64::from(us) / 10.0).round() / 100.0;
        let us = [source.stop_us, source.rest_us, destination.hand_over_us];
        Some(Self {
            ms: ms(us.iter().fold(0, |sum, us| sum.saturating_add(*us))),
            stop_ms: ms(us[0]),
            rest_ms: ms(us[1]),
            hand_over_ms: ms(us[2]),
        })
    }

    /// Of a move that is over, if both boards tell.
    ///
    /// # Errors
    /// The way to them is broken.
    pub fn ask(session: &mut Session, watched: &Watched) -> Result<Option<Self>, Failure> {
        let Some(to) = watched.to else {
            return Ok(None);
        };
        let source = session.progress(watched.from, watched.guest)?;
        let destination = session.progress(to, watched.guest)?;
        let both = source.zip(destination);
        let both = both.filter(|(source, _)| watched.is(source.id));
        Ok(both.and_then(|(source, destination)| Self::of(&source, &destination)))
    }
}

impl fmt::Display for Downtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "still for {:.1} ms: {:.1} to stop, {:.1} for what was left, {:.1} to hand over",
            self.ms, self.stop_ms, self.rest_ms, self.hand_over_ms
        )
    }
}

fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use cluster_proto::ids::{Epoch, MoveId};

    use super::super::scene::{GAMMA, Scene, WEB};
    use super::*;

    fn told(step: Step) -> Progress {
        Progress {
            rounds: 1,
            sent: 51_600_000,
            left: 12_340_000,
            rate: 45_670_000,
            left_ms: 270,
            speed: 80,
            stop_us: 40,
            rest_us: 5_290,
            hand_over_us: 1_730,
            ..Progress::new(MoveId(7), Epoch(1), step)
        }
    }

    #[test]
    fn a_move_under_way_is_told_in_numbers() {
        let mut scene = Scene::new();
        scene.migrate(GAMMA);
        assert_eq!(Going::of(&scene.0, WEB), None);
        scene.0.moves = vec![(WEB, told(Step::Copies))];
        let going = Going::of(&scene.0, WEB);
        assert_eq!(
            with("web moves".into(), &going),
            "web moves (round 2: 12.3 MB left, at 45.7 MB in a second, some 0.3 s; slowed to 80 %)"
        );
        scene.0.moves[0].1.left_ms = Progress::UNKNOWN;
        let going = Going::of(&scene.0, WEB).expect("told");
        assert_eq!((going.seconds_left, going.guest_speed), (None, 80));
        scene.0.moves[0].1.step = Step::Left;
        assert_eq!(Going::of(&scene.0, WEB), None);
    }

    #[test]
    fn a_stop_has_its_parts_if_both_ends_tell_of_the_same_move() {
        let (source, destination) = (told(Step::Left), told(Step::GoesOn));
        let downtime = Downtime::of(&source, &destination).expect("both tell");
        assert_eq!(
            downtime.to_string(),
            "still for 7.1 ms: 0.0 to stop, 5.3 for what was left, 1.7 to hand over"
        );
        assert_eq!(downtime.ms, 7.06);
        assert_eq!(Downtime::of(&source, &told(Step::Whole)), None);
        let other = Progress {
            id: MoveId(8),
            ..destination
        };
        assert_eq!(Downtime::of(&source, &other), None);
    }
}
