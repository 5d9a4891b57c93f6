//! `hearth lab up`: from files and options to a running lab.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::describe::{
    BoardTable, Cluster, ClusterBoard, FORMAT, LabTable, describe, network, parse_mac,
    read_cluster, tables,
};
use super::plan::{BoardPlan, Emulated, GuestPlan, Machine, Plan, What, Witness, mac};
use super::protocol::{Done, LabState, Request, check_name};
use super::supervisor;
use crate::pack;
use crate::report::{Answer, Failure};

/// What a lab is called that nobody named.
const LAB: &str = "lab";

/// Start boards under QEMU, joined by an Ethernet that can be made to misbehave.
#[derive(clap::Args, Clone)]
#[command(after_long_help = FORMAT)]
pub struct Arguments {
    /// A cluster's description (cluster.toml, packed for each board) or a lab's (see below).
    pub description: Option<PathBuf>,
    /// How many boards, if no description lists them; they are called board-1 and so on.
    #[arg(long, value_name = "N")]
    boards: Option<usize>,
    /// Stay in this terminal until Ctrl-C.
    #[arg(long)]
    foreground: bool,
    /// What the dice of all faults begin with.
    #[arg(env = "HEARTH_SEED", long)]
    seed: Option<u64>,
    /// The lab's own address on the network, from which `forward` reaches guests; otherwise host 254 of a guest's /24.
    #[arg(long, value_name = "A.B.C.D/N", value_parser = network)]
    address: Option<(Ipv4Addr, u8)>,
    /// The board's image; otherwise `hearth.img` beside this program.
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
    /// A boot package that is made already; `{board}` in it is the board's name.
    #[arg(long, value_name = "FILE")]
    package: Option<String>,
    /// The board's disk, a file; `{board}` in it is the board's name.
    #[arg(long, value_name = "FILE")]
    disk: Option<String>,
    /// What becomes of a disk's writes: writeback, writethrough, none, directsync or unsafe.
    #[arg(long)]
    cache: Option<String>,
    /// The version of the GIC, 2 or 3.
    #[arg(long, value_parser = clap::value_parser!(u8).range(2..=3))]
    gic: Option<u8>,
    /// The core: cortex-a72, cortex-a76, max.
    #[arg(long)]
    cpu: Option<String>,
    /// Cores of a board.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=8))]
    smp: Option<u8>,
    /// Memory of a board, MiB.
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u32).range(64..))]
    memory: Option<u32>,
    /// One more argument for QEMU; may be given several times.
    #[arg(long, value_name = "ARGUMENT", allow_hyphen_values = true)]
    qemu_arg: Vec<String>,
    /// The emulator.
    #[arg(long, value_name = "PROGRAM", default_value = "qemu-system-aarch64")]
    qemu: PathBuf,
    /// Where logs and packages go; otherwise ~/.local/state/hearth/lab/LAB.
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
}

/// Start a board anew, whether it runs or not.
#[derive(clap::Args)]
pub struct Restart {
    /// Its name.
    board: String,
    /// Its image from now on; the one that it had unless told.
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
}

impl Restart {
    /// What the lab is asked for.
    ///
    /// # Errors
    /// The image cannot be read.
    pub fn request(&self) -> Result<Request, String> {
        let whole = |file: &PathBuf| {
            // The lab lives in a folder of its own.
            file.canonicalize()
                .map_err(|error| format!("cannot read {}: {error}", file.display()))
        };
        Ok(Request::Restart {
            board: self.board.clone(),
            image: self.image.as_ref().map(whole).transpose()?,
        })
    }
}

/// Starts a lab.
///
/// # Errors
/// What is wrong with the description, or why the lab does not run.
pub fn run(name: Option<&str>, arguments: &Arguments) -> Result<Answer, Failure> {
    let plan = plan(name, arguments)?;
    let result = match arguments.foreground {
        true => foreground(plan).map(Answer::from),
        false => background(&plan).map(Answer::from),
    };
    result.map_err(Failure::Trouble)
}

/// Runs the lab in this process.
fn foreground(plan: Plan) -> Result<Done, String> {
    let name = plan.name.clone();
    supervisor::run(plan, |result| {
        if let Ok(begun) = result {
            eprintln!("{begun}\nCtrl-C ends it.");
        }
        true
    })?;
    Ok(Done {
        done: format!("lab {name} is down"),
    })
}

/// Starts this program anew as the lab's process, and waits until its boards run.
fn background(plan: &Plan) -> Result<LabState, String> {
    let trouble = |error: std::io::Error| format!("cannot start the lab's process: {error}");
    let program = std::env::current_exe().map_err(trouble)?;
    let log = File::create(plan.folder.join("lab.log")).map_err(trouble)?;
    let mut child = Command::new(program)
        .args(["lab", "supervise"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .map_err(trouble)?;
    let line = serde_json::to_string(plan).map_err(|error| trouble(error.into()))?;
    if let Some(mut input) = child.stdin.take() {
        writeln!(input, "{line}").map_err(trouble)?;
    }
    let mut answer = String::new();
    if let Some(output) = child.stdout.take() {
        BufReader::new(output)
            .read_line(&mut answer)
            .map_err(trouble)?;
    }
    let answer: Value = serde_json::from_str(&answer).map_err(|_| {
        let log = plan.folder.join("lab.log");
        format!(
            "the lab's process ended before its boards ran; {} may say why",
            log.display()
        )
    })?;
    match answer["trouble"].as_str() {
        Some(trouble) => Err(trouble.to_string()),
        None => serde_json::from_value(answer).map_err(|error| error.to_string()),
    }
}

/// The lab's process: takes its plan from standard input and tells on standard output how the beginning went.
///
/// # Errors
/// Why the lab could not run; whoever began it has been told.
pub fn supervise() -> Result<(), String> {
    // Whoever closes the terminal does not mean the lab. It fails only for a leader, which this process is not.
    let _ = nix::unistd::setsid();
    let mut line = String::new();
    std::io::stdin()
        .read_line(&mut line)
        .map_err(|error| format!("no plan: {error}"))?;
    let plan: Plan = serde_json::from_str(&line).map_err(|error| format!("no plan: {error}"))?;
    supervisor::run(plan, |result| {
        let answer = match result {
            Ok(state) => super::value(state),
            Err(trouble) => serde_json::json!({ "trouble": trouble }),
        };
        let mut out = std::io::stdout();
        writeln!(out, "{answer}").and_then(|()| out.flush()).is_ok()
    })
}

/// Makes the plan, and the packages that it needs.
fn plan(name: Option<&str>, arguments: &Arguments) -> Result<Plan, Failure> {
    let trouble = Failure::Trouble;
    let (description, cluster, base) = describe(arguments.description.as_deref())?;
    let lab = &description.lab;
    let named = match &cluster {
        Some(cluster) => read_cluster(cluster)?,
        None => Cluster::default(),
    };
    let name = name
        .map(str::to_string)
        .or(lab.name.clone())
        .or(named.name.clone());
    let name = name.unwrap_or_else(|| LAB.into());
    check_name(&name).map_err(trouble)?;
    if super::client::labs().unwrap_or_default().contains(&name) {
        return Err(trouble(format!(
            "lab {name} is up already: `hearth lab down --name {name}` ends it, `--name` gives another name"
        )));
    }
    let folder = match &arguments.folder {
        Some(folder) => folder.clone(),
        None => default_folder(&name).map_err(trouble)?,
    };
    fs::create_dir_all(&folder).map_err(|error| Failure::file("make", &folder, error))?;
    let folder = folder
        .canonicalize()
        .map_err(|error| Failure::file("find", &folder, error))?;
    let address = match (&arguments.address, &lab.address) {
        (Some(address), _) => Some(*address),
        (None, Some(text)) => Some(network(text).map_err(trouble)?),
        (None, None) => None,
    };

    let tables = tables(&description.board, &named.boards, arguments.boards).map_err(trouble)?;
    let mut making = Making {
        name: &name,
        arguments,
        lab,
        base: &base,
        cluster: cluster.as_deref(),
        cluster_boards: &named.boards,
        folder: &folder,
        guests: Vec::new(),
    };
    let mut boards = Vec::new();
    for (place, table) in tables.iter().enumerate() {
        boards.push(making.board(place, table)?);
    }
    Ok(Plan {
        guests: making.guests,
        name,
        folder,
        seed: arguments.seed.or(lab.seed).unwrap_or(1),
        address,
        qemu: arguments.qemu.clone(),
        boards,
    })
}

/// What boards are made from.
struct Making<'a> {
    name: &'a str,
    arguments: &'a Arguments,
    lab: &'a LabTable,
    base: &'a Path,
    cluster: Option<&'a Path>,
    cluster_boards: &'a [ClusterBoard],
    folder: &'a Path,
    guests: Vec<GuestPlan>,
}

impl Making<'_> {
    fn board(&mut self, place: usize, table: &BoardTable) -> Result<BoardPlan, Failure> {
        let own_mac = table.mac.as_deref().map(parse_mac).transpose();
        let own_mac = own_mac.map_err(Failure::Trouble)?;
        let listed = self.cluster_boards.iter().find(|it| it.name == table.name);
        Ok(BoardPlan {
            name: table.name.clone(),
            mac: own_mac.unwrap_or(mac(place)),
            what: match listed {
                Some(board) if board.witness => What::Witness(self.witness(board)?),
                _ => What::Emulated(self.emulated(table)?),
            },
        })
    }

    /// A witness of the cluster.
    fn witness(&mut self, board: &ClusterBoard) -> Result<Witness, Failure> {
        let name = &board.name;
        let lacks = |what: &str| Failure::Trouble(format!("witness {name} has no {what}"));
        let address = board.address.ok_or_else(|| lacks("address"))?;
        let package = self.pack(name)?.ok_or_else(|| lacks("package"))?;
        let state = self.folder.join(format!("{name}.state"));
        // What another lab's witness knew is nothing to this one's.
        match fs::remove_dir_all(&state) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Failure::file("remove", &state, error));
            }
            _ => {}
        }
        let text = |path: &Path| path.display().to_string();
        Ok(Witness {
            address,
            arguments: vec![
                "witness".into(),
                name.clone(),
                "--package".into(),
                text(&package),
                "--folder".into(),
                text(&state),
                "--lab".into(),
                self.name.into(),
            ],
        })
    }

    /// A board under QEMU.
    fn emulated(&mut self, table: &BoardTable) -> Result<Emulated, Failure> {
        let name = &table.name;
        let given = |pattern: &Option<String>| {
            pattern
                .as_ref()
                .map(|text| PathBuf::from(text.replace("{board}", name)))
        };
        let (kernel, initrd) = match &table.kernel {
            Some(kernel) => (
                self.base.join(kernel),
                table.initrd.as_ref().map(|initrd| self.base.join(initrd)),
            ),
            None => {
                let own = table
                    .package
                    .as_ref()
                    .map(|package| self.base.join(package));
                let package = match given(&self.arguments.package).or(own) {
                    Some(package) => Some(package),
                    None => self.pack(name)?,
                };
                (self.image()?, package)
            }
        };
        let disk =
            given(&self.arguments.disk).or(table.disk.as_ref().map(|disk| self.base.join(disk)));
        let files = [Some(&kernel), initrd.as_ref(), disk.as_ref()];
        for file in files.into_iter().flatten() {
            File::open(file).map_err(|error| Failure::file("read", file, error))?;
        }
        Ok(Emulated {
            machine: self.machine(table),
            kernel,
            initrd,
            append: table.append.clone(),
            disk,
            extra: [&self.lab.qemu, &table.qemu, &self.arguments.qemu_arg]
                .into_iter()
                .flatten()
                .cloned()
                .collect(),
        })
    }

    fn image(&self) -> Result<PathBuf, Failure> {
        if let Some(image) = &self.arguments.image {
            return Ok(image.clone());
        }
        if let Some(image) = &self.lab.image {
            return Ok(self.base.join(image));
        }
        let beside = std::env::current_exe().map(|program| program.with_file_name("hearth.img"));
        match beside {
            Ok(image) if image.exists() => Ok(image),
            _ => Err(Failure::Trouble(
                "there is no hearth.img beside this program: `scripts/build` makes it, `--image` names another".into(),
            )),
        }
    }

    /// Packs for a board; nothing if there is no cluster.
    fn pack(&mut self, board: &str) -> Result<Option<PathBuf>, Failure> {
        let Some(cluster) = self.cluster else {
            return Ok(None);
        };
        let output = self.folder.join(format!("{board}.cpio"));
        // A cluster that lists no boards has one package for all.
        let named = (!self.cluster_boards.is_empty()).then(|| board.to_string());
        let packed = pack::run(&pack::Arguments {
            cluster: cluster.to_path_buf(),
            output: output.clone(),
            board: named,
            key: None,
        })?;
        // Every package describes all guests.
        if self.guests.is_empty() {
            self.guests = guests(&super::value(packed), board);
        }
        Ok(Some(output))
    }

    fn machine(&self, table: &BoardTable) -> Machine {
        let (own, lab, default) = (self.arguments, self.lab, Machine::default());
        let text = |own: &Option<String>,
                    board: &Option<String>,
                    lab: &Option<String>,
                    default: String| {
            own.clone()
                .or(board.clone())
                .or(lab.clone())
                .unwrap_or(default)
        };
        Machine {
            gic: own.gic.or(table.gic).or(lab.gic).unwrap_or(default.gic),
            cpu: text(&own.cpu, &table.cpu, &lab.cpu, default.cpu),
            smp: own.smp.or(table.smp).or(lab.smp).unwrap_or(default.smp),
            memory: own
                .memory
                .or(table.memory)
                .or(lab.memory)
                .unwrap_or(default.memory),
            cache: text(&own.cache, &table.cache, &lab.cache, default.cache),
        }
    }
}

/// What the lab needs to know of the guests that were packed.
fn guests(packed: &Value, board: &str) -> Vec<GuestPlan> {
    let guest = |guest: &Value| {
        let nics = guest["nics"].as_array();
        let mac = |nic: &Value| parse_mac(nic.as_str()?).ok();
        Some(GuestPlan {
            name: guest["name"].as_str()?.to_string(),
            board: guest["board"].as_str().unwrap_or(board).to_string(),
            macs: nics.into_iter().flatten().filter_map(mac).collect(),
        })
    };
    packed["guests"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(guest)
        .collect()
}

fn default_folder(name: &str) -> Result<PathBuf, String> {
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state"));
    let state = state
        .or_else(home)
        .ok_or("there is no HOME for the lab's logs: give --folder")?;
    Ok(state.join("hearth/lab").join(name))
}
