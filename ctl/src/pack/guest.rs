//! A guest of `cluster.toml`.

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use cluster_proto::manifest::{
    Backing, BoardNumber, CommandLine, DEFAULT_PRIORITY, Guest, Image, ImageNumber, MemoryMib,
    Name, Priority, VcpuCount,
};
use el2_hyp::image::{ImageError, Kernel, KernelKind};
use toml::de::DeTable;

use super::boards::ReadBoard;
use super::disks::{Owner, PlannedDisk, Volumes, disk_tables, read_disks};
use super::images::Images;
use super::keys::{Keys, Placed};
use super::network::{Macs, nic_tables, read_nics};
use super::plan::{note_twice, read_memory, read_name};
use crate::source::Problem;

const EXAMPLE_KERNEL: &str = "kernel = \"Image\"";
const EXAMPLE_INITRD: &str = "initrd = \"initramfs.cpio.gz\"";
const EXAMPLE_MEMORY: &str = "memory = 256, in MiB";
const EXAMPLE_VCPUS: &str = "vcpus = 2";

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
    /// The files of its disks, in their order; none for a volume.
    pub disk_paths: Vec<Option<PathBuf>>,
}

impl PlannedGuest {
    /// What the disk of that place is over: its file's name, and what the manifest says of the image.
    pub fn disk_image(&self, place: usize, images: &Images) -> Option<(String, Image)> {
        let path = self.disk_paths.get(place)?.as_ref()?;
        match self.guest.disks.get(place)?.backing {
            Backing::Ephemeral { image, .. } => {
                Some((path.display().to_string(), *images.image(image)))
            }
            Backing::Local { .. } => None,
        }
    }
}

/// A guest as far as it could be read.
pub struct ReadGuest {
    /// The guest, if all of it is sound.
    pub planned: Option<PlannedGuest>,
    /// Its memory.
    pub memory: Option<Placed<MemoryMib>>,
    /// The board, by its place, that it cannot leave or shall start on.
    pub board: Option<usize>,
}

impl ReadGuest {
    /// The memory that it takes of a board, MiB, its disks' overlays included.
    pub fn needs_mib(&self) -> Option<u64> {
        let overlay = |backing: &Backing| match backing {
            Backing::Ephemeral { overlay, .. } => overlay.map_or(0, |overlay| overlay.get()),
            Backing::Local { .. } => 0,
        };
        let disks = self.planned.iter().flat_map(|planned| &planned.guest.disks);
        let overlays: u64 = disks.map(|disk| u64::from(overlay(&disk.backing))).sum();
        let memory = self.memory.as_ref()?.value.get();
        Some(u64::from(memory) + overlays)
    }
}

/// What all guests have in common while they are read.
pub struct Shared<'s> {
    folder: &'s Path,
    cluster: Option<&'s Name>,
    boards: &'s [ReadBoard],
    names: HashMap<Name, Range<usize>>,
    macs: Macs,
    volumes: Volumes,
    /// The images that they need.
    pub images: Images,
}

impl<'s> Shared<'s> {
    /// What the guests of `cluster` share: `boards`, and the addresses that these have taken.
    pub fn new(
        folder: &'s Path,
        cluster: Option<&'s Name>,
        boards: &'s [ReadBoard],
        macs: Macs,
        images: Images,
    ) -> Self {
        Self {
            folder,
            cluster,
            boards,
            names: HashMap::new(),
            macs,
            volumes: Volumes::new(),
            images,
        }
    }
}

/// Reads a `[[guest]]`.
pub fn read_guest(
    table: &Placed<&DeTable<'_>>,
    shared: &mut Shared<'_>,
    problems: &mut Vec<Problem>,
) -> ReadGuest {
    let mut keys = Keys::new(table.value, table.span.clone(), "[[guest]]", problems);
    let name = read_name(&mut keys, "name = \"web\"");
    if let Some(name) = &name {
        note_twice(&mut keys, name, &mut shared.names, "guest");
    }
    let name = name.map(|name| name.value);
    let board = read_board(&mut keys, shared.boards);
    let allowed = read_allowed(&mut keys, shared.boards, board.flatten());
    let apart = keys.number("apart", 0..=255, "apart = 1");
    let apart = apart.map_or(0, |group| u8::try_from(group.value).unwrap_or(0));
    let starts = read_wanted(&mut keys);
    let most = u32::from(VcpuCount::MAX);
    let vcpus = keys.number("vcpus", 1..=most, EXAMPLE_VCPUS);
    let vcpus = vcpus.map_or(1, |vcpus| vcpus.value);
    keys.require("memory", EXAMPLE_MEMORY);
    let memory = read_memory(&mut keys, "memory", EXAMPLE_MEMORY);
    let priority = match keys.number("priority", 0..=255, "priority = 100") {
        Some(priority) => u8::try_from(priority.value).ok().map(Priority),
        None => Some(DEFAULT_PRIORITY),
    };
    let command_line = read_command_line(&mut keys);
    let start = read_start(&mut keys, shared, memory.as_ref());
    let virtio_console = keys.truth("virtio_console", false);
    let entropy = keys.truth("entropy", true);
    let (disk_tables, nic_tables) = (disk_tables(&mut keys), nic_tables(&mut keys));
    keys.finish();

    let nics = read_nics(
        &nic_tables,
        (shared.cluster, name.as_ref()),
        &mut shared.macs,
        problems,
    );
    let nobody = Name::new("guest").ok();
    let disks = name.as_ref().or(nobody.as_ref()).and_then(|guest| {
        let owner = Owner {
            guest,
            board: board.flatten().unwrap_or(BoardNumber(0)),
            folder: shared.folder,
        };
        let both = (&mut shared.images, &mut shared.volumes);
        read_disks(&disk_tables, &owner, both, problems)
    });

    let amount = memory.as_ref().map(|memory| memory.value);
    let planned = || {
        let (start, disks) = (start?, disks?);
        let split = |disk: PlannedDisk| (disk.disk, disk.path);
        let (disks, disk_paths): (Vec<_>, _) = disks.into_iter().map(split).unzip();
        let guest = Guest {
            name: name?,
            vcpus: VcpuCount::new(u8::try_from(vcpus).ok()?).ok()?,
            memory: amount?,
            priority: priority?,
            kernel: start.kernel,
            initrd: start.initrd,
            command_line: command_line?,
            board: board?,
            allowed: allowed?,
            apart,
            starts: starts?,
            disks: disks.into_iter().collect(),
            nics: nics?.into_iter().collect(),
            virtio_console: virtio_console?.value,
            entropy: entropy?.value,
        };
        Some(PlannedGuest {
            guest,
            kind: start.kind,
            kernel_path: start.kernel_path,
            initrd_path: start.initrd_path,
            disk_paths,
        })
    };
    let planned = planned();
    let bound = planned.as_ref().is_some_and(|planned| {
        let local = |backing: &Backing| matches!(backing, Backing::Local { .. });
        let guest = &planned.guest;
        guest.board.is_some() || guest.disks.iter().any(|disk| local(&disk.backing))
    });
    let first = planned.as_ref().map(|planned| planned.guest.first_board());
    ReadGuest {
        memory,
        board: first.filter(|_| bound).map(|board| usize::from(board.0)),
        planned,
    }
}

/// The `board` of a guest: none outside if it is wrong, none inside if it is not there.
fn read_board(keys: &mut Keys<'_, '_, '_>, boards: &[ReadBoard]) -> Option<Option<BoardNumber>> {
    let Some(text) = keys.text("board", "board = \"alpha\"") else {
        return (!keys.has("board")).then_some(None);
    };
    Some(Some(find_board(keys, &text, boards)?))
}

/// The board called `text`; noted if there is none.
fn find_board(
    keys: &mut Keys<'_, '_, '_>,
    text: &Placed<&str>,
    boards: &[ReadBoard],
) -> Option<BoardNumber> {
    let names = || {
        boards
            .iter()
            .map(|board| board.name.as_ref().map(Name::as_str))
    };
    let place = names().position(|name| name == Some(text.value));
    if place.is_none() {
        let known: Vec<_> = names().flatten().collect();
        let message = format!("there is no board called \"{}\"", text.value);
        let help = format!("name one of the boards: {}", known.join(", "));
        keys.problem(text.span.clone(), message, help);
    }
    Some(BoardNumber(u8::try_from(place?).ok()?))
}

/// The boards that a guest may run on, bit *n* for board *n*: none for all. The one that it starts on must be among them.
fn read_allowed(
    keys: &mut Keys<'_, '_, '_>,
    boards: &[ReadBoard],
    first: Option<BoardNumber>,
) -> Option<u16> {
    let texts = keys.texts("allowed", "allowed = [\"alpha\", \"beta\"]")?;
    let bit = |board: BoardNumber| 1u16.checked_shl(board.0.into()).unwrap_or(0);
    let found: Vec<_> = texts
        .iter()
        .map(|text| find_board(keys, text, boards))
        .collect();
    let found: Option<Vec<BoardNumber>> = found.into_iter().collect();
    let allowed = found?.into_iter().fold(0, |all, board| all | bit(board));
    if let (Some(text), Some(first)) = (texts.first(), first)
        && allowed & bit(first) == 0
    {
        let help = "add its `board` to `allowed`, or leave `board` out";
        keys.problem(
            text.span.clone(),
            "the guest starts on a board that it may not run on",
            help,
        );
    }
    Some(allowed)
}

/// Whether a guest is started in the beginning.
fn read_wanted(keys: &mut Keys<'_, '_, '_>) -> Option<bool> {
    let Some(text) = keys.text("wanted", "wanted = \"stopped\"") else {
        return (!keys.has("wanted")).then_some(true);
    };
    match text.value {
        "running" => Some(true),
        "stopped" => Some(false),
        other => {
            let help =
                "write \"running\", or \"stopped\" for a guest that `hearth guest start` starts";
            keys.problem(
                text.span,
                format!("a guest cannot be wanted \"{other}\""),
                help,
            );
            None
        }
    }
}

/// What a guest starts from.
struct Start {
    kernel: ImageNumber,
    kind: KernelKind,
    kernel_path: PathBuf,
    initrd: Option<ImageNumber>,
    initrd_path: Option<PathBuf>,
}

/// The kernel and initrd of a guest, which must fit its memory.
fn read_start(
    keys: &mut Keys<'_, '_, '_>,
    shared: &mut Shared<'_>,
    memory: Option<&Placed<MemoryMib>>,
) -> Option<Start> {
    keys.require("kernel", EXAMPLE_KERNEL);
    let kernel_text = keys.text("kernel", EXAMPLE_KERNEL);
    let initrd_text = keys.text("initrd", EXAMPLE_INITRD);
    let mut add = |text: &Placed<&str>| shared.images.add(keys, shared.folder, text);
    let kernel = kernel_text.as_ref().and_then(&mut add);
    let initrd = initrd_text.as_ref().map(&mut add);

    let (kernel, kernel_text) = (kernel?, kernel_text?);
    let length = |number| u64::from(shared.images.image(number).length);
    let view = Kernel::new(shared.images.head(kernel), length(kernel))
        .map_err(|error| note_kernel(keys, &kernel_text, &error))
        .ok()?;
    let initrd = match initrd {
        Some(initrd) => Some(initrd?),
        None if keys.has("initrd") => return None,
        None => None,
    };
    if let Some(memory) = memory {
        let layout = view.layout(memory.value.bytes(), initrd.map(length));
        if let Err(error) = layout {
            let help = "give the guest more memory";
            keys.problem(memory.span.clone(), error.to_string(), help);
            return None;
        }
    }
    let path = |text: Placed<&str>| shared.folder.join(text.value);
    Some(Start {
        kernel,
        kind: view.kind(),
        kernel_path: path(kernel_text),
        initrd,
        initrd_path: initrd_text.map(path),
    })
}

/// Notes why a file is no kernel.
fn note_kernel(keys: &mut Keys<'_, '_, '_>, path: &Placed<&str>, error: &ImageError) {
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
        return (!keys.has("command_line")).then(CommandLine::default);
    };
    let line = CommandLine::new(text.value);
    line.map_err(|rule| keys.problem(text.span, "this cannot be a command line", rule.to_string()))
        .ok()
}
