//! The watch: notes what a client outside sees and what happens to the lab, until it is told to end or the lab ends.
//!
//! `hearth drill watch` starts it as a process of its own and returns when the service has answered first. Its trace is a file in the drill's folder; the
//! watch has a lock on it while it lives, and its process number beside it. `hearth drill judge` ends it.

use std::fs::{self, File, TryLockError};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::client::{Client, question};
use super::trace::{Moment, Seen, Writer, now};
use super::view::Viewer;
use crate::lab::{Happening, LabWire, events};

/// What was seen, in the drill's folder.
pub const TRACE: &str = "trace.jsonl";
/// All frames that the lab's switch forwards meanwhile, beside it.
const FRAMES: &str = "frames.pcap";
/// The watch's process number, beside it.
const PROCESS: &str = "watch.pid";
/// What the watch complained of, beside it.
const LOG: &str = "watch.log";
/// Between two looks at what happened to the lab.
const LOOK: Duration = Duration::from_millis(100);
/// Between two looks at the cluster, besides what a look takes.
const VIEW: Duration = Duration::from_millis(40);
/// Between two times that the trace is brought up to date.
const FLUSH: Duration = Duration::from_millis(500);
/// A watch that is told to end does within this.
const END: Duration = Duration::from_secs(10);
/// How long it tries to see who owns the guest at the end: a cluster may have no leader then.
const LAST_LOOK: Duration = Duration::from_secs(3);

/// What to watch.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Order {
    /// The lab.
    pub lab: String,
    /// The guest.
    pub guest: String,
    /// Its service.
    pub service: std::net::SocketAddrV4,
    /// Between two questions.
    pub every: Duration,
    /// Where the trace goes.
    pub folder: PathBuf,
    /// The service must answer first within this.
    pub patience: Duration,
}

/// Starts the watch, and waits for the service's first answer.
///
/// # Errors
/// Why it does not watch, or that the service does not answer.
pub fn begin(order: &Order) -> Result<(), String> {
    let trouble = |error: std::io::Error| format!("cannot start the watch: {error}");
    fs::create_dir_all(&order.folder).map_err(trouble)?;
    crate::lab::capture(&order.lab, order.folder.join(FRAMES))?;
    let program = std::env::current_exe().map_err(trouble)?;
    let log = File::create(order.folder.join(LOG)).map_err(trouble)?;
    let mut child = Command::new(program)
        .args(["drill", "record"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .map_err(trouble)?;
    let line = serde_json::to_string(order).map_err(|error| trouble(error.into()))?;
    if let Some(mut input) = child.stdin.take() {
        writeln!(input, "{line}").map_err(trouble)?;
    }
    let mut answer = String::new();
    if let Some(output) = child.stdout.take() {
        BufReader::new(output)
            .read_line(&mut answer)
            .map_err(trouble)?;
    }
    match answer.trim_end() {
        "watching" => Ok(()),
        "" => Err(format!(
            "the watch ended; {} may say why",
            order.folder.join(LOG).display()
        )),
        said => Err(said.to_string()),
    }
}

/// The watch's own process: takes its order from standard input.
///
/// # Errors
/// Why it could not watch.
pub fn record() -> Result<(), String> {
    // Whoever closes the terminal or interrupts the drill's script does not mean the watch; the lab's end ends it.
    let _ = nix::unistd::setsid();
    let mut line = String::new();
    std::io::stdin()
        .read_line(&mut line)
        .map_err(|error| format!("no order: {error}"))?;
    let order: Order = serde_json::from_str(&line).map_err(|error| format!("no order: {error}"))?;
    let told = follow(&order, |line| {
        let mut out = std::io::stdout();
        // Nobody may be there any more.
        let _ = writeln!(out, "{line}").and_then(|()| out.flush());
    });
    if let Err(trouble) = &told {
        println!("{trouble}");
    }
    told
}

/// Watches, and tells when the service has answered first.
fn follow(order: &Order, mut tell: impl FnMut(&str)) -> Result<(), String> {
    let trouble = |error: std::io::Error| format!("cannot write the trace: {error}");
    let path = order.folder.join(TRACE);
    let process = order.folder.join(PROCESS);
    // One of an earlier watch names a stranger by now.
    let _ = fs::remove_file(&process);
    let mut writer = Writer::create(&path).map_err(trouble)?;
    let lock = File::open(&path).map_err(trouble)?;
    lock.lock().map_err(trouble)?;
    fs::write(process, std::process::id().to_string()).map_err(trouble)?;

    let (notes, seen) = mpsc::channel();
    let ended = Arc::new(AtomicBool::new(false));
    // Before any thread is there, so that all of them have it blocked.
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals
        .thread_block()
        .map_err(|error| trouble(error.into()))?;
    let end = Arc::clone(&ended);
    thread::spawn(move || {
        // It fails for no set of signals.
        let _ = signals.wait();
        end.store(true, Ordering::Relaxed);
    });
    ask(order, notes.clone(), Arc::clone(&ended))?;
    look(order, notes.clone(), Arc::clone(&ended))?;
    view(order, notes, Arc::clone(&ended))?;

    let late = Instant::now() + order.patience;
    let (mut answered, mut flushed) = (false, Instant::now());
    loop {
        match seen.recv_timeout(FLUSH) {
            Ok((at, what)) => {
                let first = !answered && matches!(what, Seen::Answered { .. });
                writer.add(at, what).map_err(trouble)?;
                if first {
                    answered = true;
                    tell("watching");
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            // Both have ended: with the lab, or as they were told.
            Err(RecvTimeoutError::Disconnected) => return writer.flush().map_err(trouble),
        }
        if flushed.elapsed() > FLUSH {
            writer.flush().map_err(trouble)?;
            flushed = Instant::now();
        }
        if !answered && Instant::now() > late {
            return Err(format!(
                "{} at {} has not answered within {} s",
                order.guest,
                order.service,
                order.patience.as_secs()
            ));
        }
    }
}

type Note = (Moment, Seen);

/// The client, in a thread of its own.
fn ask(order: &Order, notes: Sender<Note>, ended: Arc<AtomicBool>) -> Result<(), String> {
    let wire = LabWire::connect(&order.lab, crate::lab::Ask::default())?;
    let mut client = Client::new(wire, order.service, order.every);
    thread::spawn(move || {
        while !ended.load(Ordering::Relaxed) {
            let note = |at, what| drop(notes.send((at, what)));
            if client.turn(note).is_err() {
                return;
            }
        }
    });
    Ok(())
}

/// Looks at what happens to the lab, in a thread of its own.
fn look(order: &Order, notes: Sender<Note>, ended: Arc<AtomicBool>) -> Result<(), String> {
    let order = order.clone();
    let mut next = 0;
    let mut turn = move || -> Result<bool, String> {
        let journal = events(&order.lab, next)?;
        next = journal.next;
        for happened in journal.happened {
            let what = match happened.what {
                Happening::Lab(what) => Seen::Lab { what },
                Happening::Said { board, line } => Seen::Said { board, line },
                Happening::Heard {
                    guest,
                    link,
                    datagram,
                } if guest == order.guest => Seen::Frame {
                    link,
                    answers: datagram.and_then(|text| question(text.as_bytes())),
                },
                Happening::Heard { .. } => continue,
            };
            if notes.send((happened.at_us, what)).is_err() {
                return Ok(false);
            }
        }
        Ok(true)
    };
    turn()?;
    thread::spawn(move || {
        loop {
            let last = ended.load(Ordering::Relaxed);
            if !matches!(turn(), Ok(true)) || last {
                return;
            }
            thread::sleep(LOOK);
        }
    });
    Ok(())
}

/// Looks at the boards' cluster, if they are in one, in a thread of its own.
fn view(order: &Order, notes: Sender<Note>, ended: Arc<AtomicBool>) -> Result<(), String> {
    let Some(mut viewer) = Viewer::of_lab(&order.lab)? else {
        return Ok(());
    };
    let guest = order.guest.clone();
    thread::spawn(move || {
        let mut before = None;
        let mut late = None;
        loop {
            // Who the owner is at the end is seen after the last frame was heard.
            let is_over = ended.load(Ordering::Relaxed);
            let late = is_over.then(|| *late.get_or_insert_with(|| Instant::now() + LAST_LOOK));
            let Ok(view) = viewer.look(&guest) else {
                return;
            };
            // While nobody answers, nothing is known.
            let view = view.unwrap_or_default();
            if before.as_ref() != Some(&view) {
                if notes.send((now(), Seen::View(view.clone()))).is_err() {
                    return;
                }
                before = Some(view);
            }
            if late.is_some_and(|late| viewer.is_current() || Instant::now() > late) {
                return;
            }
            thread::sleep(VIEW);
        }
    });
    Ok(())
}

/// Ends the watch of a folder, if there is one, and waits until its trace is whole.
///
/// # Errors
/// If there is no trace, or the watch does not end.
pub fn end(folder: &Path) -> Result<PathBuf, String> {
    let path = folder.join(TRACE);
    let trouble = |error: std::io::Error| format!("cannot read {}: {error}", path.display());
    let trace = File::open(&path).map_err(trouble)?;
    let late = Instant::now() + END;
    let mut told = false;
    loop {
        match trace.try_lock() {
            Ok(()) => return Ok(path),
            Err(TryLockError::Error(error)) => return Err(trouble(error)),
            Err(TryLockError::WouldBlock) if Instant::now() > late => {
                return Err("the watch does not end".into());
            }
            Err(TryLockError::WouldBlock) => {}
        }
        // Whoever has the lock wrote its number before.
        let number = fs::read_to_string(folder.join(PROCESS)).unwrap_or_default();
        if let (false, Ok(number)) = (told, number.trim().parse()) {
            told = kill(Pid::from_raw(number), Signal::SIGTERM).is_ok();
        }
        thread::sleep(Duration::from_millis(20));
    }
}
