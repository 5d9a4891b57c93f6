//! From the text of `cluster.toml` to what a package will hold, with every mistake found on the way.

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use cluster_proto::manifest::{
    Board, BoardNumber, CommandLine, ConsoleMode, DEFAULT_PRIORITY, Guest, MAX_BOARDS, MAX_GUESTS,
    MemoryMib, Name, Priority, Summary, VcpuCount,
};
use el2_hyp::image::{Kernel, KernelKind};
use toml::de::DeTable;

use super::images::Images;
use super::keys::{Keys, Placed};
use crate::source::{Problem, Source};

/// What a board keeps of its memory for itself, MiB; the project's own bound on it.
pub const BOARD_OWN_MIB: u64 = 16;
/// The name of the only board of a cluster that lists none.
const LONE_BOARD: &str = "board-1";

const EXAMPLE_CLUSTER: &str = "[cluster]";
const EXAMPLE_BOARD: &str = "[[board]]";
const EXAMPLE_GUEST: &str = "[[guest]]";
const EXAMPLE_KERNEL: &str = "kernel = \"Image\"";
const EXAMPLE_INITRD: &str = "initrd = \"initramfs.cpio.gz\"";
const EXAMPLE_MEMORY: &str = "memory = 256, in MiB";
const EXAMPLE_VCPUS: &str = "vcpus = 2";

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

/// A guest and where its images came from.
#[derive(Debug)]
pub struct PlannedGuest {
    /// As the board will know it.
    pub guest: Guest,
    /// What kind of kernel it starts.
    pub kind: KernelKind,
    /// The kernel's file.
    pub kernel_path: PathBuf,
    /// The initrd's file.
    pub initrd_path: Option<PathBuf>,
}

/// Reads and checks `source`, for the board called `board` or the only one.
///
/// # Errors
/// All mistakes that could be found.
pub fn plan(source: &Source, board: Option<&str>) -> Result<Plan, Vec<Problem>> {
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
    let plan = read(document.get_ref(), folder, board, &mut problems);
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
    problems: &mut Vec<Problem>,
) -> Option<Plan> {
    let mut keys = Keys::new(document, 0..0, "the file", problems);
    let cluster_table = keys.table("cluster", EXAMPLE_CLUSTER);
    keys.require("cluster", "[cluster] and below it name = \"home\"");
    let board_tables = keys.tables("board", EXAMPLE_BOARD);
    let guest_tables = keys.tables("guest", EXAMPLE_GUEST);
    limit(&mut keys, &board_tables, MAX_BOARDS, "boards");
    limit(&mut keys, &guest_tables, MAX_GUESTS, "guests");
    if !document.contains_key("guest") {
        keys.require("guest", "[[guest]] and below it name, memory and kernel");
    }
    keys.finish();

    let cluster = cluster_table.map(|table| read_cluster(&table, problems));
    let boards = read_boards(&board_tables, problems);
    let mut images = Images::default();
    let mut names = HashMap::new();
    let guests: Vec<_> = guest_tables
        .iter()
        .map(|table| read_guest(table, folder, &mut names, &mut images, problems))
        .collect();
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
fn limit(keys: &mut Keys<'_, '_, '_>, tables: &[Placed<&DeTable<'_>>], most: usize, what: &str) {
    if let Some(extra) = tables.get(most) {
        let message = format!("{} {what}", tables.len());
        keys.problem(
            extra.span.clone(),
            message,
            format!("a cluster has at most {most} {what}"),
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
fn read_name(keys: &mut Keys<'_, '_, '_>, example: &str) -> Option<Placed<Name>> {
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
fn note_twice(
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

/// A `memory` in MiB.
fn read_memory(keys: &mut Keys<'_, '_, '_>) -> Option<Placed<MemoryMib>> {
    let number = keys.number("memory", MemoryMib::MIN..=MemoryMib::MAX, EXAMPLE_MEMORY)?;
    match MemoryMib::new(number.value) {
        Ok(value) => Some(Placed {
            value,
            span: number.span,
        }),
        Err(rule) => {
            keys.problem(
                number.span,
                "`memory` is an odd number of MiB",
                rule.to_string(),
            );
            None
        }
    }
}

/// A board as far as it could be read.
struct ReadBoard {
    board: Option<Board>,
    name: Option<Name>,
    memory: Option<Placed<MemoryMib>>,
}

fn read_boards(tables: &[Placed<&DeTable<'_>>], problems: &mut Vec<Problem>) -> Vec<ReadBoard> {
    let mut seen = HashMap::new();
    let mut boards = Vec::new();
    for table in tables {
        let mut keys = Keys::new(table.value, table.span.clone(), "[[board]]", problems);
        let name = read_name(&mut keys, "name = \"alpha\"");
        if let Some(name) = &name {
            note_twice(&mut keys, name, &mut seen, "board");
        }
        let memory = read_memory(&mut keys);
        keys.finish();
        let name = name.map(|name| name.value);
        let amount = memory.as_ref().map(|memory| memory.value);
        let board = name.clone().map(|name| Board {
            name,
            memory: amount,
        });
        boards.push(ReadBoard {
            board,
            name,
            memory,
        });
    }
    if tables.is_empty() {
        let name = Name::new(LONE_BOARD).ok();
        let board = name.clone().map(|name| Board { name, memory: None });
        boards.push(ReadBoard {
            board,
            name,
            memory: None,
        });
    }
    boards
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

/// A guest as far as it could be read.
struct ReadGuest {
    planned: Option<PlannedGuest>,
    memory: Option<Placed<MemoryMib>>,
}

fn read_guest(
    table: &Placed<&DeTable<'_>>,
    folder: &Path,
    names: &mut HashMap<Name, Range<usize>>,
    images: &mut Images,
    problems: &mut Vec<Problem>,
) -> ReadGuest {
    let mut keys = Keys::new(table.value, table.span.clone(), "[[guest]]", problems);
    let name = read_name(&mut keys, "name = \"web\"");
    if let Some(name) = &name {
        note_twice(&mut keys, name, names, "guest");
    }
    let most = u32::from(VcpuCount::MAX);
    let vcpus = keys
        .number("vcpus", 1..=most, EXAMPLE_VCPUS)
        .map_or(1, |vcpus| vcpus.value);
    keys.require("memory", EXAMPLE_MEMORY);
    let memory = read_memory(&mut keys);
    let priority = keys.number("priority", 0..=255, "priority = 100");
    let command_line = read_command_line(&mut keys);
    keys.require("kernel", EXAMPLE_KERNEL);
    let kernel_text = keys.text("kernel", EXAMPLE_KERNEL);
    let kernel = kernel_text
        .clone()
        .and_then(|path| images.add(&mut keys, folder, &path));
    let initrd_text = keys.text("initrd", EXAMPLE_INITRD);
    let initrd = initrd_text
        .clone()
        .map(|path| images.add(&mut keys, folder, &path));

    let kernel_view = kernel.zip(kernel_text.as_ref()).and_then(|(number, path)| {
        let bytes = images.bytes(number);
        let kernel = Kernel::new(bytes, bytes.len() as u64);
        kernel
            .map_err(|error| note_kernel(&mut keys, path, &error))
            .ok()
    });
    if let (Some(view), Some(memory), None | Some(Some(_))) = (&kernel_view, &memory, &initrd) {
        let initrd = initrd
            .flatten()
            .map(|number| images.bytes(number).len() as u64);
        if let Err(error) = view.layout(memory.value.bytes(), initrd) {
            keys.problem(
                memory.span.clone(),
                error.to_string(),
                "give the guest more memory",
            );
        }
    }
    keys.finish();

    let amount = memory.as_ref().map(|memory| memory.value);
    let planned = || {
        let initrd = match initrd {
            Some(number) => Some(number?),
            None => None,
        };
        let guest = Guest {
            name: name?.value,
            vcpus: VcpuCount::new(u8::try_from(vcpus).ok()?).ok()?,
            memory: amount?,
            priority: match priority {
                Some(priority) => Priority(u8::try_from(priority.value).ok()?),
                None => DEFAULT_PRIORITY,
            },
            kernel: kernel?,
            initrd,
            command_line: command_line?,
        };
        let path = |text: Placed<&str>| folder.join(text.value);
        Some(PlannedGuest {
            guest,
            kind: kernel_view?.kind(),
            kernel_path: path(kernel_text?),
            initrd_path: initrd_text.map(path),
        })
    };
    ReadGuest {
        planned: planned(),
        memory,
    }
}

/// Notes why a file is no kernel.
fn note_kernel(
    keys: &mut Keys<'_, '_, '_>,
    path: &Placed<&str>,
    error: &el2_hyp::image::ImageError,
) {
    use el2_hyp::image::ImageError;
    let help = match error {
        ImageError::Foreign(foreign) => foreign.advice(),
        _ => "give an arm64 Linux Image, or a flat binary for QEMU's virt machine",
    };
    let message = match error {
        ImageError::Foreign(foreign) => {
            format!("{} is {foreign}, not a kernel that can start", path.value)
        }
        other => format!("{}: {other}", path.value),
    };
    keys.problem(path.span.clone(), message, help);
}

fn read_command_line(keys: &mut Keys<'_, '_, '_>) -> Option<CommandLine> {
    let Some(text) = keys.text("command_line", "command_line = \"console=ttyAMA0\"") else {
        return Some(CommandLine::default());
    };
    let line = CommandLine::new(text.value);
    line.map_err(|rule| keys.problem(text.span, "this cannot be a command line", rule.to_string()))
        .ok()
}

/// Notes where guests need more memory than their boards have, as far as both are known.
fn check_memory(
    boards: &[ReadBoard],
    guests: &[ReadGuest],
    images: &Images,
    problems: &mut Vec<Problem>,
) {
    let boards: Option<Vec<_>> = boards.iter().map(|board| board.memory.as_ref()).collect();
    let Some(boards) = boards else { return };
    let package = images.total_bytes().div_ceil(1 << 20);
    let keeps = format!(
        "each board keeps {BOARD_OWN_MIB} MiB for itself and {package} MiB for the package"
    );
    let mib = |memory: &Placed<MemoryMib>| u64::from(memory.value.get());
    let rooms = boards
        .iter()
        .map(|board| mib(board).saturating_sub(BOARD_OWN_MIB + package));
    let (total, largest) = rooms.fold((0, 0), |(total, most), room| (total + room, room.max(most)));

    let memories = || guests.iter().filter_map(|guest| guest.memory.as_ref());
    let help = format!("give the guest less memory; {keeps}");
    let alone: Vec<_> = memories()
        .filter(|memory| mib(memory) > largest)
        .map(|memory| {
            let wanted = mib(memory);
            let message =
                format!("{wanted} MiB fit on no board: at most {largest} MiB are free on one");
            Problem::at(memory.span.clone(), message, help.clone())
        })
        .collect();
    let wanted: u64 = memories().map(mib).sum();
    if let (Some(board), true) = (boards.first(), wanted > total && alone.is_empty()) {
        let message = format!(
            "the guests need {wanted} MiB of memory in all, and {total} MiB are there for them"
        );
        let help = format!("give the guests less memory; {keeps}");
        problems.push(Problem::at(board.span.clone(), message, help));
    }
    problems.extend(alone);
}
