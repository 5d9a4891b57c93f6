//! A board: a QEMU process, its three sockets, and what its console said; or a witness in its place.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, setsockopt, socketpair, sockopt};
use nix::unistd::Pid;

use super::plan::{BoardPlan, Emulated, What, Witness};
use super::protocol::{BoardState, Condition};
use super::scrollback::Scrollback;
use super::spawn::spawn;
use super::switch::{Mac, PortId};

/// What may be typed ahead of a board, bytes.
pub const MAX_TYPED: usize = 64 << 10;
/// A console's log grows to this, bytes.
const MAX_LOG: u64 = 256 << 20;
/// What a link's socket holds, bytes of frames with the kernel's own overhead. The system may allow less.
const SOCKET_BUFFER: usize = 1 << 20;
/// What a board's own lines begin with.
const OWN: &str = "hearth: ";
/// The longest line that is kept whole, bytes.
const MAX_LINE: usize = 200;
/// Lines that wait to be taken.
const MAX_LINES: usize = 256;
/// What of QEMU's complaints is shown, bytes.
const MAX_COMPLAINT: u64 = 2000;

/// A board.
#[derive(Debug)]
pub struct Board {
    /// What it is made from.
    pub plan: BoardPlan,
    /// Its link.
    pub port: PortId,
    /// How it is.
    pub condition: Condition,
    /// What its console said.
    pub said: Scrollback,
    /// QEMU, while it runs.
    pub process: Option<Process>,
    starts: u32,
    log: File,
    log_path: PathBuf,
    logged: u64,
    complaints: PathBuf,
    /// The line that its console has begun.
    line: Vec<u8>,
    /// Lines of the board's own that were not taken yet.
    lines: Vec<String>,
}

/// A QEMU.
#[derive(Debug)]
pub struct Process {
    child: Child,
    /// The board's end of the console.
    pub console: UnixStream,
    /// QEMU's own control, which greets when the board is made. A witness has none.
    pub control: Option<UnixStream>,
    /// What was typed and not yet taken.
    pub typed: VecDeque<u8>,
}

impl Process {
    fn signal(&self, signal: Signal) -> Result<(), String> {
        // The child is not reaped before `try_wait` says so, and its number is its own until then.
        let pid = Pid::from_raw(self.child.id().cast_signed());
        kill(pid, signal).map_err(|error| format!("cannot send {signal} to process {pid}: {error}"))
    }
}

impl Board {
    /// A board that has not been started. Its logs of earlier labs are emptied.
    ///
    /// # Errors
    /// If the logs cannot be written.
    pub fn new(plan: BoardPlan, port: PortId, folder: &std::path::Path) -> Result<Self, String> {
        let log_path = folder.join(format!("{}.log", plan.name));
        let complaints = folder.join(format!("{}.qemu.log", plan.name));
        let create = |path: &PathBuf| {
            File::create(path).map_err(|error| format!("cannot write {}: {error}", path.display()))
        };
        create(&complaints)?;
        Ok(Self {
            log: create(&log_path)?,
            plan,
            port,
            condition: Condition::Ended("not started".into()),
            said: Scrollback::default(),
            process: None,
            starts: 0,
            log_path,
            logged: 0,
            complaints,
            line: Vec::new(),
            lines: Vec::new(),
        })
    }

    /// Starts QEMU, and gives the lab's end of the network; or a witness, whose network is in the lab.
    ///
    /// # Errors
    /// Why it cannot be started.
    pub fn start(&mut self, qemu: &std::path::Path) -> Result<Option<OwnedFd>, String> {
        let complaints = OpenOptions::new().append(true).open(&self.complaints);
        let complaints = complaints.map_err(|error| cannot_start(&self.plan.name, error))?;
        let (process, network) = match &self.plan.what {
            What::Emulated(board) => {
                let (process, network) = start_qemu(qemu, &self.plan, board, complaints)
                    .map_err(|error| cannot_start(&qemu.display().to_string(), error))?;
                self.condition = Condition::Starting;
                (process, Some(network))
            }
            What::Witness(witness) => {
                let process =
                    start_witness(witness).map_err(|error| cannot_start(&self.plan.name, error))?;
                // It does not greet.
                self.condition = Condition::Running;
                (process, None)
            }
        };
        self.process = Some(process);
        self.starts += 1;
        Ok(network)
    }

    /// Takes QEMU's greeting, if it is there: the board is made, and runs.
    pub fn greet(&mut self) {
        let Some(process) = &mut self.process else {
            return;
        };
        let mut chunk = [0; 4096];
        let Some(control) = &mut process.control else {
            return;
        };
        while let Ok(1..) = control.read(&mut chunk) {
            if self.condition == Condition::Starting {
                self.condition = Condition::Running;
            }
        }
    }

    /// Takes what the console says; whether the console has ended.
    pub fn listen(&mut self) -> bool {
        /// What is read before others have their turn, bytes.
        const TURN: usize = 64 << 10;
        let mut chunk = [0; 16 << 10];
        let mut taken = 0;
        while taken < TURN {
            let Some(process) = &mut self.process else {
                return true;
            };
            match process.console.read(&mut chunk) {
                Ok(0) => return true,
                Ok(length) => {
                    taken += length;
                    self.say(&chunk[..length]);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return error.kind() != io::ErrorKind::WouldBlock,
            }
        }
        false
    }

    fn say(&mut self, bytes: &[u8]) {
        self.said.push(bytes);
        self.logged += bytes.len() as u64;
        if self.logged <= MAX_LOG {
            // A full disk costs the log, not the lab.
            let _ = self.log.write_all(bytes);
        }
        self.hear_lines(bytes);
    }

    /// Keeps the lines that are the board's own.
    fn hear_lines(&mut self, bytes: &[u8]) {
        for byte in bytes {
            match byte {
                b'\n' => {
                    let line = std::mem::take(&mut self.line);
                    let own = line.strip_prefix(OWN.as_bytes());
                    if let Some(own) = own.filter(|_| self.lines.len() < MAX_LINES) {
                        let text = String::from_utf8_lossy(own).trim_end().to_string();
                        self.lines.push(text);
                    }
                }
                _ if self.line.len() < MAX_LINE => self.line.push(*byte),
                _ => {}
            }
        }
    }

    /// Lines of the board's own that came since somebody asked.
    pub fn take_lines(&mut self) -> Vec<String> {
        std::mem::take(&mut self.lines)
    }

    /// Types what is waiting, as far as the board takes it.
    pub fn type_on(&mut self) {
        let Some(process) = &mut self.process else {
            return;
        };
        while !process.typed.is_empty() {
            match process.console.write(process.typed.as_slices().0) {
                Ok(length) => drop(process.typed.drain(..length)),
                Err(_) => return,
            }
        }
    }

    /// Adds to what is typed, as far as there is room; gives how much was.
    pub fn type_in(&mut self, bytes: &[u8]) -> usize {
        let Some(process) = &mut self.process else {
            return bytes.len();
        };
        let taken = bytes.len().min(MAX_TYPED - process.typed.len());
        process.typed.extend(&bytes[..taken]);
        self.type_on();
        taken
    }

    /// Whether what was typed waits for the board to take it.
    pub fn is_typing(&self) -> bool {
        self.process
            .as_ref()
            .is_some_and(|process| !process.typed.is_empty())
    }

    /// Sends a signal to QEMU.
    ///
    /// # Errors
    /// If it does not run.
    pub fn signal(&mut self, signal: Signal) -> Result<(), String> {
        let process = self.process.as_ref();
        let process = process.ok_or_else(|| self.not_running())?;
        process.signal(signal)?;
        match (signal, &self.condition) {
            (Signal::SIGSTOP, _) => self.condition = Condition::Paused,
            (Signal::SIGCONT, Condition::Paused) => self.condition = Condition::Running,
            _ => {}
        }
        Ok(())
    }

    /// Says that the board does not run, and what helps.
    pub fn not_running(&self) -> String {
        let name = &self.plan.name;
        let how = match &self.condition {
            Condition::Ended(how) => how.as_str(),
            _ => "not started",
        };
        format!("board {name} does not run ({how}): `hearth lab restart {name}` starts it")
    }

    /// Whether QEMU has ended; if so its last words are taken, and it is forgotten.
    pub fn reap(&mut self) -> bool {
        let Some(process) = &mut self.process else {
            return false;
        };
        let Ok(Some(status)) = process.child.try_wait() else {
            return false;
        };
        // Nobody writes any more, so this comes to an end.
        while !self.listen() {}
        self.process = None;
        self.condition = Condition::Ended(describe(status));
        true
    }

    /// The end of what QEMU complained of.
    pub fn complaint(&self) -> String {
        let text = std::fs::read(&self.complaints).unwrap_or_default();
        let from = text.len().saturating_sub(MAX_COMPLAINT as usize);
        String::from_utf8_lossy(&text[from..]).trim().to_string()
    }

    /// For the operator.
    pub fn state(&self) -> BoardState {
        BoardState {
            name: self.plan.name.clone(),
            condition: self.condition.clone(),
            pid: self.process.as_ref().map(|process| process.child.id()),
            mac: Mac(self.plan.mac).to_string(),
            starts: self.starts,
            log: self.log_path.clone(),
            said: self.said.end(),
        }
    }
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(0), _) => "turned itself off".into(),
        (Some(code), _) => format!("QEMU ended with exit code {code}"),
        (None, Some(signal)) => match Signal::try_from(signal) {
            Ok(Signal::SIGKILL) => "killed".into(),
            Ok(signal) => format!("ended by {signal}"),
            Err(_) => format!("ended by signal {signal}"),
        },
        (None, None) => "ended".into(),
    }
}

/// The console of a running board and the control, if it has one, to be watched.
pub fn watched(process: &Process) -> (BorrowedFd<'_>, Option<BorrowedFd<'_>>) {
    let control = process.control.as_ref();
    (process.console.as_fd(), control.map(UnixStream::as_fd))
}

fn cannot_start(what: &str, error: io::Error) -> String {
    format!("cannot start {what}: {error}")
}

/// Starts QEMU; gives the lab's end of the network.
fn start_qemu(
    qemu: &std::path::Path,
    plan: &BoardPlan,
    board: &Emulated,
    complaints: File,
) -> io::Result<(Process, OwnedFd)> {
    let (ours, network) = socketpair(
        AddressFamily::Unix,
        SockType::Datagram,
        None,
        SockFlag::SOCK_CLOEXEC,
    )?;
    for end in [&ours, &network] {
        // The system's default works too, with shorter queues.
        let _ = setsockopt(end, sockopt::SndBuf, &SOCKET_BUFFER);
    }
    let (console, board_console) = UnixStream::pair()?;
    let (control, board_control) = UnixStream::pair()?;
    for end in [&console, &control] {
        end.set_nonblocking(true)?;
    }
    let ends: [OwnedFd; 3] = [network, board_console.into(), board_control.into()];
    let numbers = ends.each_ref().map(|end| end.as_raw_fd());
    let mut command = Command::new(qemu);
    command
        .args(board.arguments(&plan.name, plan.mac, numbers))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(complaints);
    let process = Process {
        child: spawn(command, ends.into())?,
        console,
        control: Some(control),
        typed: VecDeque::new(),
    };
    Ok((process, ours))
}

/// Starts a witness; all that it says is its console's.
fn start_witness(witness: &Witness) -> io::Result<Process> {
    let (console, own) = UnixStream::pair()?;
    console.set_nonblocking(true)?;
    let own = OwnedFd::from(own);
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(&witness.arguments)
        .stdin(Stdio::null())
        .stdout(own.try_clone()?)
        .stderr(own);
    Ok(Process {
        child: spawn(command, Vec::new())?,
        console,
        control: None,
        typed: VecDeque::new(),
    })
}
