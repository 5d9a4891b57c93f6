//! `hearth scale`: what a guest may have of its board's cores, and a board that has as much.

use cluster_proto::ids::{BoardId, GuestId};
use cluster_proto::ledger::types::{Guest, Operation, Phase};
use cluster_proto::limits::WEIGHT_MAX;
use cluster_proto::placement::{Verdict, verdict_live};

use super::interrupt::Interrupt;
use super::migrate;
use super::orders::{Done, order};
use super::reach::Reach;
use super::session::{Look, Session};
use super::view::board_name;
use super::why;
use crate::report::{Answer, EXIT_CODES, Failure};

const ABOUT: &str = "\
A cap is in percent of one core: a guest with two vCPUs has up to 200. It is kept over ten milliseconds, whether its board has other things to do or not. Caps of the
guests on a board are promises: together they are no more than its cores. If the guest's board has too little left for a higher cap, the guest moves to one that has
as much, while it runs, and has it there; if none has, nothing is changed.

A weight counts when guests want more than there is: each vCPU of a guest with weight 300 gets three times as much as one of a guest with 100, which is what they have
if nobody says otherwise.

A guest that does not run has both when it starts.";

/// Give a guest more or less of its board's cores, and move it while it runs if its board has none left.
#[derive(clap::Args)]
#[command(after_long_help = format!("{ABOUT}\n\n{EXIT_CODES}"))]
#[command(group(clap::ArgGroup::new("what").required(true).multiple(true)))]
pub struct Arguments {
    /// The guest.
    guest: String,
    /// At most so many percent of one core, all its vCPUs together; `none` for as much as there is.
    #[arg(long, value_name = "PERCENT", group = "what", value_parser = cap)]
    cpu_cap: Option<u16>,
    /// How much each of its vCPUs counts beside others, 1 to 10,000; 100 unless told.
    #[arg(long, value_name = "WEIGHT", group = "what",
        value_parser = clap::value_parser!(u16).range(1..=i64::from(WEIGHT_MAX)))]
    weight: Option<u16>,
    #[command(flatten)]
    reach: Reach,
}

fn cap(text: &str) -> Result<u16, String> {
    match text.trim_end_matches('%').parse() {
        _ if text == "none" => Ok(0),
        Ok(percent @ 1..) => Ok(percent),
        _ => Err("a number of percent, or `none`".into()),
    }
}

/// Does it.
///
/// # Errors
/// It is refused, no board has as much left, the guest could not be moved to one, or nobody answers.
pub fn run(arguments: &Arguments) -> Result<Answer, Failure> {
    let mut session = arguments.reach.open()?;
    let look = session.look()?;
    let id = why::find(&look, &arguments.guest)?;
    let name = &arguments.guest;
    let (cap, weight) = (arguments.cpu_cap, arguments.weight);
    let moves = match plan(&look, id, cap).map_err(Failure::Trouble)? {
        Plan::Here => String::new(),
        Plan::Move { to, left } => move_there(&mut session, &look, id, to, &left)?,
    };
    let guest = id;
    order(&mut session, Operation::Scale { guest, weight, cap })?;
    let cap = cap.map(|cap| match cap {
        0 => "has as much of its board as there is".to_owned(),
        cap => format!("has at most {cap} % of a core"),
    });
    let weight = weight.map(|weight| format!("counts {weight} beside others"));
    let said: Vec<_> = cap.into_iter().chain(weight).collect();
    Ok(Done::new(format!("{name} {}{moves}", said.join(", and "))).into())
}

/// What is to be done before a guest has its cap.
#[derive(Debug, PartialEq, Eq)]
enum Plan {
    /// Nothing.
    Here,
    /// It is to be moved there; what its board has left, in words.
    Move { to: BoardId, left: String },
}

/// Percent of cores of a board that no cap of a guest but `but` promises.
fn left(look: &Look, board: BoardId, but: GuestId) -> u32 {
    let entry = look.ledger.board(board);
    let all = entry.map_or(0, |entry| u32::from(entry.capacity.cores) * 100);
    let here = |guest: &Guest| {
        let moving = guest.moving.as_ref().is_some_and(|order| order.to == board);
        (guest.phase != Phase::Unowned && guest.owner == board) || moving
    };
    let others = look.ledger.guests();
    let others = others.filter(|(id, _, guest)| *id != but && here(guest));
    let promised: u32 = others.map(|(_, _, guest)| u32::from(guest.share.cap)).sum();
    all.saturating_sub(promised)
}

/// Where the guest can have that cap.
///
/// # Errors
/// Why it cannot, and what to do.
fn plan(look: &Look, id: GuestId, cap: Option<u16>) -> Result<Plan, String> {
    let Some((guest, cap)) = look.ledger.guest(id).zip(cap) else {
        return Ok(Plan::Here);
    };
    let (name, wanted) = (guest.spec.name.as_str(), u32::from(cap));
    let most = u32::from(guest.spec.vcpus) * 100;
    if wanted > most {
        return Err(format!(
            "{name} has vCPUs for {most} % of a core, and cannot use more"
        ));
    }
    if guest.phase == Phase::Unowned || wanted <= left(look, guest.owner, id) {
        return Ok(Plan::Here);
    }
    let boards: Vec<_> = look.ledger.boards().map(|(board, _)| board).collect();
    let others = boards.iter().copied().filter(|board| *board != guest.owner);
    let fit = others.filter(|board| {
        matches!(verdict_live(&look.ledger, id, *board), Verdict::Fits { .. })
            && left(look, *board, id) >= wanted
    });
    let of = |board: BoardId| {
        let left = left(look, board, id);
        format!("{} has {left} %", board_name(look, board))
    };
    match fit.max_by_key(|board| left(look, *board, id)) {
        Some(to) => Ok(Plan::Move {
            to,
            left: of(guest.owner),
        }),
        None => {
            let all: Vec<_> = boards.iter().map(|board| of(*board)).collect();
            Err(format!(
                "no board that can take {name} has {wanted} % of a core left: {}. A lower --cpu-cap fits, or another guest's can be lowered; `hearth why {name}` says which boards can take it",
                all.join(", ")
            ))
        }
    }
}

/// Moves a guest to a board that has more left. What is to be said of it.
fn move_there(
    session: &mut Session,
    look: &Look,
    id: GuestId,
    to: BoardId,
    left: &str,
) -> Result<String, Failure> {
    let interrupt = Interrupt::catch()?;
    let order = migrate::Order {
        guest: id,
        to: Some(to),
        downtime: None,
    };
    migrate::follow(session, look, order, (&interrupt, None))?;
    let now = session.look()?;
    let there = now.ledger.guest(id);
    if there.is_none_or(|guest| guest.owner != to) {
        return Err(Failure::Trouble(
            "it has not moved yet, so nothing else is changed: try again".into(),
        ));
    }
    let to = board_name(look, to);
    Ok(format!(
        ", on {to}: {left} left, too little, so it has moved"
    ))
}

#[cfg(test)]
mod tests {
    use super::super::scene::{ALPHA, BETA, GAMMA, Scene, WEB};
    use super::*;

    fn scaled(scene: &mut Scene, cap: u16) {
        let (guest, cap) = (WEB, Some(cap));
        scene.order(Operation::Scale {
            guest,
            weight: None,
            cap,
        });
    }

    #[test]
    fn what_is_left_is_what_nobody_was_promised() {
        let mut scene = Scene::new();
        let nobody = GuestId(9);
        let all = left(&scene.0, ALPHA, nobody);
        assert!(all >= 100);
        scaled(&mut scene, 60);
        assert_eq!(left(&scene.0, ALPHA, nobody), all - 60);
        // Its own is its to change.
        assert_eq!(left(&scene.0, ALPHA, WEB), all);
        assert_eq!(left(&scene.0, BETA, nobody), left(&scene.0, GAMMA, nobody));
        assert_eq!(plan(&scene.0, WEB, Some(100)), Ok(Plan::Here));
        assert_eq!(plan(&scene.0, WEB, None), Ok(Plan::Here));
    }

    /// Fills alpha: four guests, each with a core of its four.
    fn full() -> Scene {
        let mut scene = Scene::new();
        for name in ["a", "b", "c", "d"] {
            let guest = scene.create(name, 64);
            scene.place(guest, ALPHA);
            scene.order(Operation::Scale {
                guest,
                weight: Some(300),
                cap: Some(100),
            });
        }
        scene
    }

    #[test]
    fn a_guest_moves_where_there_is_more() {
        let mut scene = full();
        let moves = plan(&scene.0, WEB, Some(50));
        let Ok(Plan::Move { to, left }) = moves else {
            panic!("{moves:?}")
        };
        assert!(to == BETA || to == GAMMA);
        assert_eq!(left, "alpha has 0 %");
        // A lower cap, or none, is nobody else's.
        assert_eq!(plan(&scene.0, WEB, Some(0)), Ok(Plan::Here));
        // Nobody else can take it.
        for board in [BETA, GAMMA] {
            scene.order(Operation::Drain {
                board,
                on: true,
                downtime: None,
            });
        }
        let why = plan(&scene.0, WEB, Some(50)).unwrap_err();
        assert!(why.contains("no board that can take web has 50 %"), "{why}");
    }

    #[test]
    fn a_guest_cannot_have_more_than_it_can_use() {
        let scene = Scene::new();
        let why = plan(&scene.0, WEB, Some(60_000)).unwrap_err();
        assert!(why.contains("cannot use more"), "{why}");
    }

    #[test]
    fn caps_are_read() {
        assert_eq!(cap("none"), Ok(0));
        assert_eq!((cap("150"), cap("30%")), (Ok(150), Ok(30)));
        for wrong in ["0", "", "-1", "many", "70000"] {
            assert!(cap(wrong).is_err(), "{wrong}");
        }
    }
}
