//! `hearth guest create`: a guest that was in no package.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cluster_proto::first::{guest_spec, guest_volume};
use cluster_proto::ids::{BoardId, GuestId};
use cluster_proto::ledger::types::{GuestSpec, Operation, Volume, Wanted};
use cluster_proto::manifest::{Backing, Image, ImageNumber};

use super::orders::{Done, order};
use super::reach::Reach;
use super::session::{Look, Session};
use super::upload::upload;
use crate::pack::{self, GuestFiles};
use crate::report::{Answer, EXIT_CODES, Failure};
use crate::source::Source;

/// How long it may take until the cluster knows who has an image.
const KNOWN_PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks.
const AGAIN: Duration = Duration::from_millis(200);

const ABOUT: &str = "\
FILE has a [[guest]] table as in cluster.toml (`hearth pack --help`); or the options say it. Images are given to one board, from which the others fetch them. A guest that is made so
lives as long as the cluster's memory: put it into cluster.toml, too, if it is to be there after all boards were off at once.
It has one network card at most, a source of random numbers and no virtio console; its disks can be written.";

/// Make a guest while the cluster runs.
#[derive(clap::Args)]
#[command(after_long_help = format!("{ABOUT}\n\n{EXIT_CODES}"))]
pub struct Arguments {
    /// A file with the guest's table.
    #[arg(required_unless_present = "name", conflicts_with_all = ["name", "kernel", "memory"])]
    file: Option<PathBuf>,
    /// Its name.
    #[arg(long, requires_all = ["kernel", "memory"])]
    name: Option<String>,
    /// Its kernel, an arm64 Image or a flat binary.
    #[arg(long, value_name = "FILE")]
    kernel: Option<String>,
    /// Its initrd.
    #[arg(long, value_name = "FILE")]
    initrd: Option<String>,
    /// Its memory.
    #[arg(long, value_name = "MIB")]
    memory: Option<u32>,
    /// Its vCPUs.
    #[arg(long, value_name = "N", default_value_t = 1)]
    vcpus: u8,
    /// Its kernel's command line.
    #[arg(long, value_name = "TEXT", default_value = "")]
    command_line: String,
    /// Who goes first when not every guest fits: the greater.
    #[arg(long, value_name = "0..255", default_value_t = 100)]
    priority: u8,
    /// A disk over an image, fresh at every start; may be given several times.
    #[arg(long = "disk", value_name = "FILE")]
    disks: Vec<String>,
    /// A network card, with an address made from the cluster's and the guest's name.
    #[arg(long)]
    nic: bool,
    /// Do not start it yet.
    #[arg(long)]
    stopped: bool,
    #[command(flatten)]
    reach: Reach,
}

impl Arguments {
    /// The guest's table.
    fn source(&self) -> Result<Source, Failure> {
        if let Some(path) = &self.file {
            let text = std::fs::read_to_string(path);
            let text = text.map_err(|error| Failure::file("read", path, error))?;
            let path = path.clone();
            return Ok(Source { path, text });
        }
        // A text in JSON is one in TOML.
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        let mut text = String::from("[[guest]]\n");
        let mut line = |key: &str, value: String| {
            let _ = writeln!(text, "{key} = {value}"); // A string takes everything.
        };
        line("name", quoted(self.name.as_deref().unwrap_or_default()));
        line("kernel", quoted(self.kernel.as_deref().unwrap_or_default()));
        line("memory", self.memory.unwrap_or(0).to_string());
        line("vcpus", self.vcpus.to_string());
        line("priority", self.priority.to_string());
        line("command_line", quoted(&self.command_line));
        if let Some(initrd) = &self.initrd {
            line("initrd", quoted(initrd));
        }
        if self.nic {
            line("nic", "[{}]".into());
        }
        let disks = self
            .disks
            .iter()
            .map(|disk| format!("{{ image = {} }}", quoted(disk)));
        line(
            "disk",
            format!("[{}]", disks.collect::<Vec<_>>().join(", ")),
        );
        let path = PathBuf::from("the command line");
        Ok(Source { path, text })
    }
}

/// Makes the guest.
///
/// # Errors
/// What is wrong with its description, that a board does not take its images, or that the cluster refuses.
pub fn run(arguments: &Arguments) -> Result<Answer, Failure> {
    let source = arguments.source()?;
    let mut session = arguments.reach.open()?;
    let folder = match &arguments.file {
        Some(file) => file.parent().unwrap_or(Path::new("")).to_path_buf(),
        None => PathBuf::new(),
    };
    let files = match pack::one_guest(&source, &folder, &session.outline) {
        Ok(files) => files,
        Err(problems) => return Err(Failure::Mistakes(source, problems)),
    };
    kept_by_the_ledger(&files)?;
    let digest = |number: ImageNumber| files.image(number).map(|image| image.digest.0);
    let spec = guest_spec(&files.guest, &digest);
    let spec = spec.ok_or_else(|| Failure::Trouble("an image of the guest is missing".into()))?;
    let name = spec.name.to_string();
    let look = session.look()?;
    if look.ledger.guests().any(|it| it.2.spec.name == spec.name) {
        return Err(Failure::Trouble(format!(
            "there is a guest {name} already: `hearth guest delete {name}` removes it"
        )));
    }
    let board = receiver(&look, &spec)?;
    for (image, path) in files.all() {
        upload(&mut session, board, image, path)?;
        known(&mut session, image, board)?;
    }
    let starts = files.guest.starts && !arguments.stopped;
    let guest = make(&mut session, &files, spec, starts, &digest)?;
    let state = if starts {
        "is to run"
    } else {
        "is there, and does not run yet"
    };
    Ok(Done::new(format!("guest {name} {state} (number {guest})")).into())
}

/// Whether the ledger holds all that is said of the guest; what it does not would silently be otherwise.
fn kept_by_the_ledger(files: &GuestFiles) -> Result<(), Failure> {
    let guest = &files.guest;
    let what = if guest.nics.len() > 1 {
        "more than one network card"
    } else if guest.virtio_console {
        "a virtio console"
    } else if !guest.entropy {
        "no source of random numbers"
    } else if guest.disks.iter().any(|disk| disk.read_only) {
        "a disk that is read only"
    } else {
        return Ok(());
    };
    Err(Failure::Trouble(format!(
        "a guest that is made while the cluster runs cannot have {what}: describe it in cluster.toml, pack, and restart the boards one after another"
    )))
}

/// The board that is given the images: of those that may run the guest and answer, the one with the most memory left.
fn receiver(look: &Look, spec: &GuestSpec) -> Result<BoardId, Failure> {
    let answers = |board: BoardId| look.reports.get(board.at()).is_some_and(Option::is_some);
    let allowed = |board| spec.allowed.is_empty() || spec.allowed.has(board);
    let left = |board: BoardId, all: u32| {
        let used = look.ledger.owned_by(board);
        let used: u32 = used.map(|(_, _, guest)| guest.spec.memory_mib).sum();
        all.saturating_sub(used)
    };
    let boards = look.ledger.boards();
    let boards = boards.filter(|(id, board)| {
        !board.witness && board.tenure.0 != 0 && answers(*id) && allowed(*id)
    });
    let best = boards.max_by_key(|(id, board)| left(*id, board.capacity.memory_mib));
    best.map(|(id, _)| id).ok_or_else(|| {
        Failure::Trouble(
            "no board that may run the guest is in the cluster and answers: `hearth status`".into(),
        )
    })
}

/// Waits until the cluster knows that `board` has `image`.
fn known(session: &mut Session, image: &Image, board: BoardId) -> Result<(), Failure> {
    let begun = Instant::now();
    while begun.elapsed() < KNOWN_PATIENCE {
        let look = session.look()?;
        let mut images = look.ledger.images.iter();
        if images.any(|it| it.digest == image.digest.0 && it.held.has(board)) {
            return Ok(());
        }
        std::thread::sleep(AGAIN);
    }
    Err(Failure::Trouble(format!(
        "{} has the image, and the cluster has not taken note of it: `hearth status` says whether there is a leader",
        session.name(board)
    )))
}

/// Has guest and volumes agreed; a guest that comes only half into being is removed.
fn make(
    session: &mut Session,
    files: &GuestFiles,
    mut spec: GuestSpec,
    starts: bool,
    digest: &dyn Fn(ImageNumber) -> Option<[u8; 32]>,
) -> Result<GuestId, Failure> {
    // Volumes are given to a guest that has no owner yet.
    spec.wanted = Wanted::Stopped;
    let guest = GuestId(order(session, Operation::CreateGuest { spec })?);
    let disks = files.guest.disks.iter();
    let volumes = disks.map(|disk| guest_volume(&files.guest, disk, guest, digest));
    let volumes: Option<Vec<Volume>> = volumes.collect();
    let mut made = volumes
        .ok_or_else(|| Failure::Trouble("an image of a disk is missing".into()))
        .and_then(|volumes| {
            volumes.into_iter().try_for_each(|volume| {
                order(session, Operation::CreateVolume { volume }).map(|_| ())
            })
        });
    if made.is_ok() && starts {
        let wanted = Wanted::Running;
        made = order(session, Operation::Want { guest, wanted }).map(|_| ());
    }
    if let Err(failure) = made {
        // What stopped it may stop this, too.
        let _ = order(session, Operation::DeleteGuest { guest });
        return Err(failure);
    }
    Ok(guest)
}

impl GuestFiles {
    /// What the manifest would say of image `number`.
    fn image(&self, number: ImageNumber) -> Option<&Image> {
        self.images.get(usize::from(number.0))
    }

    /// Its images, each once, and their files.
    fn all(&self) -> Vec<(&Image, &Path)> {
        let guest = &self.guest;
        let mut all = vec![(guest.kernel, self.kernel_path.as_path())];
        all.extend(guest.initrd.zip(self.initrd_path.as_deref()));
        for (disk, path) in guest.disks.iter().zip(&self.disk_paths) {
            if let (Backing::Ephemeral { image, .. }, Some(path)) = (&disk.backing, path) {
                all.push((*image, path));
            }
        }
        all.sort_by_key(|(number, _)| *number);
        all.dedup_by_key(|(number, _)| *number);
        let found = all.into_iter();
        found
            .filter_map(|(number, path)| Some((self.image(number)?, path)))
            .collect()
    }
}
