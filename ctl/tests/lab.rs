//! Labs as an operator's script sees them, with a stand-in for QEMU: what is left behind, what runs side by side, consoles, faults.
//!
//! The stand-in greets as QEMU's control does, says a line on its console, and echoes what is typed.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// Nothing here takes longer than a fraction of it.
const LIMIT: Duration = Duration::from_secs(60);

const QEMU: &str = r#"#!/bin/bash
for word; do
    case $word in
    socket,id=console,fd=*) console=${word##*=} ;;
    socket,id=control,fd=*) control=${word##*=} ;;
    refuse) echo "qemu: I was told to refuse" >&2; exit 1 ;;
    esac
done
echo '{"QMP": {}}' >&$control
echo "board says hello" >&$console
while read -r line <&$console; do
    [ "$line" = off ] && exit 0
    echo "heard $line" >&$console
done
"#;

/// A folder with the stand-in, and labs that end with the test.
struct Labs {
    folder: tempfile::TempDir,
    prefix: String,
}

impl Labs {
    fn new(test: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let qemu = folder.path().join("qemu");
        fs::write(&qemu, QEMU).unwrap();
        fs::set_permissions(&qemu, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(folder.path().join("hearth.img"), "an image").unwrap();
        // Tests of several checkouts may run at once.
        let prefix = format!("{test}-{}", std::process::id());
        Self { folder, prefix }
    }

    fn name(&self, lab: &str) -> String {
        format!("{}-{lab}", self.prefix)
    }

    fn command(&self, lab: &str, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hearth"));
        command
            .args(["lab", "--json", "--name", &self.name(lab)])
            .args(words)
            .current_dir(self.folder.path());
        command
    }

    /// Runs a verb of a lab; its answer.
    fn lab(&self, lab: &str, words: &[&str]) -> Value {
        let output = self.command(lab, words).output().unwrap();
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{words:?}: {error}: {output:?}"))
    }

    /// Runs a verb that must succeed.
    #[track_caller]
    fn good(&self, lab: &str, words: &[&str]) -> Value {
        let answer = self.lab(lab, words);
        assert_eq!(answer["ok"], true, "{words:?}: {answer}");
        answer
    }

    /// Runs a verb that must fail; why it did.
    #[track_caller]
    fn bad(&self, lab: &str, words: &[&str]) -> String {
        let answer = self.lab(lab, words);
        assert_eq!(answer["ok"], false, "{words:?}: {answer}");
        answer["trouble"].as_str().unwrap().to_string()
    }

    #[track_caller]
    fn up(&self, lab: &str, more: &[&str]) -> Value {
        let words = [&self.up_words(lab)[..], more].concat();
        self.good(lab, &words)
    }

    fn up_words(&self, lab: &str) -> Vec<&'static str> {
        // One folder a lab: side by side they must not share logs.
        let folder: &'static str = Box::leak(format!("logs-{lab}").into_boxed_str());
        vec![
            "up",
            "--qemu",
            "./qemu",
            "--image",
            "hearth.img",
            "--boards",
            "2",
            "--folder",
            folder,
        ]
    }

    /// The process of a lab's board, and the lab's own.
    fn processes(&self, lab: &str) -> Vec<i32> {
        let state = self.good(lab, &["list"]);
        let lab = &state["labs"][0];
        let boards = lab["boards"].as_array().unwrap().iter();
        let pids = boards.map(|board| &board["pid"]).chain([&lab["pid"]]);
        pids.filter_map(Value::as_i64)
            .map(|pid| pid as i32)
            .collect()
    }

    /// Whether the kernel knows a socket of that lab.
    fn has_socket(&self, lab: &str) -> bool {
        fs::read_to_string("/proc/net/unix")
            .unwrap()
            .contains(&self.name(lab))
    }
}

impl Drop for Labs {
    fn drop(&mut self) {
        // A test that failed may have left labs up.
        for lab in ["a", "b"] {
            if self.has_socket(lab) {
                let _ = self.command(lab, &["down"]).output();
            }
        }
    }
}

/// Whether a process is there and not merely unburied.
fn lives(pid: i32) -> bool {
    let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = state
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .trim_start()
        .to_string();
    !state.is_empty() && !state.starts_with(['Z', 'X'])
}

/// Looks until it is so.
#[track_caller]
fn until(what: &str, mut so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !so() {
        assert!(start.elapsed() < LIMIT, "{what} takes too long");
        thread::sleep(Duration::from_millis(5));
    }
}

/// What of a process group's console arrives.
fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn boards_are_started_stopped_and_killed() {
    let labs = Labs::new("boards");
    let begun = labs.up("a", &[]);
    assert_eq!(begun["boards"][1]["name"], "board-2");
    assert_eq!(begun["boards"][1]["condition"], "running");
    let condition =
        |board: usize| labs.good("a", &["list"])["labs"][0]["boards"][board]["condition"].clone();
    let pid = labs.processes("a")[0];

    labs.good("a", &["pause", "board-1"]);
    assert_eq!(condition(0), "paused");
    let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    assert!(state.contains(") T "), "{state}");
    labs.good("a", &["resume", "board-1"]);
    assert_eq!(condition(0), "running");

    labs.good("a", &["kill", "board-1"]);
    assert!(!lives(pid));
    assert_eq!(condition(0)["ended"], "killed");
    assert!(
        labs.bad("a", &["pause", "board-1"])
            .contains("hearth lab restart board-1")
    );
    labs.good("a", &["restart", "board-1"]);
    assert_eq!(condition(0), "running");
    let again = labs.processes("a")[0];
    labs.good("a", &["restart", "board-1"]);
    assert!(!lives(again));
    assert_eq!(
        labs.good("a", &["list"])["labs"][0]["boards"][0]["starts"],
        3
    );

    // Another image is the board's from then on.
    fs::write(labs.folder.path().join("other.img"), "").unwrap();
    let missing = labs.bad("a", &["restart", "board-1", "--image", "no.img"]);
    assert!(missing.contains("cannot read no.img"), "{missing}");
    for more in [&["--image", "other.img"][..], &[]] {
        labs.good("a", &[&["restart", "board-1"], more].concat());
        let words = fs::read_to_string(format!("/proc/{}/cmdline", labs.processes("a")[0]));
        assert!(words.unwrap().contains("/other.img"));
    }

    // A paused board is killed and ended as well as another.
    labs.good("a", &["pause", "board-2"]);
    labs.good("a", &["restart", "board-2"]);
    labs.good("a", &["pause", "board-2"]);
    let all = labs.processes("a");
    assert_eq!(all.len(), 3);
    labs.good("a", &["down"]);
    until("the end", || !all.iter().any(|pid| lives(*pid)));
    assert!(!labs.has_socket("a"));
    assert!(labs.bad("a", &["list"]).contains("lab"));
}

#[test]
fn a_killed_lab_leaves_nothing() {
    let labs = Labs::new("killed");
    labs.up("a", &[]);
    labs.good("a", &["pause", "board-2"]);
    let all = labs.processes("a");
    let supervisor = *all.last().unwrap();
    kill(Pid::from_raw(supervisor), Signal::SIGKILL).unwrap();
    until("the boards' end", || !all.iter().any(|pid| lives(*pid)));
    assert!(!labs.has_socket("a"));
    // Its name is free again.
    labs.up("a", &[]);
}

#[test]
fn a_terminated_lab_leaves_nothing() {
    let labs = Labs::new("terminated");
    labs.up("a", &[]);
    let all = labs.processes("a");
    kill(Pid::from_raw(*all.last().unwrap()), Signal::SIGTERM).unwrap();
    until("the end", || !all.iter().any(|pid| lives(*pid)));
    assert!(!labs.has_socket("a"));
}

#[test]
fn a_lab_in_the_foreground_ends_with_an_interrupt() {
    let labs = Labs::new("foreground");
    let words = [&labs.up_words("a")[..], &["--foreground"]].concat();
    let child = labs
        .command("a", &words)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    until("the lab", || {
        labs.has_socket("a")
            && labs.lab("a", &["list"])["labs"][0]["boards"][1]["condition"] == "running"
    });
    let all = labs.processes("a");
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    assert!(!all.iter().any(|pid| lives(*pid)));
    assert!(!labs.has_socket("a"));
}

#[test]
fn two_labs_run_side_by_side() {
    let labs = Labs::new("two");
    labs.up("a", &[]);
    labs.up("b", &["--seed", "7"]);
    let words = labs.up_words("a");
    assert!(labs.bad("a", &words).contains("is up already"));
    labs.good("a", &["faults", "board-1", "--cut"]);
    let cut = |lab| labs.good(lab, &["links"])["links"][0]["from"]["faults"]["cut"].clone();
    assert_eq!((cut("a"), cut("b")), (true.into(), false.into()));
    labs.good("a", &["down"]);
    assert_eq!(labs.processes("b").len(), 3);
    assert_eq!(labs.good("b", &["list"])["labs"][0]["seed"], 7);
    labs.good("b", &["down"]);
}

#[test]
fn what_cannot_start_says_why_and_leaves_nothing() {
    let labs = Labs::new("refused");
    let up = |option: &'static str, value: &'static str| {
        let mut words = labs.up_words("a");
        match words.iter().position(|word| *word == option) {
            Some(at) => words[at + 1] = value,
            None => words.extend([option, value]),
        }
        labs.bad("a", &words)
    };
    let why = up("--qemu-arg", "refuse");
    assert!(
        why.contains("exit code 1") && why.contains("I was told to refuse"),
        "{why}"
    );
    assert!(!labs.has_socket("a"));
    assert!(up("--qemu", "./nowhere").contains("./nowhere"));
    assert!(up("--boards", "99").contains("1 to 16 boards"));
    assert!(up("--image", "nowhere.img").contains("nowhere.img"));
    assert!(up("--disk", "{board}.disk").contains("board-1.disk"));
    assert!(!labs.has_socket("a"));
}

#[test]
fn consoles_are_kept_and_typed_on() {
    let labs = Labs::new("console");
    labs.up("a", &[]);
    let hello = labs.good("a", &["wait", "board-1", "--for", "says"]);
    assert_eq!(hello["line"], "board says hello");
    let at = hello["at"].to_string();
    labs.good("a", &["type", "board-1", r"one\n"]);
    let heard = labs.good("a", &["wait", "board-1", "--for", "heard", "--after", &at]);
    assert_eq!(heard["line"], "heard one");
    let late = labs.bad(
        "a",
        &["wait", "board-1", "--for", "never", "--timeout", "50ms"],
    );
    assert!(
        late.contains("in time") && late.contains("hearth lab log board-1"),
        "{late}"
    );
    let log = labs.good("a", &["log", "board-1", "--lines", "1"]);
    assert_eq!(log["text"], "heard one\n");
    // What came before the console was attached comes first.
    let mut console = labs
        .command("a", &["console", "board-1"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    use std::io::Write as _;
    console.stdin.as_mut().unwrap().write_all(b"two\n").unwrap();
    labs.good("a", &["wait", "board-1", "--for", "heard two"]);
    labs.good("a", &["type", "board-1", r"off\n"]);
    until("the board's end", || {
        labs.good("a", &["list"])["labs"][0]["boards"][0]["condition"]["ended"]
            == "turned itself off"
    });
    assert!(
        labs.bad("a", &["wait", "board-1", "--for", "more"])
            .contains("turned itself off")
    );
    labs.good("a", &["down"]);
    let shown = text(&console.wait_with_output().unwrap());
    assert!(
        shown.starts_with("board says hello\nheard one\n") && shown.contains("heard two\n"),
        "{shown}"
    );
    let file = fs::read_to_string(labs.folder.path().join("logs-a/board-1.log")).unwrap();
    assert_eq!(file, "board says hello\nheard one\nheard two\n");
}

#[test]
fn faults_are_set_and_healed() {
    let labs = Labs::new("faults");
    labs.up("a", &[]);
    labs.good(
        "a",
        &[
            "faults", "board-1", "--from", "--loss", "20%", "--delay", "5ms",
        ],
    );
    let set = labs.good("a", &["faults", "board-1", "--from", "--jitter", "1ms"]);
    let from = &set["links"][0]["from"]["faults"];
    assert_eq!(
        (&from["loss"], &from["delay"], &from["jitter"]),
        (&200_000.into(), &5_000_000.into(), &1_000_000.into())
    );
    assert_eq!(set["links"][0]["to"]["faults"]["loss"], 0);
    labs.good("a", &["heal"]);
    assert_eq!(
        labs.good("a", &["links"])["links"][0]["from"]["faults"]["loss"],
        0
    );
    assert!(
        labs.bad("a", &["faults", "nobody", "--cut"])
            .contains("its links are board-1, board-2, lab")
    );
    let usage = labs
        .command("a", &["faults", "board-1", "--loss", "20"])
        .output()
        .unwrap();
    assert_eq!(usage.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&usage.stderr).contains("write 20%"));
}

#[test]
fn captures_and_forwards_are_made_and_ended() {
    let labs = Labs::new("captures");
    labs.up("a", &[]);
    labs.good("a", &["capture", "all.pcap"]);
    assert!(labs.bad("a", &["capture", "all.pcap"]).contains("already"));
    // Nobody answers, but the question is there to be seen.
    assert!(
        labs.bad("a", &["ping", "10.0.0.5", "--timeout", "20ms"])
            .contains("does not answer")
    );
    let ended = labs.good("a", &["capture", "--end"]);
    let file = labs.folder.path().join("all.pcap");
    assert_eq!(ended["captures"][0]["file"], file.to_str().unwrap());
    // smoltcp asks once more by itself.
    let frames = ended["captures"][0]["frames"].as_u64().unwrap() as usize;
    assert!((1..=2).contains(&frames), "{frames}");
    let bytes = fs::read(&file).unwrap();
    assert_eq!(bytes.len(), 24 + frames * (16 + 42), "ARP requests");
    assert_eq!(bytes[40 + 12..40 + 14], [0x08, 0x06]);

    let made = labs.good("a", &["forward", "127.0.0.1:0", "10.0.0.5:6379"]);
    let listen = made["listen"].as_str().unwrap();
    assert!(std::net::TcpStream::connect(listen).is_ok());
    labs.good("a", &["forward", listen, "--end"]);
    assert!(std::net::TcpStream::connect(listen).is_err());
    assert!(
        labs.bad("a", &["forward", "0.0.0.0:0", "10.0.0.5:1"])
            .contains("this machine alone")
    );
    assert!(
        labs.bad("a", &["forward", "127.0.0.1:0", "web:1"])
            .contains("neither an IPv4 address nor a guest")
    );
}

#[test]
fn nonsense_gets_an_answer() {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::{SocketAddr, UnixStream};
    let labs = Labs::new("nonsense");
    labs.up("a", &[]);
    let address = format!("hearth-lab-{}-{}", nix::unistd::geteuid(), labs.name("a"));
    let ask = |request: &[u8]| {
        let address = SocketAddr::from_abstract_name(&address).unwrap();
        let mut stream = UnixStream::connect_addr(&address).unwrap();
        // The lab may answer and close before all of it is written.
        let _ = stream.write_all(request);
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        line
    };
    assert!(ask(b"hello\n").contains("no JSON"));
    assert!(ask(b"{}\n").contains("version"));
    assert!(ask(b"{\"hearth_lab\":99,\"verb\":\"list\"}\n").contains("the request's is 99"));
    assert!(ask(b"{\"hearth_lab\":1,\"verb\":\"dance\"}\n").contains("not understood"));
    assert!(ask(b"{\"hearth_lab\":1,\"verb\":\"kill\"}\n").contains("board"));
    assert!(ask(&vec![b'x'; 100_000]).contains("at most"));
    // Those that hang up without asking are forgotten.
    for _ in 0..200 {
        UnixStream::connect_addr(&SocketAddr::from_abstract_name(&address).unwrap()).unwrap();
    }
    until("room", || labs.lab("a", &["list"])["ok"] == true);
}

#[test]
fn a_description_is_read_and_its_mistakes_are_placed() {
    let labs = Labs::new("description");
    let write = |text: &str| fs::write(labs.folder.path().join("lab.toml"), text).unwrap();
    let up = [
        "up",
        "lab.toml",
        "--qemu",
        "./qemu",
        "--image",
        "hearth.img",
        "--folder",
        "logs",
    ];
    write(
        "[lab]\nsmp = 4\n[[board]]\nname = 'alpha'\nmac = '02:00:00:00:00:09'\n[[board]]\nname = 'beta'\nqemu = ['-x']\n",
    );
    let begun = labs.good("a", &up);
    assert_eq!(begun["boards"][0]["mac"], "02:00:00:00:00:09");
    assert_eq!(begun["boards"][1]["name"], "beta");
    labs.good("a", &["down"]);
    write("[lab]\nspeed = 4\n");
    let mistakes = labs.lab("a", &up);
    assert_eq!(mistakes["problems"][0]["line"], 2, "{mistakes}");
    write("[[board]]\nname = 'lab'\n");
    assert!(labs.bad("a", &up).contains("own link"));
}
