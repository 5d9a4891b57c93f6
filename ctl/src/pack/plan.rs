//! From the text of `cluster.toml` to what a package will hold, with every mistake found on the way.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

use cluster_proto::manifest::{
    Board, BoardNumber, ConsoleMode, MAX_BOARDS, MAX_GUESTS, MemoryMib, Name, Summary,
};
use toml::de::DeTable;

use super::guest::{PlannedGuest, Shared, read_guest};
use super::images::Images;
use super::keys::{Keys, Placed};
use super::network::{Macs, read_mac, read_place};
use super::progress::Progress;
use super::room::check_memory;
use crate::source::{Problem, Source};

/// The name of the only board of a cluster that lists none.
const LONE_BOARD: &str = "board-1";

const EXAMPLE_CLUSTER: &str = "[cluster]";
const EXAMPLE_BOARD: &str = "[[board]]";
const EXAMPLE_GUEST: &str = "[[guest]]";

/// What a package will hold.
#[derive(Debug)]
pub struct Plan {
    /// The manifest's head.
    pub summary: Summary,
    /// All boards.
    pub boards: Vec<Board>,
    /// All guests.
    pub guests: Vec<PlannedGuest>,
    /// The images that they need.
    pub images: Images,
}

/// Reads and checks `source`, for the board called `board` or the only one.
///
/// # Errors
/// All mistakes that could be found.
pub fn plan(
    source: &Source,
    board: Option<&str>,
    progress: Progress,
) -> Result<Plan, Vec<Problem>> {
    let (document, syntax) = DeTable::parse_recoverable(&source.text);
    if !syntax.is_empty() {
        // What follows from half a text would only confuse.
        let problem = |error: toml::de::Error| {
            let help = "this is not TOML as toml.io describes it; look for a quote, bracket or = that is missing";
            Problem::at(error.span().unwrap_or(0..0), error.message(), help)
        };
        let mut problems: Vec<_> = syntax.into_iter().map(problem).collect();
        // One slip makes several errors; the first of each line is the one to read.
        problems.dedup_by_key(|problem| source.locate(problem).line());
        return Err(problems);
    }
    let mut problems = Vec::new();
    let folder = source.path.parent().unwrap_or(Path::new(""));
    let images = Images::new(progress);
    let plan = read(document.get_ref(), folder, board, images, &mut problems);
    problems.sort_by_key(|problem| problem.span.as_ref().map(|span| span.start));
    match plan {
        Some(plan) if problems.is_empty() => Ok(plan),
        _ => Err(problems),
    }
}

/// Reads the whole document. A value that is wrong is noted in `problems`; there is no plan then.
fn read(
    document: &DeTable<'_>,
    folder: &Path,
    board: Option<&str>,
    images: Images,
    problems: &mut Vec<Problem>,
) -> Option<Plan> {
    let mut keys = Keys::new(document, 0..0, "the file", problems);
    let cluster_table = keys.table("cluster", EXAMPLE_CLUSTER);
    keys.require("cluster", "[cluster] and below it name = \"home\"");
    let board_tables = keys.tables("board", EXAMPLE_BOARD);
    let guest_tables = keys.tables("guest", EXAMPLE_GUEST);
    limit(
        &mut keys,
        &board_tables,
        MAX_BOARDS,
        ("a cluster", "boards"),
    );
    limit(
        &mut keys,
        &guest_tables,
        MAX_GUESTS,
        ("a cluster", "guests"),
    );
    if !document.contains_key("guest") {
        keys.require("guest", "[[guest]] and below it name, memory and kernel");
    }
    keys.finish();

    let cluster = cluster_table.map(|table| read_cluster(&table, problems));
    let mut macs = Macs::default();
    let boards = read_boards(&board_tables, &mut macs, problems);
    let cluster_name = cluster.as_ref().and_then(|(name, _)| name.as_ref());
    let mut shared = Shared::new(folder, cluster_name, &boards, macs, images);
    let guests: Vec<_> = guest_tables
        .iter()
        .map(|table| read_guest(table, &mut shared, problems))
        .collect();
    let images = shared.images;
    check_memory(&boards, &guests, &images, problems);
    let number = choose_board(&boards, board, problems);

    let (name, console) = cluster?;
    let guests: Vec<_> = guests
        .into_iter()
        .map(|guest| guest.planned)
        .collect::<Option<_>>()?;
    let boards: Vec<_> = boards
        .into_iter()
        .map(|board| board.board)
        .collect::<Option<_>>()?;
    let summary = Summary {
        cluster: name?,
        board: number?,
        console: console?,
        boards: 0,
        images: 0,
        guests: 0,
    };
    Some(Plan {
        summary,
        boards,
        guests,
        images,
    })
}

/// Notes the first of more tables than there may be.
pub fn limit(
    keys: &mut Keys<'_, '_, '_>,
    tables: &[Placed<&DeTable<'_>>],
    most: usize,
    (whose, what): (&str, &str),
) {
    if let Some(extra) = tables.get(most) {
        let message = format!("{} {what}", tables.len());
        keys.problem(
            extra.span.clone(),
            message,
            format!("{whose} has at most {most} {what}"),
        );
    }
}

fn read_cluster(
    table: &Placed<&DeTable<'_>>,
    problems: &mut Vec<Problem>,
) -> (Option<Name>, Option<ConsoleMode>) {
    let mut keys = Keys::new(table.value, table.span.clone(), "[cluster]", problems);
    let name = read_name(&mut keys, "name = \"home\"").map(|name| name.value);
    let console = match keys.text("console", "console = \"focus\"") {
        None if table.value.contains_key("console") => None,
        None => Some(ConsoleMode::default()),
        Some(Placed { value: "focus", .. }) => Some(ConsoleMode::Focus),
        Some(Placed { value: "all", .. }) => Some(ConsoleMode::All),
        Some(Placed { value, span }) => {
            let help = "write \"focus\" for one guest at a time, or \"all\" for every guest's lines behind its name";
            keys.problem(span, format!("there is no console mode \"{value}\""), help);
            None
        }
    };
    keys.finish();
    (name, console)
}

/// The `name` of a table, which it must have.
pub fn read_name(keys: &mut Keys<'_, '_, '_>, example: &str) -> Option<Placed<Name>> {
    keys.require("name", example);
    let text = keys.text("name", example)?;
    match Name::new(text.value) {
        Ok(value) => Some(Placed {
            value,
            span: text.span,
        }),
        Err(rule) => {
            keys.problem(
                text.span,
                format!("\"{}\" cannot be a name", text.value),
                rule.to_string(),
            );
            None
        }
    }
}

/// Notes a name that another table of the same kind has already.
pub fn note_twice(
    keys: &mut Keys<'_, '_, '_>,
    name: &Placed<Name>,
    seen: &mut HashMap<Name, Range<usize>>,
    what: &str,
) {
    if seen.insert(name.value.clone(), name.span.clone()).is_some() {
        let message = format!("there is another {what} called \"{}\"", name.value);
        keys.problem(
            name.span.clone(),
            message,
            format!("give each {what} a name of its own"),
        );
    }
}

/// An amount of memory in MiB.
pub fn read_memory(
    keys: &mut Keys<'_, '_, '_>,
    key: &'static str,
    example: &str,
) -> Option<Placed<MemoryMib>> {
    let number = keys.number(key, MemoryMib::MIN..=MemoryMib::MAX, example)?;
    match MemoryMib::new(number.value) {
        Ok(value) => Some(Placed {
            value,
            span: number.span,
        }),
        Err(rule) => {
            keys.problem(
                number.span,
                format!("`{key}` is an odd number of MiB"),
                rule.to_string(),
            );
            None
        }
    }
}

/// A board as far as it could be read.
#[derive(Default)]
pub struct ReadBoard {
    board: Option<Board>,
    /// Its name.
    pub name: Option<Name>,
    /// Its memory.
    pub memory: Option<Placed<MemoryMib>>,
}

fn read_boards(
    tables: &[Placed<&DeTable<'_>>],
    macs: &mut Macs,
    problems: &mut Vec<Problem>,
) -> Vec<ReadBoard> {
    if tables.is_empty() {
        let name = Name::new(LONE_BOARD).ok();
        let board = name.clone().map(|name| Board {
            name,
            memory: None,
            address: None,
            mac: None,
        });
        return vec![ReadBoard {
            board,
            name,
            memory: None,
        }];
    }
    let (mut names, mut addresses) = (HashMap::new(), HashMap::new());
    let mut read = |table: &Placed<&DeTable<'_>>| {
        let mut keys = Keys::new(table.value, table.span.clone(), "[[board]]", problems);
        let name = read_name(&mut keys, "name = \"alpha\"");
        if let Some(name) = &name {
            note_twice(&mut keys, name, &mut names, "board");
        }
        let memory = read_memory(&mut keys, "memory", "memory = 2048, in MiB");
        let address = read_place(&mut keys, &mut addresses);
        let mac = read_mac(&mut keys).filter(|mac| macs.take(&mut keys, mac));
        keys.finish();
        let name = name.map(|name| name.value);
        let board = name.clone().map(|name| Board {
            name,
            memory: memory.as_ref().map(|memory| memory.value),
            address,
            mac: mac.map(|mac| mac.value),
        });
        ReadBoard {
            board,
            name,
            memory,
        }
    };
    tables.iter().map(&mut read).collect()
}

/// The number of the board that the package is for.
fn choose_board(
    boards: &[ReadBoard],
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
        None if boards.len() == 1 => Some(0),
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
