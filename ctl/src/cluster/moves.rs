//! A guest's move, as the ledger tells it: how far it is, and why one cannot be.

use cluster_proto::ids::{BoardId, Epoch, GuestId, Index, MoveId};
use cluster_proto::ledger::types::{
    Denied, Event, Guest, Happening, Origin, Phase, Reason, Wanted,
};
use cluster_proto::placement::{Verdict, choose_live, held_by_volume, verdict, verdict_live};

use super::session::Look;
use super::view::{board_name, guest_name};
use super::words;

/// Why the last move of a guest was given up, if it was, the guest runs on, and no other move is under way.
pub fn given_up(guest: &Guest) -> Option<Reason> {
    let stays = guest.phase == Phase::Running && guest.stays > 0 && guest.moving.is_none();
    stays.then_some(guest.stay)
}

/// A move that was ordered, and is watched.
#[derive(Clone, Debug)]
pub struct Watched {
    /// Whose.
    pub guest: GuestId,
    /// From which board.
    pub from: BoardId,
    /// To which board, once it was seen.
    pub to: Option<BoardId>,
    /// In which epoch the guest moves.
    epoch: Epoch,
    /// Which move, once it was seen.
    id: Option<MoveId>,
    /// It is newer than this.
    since: Index,
}

/// How far a move is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Whoever tells does not know of the order yet.
    Ordered,
    /// The guest runs and is copied.
    Copied,
    /// It was handed over to the destination, which starts what arrived.
    Handed,
    /// It runs at the destination.
    Moved,
    /// The move was given up, and the guest stays.
    Stays(Reason),
    /// The guest left its board otherwise, before it was handed over or after.
    Ended {
        /// Whether it was handed over before.
        handed: bool,
        /// Why it left.
        reason: Reason,
    },
    /// There is no such guest any more.
    Gone,
}

impl Watched {
    /// The move of `guest` that is about to be ordered, to that board if one is named; or the one that is under way already.
    pub fn before_order(look: &Look, guest: GuestId, to: Option<BoardId>) -> Self {
        let known = look.ledger.guest(guest);
        let order = known.and_then(|known| known.moving.as_ref());
        Self {
            guest,
            from: known.map_or(BoardId(0), |known| known.owner),
            to,
            epoch: look.ledger.epoch(guest),
            id: None,
            since: order.map_or(look.ledger.index, |order| Index(order.id.0 - 1)),
        }
    }

    /// The epoch of the guest once it is handed over.
    pub fn next(&self) -> Epoch {
        Epoch(self.epoch.0 + 1)
    }

    /// Whether it is that one.
    pub fn is(&self, id: MoveId) -> bool {
        self.id == Some(id)
    }

    /// How far it is.
    pub fn stage(&mut self, look: &Look) -> Stage {
        let Some(guest) = look.ledger.guest(self.guest) else {
            return Stage::Gone;
        };
        let epoch = look.ledger.epoch(self.guest);
        if self.id.is_none() {
            self.learn(look, guest);
        }
        let Some(id) = self.id else {
            return Stage::Ordered;
        };
        let runs = guest.phase == Phase::Running;
        if epoch == self.epoch && runs {
            let same = guest.moving.as_ref().is_some_and(|order| order.id == id);
            return if same {
                Stage::Copied
            } else {
                Stage::Stays(guest.stay)
            };
        }
        if epoch == self.next() {
            match (&guest.origin, guest.phase) {
                (Origin::Arrived { .. }, Phase::Starting) => return Stage::Handed,
                (Origin::Arrived { .. }, Phase::Running) => return Stage::Moved,
                (Origin::Kept {}, Phase::Running) => return Stage::Stays(guest.stay),
                _ => {}
            }
        }
        // More than the move has happened since.
        let handed = self.has(look, Happening::Handed);
        if handed && self.has(look, Happening::Ran) {
            return Stage::Moved;
        }
        Stage::Ended {
            handed,
            reason: self.left(look, handed).unwrap_or(guest.reason),
        }
    }

    /// Why the guest left its board, or the destination if it was handed over.
    fn left(&self, look: &Look, handed: bool) -> Option<Reason> {
        let at = if handed { self.next() } else { self.epoch };
        let mut events = look.ledger.events.iter();
        let left = events.find(|event| {
            matches!(event.what, Happening::Leaving | Happening::Left)
                && (event.guest, event.epoch) == (Some(self.guest), at)
        });
        left.map(|event| event.reason)
    }

    /// Which move it is, if `look` shows it.
    fn learn(&mut self, look: &Look, guest: &Guest) {
        let now = look.ledger.epoch(self.guest);
        let ordered = |event: &&Event| {
            event.what == Happening::Moving
                && event.guest == Some(self.guest)
                && event.index > self.since
        };
        let found = match &guest.moving {
            Some(order) => Some((order.id, order.to, now)),
            None => {
                let newest = look.ledger.events.iter().filter(ordered).last();
                newest.map(|event| (MoveId(event.index.0), event.board, event.epoch))
            }
        };
        if let Some((id, to, epoch)) = found {
            (self.id, self.to, self.epoch) = (Some(id), Some(to), epoch);
            if epoch == now {
                self.from = guest.owner;
            }
        }
    }

    /// Whether that happened to the guest in the epoch after the move.
    fn has(&self, look: &Look, what: Happening) -> bool {
        let mut events = look.ledger.events.iter();
        events.any(|event| {
            (event.what, event.guest, event.epoch) == (what, Some(self.guest), self.next())
        })
    }
}

/// Why the cluster refuses to move guest `id`, to that board if one was named, or to call its move off, and what to do.
pub fn refusal(look: &Look, id: GuestId, to: Option<BoardId>, why: Denied) -> String {
    let Some(guest) = look.ledger.guest(id) else {
        return words::denied(why).into();
    };
    let name = &guest.spec.name;
    let on = board_name(look, guest.owner);
    match why {
        Denied::NotRunning => not_running(name, &on, guest),
        Denied::AlreadyThere => format!(
            "{name} is on {on} already; without --to it moves to the board that suits it best"
        ),
        Denied::LocalVolume => {
            let holder = held_by_volume(&look.ledger, id).map_or(on, |at| board_name(look, at));
            format!(
                "a local volume of {name} is on {holder}: it runs there or nowhere. If {holder} is to be switched off, shut {name} down first (`hearth guest stop {name}`)"
            )
        }
        Denied::NoBoard => no_board(look, id, guest, to),
        Denied::Moving => {
            let order = guest.moving.as_ref();
            let to = order.map_or_else(|| "another board".into(), |it| board_name(look, it.to));
            format!(
                "{name} is on its way to {to}: wait for that (`hearth why {name}` shows it), or call it off first (`hearth migrate {name} --cancel`)"
            )
        }
        Denied::NotMoving if guest.phase == Phase::Unowned => {
            format!("{name} is not being moved: it does not run")
        }
        Denied::NotMoving => format!(
            "{name} is not being moved: it is {} on {on}",
            words::phase(guest.phase)
        ),
        other => words::denied(other).into(),
    }
}

fn not_running(name: &str, on: &str, guest: &Guest) -> String {
    let what = match (guest.phase, guest.wanted) {
        (Phase::Unowned, Wanted::Stopped) => {
            return format!(
                "{name} is stopped, and only a guest that runs is moved: `hearth guest start {name}` starts it"
            );
        }
        (Phase::Unowned, Wanted::Running) => "does not run now".into(),
        (phase, _) => format!("is {} on {on}", words::phase(phase)),
    };
    format!(
        "{name} {what}, and only a guest that runs is moved: `hearth why {name}` says what it waits for; order it again then"
    )
}

/// What keeps a guest that runs from the board that was named, or from every other one, and what to do.
fn no_board(look: &Look, id: GuestId, guest: &Guest, to: Option<BoardId>) -> String {
    let name = &guest.spec.name;
    let others = look.ledger.boards().map(|(board, _)| board);
    let others = others.filter(|board| *board != guest.owner);
    let asked: Vec<_> = match to {
        Some(to) => vec![to],
        None => others.collect(),
    };
    let judged: Vec<_> = asked
        .iter()
        .map(|board| (*board, verdict_live(&look.ledger, id, *board)))
        .collect();
    let fits = |(_, verdict): &(BoardId, Verdict)| matches!(verdict, Verdict::Fits { .. });
    if judged.iter().any(fits) {
        return format!("no board could take {name} just now, and one can by now: order it again");
    }
    let board = |board: BoardId| board_name(look, board);
    let reasons = judged.iter().map(|(at, verdict)| {
        let guest = |guest| guest_name(look, guest);
        format!("{} {}", board(*at), words::verdict(verdict, &board, &guest))
    });
    let reasons: Vec<_> = reasons.collect();
    let mut said = match reasons.len() {
        0 => format!("there is no other board than {}", board(guest.owner)),
        _ => format!(
            "no board can take {name} while it runs: {}",
            reasons.join("; ")
        ),
    };
    if to.is_some() {
        said = reasons.join("; ");
    }
    let class = judged.iter().any(|(at, live)| {
        let afresh = verdict(&look.ledger, id, *at);
        matches!((live, afresh), (Verdict::Class(_), Verdict::Fits { .. }))
    });
    let memory = |(_, verdict): &(BoardId, Verdict)| matches!(verdict, Verdict::Memory { .. });
    if let Some(other) = to.and_then(|_| choose_live(&look.ledger, id)) {
        let other = board(other);
        said += &format!(". {other} can take it: `hearth migrate {name} --to {other}`");
    } else if judged.iter().any(memory) {
        said += ". No other guest is displaced for one that moves: move or stop one there first";
    } else if class {
        let on = board(guest.owner);
        said += &format!(
            ". A guest that runs stays within its class; `hearth drain {on}` stops the guests of {on} that cannot move so, and starts them elsewhere"
        );
    }
    said
}

#[cfg(test)]
mod tests {
    use cluster_proto::ids::{BoardSet, Tenure};
    use cluster_proto::ledger::types::{Operation, Volume, VolumeKind};

    use super::super::scene::{ALPHA, BETA, GAMMA, Scene, WEB};
    use super::*;

    /// What the operator reads of an order to move `web` that is refused.
    fn refused(scene: &mut Scene, to: Option<BoardId>) -> String {
        let why = scene.refused(Operation::Migrate {
            guest: WEB,
            to,
            downtime: None,
        });
        refusal(&scene.0, WEB, to, why.expect("it is refused"))
    }

    #[test]
    fn a_guest_that_does_not_run_is_named_with_what_to_do() {
        let mut scene = Scene::new();
        let wanted = Wanted::Stopped;
        scene.order(Operation::Want { guest: WEB, wanted });
        let said = refused(&mut scene, None);
        assert!(
            said.starts_with("web is leaving on alpha, and only"),
            "{said}"
        );
        scene.fence(ALPHA);
        let said = refused(&mut scene, None);
        assert!(
            said.ends_with("`hearth guest start web` starts it"),
            "{said}"
        );
        let wanted = Wanted::Running;
        scene.order(Operation::Want { guest: WEB, wanted });
        let said = refused(&mut scene, None);
        assert!(said.starts_with("web does not run now"), "{said}");
        assert!(said.contains("`hearth why web`"), "{said}");
        let cancel = Operation::CancelMove { guest: WEB };
        let why = scene.refused(cancel).expect("nothing to call off");
        assert_eq!(
            refusal(&scene.0, WEB, None, why),
            "web is not being moved: it does not run"
        );
    }

    #[test]
    fn a_guest_that_is_there_or_under_way_is_named() {
        let mut scene = Scene::new();
        let said = refused(&mut scene, Some(ALPHA));
        assert!(said.starts_with("web is on alpha already"), "{said}");
        let cancel = Operation::CancelMove { guest: WEB };
        let why = scene.refused(cancel).expect("nothing to call off");
        assert_eq!(
            refusal(&scene.0, WEB, None, why),
            "web is not being moved: it is running on alpha"
        );
        scene.migrate(GAMMA);
        let said = refused(&mut scene, Some(BETA));
        assert!(said.starts_with("web is on its way to gamma"), "{said}");
        assert!(said.contains("`hearth migrate web --cancel`"), "{said}");
    }

    #[test]
    fn a_local_volume_is_named_with_its_board() {
        let mut scene = Scene::new();
        scene.fence(ALPHA);
        let volume = Volume {
            name: "data".try_into().expect("short"),
            guest: WEB,
            kind: VolumeKind::Local,
            board: ALPHA,
            size_mib: 1,
            image: [0; 32],
        };
        scene.0.ledger.create_volume(&volume).expect("room");
        scene.board(ALPHA).tenure = Tenure(99);
        scene.place(WEB, ALPHA);
        let said = refused(&mut scene, None);
        assert!(
            said.starts_with("a local volume of web is on alpha: it runs there or nowhere"),
            "{said}"
        );
    }

    #[test]
    fn a_board_that_cannot_take_it_is_named_with_one_that_can() {
        let mut scene = Scene::new();
        scene.board(BETA).drained = true;
        assert_eq!(
            refused(&mut scene, Some(BETA)),
            "beta is drained (`hearth undrain` takes that back). gamma can take it: `hearth migrate web --to gamma`"
        );
        let db = scene.create("db", 1_700);
        scene.place(db, GAMMA);
        let said = refused(&mut scene, Some(GAMMA));
        assert!(
            said.starts_with(
                "gamma has 300 MiB of memory left, and the guest needs 400. No other guest"
            ),
            "{said}"
        );
        let said = refused(&mut scene, None);
        assert!(
            said.starts_with("no board can take web while it runs: beta is drained (`hearth undrain` takes that back); gamma has 300 MiB"),
            "{said}"
        );
    }

    #[test]
    fn the_only_board_of_its_class_holds_a_guest_that_runs() {
        let mut scene = Scene::new();
        scene.board(BETA).capacity.class = 2;
        scene.fence(GAMMA);
        let said = refused(&mut scene, None);
        assert!(said.contains("beta is of another class, 0x2"), "{said}");
        assert!(
            said.contains("gamma is out of the cluster") && said.contains("`hearth drain alpha`"),
            "{said}"
        );
        // It may not start there either.
        let place = &mut scene.0.ledger.guests[WEB.at()];
        let guest = place.guest.as_mut().expect("web");
        guest.spec.allowed = BoardSet(0);
        guest.spec.allowed.set(ALPHA, true);
        let said = refused(&mut scene, Some(BETA));
        assert_eq!(
            said,
            "beta is not among the boards that the guest is allowed on"
        );
        scene.0.ledger.boards[BETA.at()] = None;
        scene.0.ledger.boards[GAMMA.at()] = None;
        let said = refused(&mut scene, None);
        assert_eq!(said, "there is no other board than alpha");
    }

    #[test]
    fn a_move_that_was_given_up_counts_until_the_next() {
        let mut scene = Scene::new();
        assert_eq!(given_up(scene.web()), None);
        scene.migrate(GAMMA);
        scene.give_up(Reason::NotConverged);
        assert_eq!(given_up(scene.web()), Some(Reason::NotConverged));
        scene.migrate(GAMMA);
        assert_eq!(given_up(scene.web()), None);
    }
}
