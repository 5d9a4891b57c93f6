//! Where a guest should run: a pure function of the ledger, with its explanation as a value.

use crate::ids::{BoardId, GuestId};
use crate::ledger::Ledger;
use crate::ledger::types::{Board, Guest, Move, Phase, Reason, VolumeKind, Wanted};

/// What keeps a guest from a board, or does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// There is no such board.
    Absent,
    /// It only votes.
    Witness,
    /// It is out: fenced, or never let in.
    Out,
    /// Guests are to leave it.
    Drained,
    /// The operator does not allow it.
    NotAllowed,
    /// A local volume of the guest lies on that other board.
    VolumeOn(BoardId),
    /// It is of that other class.
    Class(u32),
    /// It has too few cores at all.
    Cores {
        /// What the guest needs.
        need: u16,
        /// What the board has.
        has: u16,
    },
    /// That guest is to be kept apart from this one.
    Apart(GuestId),
    /// It has too little memory left.
    Memory {
        /// What the guest needs, in MiB.
        need: u32,
        /// What is left, in MiB.
        left: u32,
    },
    /// It would do, and would have so much memory left, in MiB.
    Fits {
        /// Memory left after it, in MiB.
        left: u32,
    },
}

/// Where a guest should run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Choice {
    /// There.
    Board(BoardId),
    /// There, once this guest of lower priority has left.
    Displace(BoardId, GuestId),
    /// Nowhere; [`verdict`] says why, for each board.
    Nowhere,
}

/// Why a guest is where it is, and what keeps it from being elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Why<const B: usize> {
    /// What the operator wants of it.
    pub wanted: Wanted,
    /// How far it is.
    pub phase: Phase,
    /// On whose board, if it has an owner.
    pub owner: Option<BoardId>,
    /// Why it last changed its place.
    pub reason: Reason,
    /// How often it failed since it last ran for long; it is tried again after a pause that grows with it.
    pub failures: u8,
    /// The move under way, if there is one.
    pub moving: Option<Move>,
    /// How many moves were given up since it last changed its place; the next one is tried after a pause that grows with it.
    pub stays: u8,
    /// Why the last of them was given up.
    pub stay: Reason,
    /// Where it would go now, if it had no owner.
    pub choice: Choice,
    /// What keeps it from each board, by number.
    pub verdicts: [Verdict; B],
    /// The first board whose loss the others could not absorb, if there is one (N+1).
    pub no_spare_for: Option<BoardId>,
}

/// The whole explanation for guest `id`, if there is such a guest.
#[must_use]
pub fn why<const B: usize, const G: usize, const D: usize>(
    ledger: &Ledger<B, G, D>,
    id: GuestId,
) -> Option<Why<B>> {
    let guest = ledger.guest(id)?;
    Some(Why {
        wanted: guest.wanted,
        phase: guest.phase,
        owner: (guest.phase != Phase::Unowned).then_some(guest.owner),
        reason: guest.reason,
        failures: guest.failures,
        moving: guest.moving.clone(),
        stays: guest.stays,
        stay: guest.stay,
        choice: choose(ledger, id),
        // B is at most 64.
        verdicts: core::array::from_fn(|board| verdict(ledger, id, BoardId(board as u8))),
        no_spare_for: missing_spare(ledger),
    })
}

/// Memory of a board's guests, and of those that are being moved there, in MiB.
fn used<const B: usize, const G: usize, const D: usize>(
    ledger: &Ledger<B, G, D>,
    board: BoardId,
) -> u32 {
    ledger.bound_to(board).fold(0, |sum, (_, _, guest)| {
        sum.saturating_add(guest.spec.memory_mib)
    })
}

/// The board on which a local volume holds `guest`, if one does.
#[must_use]
pub fn held_by_volume<const B: usize, const G: usize, const D: usize>(
    ledger: &Ledger<B, G, D>,
    guest: GuestId,
) -> Option<BoardId> {
    let local = |volume: &&crate::ledger::types::Volume| {
        volume.guest == guest && volume.kind == VolumeKind::Local
    };
    ledger
        .volumes
        .iter()
        .flatten()
        .find(local)
        .map(|volume| volume.board)
}

/// What keeps `id` from `board`, leaving room and company aside.
fn fixed<'a, const B: usize, const G: usize, const D: usize>(
    ledger: &'a Ledger<B, G, D>,
    id: GuestId,
    guest: &Guest,
    board: BoardId,
) -> Result<&'a Board, Verdict> {
    let entry = ledger.board(board).ok_or(Verdict::Absent)?;
    let spec = &guest.spec;
    if entry.witness {
        return Err(Verdict::Witness);
    }
    if entry.tenure.0 == 0 {
        return Err(Verdict::Out);
    }
    if let Some(other) = held_by_volume(ledger, id).filter(|&other| other != board) {
        return Err(Verdict::VolumeOn(other));
    }
    if entry.drained {
        return Err(Verdict::Drained);
    }
    if !spec.allowed.is_empty() && !spec.allowed.has(board) {
        return Err(Verdict::NotAllowed);
    }
    if spec.class != 0 && spec.class != entry.capacity.class {
        return Err(Verdict::Class(entry.capacity.class));
    }
    if spec.vcpus > entry.capacity.cores {
        return Err(Verdict::Cores {
            need: spec.vcpus,
            has: entry.capacity.cores,
        });
    }
    Ok(entry)
}

/// What keeps guest `id` from `board`, or how well it would fit. The guest's own present place is not counted against it.
#[must_use]
pub fn verdict<const B: usize, const G: usize, const D: usize>(
    ledger: &Ledger<B, G, D>,
    id: GuestId,
    board: BoardId,
) -> Verdict {
    let Some(guest) = ledger.guest(id) else {
        return Verdict::Absent;
    };
    let entry = match fixed(ledger, id, guest, board) {
        Ok(entry) => entry,
        Err(verdict) => return verdict,
    };
    let company = |other: &(GuestId, crate::ids::Epoch, &Guest)| {
        other.0 != id && guest.spec.apart != 0 && other.2.spec.apart == guest.spec.apart
    };
    if let Some(other) = ledger.bound_to(board).find(company) {
        return Verdict::Apart(other.0);
    }
    let counted = ledger.bound_to(board).any(|other| other.0 == id);
    let own = if counted { guest.spec.memory_mib } else { 0 };
    let left = entry
        .capacity
        .memory_mib
        .saturating_sub(used(ledger, board) - own);
    match left.checked_sub(guest.spec.memory_mib) {
        Some(left) => Verdict::Fits { left },
        None => Verdict::Memory {
            need: guest.spec.memory_mib,
            left,
        },
    }
}

/// Where guest `id` should run: the board that would have the most memory left, the lowest number among equals; else the
/// board on which displacing guests of lower priority makes room, with the first of them to go.
#[must_use]
pub fn choose<const B: usize, const G: usize, const D: usize>(
    ledger: &Ledger<B, G, D>,
    id: GuestId,
) -> Choice {
    let mut best: Option<(u32, BoardId)> = None;
    for (board, _) in ledger.boards() {
        if let Verdict::Fits { left } = verdict(ledger, id, board)
            && best.is_none_or(|(most, _)| left > most)
        {
            best = Some((left, board));
        }
    }
    if let Some((_, board)) = best {
        return Choice::Board(board);
    }
    displace(ledger, id).map_or(Choice::Nowhere, |(board, guest)| {
        Choice::Displace(board, guest)
    })
}

/// What keeps guest `id` from going on on `board` as it is now, or how well it would fit: as [`verdict`] says, and a guest that runs
/// cannot leave its board's class.
#[must_use]
pub fn verdict_live<const B: usize, const G: usize, const D: usize>(
    ledger: &Ledger<B, G, D>,
    id: GuestId,
    board: BoardId,
) -> Verdict {
    let class = |board: BoardId| ledger.board(board).map(|entry| entry.capacity.class);
    let owner = ledger.guest(id).map(|guest| guest.owner);
    match (verdict(ledger, id, board), class(board)) {
        (Verdict::Fits { .. }, Some(there)) if owner.and_then(class) != Some(there) => {
            Verdict::Class(there)
        }
        (verdict, _) => verdict,
    }
}

/// Where guest `id` should go on, if it is to leave its board while it runs: the board that would have the most memory left, the lowest number
/// among equals. Nobody is displaced for that.
#[must_use]
pub fn choose_live<const B: usize, const G: usize, const D: usize>(
    ledger: &Ledger<B, G, D>,
    id: GuestId,
) -> Option<BoardId> {
    let owner = ledger.guest(id)?.owner;
    let mut best: Option<(u32, BoardId)> = None;
    for (board, _) in ledger.boards().filter(|(board, _)| *board != owner) {
        if let Verdict::Fits { left } = verdict_live(ledger, id, board)
            && best.is_none_or(|(most, _)| left > most)
        {
            best = Some((left, board));
        }
    }
    best.map(|(_, board)| board)
}

/// The class of a board with this core (MIDR_EL1), interrupt controller (2 or 3, for GICv2 or GICv3) and counter (its ticks in a second). Never zero.
#[must_use]
pub fn class_of(midr: u64, gic: u8, frequency: u64) -> u32 {
    let parts = [midr, gic.into(), frequency];
    let class = parts.iter().fold(0u32, |sum, part| {
        (sum.rotate_left(7) ^ (*part as u32)).wrapping_mul(0x9e37_79b1)
    });
    class | 1
}

/// Where guest `id`, which has no owner, should go on as it was saved on a board of that class: there, if a board is named and can take it, or on the board of that
/// class that would have the most memory left, the lowest number among equals. Nobody is displaced for that.
#[must_use]
pub fn choose_in_class<const B: usize, const G: usize, const D: usize>(
    ledger: &Ledger<B, G, D>,
    id: GuestId,
    class: u32,
    to: Option<BoardId>,
) -> Option<BoardId> {
    let mut best: Option<(u32, BoardId)> = None;
    let asked = |board: BoardId| to.is_none_or(|to| to == board);
    let boards = ledger
        .boards()
        .filter(|(board, entry)| asked(*board) && entry.capacity.class == class);
    for (board, _) in boards {
        if let Verdict::Fits { left } = verdict(ledger, id, board)
            && best.is_none_or(|(most, _)| left > most)
        {
            best = Some((left, board));
        }
    }
    best.map(|(_, board)| board)
}

/// Whether guest `id` could run where it is not now: on a board other than `from`, without displacing anybody.
#[must_use]
pub fn fits_elsewhere<const B: usize, const G: usize, const D: usize>(
    ledger: &Ledger<B, G, D>,
    id: GuestId,
    from: BoardId,
) -> bool {
    ledger.boards().any(|(board, _)| {
        board != from && matches!(verdict(ledger, id, board), Verdict::Fits { .. })
    })
}

/// The board on which the fewest guests of lower priority would have to go, and the one of them with the lowest priority. A guest that is
/// kept apart counts as one that must go.
fn displace<const B: usize, const G: usize, const D: usize>(
    ledger: &Ledger<B, G, D>,
    id: GuestId,
) -> Option<(BoardId, GuestId)> {
    let guest = ledger.guest(id)?;
    let mut best: Option<(usize, BoardId, GuestId)> = None;
    for (board, _) in ledger.boards() {
        let Ok(entry) = fixed(ledger, id, guest, board) else {
            continue;
        };
        let Some((count, first)) = victims(ledger, id, guest, board, entry) else {
            continue;
        };
        if best.is_none_or(|(fewest, ..)| count < fewest) {
            best = Some((count, board, first));
        }
    }
    best.map(|(_, board, first)| (board, first))
}

/// How many guests must leave `board` for `guest`, lowest priority first, and the first of them. Nothing if that is not enough.
fn victims<const B: usize, const G: usize, const D: usize>(
    ledger: &Ledger<B, G, D>,
    id: GuestId,
    guest: &Guest,
    board: BoardId,
    entry: &Board,
) -> Option<(usize, GuestId)> {
    let must = |other: &Guest| guest.spec.apart != 0 && other.spec.apart == guest.spec.apart;
    let lower = |other: &Guest| other.spec.priority < guest.spec.priority;
    let others = || ledger.owned_by(board).filter(move |other| other.0 != id);
    // One that is still on its way cannot be told to leave.
    let arrives = |other: &Guest| other.owner != board;
    let mut bound = ledger.bound_to(board).filter(|other| other.0 != id);
    if bound.any(|(_, _, other)| must(other) && (!lower(other) || arrives(other))) {
        return None;
    }
    let forced = others().filter(|(_, _, other)| must(other));
    let mut freed = entry
        .capacity
        .memory_mib
        .saturating_sub(used(ledger, board));
    let (mut count, mut first) = (0, None);
    for (other_id, _, other) in forced {
        freed = freed.saturating_add(other.spec.memory_mib);
        count += 1;
        first = first.or(Some(other_id));
    }
    for priority in 0..guest.spec.priority {
        for (other_id, _, other) in
            others().filter(|(_, _, other)| other.spec.priority == priority && !must(other))
        {
            if freed >= guest.spec.memory_mib {
                break;
            }
            freed = freed.saturating_add(other.spec.memory_mib);
            count += 1;
            first = first.or(Some(other_id));
        }
    }
    if freed >= guest.spec.memory_mib {
        first.map(|first| (count, first))
    } else {
        None
    }
}

/// The first board whose loss the others could not absorb, by placing its guests one after another in order of priority; nothing when there is
/// none (N+1).
#[must_use]
pub fn missing_spare<const B: usize, const G: usize, const D: usize>(
    ledger: &Ledger<B, G, D>,
) -> Option<BoardId> {
    ledger
        .boards()
        .map(|(board, _)| board)
        .find(|&lost| !absorbs(ledger, lost))
}

/// Whether the guests of `lost` fit on the other boards, leaving those of lower priority and company aside: a first-fit estimate.
fn absorbs<const B: usize, const G: usize, const D: usize>(
    ledger: &Ledger<B, G, D>,
    lost: BoardId,
) -> bool {
    let mut extra = [0u32; B];
    let mut placed = [false; G];
    for _ in 0..G {
        let next = ledger
            .owned_by(lost)
            .filter(|(id, _, guest)| !placed[id.at()] && guest.wanted == Wanted::Running)
            .max_by_key(|(_, _, guest)| (guest.spec.priority, guest.spec.memory_mib));
        let Some((id, _, guest)) = next else {
            return true;
        };
        placed[id.at()] = true;
        let room = ledger.boards().find(|&(board, _)| {
            board != lost
                && matches!(verdict(ledger, id, board), Verdict::Fits { left } if left >= extra[board.at()])
        });
        match room {
            Some((board, _)) => extra[board.at()] += guest.spec.memory_mib,
            None => return false,
        }
    }
    true
}
