//! From the text of `cluster.toml` to what a package will hold, with every mistake found on the way.

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use cluster_proto::manifest::{
    Board, ConsoleMode, Guest, Image, MAX_BOARDS, MAX_GUESTS, MemoryMib, Name, Summary,
};
use toml::de::DeTable;

use super::boards::{ReadBoard, choose_board, limit_witnesses, read_boards};
use super::guest::{PlannedGuest, Shared, read_guest};
use super::images::Images;
use super::keys::{Keys, Placed};
use super::ledger::check_ledger;
use super::network::Macs;
use super::progress::Progress;
use super::room::check_memory;
use crate::source::{Problem, Source};

const EXAMPLE_CLUSTER: &str = "[cluster]";
const EXAMPLE_BOARD: &str = "[[board]]";
const EXAMPLE_WITNESS: &str = "[[witness]]";
const EXAMPLE_GUEST: &str = "[[guest]]";

/// What a package will hold.
#[derive(Debug)]
pub struct Plan {
    /// The manifest's head.
    pub summary: Summary,
    /// All boards, and behind them all witnesses.
    pub boards: Vec<Board>,
    /// Where the text says that the cluster's key is, from the text's folder.
    pub key: Option<PathBuf>,
    /// All guests.
    pub guests: Vec<PlannedGuest>,
    /// The images that they need.
    pub images: Images,
}

impl Plan {
    /// Whether the package is for a witness.
    pub fn is_for_witness(&self) -> bool {
        let number = usize::from(self.summary.board.0);
        self.boards.get(number).is_some_and(|board| board.witness)
    }
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
    let document = parse(source)?;
    let mut problems = Vec::new();
    let folder = source.path.parent().unwrap_or(Path::new(""));
    let images = Images::new(progress);
    let plan = read(&document, folder, board, images, &mut problems);
    problems.sort_by_key(|problem| problem.span.as_ref().map(|span| span.start));
    match plan {
        Some(plan) if problems.is_empty() => Ok(plan),
        _ => Err(problems),
    }
}

/// What a description says of the cluster itself.
#[derive(Clone, Debug)]
pub struct Outline {
    /// Its name.
    pub cluster: Name,
    /// Its boards, and behind them its witnesses.
    pub boards: Vec<Board>,
    /// Where the description says that the key is, from the description's folder.
    pub key: Option<PathBuf>,
}

/// Reads what `source` says of the cluster itself, and leaves its guests alone.
///
/// # Errors
/// All mistakes that were found.
pub fn outline(source: &Source) -> Result<Outline, Vec<Problem>> {
    let document = parse(source)?;
    let mut problems = Vec::new();
    let mut keys = Keys::new(&document, 0..0, "the file", &mut problems);
    let cluster = keys.table("cluster", EXAMPLE_CLUSTER);
    keys.require("cluster", "[cluster] and below it name = \"home\"");
    let boards = keys.tables("board", EXAMPLE_BOARD);
    let witnesses = keys.tables("witness", EXAMPLE_WITNESS);
    limit_witnesses(&mut keys, &boards, &witnesses);
    let cluster = cluster.map(|table| read_cluster(&table, &mut problems));
    let (boards, witnesses) = read_boards(&boards, &witnesses, &mut Macs::default(), &mut problems);
    let boards = boards.into_iter().chain(witnesses);
    let boards: Option<Vec<_>> = boards.map(|board| board.board).collect();
    let made = cluster.zip(boards).and_then(|(cluster, boards)| {
        Some(Outline {
            cluster: cluster.name?,
            boards,
            key: cluster.key,
        })
    });
    match made {
        Some(outline) if problems.is_empty() => Ok(outline),
        _ => Err(problems),
    }
}

/// A guest of its own, and the files of its images.
#[derive(Debug)]
pub struct GuestFiles {
    /// The guest.
    pub guest: Guest,
    /// Its images, by number.
    pub images: Vec<Image>,
    /// The kernel's file.
    pub kernel_path: PathBuf,
    /// The initrd's file.
    pub initrd_path: Option<PathBuf>,
    /// The files of its disks; none for a volume.
    pub disk_paths: Vec<Option<PathBuf>>,
}

/// Reads the only `[[guest]]` of `source`, which is to run in the cluster `outline`; paths in it start from `folder`.
///
/// # Errors
/// All mistakes that were found.
pub fn one_guest(
    source: &Source,
    folder: &Path,
    outline: &Outline,
) -> Result<GuestFiles, Vec<Problem>> {
    let document = parse(source)?;
    let mut problems = Vec::new();
    let mut keys = Keys::new(&document, 0..0, "the file", &mut problems);
    let tables = keys.tables("guest", EXAMPLE_GUEST);
    limit(&mut keys, &tables, 1, ("this file", "guest"));
    keys.require("guest", "[[guest]] and below it name, memory and kernel");
    keys.finish();
    let hosts = outline.boards.iter().filter(|board| !board.witness);
    let hosts: Vec<_> = hosts
        .map(|board| ReadBoard {
            board: Some(board.clone()),
            name: Some(board.name.clone()),
            memory: None,
        })
        .collect();
    let images = Images::new(Progress::on_terminal());
    let cluster = Some(&outline.cluster);
    let mut shared = Shared::new(folder, cluster, &hosts, Macs::default(), images);
    let read = tables
        .first()
        .map(|table| read_guest(table, &mut shared, &mut problems));
    match read.and_then(|read| read.planned) {
        Some(planned) if problems.is_empty() => Ok(GuestFiles {
            guest: planned.guest,
            images: shared.images.iter().map(|found| found.image).collect(),
            kernel_path: planned.kernel_path,
            initrd_path: planned.initrd_path,
            disk_paths: planned.disk_paths,
        }),
        _ => Err(problems),
    }
}

/// The text as TOML.
///
/// # Errors
/// Its slips, one for each line.
fn parse(source: &Source) -> Result<DeTable<'_>, Vec<Problem>> {
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
    Ok(document.into_inner())
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
    let witness_tables = keys.tables("witness", EXAMPLE_WITNESS);
    let guest_tables = keys.tables("guest", EXAMPLE_GUEST);
    limit(
        &mut keys,
        &board_tables,
        MAX_BOARDS,
        ("a cluster", "boards"),
    );
    limit_witnesses(&mut keys, &board_tables, &witness_tables);
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
    let (boards, witnesses) = read_boards(&board_tables, &witness_tables, &mut macs, problems);
    let cluster_name = cluster.as_ref().and_then(|cluster| cluster.name.as_ref());
    let mut shared = Shared::new(folder, cluster_name, &boards, macs, images);
    let guests: Vec<_> = guest_tables
        .iter()
        .map(|table| read_guest(table, &mut shared, problems))
        .collect();
    let images = shared.images;
    check_memory(&boards, &guests, &images, problems);
    let lone = boards.len() == 1;
    let boards: Vec<_> = boards.into_iter().chain(witnesses).collect();
    let number = choose_board(&boards, lone, board, problems);

    let cluster = cluster?;
    let guests: Vec<_> = guests
        .into_iter()
        .map(|guest| guest.planned)
        .collect::<Option<_>>()?;
    let boards: Vec<_> = boards
        .into_iter()
        .map(|board| board.board)
        .collect::<Option<_>>()?;
    let summary = Summary {
        cluster: cluster.name?,
        board: number?,
        console: cluster.console?,
        key: None,
        boards: 0,
        images: 0,
        guests: 0,
    };
    let plan = Plan {
        summary,
        boards,
        key: cluster.key,
        guests,
        images,
    };
    if problems.is_empty() {
        let guests: Vec<_> = guest_tables
            .iter()
            .map(|table| table.span.clone())
            .collect();
        problems.extend(check_ledger(&plan, &guests));
    }
    Some(plan)
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

/// The table of the cluster, as far as it could be read.
struct ReadCluster {
    name: Option<Name>,
    console: Option<ConsoleMode>,
    /// Where the key is, if it says so.
    key: Option<PathBuf>,
}

fn read_cluster(table: &Placed<&DeTable<'_>>, problems: &mut Vec<Problem>) -> ReadCluster {
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
    let key = keys.text("key", "key = \"cluster.key\"");
    keys.finish();
    ReadCluster {
        name,
        console,
        key: key.map(|key| PathBuf::from(key.value)),
    }
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
