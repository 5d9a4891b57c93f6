//! How one stretch of time passes in the model: clocks, mail, and the one thing that goes wrong.

use std::sync::Arc;

use cluster_proto::ids::{BoardId, BoardSet, GuestId, Micros};
use cluster_proto::ledger::types::{Operation, Reason, RequestId};
use cluster_proto::node::{Effect, Local};
use cluster_proto::wire::frame::{Party, Recipient};

use super::{EVENTS, Fault, MEMORY, Mail, ModelNode, Scope, Situation, VOTERS};

/// What is on this step.
struct Weather<'a> {
    fault: Fault,
    end: u64,
    scope: &'a Scope,
}

impl Situation {
    /// Lets one step pass.
    pub(super) fn pass(&mut self, fault: Fault, scope: &Scope) {
        self.depth += 1;
        let weather = Weather {
            fault,
            end: self.now + scope.step_ms * 1_000,
            scope,
        };
        let oldest = self.now.saturating_sub(MEMORY * scope.step_ms * 1_000);
        self.sent.retain(|mail| mail.due >= oldest);
        let before = self.sent.clone();
        let mut reboot_at = None;
        match fault {
            Fault::Crash(board) => self.crash(usize::from(board)),
            Fault::Boot(board) | Fault::BootWithout(board, _) => {
                self.boot(usize::from(board), scope)
            }
            Fault::Reboot(board, ms) => {
                self.crash(usize::from(board));
                reboot_at = Some((self.now + u64::from(ms) * 1_000, usize::from(board)));
            }
            Fault::Only(board) => {
                self.now = weather.end;
                return self.call(usize::from(board), &weather, &mut |node, now, out| {
                    node.tick(now, out)
                });
            }
            Fault::Deliver => {
                if !self.mail.is_empty() {
                    let mail = self.mail.remove(0);
                    self.now = self.now.max(mail.due);
                    self.arrive(mail, &weather);
                }
                return;
            }
            Fault::Again(board) => {
                let again = before
                    .iter()
                    .filter(|mail| mail.from == board)
                    .map(|mail| Mail {
                        due: self.now,
                        ..mail.clone()
                    });
                self.mail.extend(again);
            }
            Fault::Order(board, _) | Fault::Migrate(board) => {
                self.request += 1;
                let id = RequestId {
                    operator: 1,
                    request: self.request,
                };
                let order = match fault {
                    Fault::Migrate(_) => Operation::Migrate {
                        guest: GuestId(0),
                        to: None,
                        downtime: None,
                    },
                    _ => Operation::DisarmAll { on: false },
                };
                self.call(usize::from(board), &weather, &mut |node, now, out| {
                    node.command(now, id.clone(), order.clone(), out)
                });
            }
            Fault::Reform(board, _) => {
                self.request += 1;
                let id = RequestId {
                    operator: 1,
                    request: self.request,
                };
                let mut lost = BoardSet(0);
                for (at, station) in self.stations.iter().enumerate() {
                    // VOTERS is three.
                    lost.set(BoardId(at as u8), !station.on && station.disk.is_none());
                }
                self.call(usize::from(board), &weather, &mut |node, now, out| {
                    node.reform(now, id.clone(), lost, out)
                });
            }
            _ => {}
        }
        for _ in 0..EVENTS {
            if self.violation.is_some() {
                return;
            }
            if let Some((at, board)) = reboot_at.filter(|(at, _)| self.next_due(&weather) >= *at) {
                self.now = self.now.max(at);
                self.boot(board, scope);
                reboot_at = None;
                continue;
            }
            if !self.next_event(&weather) {
                self.now = weather.end;
                return;
            }
        }
        self.violation = Some("the nodes never rest");
    }

    fn stopped(weather: &Weather<'_>, board: usize) -> bool {
        weather.fault == Fault::Stop(board as u8)
    }

    fn wakes(&self, weather: &Weather<'_>) -> Option<(u64, usize)> {
        let due = |board: usize| {
            self.clock(board)
                .when(self.stations[board].node.deadline())
                .max(self.now)
        };
        (0..VOTERS)
            .filter(|&board| self.stations[board].on && !Self::stopped(weather, board))
            .map(|board| (due(board), board))
            .min()
    }

    fn next_mail(&self) -> Option<(u64, usize)> {
        self.mail
            .iter()
            .enumerate()
            .map(|(at, mail)| (mail.due, at))
            .min()
    }

    fn next_due(&self, weather: &Weather<'_>) -> u64 {
        let wake = self.wakes(weather).map_or(u64::MAX, |wake| wake.0);
        wake.min(self.next_mail().map_or(u64::MAX, |mail| mail.0))
    }

    /// Does what is due next in this step. Returns whether there was anything.
    fn next_event(&mut self, weather: &Weather<'_>) -> bool {
        let due = self.next_due(weather);
        if due >= weather.end {
            return false;
        }
        self.now = self.now.max(due);
        // A board that has slept looks at its clock before it looks at its mail.
        if let Some((_, board)) = self.wakes(weather).filter(|(at, _)| *at <= self.now) {
            self.call(board, weather, &mut |node, now, out| node.tick(now, out));
        } else if let Some((_, at)) = self.next_mail() {
            let mail = self.mail.remove(at);
            self.arrive(mail, weather);
        }
        true
    }

    fn arrive(&mut self, mut mail: Mail, weather: &Weather<'_>) {
        let to = usize::from(mail.to);
        if Self::stopped(weather, to) {
            mail.due = weather.end;
            self.mail.push(mail);
            return;
        }
        if !self.stations[to].on {
            return;
        }
        let mut accepted = false;
        self.call(to, weather, &mut |node, now, out| {
            accepted = node.receive(now, &mail.frame, out)
        });
        let newest = &mut self.stations[to].lives[usize::from(mail.from)];
        if accepted && mail.life < *newest {
            self.violation = Some("freshness");
        } else if accepted {
            *newest = mail.life;
        }
    }

    fn call(
        &mut self,
        board: usize,
        weather: &Weather<'_>,
        act: &mut dyn FnMut(&mut ModelNode, Micros, &mut dyn cluster_proto::node::Sink),
    ) {
        let clock = self.clock(board);
        let local = clock.local(self.now);
        let station = &mut self.stations[board];
        if !station.on {
            return;
        }
        let mut sent: Vec<(Recipient, Arc<[u8]>)> = Vec::new();
        let mut events = Vec::new();
        let (copies, disk) = (&mut station.copies, &mut station.disk);
        let mut sink = |effect: Effect<'_>| match effect {
            Effect::Send { to, frame } => sent.push((to, frame.into())),
            Effect::Persist { place, record } => {
                if let Some(disk) = disk {
                    disk.write(place, record.to_vec());
                }
            }
            Effect::Start { guest, epoch, .. } => {
                copies[guest.at()] = Some((epoch, false));
                events.push(Local::Started { guest, epoch });
            }
            Effect::Freeze { guest, .. } => {
                copies[guest.at()] = copies[guest.at()].map(|copy| (copy.0, true))
            }
            Effect::Resume { guest, .. } => {
                copies[guest.at()] = copies[guest.at()].map(|copy| (copy.0, false))
            }
            Effect::Destroy { guest, epoch } => {
                copies[guest.at()] = None;
                events.push(Local::Gone {
                    guest,
                    epoch,
                    reason: Reason::Operator,
                });
            }
            // The destination has all at once, so a move is never called off before the hand-over is asked for.
            Effect::Move {
                guest, epoch, id, ..
            } => {
                copies[guest.at()] = Some((epoch, true));
                events.push(Local::Ready { guest, epoch, id });
            }
            Effect::Renew { guest, to, .. } => copies[guest.at()] = Some((to, true)),
            Effect::Abandon { .. } | Effect::Answer { .. } | Effect::Parcel { .. } => {}
        };
        act(Arc::make_mut(&mut station.node), local, &mut sink);
        for (to, frame) in sent {
            self.post(board as u8, to, frame, weather);
        }
        for event in events {
            self.call(board, weather, &mut |node, now, out| {
                node.local(now, event, out)
            });
        }
        self.look(board);
    }

    fn post(&mut self, from: u8, to: Recipient, frame: Arc<[u8]>, weather: &Weather<'_>) {
        for board in (0..VOTERS as u8).filter(|board| *board != from) {
            let meant = match to {
                Recipient::All => true,
                Recipient::One(party) => party == Party::Board(BoardId(board)),
            };
            let lost = match weather.fault {
                Fault::Cut(a, b) => (a, b) == (from, board),
                Fault::Isolate(cut)
                | Fault::BootWithout(_, cut)
                | Fault::Order(_, cut)
                | Fault::Reform(_, cut) => cut == from || cut == board,
                Fault::Reboot(..) => (from, board) == (1, 0),
                _ => false,
            };
            if !meant || lost || !self.stations[usize::from(board)].on {
                continue;
            }
            let late = weather.fault == Fault::Hold(from);
            let due = if late { weather.end } else { self.now } + weather.scope.delay_ms * 1_000;
            let mail = Mail {
                due,
                from,
                life: self.stations[usize::from(from)].life,
                to: board,
                frame: frame.clone(),
            };
            if weather.scope.faults.contains(&Fault::Again(from)) {
                self.sent.push(mail.clone());
            }
            self.mail.push(mail);
        }
    }
}
