//! The README's commands, run as a newcomer would type them.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use system::{paths, saw, slots};

/// A board comes up, with the set-up and the build before it, within this; ten times what a quiet machine needs.
const LIMIT: Duration = Duration::from_secs(240);
/// Turns the board off, at its console.
const QUIT: &[u8] = b"\x1dq";
/// What a Debian guest's shell says when it is there.
const PROMPT: &str = "/ # ";

const CLUSTER: &str = "run_keeps_a_guest_alive";
const LAB: &str = "a_client_of_this_machine_reaches_redis";
const VOLUMES: &str = "volumes_are_made_and_listed";

/// Each command, with the test that runs it.
const COMMANDS: [(&str, &str); 25] = [
    ("scripts/run", CLUSTER),
    ("scripts/run --single", "run_gives_the_guests_consoles"),
    ("target/hearth lab kill beta", CLUSTER),
    ("target/hearth lab restart beta", CLUSTER),
    ("scripts/test", "these tests are it"),
    ("scripts/run --machine raspi4b", "run_on_raspi4b"),
    (
        "scripts/run --gic 2 --smp 4 --cpu cortex-a76",
        "run_on_gicv2",
    ),
    (
        "scripts/run --cpu max --smp 8 --memory 2048",
        "run_on_many_cores",
    ),
    ("scripts/run --help", "run_has_help"),
    ("scripts/run my-cluster.toml", "run_takes_a_description"),
    (
        "target/hearth pack scripts/single.toml -o boot.cpio",
        "pack_and_show",
    ),
    ("target/hearth show boot.cpio", "pack_and_show"),
    ("scripts/symbolize console.log", "symbolize_names_places"),
    ("target/hearth lab up scripts/lab.toml", LAB),
    (
        "target/hearth lab wait alpha --for \"redis answers\" --timeout 2m",
        LAB,
    ),
    ("target/hearth lab forward 127.0.0.1:7379 redis:6379", LAB),
    ("target/hearth lab faults alpha --loss 20% --delay 5ms", LAB),
    ("target/hearth lab links", LAB),
    ("target/hearth lab heal", LAB),
    ("target/hearth lab console client", LAB),
    ("target/hearth lab down", LAB),
    ("target/hearth volume init disk.img --size 1G", VOLUMES),
    (
        "target/hearth volume create disk.img data --size 512M",
        VOLUMES,
    ),
    ("target/hearth volume list disk.img", VOLUMES),
    (
        "scripts/bench boot",
        "figures::figures_stay_within_their_budgets",
    ),
];

/// What stands in the README's blocks of commands, comments aside.
fn commands_of_the_readme() -> BTreeSet<String> {
    let text = fs::read_to_string(paths::project().join("README.md")).expect("the README");
    let mut inside = false;
    let mut commands = BTreeSet::new();
    for line in text.lines() {
        if line.starts_with("```") {
            inside = !inside;
            continue;
        }
        let line = line.strip_prefix("$ ").unwrap_or(line);
        if inside && (line.starts_with("scripts/") || line.starts_with("target/")) {
            let command = line.split("  #").next().unwrap_or(line);
            commands.insert(command.trim().to_owned());
        }
    }
    // In the text, between backquotes.
    for word in text.split('`').skip(1).step_by(2) {
        if word.starts_with("scripts/") && word.contains(" --") {
            commands.insert(word.to_owned());
        }
    }
    commands
}

#[test]
fn every_command_of_the_readme_is_run_by_a_test() {
    let known: BTreeSet<_> = COMMANDS
        .iter()
        .map(|(command, _)| command.to_string())
        .collect();
    assert_eq!(commands_of_the_readme(), known);
}

/// The command as the README has it, with these files in the place of the ones that it names.
fn command(line: &str, files: &[(&str, &Path)]) -> Command {
    assert!(COMMANDS.iter().any(|(known, _)| *known == line), "{line}");
    // Quotes are a shell's: what stands between them is one word.
    let mut words = line.split('"').enumerate().flat_map(|(n, part)| {
        let whole = n % 2 == 1;
        let words = part.split(move |c| c == ' ' && !whole);
        words.filter(|word| !word.is_empty())
    });
    let mut command = Command::new(paths::project().join(words.next().expect("a program")));
    command.current_dir(paths::project());
    // Other tests have labs, too.
    command.env("HEARTH_LAB", format!("readme-{}", std::process::id()));
    for word in words {
        match files.iter().find(|(name, _)| *name == word) {
            Some((_, path)) => command.arg(path),
            None => command.arg(word),
        };
    }
    command
}

fn output(line: &str, files: &[(&str, &Path)]) -> Output {
    let output = command(line, files).stdin(Stdio::null()).output();
    let output = output.expect("the command started");
    assert!(
        output.status.success(),
        "{line}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// `scripts/run` with a pipe for a keyboard.
struct Session {
    child: Child,
    said: Receiver<Vec<u8>>,
    text: String,
    _slots: Option<slots::Slots>,
}

impl Session {
    /// On a board that keeps so many cores of this machine busy, or none that is not counted already.
    fn start(line: &str, cores: usize, files: &[(&str, &Path)]) -> Self {
        let slots = (cores > 0).then(|| slots::take(cores));
        let mut child = command(line, files)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the command started");
        let (sender, said) = mpsc::channel();
        let mut stdout = child.stdout.take().expect("its output");
        thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(length @ 1..) = stdout.read(&mut chunk) {
                if sender.send(chunk[..length].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self {
            child,
            said,
            text: String::new(),
            _slots: slots,
        }
    }

    fn type_in(&mut self, keys: &[u8]) {
        let input = self.child.stdin.as_mut().expect("its input");
        input
            .write_all(keys)
            .and_then(|()| input.flush())
            .expect("keys taken");
    }

    /// Waits until it has said `what`, behind what was waited for before.
    fn expect(&mut self, what: &str) {
        self.expect_any(&[what]);
    }

    /// Waits until it has said one of these, behind what was waited for before.
    fn expect_any(&mut self, what: &[&str]) {
        let limit = Instant::now() + LIMIT;
        loop {
            let found = what
                .iter()
                .filter_map(|what| Some((self.text.find(what)?, what.len())));
            if let Some((place, length)) = found.min() {
                self.text.drain(..place + length);
                return;
            }
            match self
                .said
                .recv_timeout(limit.saturating_duration_since(Instant::now()))
            {
                Ok(chunk) => self.text.push_str(&String::from_utf8_lossy(&chunk)),
                Err(error @ (RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected)) => {
                    panic!("no {what:?} came ({error}):\n{}", self.text)
                }
            }
        }
    }

    /// Turns the board off; the command ends well.
    fn leave(mut self) {
        self.type_in(QUIT);
        let status = self.child.wait().expect("its end");
        assert!(status.success(), "it ended with {status}:\n{}", self.text);
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // A failed test's; the script ends its board on a signal that it can catch.
        let id = self.child.id().to_string();
        if let Ok(None) = self.child.try_wait() {
            let _ = Command::new("kill").arg(id).status();
            let _ = self.child.wait();
        }
    }
}

/// Boots as told until the first guest's shell is there.
fn boots(line: &str, cores: usize) {
    let mut session = Session::start(line, cores, &[]);
    session.expect(PROMPT);
    session.leave();
}

/// The identity of the boot that the page behind the forward tells, once it is there and another than `not`.
fn boot_of_the_page(not: &str) -> String {
    let limit = Instant::now() + LIMIT;
    loop {
        let mut page = String::new();
        let asked = TcpStream::connect("127.0.0.1:8080").and_then(|mut stream| {
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
            stream.read_to_string(&mut page)
        });
        let boot = page.trim_end().rsplit_once("boot ");
        match boot.filter(|_| asked.is_ok()) {
            Some((_, boot)) if boot != not => return boot.to_owned(),
            _ => assert!(Instant::now() < limit, "no page came, but {page:?}"),
        }
        thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn run_keeps_a_guest_alive() {
    let mut session = Session::start("scripts/run", usize::MAX, &[]);
    session.expect("owns the guest (running");
    let first = boot_of_the_page("");
    // Wherever the guest is, it is not on beta afterwards.
    output("target/hearth lab kill beta", &[]);
    let left = [
        "alpha owns the guest (running",
        "gamma owns the guest (running",
    ];
    session.expect_any(&left);
    let second = boot_of_the_page("");
    output("target/hearth lab restart beta", &[]);
    session.expect("alpha, beta, gamma are in");
    saw!(CLUSTER, "boot {first}, and {second} after beta was lost");
}

#[test]
fn run_gives_the_guests_consoles() {
    const NAME: &str = "run_gives_the_guests_consoles";
    let mut session = Session::start("scripts/run --single", 2, &[]);
    session.expect("Ctrl-] 1 .. 9     the console of that guest");
    session.expect(PROMPT);
    session.type_in(b"nproc; cat /proc/meminfo | grep -c MemTotal; echo first-$((40 + 2))\r");
    session.expect("first-42");
    // The other guest has its own shell, and a variable of one is not the other's.
    session.type_in(b"mark=left\r\x1d2");
    session.expect(PROMPT);
    session.type_in(b"\recho second-${mark:-none}\r");
    session.expect("second-none");
    saw!(NAME, "both guests' shells answered");
    session.leave();
}

#[test]
fn run_on_raspi4b() {
    boots("scripts/run --machine raspi4b", 4);
}

#[test]
fn run_on_gicv2() {
    boots("scripts/run --gic 2 --smp 4 --cpu cortex-a76", 4);
}

#[test]
fn run_on_many_cores() {
    boots("scripts/run --cpu max --smp 8 --memory 2048", 8);
}

#[test]
fn run_has_help() {
    let help = String::from_utf8(output("scripts/run --help", &[]).stdout).expect("text");
    for option in ["--machine", "--gic", "--smp", "--cpu", "--memory"] {
        assert!(help.contains(option), "{help}");
    }
}

#[test]
fn run_takes_a_description() {
    let guests = paths::project().join(".guests");
    let text = fs::read_to_string(paths::project().join("scripts/single.toml"))
        .expect("the example")
        .replace("../.guests", &guests.display().to_string())
        .replace("\"left\"", "\"mine\"");
    let own = paths::results().join("run_takes_a_description.toml");
    fs::write(&own, text).expect("a description written");
    let line = "scripts/run my-cluster.toml";
    let mut session = Session::start(line, 2, &[("my-cluster.toml", &own)]);
    session.expect("guest mine starts");
    session.leave();
}

#[test]
fn pack_and_show() {
    let package = paths::results().join("pack_and_show.cpio");
    let files: [(&str, &Path); 1] = [("boot.cpio", &package)];
    output(
        "target/hearth pack scripts/single.toml -o boot.cpio",
        &files,
    );
    let shown = output("target/hearth show boot.cpio", &files).stdout;
    let shown = String::from_utf8(shown).expect("text");
    assert!(shown.contains("left") && shown.contains("right"), "{shown}");
}

#[test]
fn symbolize_names_places() {
    let log = paths::results().join("symbolize_names_places.console");
    fs::write(&log, "hearth:   #0 image+0x1000\n").expect("a log written");
    let line = "scripts/symbolize console.log";
    let text = output(line, &[("console.log", &log)]).stdout;
    let text = String::from_utf8(text).expect("text");
    let name = text.lines().nth(1).unwrap_or_default();
    assert!(name.starts_with(' ') && !name.trim().is_empty(), "{text}");
}

/// Ends the lab, whatever becomes of the test.
struct LabEnds;

impl Drop for LabEnds {
    fn drop(&mut self) {
        let _ = command("target/hearth lab down", &[]).output();
    }
}

/// One command of Redis, and the line of its answer.
fn ask_redis(stream: &mut BufReader<TcpStream>, command: &str) -> String {
    let mut to = stream.get_ref();
    write!(to, "{command}\r\n").expect("a command sent");
    let mut line = String::new();
    stream.read_line(&mut line).expect("an answer");
    line.trim_end().to_owned()
}

#[test]
fn a_client_of_this_machine_reaches_redis() {
    const NAME: &str = "a_client_of_this_machine_reaches_redis";
    let _slots = slots::take(usize::MAX);
    output("target/hearth lab up scripts/lab.toml", &[]);
    let ends = LabEnds;
    output(
        "target/hearth lab wait alpha --for \"redis answers\" --timeout 2m",
        &[],
    );
    output("target/hearth lab forward 127.0.0.1:7379 redis:6379", &[]);
    let stream = TcpStream::connect("127.0.0.1:7379").expect("a connection");
    stream.set_read_timeout(Some(LIMIT)).expect("a limit");
    let mut redis = BufReader::new(stream);
    assert_eq!(ask_redis(&mut redis, "SET greeting hello"), "+OK");
    assert_eq!(ask_redis(&mut redis, "STRLEN greeting"), ":5");
    output("target/hearth lab faults alpha --loss 20% --delay 5ms", &[]);
    for n in 1..=20 {
        assert_eq!(ask_redis(&mut redis, "INCR counter"), format!(":{n}"));
    }
    let links = output("target/hearth lab links", &[]).stdout;
    let links = String::from_utf8_lossy(&links).into_owned();
    assert!(links.contains("loss 20%"), "{links}");
    output("target/hearth lab heal", &[]);
    assert_eq!(ask_redis(&mut redis, "GETRANGE greeting 0 0"), "$1");
    saw!(
        NAME,
        "Redis answered through the forward, with faults and without"
    );
    let mut console = Session::start("target/hearth lab console client", 0, &[]);
    console.expect("hearth-guest: root is ext4");
    // Its keys are a terminal's; without one it is there until it is ended.
    drop(console);
    drop(redis);
    drop(ends);
}

#[test]
fn volumes_are_made_and_listed() {
    let disk = paths::results().join("volumes_are_made_and_listed.img");
    let _ = fs::remove_file(&disk);
    let files: [(&str, &Path); 1] = [("disk.img", &disk)];
    output("target/hearth volume init disk.img --size 1G", &files);
    output(
        "target/hearth volume create disk.img data --size 512M",
        &files,
    );
    let listed = output("target/hearth volume list disk.img", &files).stdout;
    let listed = String::from_utf8_lossy(&listed).into_owned();
    assert!(
        listed.contains("data") && listed.contains("512 MiB"),
        "{listed}"
    );
    fs::remove_file(&disk).expect("the disk removed");
}

#[test]
fn simulate_says_what_it_found() {
    let run = Command::new(paths::project().join("scripts/simulate"))
        .args(["--steps", "20000", "--json"])
        .output()
        .expect("scripts/simulate started");
    let said = String::from_utf8_lossy(&run.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&run.stderr);
    assert!(said.contains("\"violations\": 0"), "{said}{complaint}");
    for key in [
        "steps",
        "seeds",
        "decide_p99_ms",
        "speedup",
        "events_never_seen",
    ] {
        assert!(said.contains(&format!("\"{key}\"")), "{key}: {said}");
    }
}
