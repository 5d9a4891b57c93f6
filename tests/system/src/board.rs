//! A booted board: its console, its keys, its end.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use crate::machine::{Kind, Machine};
use crate::package::Package;
use crate::slots::{self, Slots};
use crate::status::Status;
use crate::{paths, verdict};

/// Ctrl-], before a letter for the board.
pub const ESCAPE: u8 = 0x1d;
/// A test's board lives so long, unless [`Board::allow`] says otherwise.
const LIFE: Duration = Duration::from_secs(300);
/// A board answers within this, and a QEMU that was told to ends within it.
const ANSWER: Duration = Duration::from_secs(60);
/// What a board says that cannot turn itself off.
const UNPLUG: &str = "it may be unplugged now";
/// Bytes read from a console at once.
const CHUNK: usize = 16 << 10;

/// A running board. Dropping it kills it.
#[derive(Debug)]
pub struct Board {
    name: String,
    machine: Machine,
    child: Child,
    input: Option<ChildStdin>,
    output: Receiver<Vec<u8>>,
    log: File,
    /// All that came, and how far it was looked at: for bad lines, and for what was waited for.
    text: String,
    judged: usize,
    cursor: usize,
    expected: Vec<String>,
    start: Instant,
    life: Duration,
    /// Its own, unless it was booted in those of whoever booted it.
    _slots: Option<Slots>,
}

impl Board {
    /// Boots a machine for the test of that name, which is also the log's.
    ///
    /// # Panics
    /// If something is missing, or QEMU does not start.
    pub fn boot(name: &str, machine: Machine, package: &Package) -> Self {
        let package = package.pack(name);
        Self::boot_with(name, machine, Some(&package), &[])
    }

    /// Boots a machine with this file as the initrd, or with none, and with more arguments for QEMU.
    ///
    /// # Panics
    /// As [`boot`](Self::boot).
    pub fn boot_with(
        name: &str,
        machine: Machine,
        package: Option<&std::path::Path>,
        more: &[String],
    ) -> Self {
        let slots = slots::take(machine.host_threads());
        let mut board = Self::boot_in(&slots, name, machine, package, more);
        board._slots = Some(slots);
        board
    }

    /// Boots a machine in slots that have been taken, which may be for several boards. They are held for as long as any of them runs.
    ///
    /// # Panics
    /// As [`boot`](Self::boot).
    pub fn boot_in(
        _: &Slots,
        name: &str,
        machine: Machine,
        package: Option<&std::path::Path>,
        more: &[String],
    ) -> Self {
        let log = paths::results().join(name).with_extension("log");
        // A runner that is killed takes its boards with it.
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "qemu-system-aarch64"])
            .args(machine.arguments(package))
            .args(more)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("QEMU started");
        let (sender, output) = mpsc::channel();
        forward(child.stdout.take().expect("QEMU's output"), sender.clone());
        forward(child.stderr.take().expect("QEMU's errors"), sender);
        let input = child.stdin.take();
        eprintln!("{name}: {:?}", machine.kind);
        Self {
            name: name.into(),
            machine,
            child,
            input,
            output,
            log: File::create(log).expect("a log"),
            text: String::new(),
            judged: 0,
            cursor: 0,
            expected: Vec::new(),
            start: Instant::now(),
            life: LIFE,
            _slots: None,
        }
    }

    /// Lets the board live so long.
    pub fn allow(mut self, life: Duration) -> Self {
        self.life = life;
        self
    }

    /// Bad lines with this text in them are what the test wants.
    pub fn tolerate(mut self, text: &str) -> Self {
        self.expected.push(text.into());
        self
    }

    /// All that the board has said.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Waits for `pattern` behind what was waited for before, and gives the line that holds it.
    ///
    /// # Panics
    /// If it does not come in time, the board ends, or says something bad.
    #[track_caller]
    pub fn expect(&mut self, pattern: &str, within: Duration) -> String {
        self.expect_any(&[pattern], within).1
    }

    /// Waits for the first of several patterns; gives its number and its line.
    ///
    /// # Panics
    /// As [`expect`](Self::expect).
    #[track_caller]
    pub fn expect_any(&mut self, patterns: &[&str], within: Duration) -> (usize, String) {
        let limit = self.limit(within);
        loop {
            if let Some((which, line)) = self.find(patterns) {
                return (which, line);
            }
            self.read_until(limit, &format!("{patterns:?}"));
        }
    }

    /// Waits for all of several patterns, in whatever order.
    ///
    /// # Panics
    /// As [`expect`](Self::expect).
    #[track_caller]
    pub fn expect_all(&mut self, patterns: &[&str], within: Duration) {
        let limit = self.limit(within);
        let start = self.cursor;
        let mut end = start;
        for pattern in patterns {
            self.cursor = start;
            while self.find(&[pattern]).is_none() {
                self.read_until(limit, pattern);
            }
            end = end.max(self.cursor);
        }
        self.cursor = end;
    }

    /// Sends bytes to the board's console.
    ///
    /// # Panics
    /// If the board has ended.
    #[track_caller]
    pub fn send(&mut self, bytes: &[u8]) {
        let input = self.input.as_mut().expect("an open console");
        if input.write_all(bytes).and_then(|()| input.flush()).is_err() {
            self.fail("the console does not take input");
        }
    }

    /// Asks the board how it is.
    ///
    /// # Panics
    /// If it does not answer.
    #[track_caller]
    pub fn status(&mut self) -> Status {
        self.take_in();
        let mut at = self.judged;
        self.send(&[ESCAPE, b's']);
        let limit = self.limit(ANSWER);
        let mut status = Status::default();
        loop {
            while let Some(length) = self.text[at..].find('\n') {
                let line = self.text[at..at + length].trim_end();
                at += length + 1;
                if status.take(line) {
                    return status;
                }
            }
            self.read_until(limit, "the board's status");
        }
    }

    /// Turns the board off, and waits for QEMU to end by itself. The Pi has no way to turn itself off: it says so and is done.
    ///
    /// # Panics
    /// If the board does not turn itself off.
    #[track_caller]
    pub fn power_off(mut self) {
        if self.machine.kind == Kind::Raspi4b {
            self.expected.push(UNPLUG.into());
            self.send(&[ESCAPE, b'q']);
            self.expect(UNPLUG, ANSWER);
            return;
        }
        self.send(&[ESCAPE, b'q']);
        let limit = self.limit(ANSWER);
        while self.read_some(limit) {}
        let status = loop {
            match self.child.try_wait().expect("QEMU's state") {
                Some(status) => break status,
                None if Instant::now() > limit => self.fail("the board does not turn itself off"),
                None => thread::sleep(Duration::from_millis(20)),
            }
        };
        if !status.success() {
            self.fail(&format!("QEMU ended with {status}"));
        }
    }

    /// Ends the test, with all that the board has said.
    ///
    /// # Panics
    /// Always.
    #[track_caller]
    pub fn fail(&self, why: &str) -> ! {
        panic!(
            "{}: {why}\n--- the console, {} s after the start:\n{}\n--- end of the console",
            self.name,
            self.start.elapsed().as_secs(),
            self.text
        )
    }

    fn limit(&self, within: Duration) -> Instant {
        (Instant::now() + within).min(self.start + self.life)
    }

    /// The first place behind the cursor where a pattern stands in a whole line.
    fn find(&mut self, patterns: &[&str]) -> Option<(usize, String)> {
        let seen = &self.text[self.cursor..self.judged];
        let (place, which) = patterns
            .iter()
            .enumerate()
            .filter_map(|(which, pattern)| Some((seen.find(pattern)?, which)))
            .min()?;
        let start = seen[..place].rfind('\n').map_or(0, |end| end + 1);
        let end = place + seen[place..].find('\n').unwrap_or(seen.len() - place);
        let line = seen[start..end].trim().to_owned();
        self.cursor += end;
        Some((which, line))
    }

    /// Waits for more text; `what` says for what in the failure.
    #[track_caller]
    fn read_until(&mut self, limit: Instant, what: &str) {
        if !self.read_some(limit) {
            self.fail(&format!("the board ended before {what}"));
        }
        if Instant::now() > limit {
            self.fail(&format!("waited too long for {what}"));
        }
    }

    /// Takes what has come already.
    #[track_caller]
    fn take_in(&mut self) {
        while let Ok(chunk) = self.output.try_recv() {
            self.add(&chunk);
        }
    }

    /// Waits for output until the limit; false when the board has ended.
    #[track_caller]
    fn read_some(&mut self, limit: Instant) -> bool {
        let patience = limit.saturating_duration_since(Instant::now());
        match self
            .output
            .recv_timeout(patience + Duration::from_millis(1))
        {
            Ok(chunk) => {
                self.add(&chunk);
                true
            }
            Err(RecvTimeoutError::Timeout) => true,
            Err(RecvTimeoutError::Disconnected) => false,
        }
    }

    /// Keeps text, and judges the lines that it completes.
    #[track_caller]
    fn add(&mut self, chunk: &[u8]) {
        self.log.write_all(chunk).expect("the log written");
        self.text.push_str(&String::from_utf8_lossy(chunk));
        while let Some(length) = self.text[self.judged..].find('\n') {
            let line = &self.text[self.judged..self.judged + length];
            let bad = verdict::is_bad(line, &self.expected).then(|| line.trim().to_owned());
            self.judged += length + 1;
            if let Some(line) = bad {
                self.hear_out();
                self.fail(&line);
            }
        }
    }

    /// Collects what else a failing board has to say, for the log.
    fn hear_out(&mut self) {
        const LAST_WORDS: Duration = Duration::from_secs(2);
        let limit = Instant::now() + LAST_WORDS;
        while let Ok(chunk) = self
            .output
            .recv_timeout(limit.saturating_duration_since(Instant::now()))
        {
            // The log is only a help; the failure is told anyhow.
            let _ = self.log.write_all(&chunk);
            self.text.push_str(&String::from_utf8_lossy(&chunk));
        }
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        // Both fail only for a process that has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Passes what a process writes on, until it ends.
fn forward(mut from: impl Read + Send + 'static, to: Sender<Vec<u8>>) {
    thread::spawn(move || {
        let mut chunk = vec![0; CHUNK];
        while let Ok(length @ 1..) = from.read(&mut chunk) {
            if to.send(chunk[..length].to_vec()).is_err() {
                return;
            }
        }
    });
}
