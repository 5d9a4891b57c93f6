//! What a cluster is like, worked out from what its boards said: the answer of `hearth status`.

use cluster_proto::ids::{BoardId, GuestId, Incarnation, Memory};
use cluster_proto::ledger::types::{Board, Guest, Origin, Phase, Share, Wanted};
use cluster_proto::placement::{Choice, Verdict, choose, missing_spare, verdict};
use serde::Serialize;

use super::going::{self, Going};
use super::links::Links;
use super::session::{Look, Report};
use super::{moves, words};

/// A cluster.
#[derive(Debug, Serialize)]
pub struct View {
    /// Its name.
    pub cluster: String,
    /// Whether nothing is wrong.
    pub well: bool,
    /// What is wrong, the gravest first.
    pub troubles: Vec<String>,
    /// What is not wrong and yet good to know.
    pub notes: Vec<String>,
    /// Whether there is a history yet.
    pub founded: bool,
    /// Who leads.
    pub leader: Option<String>,
    /// In which term.
    pub term: u64,
    /// Whose account of the agreed state this is.
    pub told_by: String,
    /// Who votes.
    pub quorum: Quorum,
    /// Whether failover is off everywhere.
    pub disarmed: bool,
    /// The first board whose guests would find no room if it were lost.
    pub no_spare_for: Option<String>,
    /// Boards and witnesses.
    pub boards: Vec<BoardView>,
    /// Who hears whom.
    pub links: Links,
    /// Guests.
    pub guests: Vec<GuestView>,
}

/// Who votes.
#[derive(Debug, Serialize)]
pub struct Quorum {
    /// Seats.
    pub voters: usize,
    /// Voters that the leader hears, itself among them; without a leader, those that answer this tool.
    pub present: usize,
    /// How many must be there for anything to be agreed.
    pub needed: usize,
    /// Whether there would still be so many without one of them.
    pub survives_one_more_loss: bool,
}

/// A board or witness.
#[derive(Debug, Serialize)]
pub struct BoardView {
    /// Its name.
    pub name: String,
    /// Whether it only votes.
    pub witness: bool,
    /// Whether it answers this tool.
    pub answers: bool,
    /// `in`, `out`, or for a witness `votes` or `out`.
    pub state: &'static str,
    /// Whether guests are to leave it.
    pub drained: bool,
    /// Whether nobody takes its guests over.
    pub disarmed: bool,
    /// Whether it has a vote now.
    pub votes: bool,
    /// Whether it leads.
    pub leads: bool,
    /// Which life of it others hear; none if nobody does.
    pub life: Option<String>,
    /// Whether that is another life than the one that was let in.
    pub rebooted: bool,
    /// For how long it has had no lease, in milliseconds.
    pub leaseless_ms: u16,
    /// What it has for guests.
    pub memory_mib: u32,
    /// What is left of it.
    pub memory_free_mib: u32,
    /// Its cores.
    pub cores: u16,
    /// Its guests.
    pub guests: Vec<String>,
}

/// A guest.
#[derive(Debug, Serialize)]
pub struct GuestView {
    /// Its name.
    pub name: String,
    /// Its place in the ledger.
    pub number: u16,
    /// What the operator wants of it.
    pub wanted: &'static str,
    /// How far it is.
    pub phase: &'static str,
    /// On whose board.
    pub board: Option<String>,
    /// Its ownership epoch.
    pub epoch: u64,
    /// Its vCPUs.
    pub vcpus: u16,
    /// Its memory.
    pub memory_mib: u32,
    /// Who goes first.
    pub priority: u8,
    /// How often it failed of late.
    pub failures: u8,
    /// Why it last changed its place.
    pub reason: &'static str,
    /// To which board it moves while it runs.
    pub moves_to: Option<String>,
    /// How that goes, if its board tells.
    pub move_progress: Option<Going>,
    /// Why its last move was given up, if it was and no other is under way.
    pub stays_because: Option<&'static str>,
    /// Percent of one core that it has at the most; zero for as much as there is.
    pub cpu_cap: u16,
    /// How much each of its vCPUs counts beside others.
    pub weight: u16,
    /// What is wrong with it.
    pub trouble: Option<String>,
}

impl GuestView {
    /// Whether it is as it is wanted.
    pub fn settled(&self) -> bool {
        match self.wanted {
            "running" => self.phase == words::phase(Phase::Running),
            _ => self.phase == words::phase(Phase::Unowned),
        }
    }

    /// What is wrong with it, and what there is to know of its moves.
    pub fn note(&self) -> String {
        let moves = self.moves_to.iter();
        let moves = moves.map(|to| going::with(format!("moves to {to}"), &self.move_progress));
        let stays = self.stays_because.iter();
        let stays = stays.map(|why| format!("its last move was given up: {why}"));
        let all: Vec<_> = self
            .trouble
            .iter()
            .cloned()
            .chain(moves)
            .chain(stays)
            .chain(self.share())
            .collect();
        all.join("; ")
    }

    /// What it has of its board's cores, where the operator has said something.
    fn share(&self) -> impl Iterator<Item = String> {
        let cap = (self.cpu_cap > 0).then(|| format!("at most {} % of a core", self.cpu_cap));
        let weight = self.weight;
        let weight = (weight != Share::DEFAULT.weight).then(|| format!("weight {weight}"));
        cap.into_iter().chain(weight)
    }
}

/// The names of boards, as the ledger has them.
pub fn board_name(look: &Look, board: BoardId) -> String {
    let known = look.ledger.board(board);
    known.map_or_else(|| format!("board {board}"), |board| board.name.to_string())
}

/// The names of guests.
pub fn guest_name(look: &Look, guest: GuestId) -> String {
    let known = look.ledger.guest(guest);
    known.map_or_else(
        || format!("guest {guest}"),
        |guest| guest.spec.name.to_string(),
    )
}

impl View {
    /// Of what was seen of `cluster`.
    pub fn of(cluster: &str, look: &Look) -> Self {
        let name = |board| board_name(look, board);
        let links = Links::of(look);
        let guests: Vec<_> = look
            .ledger
            .guests()
            .map(|(id, epoch, guest)| guest_view(look, id, epoch.0, guest))
            .collect();
        let boards: Vec<_> = look
            .ledger
            .boards()
            .map(|(id, board)| board_view(look, id, board))
            .collect();
        let mut view = Self {
            cluster: cluster.to_string(),
            well: false,
            troubles: Vec::new(),
            notes: Vec::new(),
            founded: !look.era.is_blank(),
            leader: look.leader.map(name),
            term: look.ledger.term.0.max(newest_term(look)),
            told_by: name(look.source),
            quorum: quorum(look),
            disarmed: look.ledger.disarmed,
            no_spare_for: missing_spare(&look.ledger).map(name),
            boards,
            links,
            guests,
        };
        view.troubles = troubles(&view, look);
        view.notes = notes(&view);
        view.well = view.troubles.is_empty();
        view
    }
}

fn newest_term(look: &Look) -> u64 {
    let reports = look.reports.iter().flatten();
    reports
        .map(|report| report.status.term.0)
        .max()
        .unwrap_or(0)
}

/// The report of `board`, if it answered.
fn report(look: &Look, board: BoardId) -> Option<&Report> {
    look.reports.get(board.at())?.as_ref()
}

fn quorum(look: &Look) -> Quorum {
    let seats = &look.ledger.seats;
    let voters = seats.iter().count();
    let heard = |board: BoardId| match look.leader.and_then(|leader| report(look, leader)) {
        Some(told) => {
            look.leader == Some(board) || told.echoes.iter().any(|it| it.board == board && it.heard)
        }
        None => report(look, board).is_some(),
    };
    let blank = look.era.is_blank();
    // Before the founding nobody has taken a seat.
    let seated = |memory: Memory| blank || memory != Memory(0);
    let present = seats
        .iter()
        .filter(|(_, board, memory)| seated(*memory) && heard(*board))
        .count();
    // A seat that is empty for a moment counts for no majority.
    let taken = if blank { voters } else { seats.taken() };
    let needed = taken / 2 + 1;
    Quorum {
        voters,
        present,
        needed,
        survives_one_more_loss: present > needed,
    }
}

fn board_view(look: &Look, id: BoardId, board: &Board) -> BoardView {
    let told = report(look, id);
    let lives = look.reports.iter().flatten().flat_map(|it| &it.echoes);
    let heard = lives.filter(|echo| echo.board == id && echo.heard);
    let life = heard.map(|echo| echo.incarnation).find(|it| it.0 != 0);
    let inside = board.tenure.0 != 0;
    let memory = look.ledger.seats.memory(id).unwrap_or_default();
    let used = look.ledger.owned_by(id);
    let used: u32 = used.map(|(_, _, guest)| guest.spec.memory_mib).sum();
    let votes = memory != Memory(0);
    BoardView {
        name: board.name.to_string(),
        witness: board.witness,
        answers: told.is_some(),
        state: match (board.witness, inside, votes) {
            (false, true, _) => "in",
            (true, _, true) => "votes",
            _ => "out",
        },
        drained: board.drained,
        disarmed: board.disarmed,
        votes,
        leads: look.leader == Some(id),
        life: life.map(|life| format!("{:016x}", life.0)),
        rebooted: life.is_some_and(|life| {
            inside && board.incarnation != Incarnation(0) && life != board.incarnation
        }),
        leaseless_ms: told.map_or(0, |it| it.status.leaseless_ms),
        memory_mib: board.capacity.memory_mib,
        memory_free_mib: board.capacity.memory_mib.saturating_sub(used),
        cores: board.capacity.cores,
        guests: look
            .ledger
            .owned_by(id)
            .map(|(_, _, guest)| guest.spec.name.to_string())
            .collect(),
    }
}

fn guest_view(look: &Look, id: GuestId, epoch: u64, guest: &Guest) -> GuestView {
    let owned = guest.phase != Phase::Unowned;
    GuestView {
        name: guest.spec.name.to_string(),
        number: id.0,
        wanted: words::wanted(guest.wanted),
        phase: words::phase(guest.phase),
        board: owned.then(|| board_name(look, guest.owner)),
        epoch,
        vcpus: guest.spec.vcpus,
        memory_mib: guest.spec.memory_mib,
        priority: guest.spec.priority,
        failures: guest.failures,
        reason: words::reason(guest.reason),
        moves_to: guest
            .moving
            .as_ref()
            .map(|order| board_name(look, order.to)),
        move_progress: Going::of(look, id),
        stays_because: moves::given_up(guest).map(words::stay),
        cpu_cap: guest.share.cap,
        weight: guest.share.weight,
        trouble: guest_trouble(look, id, guest),
    }
}

/// What is wrong with a guest.
fn guest_trouble(look: &Look, id: GuestId, guest: &Guest) -> Option<String> {
    let owner = || board_name(look, guest.owner);
    let failed = match guest.failures {
        0 => String::new(),
        1 => " after it failed once".into(),
        times => format!(" after it failed {times} times"),
    };
    match (guest.wanted, guest.phase) {
        (Wanted::Running, Phase::Running) => {
            let silent = look.leader.is_some() && !heard_by_anybody(look, guest.owner);
            silent.then(|| format!("nobody hears its board, {}", owner()))
        }
        (Wanted::Stopped, Phase::Unowned) => None,
        (_, Phase::Starting) if matches!(guest.origin, Origin::Restored { .. }) => {
            Some(format!("comes from a file to {}", owner()))
        }
        (_, Phase::Starting) => Some(format!("starting on {}{failed}", owner())),
        (_, Phase::Leaving) => Some(format!(
            "leaving {}: {}",
            owner(),
            words::reason(guest.reason)
        )),
        (Wanted::Stopped, Phase::Running) => Some(format!("still running on {}", owner())),
        (Wanted::Running, Phase::Unowned) => Some(match choose(&look.ledger, id) {
            _ if look.leader.is_none() => "not running, and no leader is there to place it".into(),
            Choice::Board(board) => {
                format!("about to start on {}{failed}", board_name(look, board))
            }
            Choice::Displace(board, other) => format!(
                "waits for {} to leave {}",
                guest_name(look, other),
                board_name(look, board)
            ),
            Choice::Nowhere => format!("no board can run it: {}", nearest(look, id)),
        }),
    }
}

/// What keeps a guest from the board that comes nearest to running it.
fn nearest(look: &Look, id: GuestId) -> String {
    let rank = |verdict: &Verdict| match verdict {
        Verdict::Memory { .. } => 0,
        Verdict::Apart(_) => 1,
        Verdict::Drained => 2,
        Verdict::Cores { .. } | Verdict::Class(_) => 3,
        Verdict::Out => 4,
        _ => 5,
    };
    let boards = look.ledger.boards().filter(|(_, board)| !board.witness);
    let judged = boards.map(|(board, _)| (board, verdict(&look.ledger, id, board)));
    let best = judged.min_by_key(|(_, verdict)| rank(verdict));
    let name = |board| board_name(look, board);
    let guest = |guest| guest_name(look, guest);
    best.map_or_else(
        || "there is no board".into(),
        |(board, verdict)| {
            let why = words::verdict(&verdict, &name, &guest);
            format!("{} {why} (`hearth why` says it of all)", name(board))
        },
    )
}

/// Whether some other board hears `board`, or it answers this tool.
fn heard_by_anybody(look: &Look, board: BoardId) -> bool {
    let others = look.reports.iter().flatten();
    report(look, board).is_some()
        || others
            .flat_map(|report| &report.echoes)
            .any(|echo| echo.board == board && echo.heard)
}

/// What is wrong with a cluster, the gravest first.
fn troubles(view: &View, look: &Look) -> Vec<String> {
    let mut troubles = Vec::new();
    let Quorum {
        voters,
        present,
        needed,
        survives_one_more_loss,
    } = view.quorum;
    if !view.founded {
        let missing = voters.saturating_sub(present);
        troubles.push(match missing {
            0 => "the cluster is not founded yet: all voters are there, it takes a moment".into(),
            missing => format!(
                "the cluster is not founded yet: that takes all {voters} voters, and {missing} of them are missing"
            ),
        });
    } else if view.leader.is_none() {
        troubles.push(format!(
            "there is no leader: {present} of {voters} voters answer, and {needed} are needed; guests run on, but nothing is agreed and nothing fails over"
        ));
    } else if !survives_one_more_loss && voters > 1 {
        troubles.push(format!(
            "{present} of {voters} voters are there: the loss of one more stops the cluster from deciding"
        ));
    }
    for board in &view.boards {
        troubles.extend(board_troubles(board, view));
    }
    troubles.extend(view.links.faults.iter().cloned());
    troubles.extend(packed_differently(look));
    if view.disarmed {
        troubles.push("failover is off everywhere: `hearth arm` turns it on".into());
    }
    for guest in &view.guests {
        if let Some(trouble) = &guest.trouble {
            troubles.push(format!("guest {}: {trouble}", guest.name));
        }
    }
    troubles
}

/// What is not wrong and yet good to know: a guest that is bound to its board cannot be carried on elsewhere, and was meant so.
fn notes(view: &View) -> Vec<String> {
    let drained = view.boards.iter().filter(|board| board.drained);
    let drained = drained.map(|board| {
        let name = &board.name;
        format!("{name} is drained: no guest goes there (`hearth undrain {name}`)")
    });
    let spare = view.no_spare_for.iter();
    let spare =
        spare.map(|board| format!("if {board} is lost, no other board can run all of its guests"));
    drained.chain(spare).collect()
}

fn board_troubles(board: &BoardView, view: &View) -> Vec<String> {
    let name = &board.name;
    let mut troubles = Vec::new();
    let gone = board.life.is_none() && !board.answers;
    if gone {
        let role = if board.witness { "witness" } else { "board" };
        troubles.push(format!("nobody hears {role} {name}: it is off or cut off"));
    } else if board.rebooted {
        troubles.push(format!("{name} has rebooted and is not let in yet"));
    } else if view.founded && board.state == "out" && view.leader.is_some() {
        troubles.push(format!("{name} is there and not let in yet"));
    }
    if board.leaseless_ms > 0 && !board.witness && view.founded {
        troubles.push(format!(
            "{name} has had no lease for {} ms: its guests stand still",
            board.leaseless_ms
        ));
    }
    if board.disarmed {
        troubles.push(format!(
            "{name} is disarmed: nobody takes its guests over if it is lost (`hearth arm {name}`)"
        ));
    }
    troubles
}

/// Boards that were packed from another description than most.
fn packed_differently(look: &Look) -> Vec<String> {
    let Some(reference) = report(look, look.source) else {
        return Vec::new();
    };
    let others = look.reports.iter().enumerate();
    // A description has at most 16.
    let others = others.filter_map(|(at, it)| Some((BoardId(at as u8), it.as_ref()?)));
    let differs = |it: &Report| it.status.manifest != reference.status.manifest;
    others
        .filter(|(_, it)| differs(it))
        .map(|(board, _)| {
            format!(
                "{} was packed from another description than {}: pack and start both from the same",
                board_name(look, board),
                board_name(look, look.source)
            )
        })
        .collect()
}
