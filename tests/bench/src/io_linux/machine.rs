//! One machine that runs Debian and takes orders over its console: on a board of its own, or in a guest of Hearth's there.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use system::board::ESCAPE;
use system::slots::Slots;
use system::{Board, Guest, Machine, Package, paths};

/// No line takes longer than this to come.
const LIMIT: Duration = Duration::from_secs(240);
/// How long a machine lives at most.
const LIFE: Duration = Duration::from_secs(3600);
/// Its memory, MiB, here and there.
const MEMORY_MIB: u32 = 256;

/// Which clock tells how long something takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// The board's own, which passes by 8 ns with each instruction of its core, and with time while the core waits: about as fast as QEMU is, so
    /// that a wait for the other board or the disk weighs what it should. What else this machine does costs no time but in these waits.
    Board,
    /// This machine's.
    Wall,
}

/// What lies below Debian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Below {
    /// The board.
    Nothing,
    /// Hearth on that board.
    Hearth,
}

/// What a machine is to be.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Its name, and its logs'.
    pub name: String,
    /// The image of its root, in `.guests`.
    pub root: &'static str,
    /// What it does, as `scripts/lib/root-init` has it.
    pub run: &'static str,
    /// More words for its command line.
    pub words: String,
    /// Its Ethernet address, and its end of the cable and the other's.
    pub cable: Option<(&'static str, PathBuf, PathBuf)>,
    /// Its second disk: the board's own, and the volume of it that a guest has.
    pub disk: Option<(PathBuf, &'static str)>,
    /// How its board's time passes.
    pub clock: Clock,
}

/// A running machine; it ends when dropped.
pub enum Running {
    /// A guest.
    Guest(Box<Board>),
    /// A board.
    Plain(Plain),
}

impl Plan {
    /// Starts it, in slots that are enough for all that works at a time.
    ///
    /// # Panics
    /// If something is missing, or QEMU does not start.
    pub fn start(&self, slots: &Slots, below: Below) -> Running {
        let run = format!("{} {}", self.run, self.words);
        let mut devices = self.devices(below);
        match below {
            Below::Nothing => Running::Plain(Plain::start(&run, &devices)),
            Below::Hearth => {
                let mut guest = Guest::debian_on(self.root, &self.name, &run).memory(MEMORY_MIB);
                if let Some((_, volume)) = &self.disk {
                    guest = guest.volume(volume);
                }
                if let Some((mac, ..)) = &self.cable {
                    guest = guest.card_of(mac);
                }
                let log = format!("bench-{}", self.name);
                let package = Package::of([guest]).pack(&log);
                devices.splice(0..0, ["-global".into(), MODERN.into()]);
                let machine = Machine::virt(1);
                let board = Board::boot_in(slots, &log, machine, Some(&package), &devices);
                Running::Guest(Box::new(board.allow(LIFE)))
            }
        }
    }

    /// QEMU's arguments for the board's devices. They are the same for both, but for the root, which a guest has in its package.
    fn devices(&self, below: Below) -> Vec<String> {
        let mut devices = Vec::new();
        let mut add = |words: [String; 4]| devices.extend(words);
        let drive = |id: &str, file: &Path, more: &str| {
            let file = file.display();
            [
                "-drive".into(),
                format!("if=none,id={id},format=raw,file={file}{more}"),
                "-device".into(),
                format!("virtio-blk-device,drive={id}"),
            ]
        };
        // QEMU fills its slots from the last one down, and Linux finds the first one first.
        if let Some((mac, own, other)) = &self.cable {
            let mac = match below {
                Below::Nothing => format!(",mac={mac}"),
                // The board's card is the board's.
                Below::Hearth => String::new(),
            };
            let (own, other) = (own.display(), other.display());
            add([
                "-netdev".into(),
                format!(
                    "dgram,id=wire,local.type=unix,local.path={own},remote.type=unix,remote.path={other}"
                ),
                "-device".into(),
                format!("virtio-net-device,netdev=wire{mac}"),
            ]);
        }
        if let Some((path, _)) = &self.disk {
            add(drive("disk", path, ""));
        }
        if below == Below::Nothing {
            add(drive("root", &paths::material(self.root), ",snapshot=on"));
        }
        if self.clock == Clock::Board {
            devices.extend(["-icount".into(), "shift=3".into()]);
        }
        devices
    }
}

/// QEMU's virtio devices as version 1.2 has them.
const MODERN: &str = "virtio-mmio.force-legacy=false";

impl Running {
    /// Waits for a line with these words, which it gives.
    ///
    /// # Panics
    /// If it does not come in time.
    pub fn expect(&mut self, words: &str) -> String {
        match self {
            Self::Guest(board) => board.expect(words, LIMIT),
            Self::Plain(plain) => plain.expect(words),
        }
    }

    /// Tells it to do one of the things of `scripts/lib/root-init`. It was started to take orders.
    ///
    /// # Panics
    /// If its console takes no input.
    pub fn order(&mut self, what: &str) {
        let line = format!("{what}\n");
        match self {
            Self::Guest(board) => {
                // The console of the first guest for the order, and all consoles for what comes of it.
                board.send(&[ESCAPE, b'1']);
                board.send(line.as_bytes());
                board.send(&[ESCAPE, b'a']);
            }
            Self::Plain(plain) => {
                let written = plain.input.write_all(line.as_bytes());
                written
                    .and_then(|()| plain.input.flush())
                    .expect("a console that takes input");
            }
        }
    }
}

/// Debian directly on QEMU's board.
pub struct Plain {
    qemu: Child,
    input: ChildStdin,
    output: Receiver<Vec<u8>>,
    text: String,
    looked: usize,
}

impl Plain {
    fn start(run: &str, devices: &[String]) -> Self {
        // A runner that is killed takes its machines with it.
        let mut qemu = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "qemu-system-aarch64"])
            .args([
                "-M",
                "virt,virtualization=on,gic-version=3",
                "-cpu",
                "cortex-a72",
                "-smp",
                "1",
            ])
            .args(["-m", &MEMORY_MIB.to_string(), "-no-reboot"])
            .args(["-display", "none", "-monitor", "none", "-nic", "none"])
            .args(["-serial", "stdio", "-global", MODERN])
            .args(["-kernel".as_ref(), paths::material("Image").as_os_str()])
            .args([
                "-initrd".as_ref(),
                paths::material("initramfs-disk.cpio.gz").as_os_str(),
            ])
            .args([
                "-append",
                &format!("console=ttyAMA0 quiet hearth.run={run}"),
            ])
            .args(devices)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("QEMU started");
        let input = qemu.stdin.take().expect("QEMU's input");
        let mut source = qemu.stdout.take().expect("QEMU's output");
        let (sender, output) = mpsc::channel();
        thread::spawn(move || {
            let mut piece = vec![0; 4096];
            while let Ok(count @ 1..) = source.read(&mut piece) {
                // Who listens may have gone first.
                let _ = sender.send(piece[..count].to_vec());
            }
        });
        Self {
            qemu,
            input,
            output,
            text: String::new(),
            looked: 0,
        }
    }

    fn expect(&mut self, words: &str) -> String {
        let end = Instant::now() + LIMIT;
        loop {
            let rest = &self.text[self.looked..];
            if let Some(line) = rest
                .split_inclusive('\n')
                .find(|line| line.ends_with('\n') && line.contains(words))
            {
                let line = line.trim_end().to_string();
                let start = rest.find(&line).unwrap_or(0);
                self.looked += start + line.len();
                return line;
            }
            let left = end.saturating_duration_since(Instant::now());
            match self.output.recv_timeout(left) {
                Ok(bytes) => self.text += &String::from_utf8_lossy(&bytes),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    panic!("{words:?} did not come; this did:\n{}", self.text)
                }
            }
        }
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        // Fails only for a process that has ended.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}
