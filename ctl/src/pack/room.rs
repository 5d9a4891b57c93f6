//! Whether guests fit their boards' memory.

use cluster_proto::manifest::MemoryMib;

use super::boards::ReadBoard;
use super::guest::ReadGuest;
use super::images::Images;
use super::keys::Placed;
use crate::source::Problem;

/// What a board keeps of its memory for itself, MiB; the project's own bound on it.
pub const BOARD_OWN_MIB: u64 = 16;

/// Notes where guests need more memory than their boards have, as far as both are known.
pub fn check_memory(
    boards: &[ReadBoard],
    guests: &[ReadGuest],
    images: &Images,
    problems: &mut Vec<Problem>,
) {
    let memories: Option<Vec<_>> = boards.iter().map(|board| board.memory.as_ref()).collect();
    let Some(memories) = memories else { return };
    let package = images.total_bytes().div_ceil(1 << 20);
    let keeps = format!(
        "each board keeps {BOARD_OWN_MIB} MiB for itself and {package} MiB for the package"
    );
    let room = |board: &Placed<MemoryMib>| {
        u64::from(board.value.get()).saturating_sub(BOARD_OWN_MIB + package)
    };
    let largest = memories.iter().map(|board| room(board)).max().unwrap_or(0);

    let help = format!("give the guest less memory, or its disks smaller overlays; {keeps}");
    let alone: Vec<_> = guests
        .iter()
        .filter_map(|guest| guest.memory.as_ref().zip(guest.needs_mib()))
        .filter(|(_, needs)| *needs > largest)
        .map(|(memory, needs)| {
            let message =
                format!("{needs} MiB fit on no board: at most {largest} MiB are free on one");
            Problem::at(memory.span.clone(), message, help.clone())
        })
        .collect();
    if !alone.is_empty() {
        problems.extend(alone);
        return;
    }

    // Those that must be on a board, board by board, and then all of them together.
    let help = format!("give the guests less memory, or their disks smaller overlays; {keeps}");
    let sum = |on: Option<usize>| -> u64 {
        let those = guests
            .iter()
            .filter(|guest| on.is_none() || guest.board == on);
        those.filter_map(ReadGuest::needs_mib).sum()
    };
    let crowded = memories.iter().enumerate().filter_map(|(number, memory)| {
        let (needs, room) = (sum(Some(number)), room(memory));
        (needs > room).then(|| {
            let message = format!("the guests of this board need {needs} MiB of memory, and {room} MiB are there for them");
            Problem::at(memory.span.clone(), message, help.clone())
        })
    });
    let crowded: Vec<_> = crowded.collect();
    let (needs, total) = (
        sum(None),
        memories.iter().map(|board| room(board)).sum::<u64>(),
    );
    if let (Some(first), true) = (memories.first(), needs > total && crowded.is_empty()) {
        let message = format!(
            "the guests need {needs} MiB of memory in all, and {total} MiB are there for them"
        );
        problems.push(Problem::at(first.span.clone(), message, help.clone()));
    }
    problems.extend(crowded);
}
