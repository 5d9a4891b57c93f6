//! The network: loss, delay, duplicates, corruption, cuts, and an adversary who keeps frames.

use std::rc::Rc;

use cluster_proto::wire::frame::{Party, Recipient};

use super::operator::OPERATOR;
use super::{Happening, World};

/// Frames that the adversary keeps, to send them again.
const KEPT: usize = 256;
/// How many of a million frames it keeps.
const KEEPS: u32 = 30_000;

/// A frame that the adversary kept.
#[derive(Clone)]
pub(super) struct Kept {
    from: usize,
    life: u64,
    to: Recipient,
    frame: Rc<[u8]>,
}

impl World {
    /// Sends old frames again, to whom they were sent or to somebody else.
    pub fn replay(&mut self, count: usize) {
        for _ in 0..count {
            if self.kept.is_empty() {
                return;
            }
            let at = self.dice.pick(self.kept.len());
            let kept = self.kept[at].clone();
            if kept.from < OPERATOR && kept.life < self.machines[kept.from].life {
                self.stats.see("former_life_replayed");
            }
            for to in 0..self.machines.len() {
                let meant = match kept.to {
                    Recipient::All => true,
                    Recipient::One(Party::Board(board)) => usize::from(board.0) == to,
                    Recipient::One(Party::Operator(_)) => false,
                };
                if meant && to != kept.from {
                    let delay = self.dice.between(0, 5_000);
                    let frame = kept.frame.clone();
                    let what = Happening::Arrive {
                        to,
                        from: kept.from,
                        life: kept.life,
                        touched: false,
                        frame,
                    };
                    self.schedule(self.now + delay, what);
                }
            }
        }
    }

    pub(super) fn send(&mut self, from: usize, to: Recipient, frame: Rc<[u8]>) {
        self.stats.frames += 1;
        self.stats.bytes += frame.len() as u64;
        let life = self.machines.get(from).map_or(0, |machine| machine.life);
        if self.dice.chance(KEEPS) {
            let kept = Kept {
                from,
                life,
                to,
                frame: frame.clone(),
            };
            if self.kept.len() < KEPT {
                self.kept.push(kept);
            } else {
                let at = self.dice.pick(KEPT);
                self.kept[at] = kept;
            }
        }
        match to {
            Recipient::All => {
                for board in 0..self.machines.len() {
                    if board != from {
                        self.transmit(from, board, life, &frame);
                    }
                }
            }
            Recipient::One(Party::Board(board)) => {
                self.transmit(from, usize::from(board.0), life, &frame)
            }
            Recipient::One(Party::Operator(_)) => self.transmit(from, OPERATOR, life, &frame),
        }
    }

    fn transmit(&mut self, from: usize, to: usize, life: u64, frame: &Rc<[u8]>) {
        // No link to the tool is ever cut: what a cut does to it, loss does too.
        let cut = from < OPERATOR && to < OPERATOR && self.cut[from][to];
        let nobody = to >= self.machines.len() && to != OPERATOR;
        if nobody || cut || self.dice.chance(self.weather.loss) {
            return;
        }
        let copies = if self.dice.chance(self.weather.twice) {
            2
        } else {
            1
        };
        for _ in 0..copies {
            let delay = self
                .dice
                .between(self.weather.delay_min, self.weather.delay_max);
            let touched = self.dice.chance(self.weather.flipped);
            let frame = if touched {
                self.flip(frame)
            } else {
                frame.clone()
            };
            self.schedule(
                self.now + delay,
                Happening::Arrive {
                    to,
                    from,
                    life,
                    touched,
                    frame,
                },
            );
        }
    }

    fn flip(&mut self, frame: &Rc<[u8]>) -> Rc<[u8]> {
        let mut bytes = frame.to_vec();
        let at = self.dice.pick(bytes.len());
        bytes[at] ^= 1 << self.dice.below(8);
        bytes.into()
    }
}
