//! The boards and witnesses of `cluster.toml`.

use std::collections::HashMap;

use cluster_proto::manifest::{Board, BoardNumber, MAX_BOARDS, MemoryMib, Name};
use toml::de::DeTable;

use super::keys::{Keys, Placed};
use super::network::{EXAMPLE_ADDRESS, Macs, read_mac, read_place};
use super::plan::{note_twice, read_memory, read_name};
use crate::source::Problem;

/// The name of the only board of a cluster that lists none.
const LONE_BOARD: &str = "board-1";

/// A board as far as it could be read.
#[derive(Default)]
pub struct ReadBoard {
    /// The board, if all of it is sound.
    pub board: Option<Board>,
    /// Its name.
    pub name: Option<Name>,
    /// Its memory.
    pub memory: Option<Placed<MemoryMib>>,
}

/// What boards and witnesses must have different.
#[derive(Default)]
struct Taken {
    names: HashMap<Name, std::ops::Range<usize>>,
    addresses: HashMap<std::net::Ipv4Addr, std::ops::Range<usize>>,
}

/// Notes where there are more witnesses than make sense: they break ties between boards, and are no cluster by themselves.
pub fn limit_witnesses(
    keys: &mut Keys<'_, '_, '_>,
    boards: &[Placed<&DeTable<'_>>],
    witnesses: &[Placed<&DeTable<'_>>],
) {
    let most = boards
        .len()
        .saturating_sub(1)
        .min(MAX_BOARDS.saturating_sub(boards.len()));
    if let Some(extra) = witnesses.get(most) {
        let (message, help) = match boards.len() {
            0 | 1 => (
                "a witness beside a single board".to_string(),
                "a witness lets two boards survive the loss of one; with one board, remove it"
                    .to_string(),
            ),
            boards => (
                format!("{} witnesses beside {boards} boards", witnesses.len()),
                format!(
                    "a cluster has fewer witnesses than boards, and at most {MAX_BOARDS} of both; two boards need one witness"
                ),
            ),
        };
        keys.problem(extra.span.clone(), message, help);
    }
}

/// Reads the tables of boards and those of witnesses.
pub fn read_boards(
    boards: &[Placed<&DeTable<'_>>],
    witnesses: &[Placed<&DeTable<'_>>],
    macs: &mut Macs,
    problems: &mut Vec<Problem>,
) -> (Vec<ReadBoard>, Vec<ReadBoard>) {
    let mut taken = Taken::default();
    let several = boards.len() > 1;
    let mut read: Vec<_> = boards
        .iter()
        .map(|table| read_board(table, several, &mut taken, macs, problems))
        .collect();
    if boards.is_empty() {
        read.push(lone_board());
    }
    let witnesses = witnesses
        .iter()
        .map(|table| read_witness(table, &mut taken, problems))
        .collect();
    (read, witnesses)
}

/// The board of a cluster that lists none.
fn lone_board() -> ReadBoard {
    let name = Name::new(LONE_BOARD).ok();
    ReadBoard {
        board: name.clone().map(|name| Board {
            name,
            memory: None,
            address: None,
            mac: None,
            witness: false,
        }),
        name,
        memory: None,
    }
}

/// Reads a `[[board]]`; where there are several, boards find each other by their addresses.
fn read_board(
    table: &Placed<&DeTable<'_>>,
    several: bool,
    taken: &mut Taken,
    macs: &mut Macs,
    problems: &mut Vec<Problem>,
) -> ReadBoard {
    let mut keys = Keys::new(table.value, table.span.clone(), "[[board]]", problems);
    let name = read_name(&mut keys, "name = \"alpha\"");
    if let Some(name) = &name {
        note_twice(&mut keys, name, &mut taken.names, "board");
    }
    let memory = read_memory(&mut keys, "memory", "memory = 2048, in MiB");
    let address = read_place(&mut keys, &mut taken.addresses);
    if several && !keys.has("address") && !keys.has("gateway") {
        keys.problem(
            table.span.clone(),
            "this board has no `address`, and a cluster of several boards needs each one's",
            format!(
                "add a line like this, each board with an address of its own: {EXAMPLE_ADDRESS}"
            ),
        );
    }
    let mac = read_mac(&mut keys).filter(|mac| macs.take(&mut keys, mac));
    keys.finish();
    let name = name.map(|name| name.value);
    let board = name.clone().map(|name| Board {
        name,
        memory: memory.as_ref().map(|memory| memory.value),
        address,
        mac: mac.map(|mac| mac.value),
        witness: false,
    });
    ReadBoard {
        board,
        name,
        memory,
    }
}

/// Reads a `[[witness]]`.
fn read_witness(
    table: &Placed<&DeTable<'_>>,
    taken: &mut Taken,
    problems: &mut Vec<Problem>,
) -> ReadBoard {
    let mut keys = Keys::new(table.value, table.span.clone(), "[[witness]]", problems);
    let name = read_name(&mut keys, "name = \"witness\"");
    if let Some(name) = &name {
        note_twice(&mut keys, name, &mut taken.names, "board or witness");
    }
    let address = read_place(&mut keys, &mut taken.addresses);
    keys.finish();
    let name = name.map(|name| name.value);
    let board = name.clone().map(|name| Board {
        name,
        memory: None,
        address,
        mac: None,
        witness: true,
    });
    ReadBoard {
        board,
        name,
        memory: None,
    }
}

/// The number of the board or witness that the package is for, which need not be said of a board that is `lone`.
pub fn choose_board(
    boards: &[ReadBoard],
    lone: bool,
    wanted: Option<&str>,
    problems: &mut Vec<Problem>,
) -> Option<BoardNumber> {
    let names: Vec<_> = boards
        .iter()
        .filter_map(|board| board.name.as_ref())
        .map(Name::as_str)
        .collect();
    let place = match wanted {
        Some(wanted) => names.iter().position(|name| *name == wanted),
        None if lone => Some(0),
        None => None,
    };
    if place.is_none() {
        let message = match wanted {
            Some(wanted) => format!("there is no board called \"{wanted}\""),
            None => "the cluster has several boards, and a package is for one of them".to_string(),
        };
        let help = format!(
            "choose one with --board; the boards are: {}",
            names.join(", ")
        );
        problems.push(Problem::in_arguments(message, help));
    }
    place
        .and_then(|place| u8::try_from(place).ok())
        .map(BoardNumber)
}
