//! The verbs for a running cluster as an operator uses them, against boards that speak the real protocol over UDP.

mod boards;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddrV4, UdpSocket};
use std::process::{Child, Command, Stdio};

use boards::{Boards, Moves, hearth};
use serde_json::Value;

const THREE: &str = "\
cluster.name = 'home'
[[board]]
name = 'alpha'
address = '10.7.0.1/24'
[[board]]
name = 'beta'
address = '10.7.0.2/24'
[[board]]
name = 'gamma'
address = '10.7.0.3/24'
[[guest]]
name = 'web'
memory = 64
kernel = 'kernel'
[[guest]]
name = 'db'
memory = 128
kernel = 'kernel'
[[guest]]
name = 'spare'
memory = 32
kernel = 'kernel'
wanted = 'stopped'
";

const NAMES: [&str; 3] = ["alpha", "beta", "gamma"];

/// The entry of that name in a list of the answer.
fn named<'a>(json: &'a Value, list: &str, name: &str) -> &'a Value {
    let list = json[list].as_array().into_iter().flatten();
    let mut found = list.filter(|it| it["name"] == name);
    found.next().unwrap_or(&Value::Null)
}

#[test]
fn an_operator_looks_after_a_cluster() {
    let boards = Boards::start(THREE, &NAMES, &[]);
    let status = boards.well();
    assert_eq!(status["quorum"]["voters"], 3);
    assert_eq!(status["quorum"]["survives_one_more_loss"], true);
    assert_eq!(status["links"]["hears"]["alpha"]["gamma"], true);
    let (web, spare) = (
        named(&status, "guests", "web"),
        named(&status, "guests", "spare"),
    );
    assert_eq!(
        (&web["phase"], &web["trouble"]),
        (&"running".into(), &Value::Null)
    );
    assert_eq!(spare["phase"], "without an owner");
    let text = boards.says(0, &["status", "--check"]);
    assert!(text.starts_with("cluster home: well\nleader "), "{text}");
    assert!(
        text.contains("3 of 3 voters, 2 needed: one more loss is survived"),
        "{text}"
    );
    assert!(text.contains("\nspare  stopped"), "{text}");

    // Where web is, and out of there.
    let home = web["board"].as_str().unwrap().to_string();
    let why = boards.says(0, &["why", "web"]);
    assert!(
        why.starts_with(&format!("web is running on {home}: it had no owner")),
        "{why}"
    );
    assert!(
        why.contains(&format!("if {home} is lost, it is started elsewhere")),
        "{why}"
    );
    let drained = boards.says(0, &["drain", &home, "--wait", "--patience", "50"]);
    assert!(
        drained.contains(&format!("{home} is drained: no guest is on it")),
        "{drained}"
    );
    let why = boards.eventually(&["why", "web"], |why| why["phase"] == "running");
    assert_ne!(why["board"], home.as_str());
    let mut judged = why["boards"].as_array().unwrap().iter();
    let judged = judged.find(|it| it["board"] == home.as_str()).unwrap();
    assert_eq!(
        (&judged["fits"], &judged["why"]),
        (
            &false.into(),
            &"is drained (`hearth undrain` takes that back)".into()
        )
    );
    boards.says(0, &["undrain", &home]);
    let back = boards.eventually(&["status"], |it| {
        named(it, "boards", &home)["drained"] == false
    });
    assert_eq!(named(&back, "boards", &home)["state"], "in");

    // A guest's life.
    let text = boards.says(0, &["guest", "start", "spare", "--wait"]);
    // What it waited for, if it had to, comes behind: `says` has standard error there.
    assert!(text.starts_with("spare runs\n"), "{text}");
    let heard = boards.eventually(&["guest", "console", "spare"], |it| it["ok"] == true);
    assert_eq!(heard["said"], "Welcome\nlogin: ");
    let list = boards.eventually(&["guest", "list"], |it| it["ok"] == true);
    let epoch = named(&list, "guests", "spare")["epoch"].as_u64().unwrap();
    boards.says(0, &["guest", "restart", "spare", "--wait"]);
    let list = boards.eventually(&["guest", "list"], |it| it["ok"] == true);
    assert!(named(&list, "guests", "spare")["epoch"].as_u64().unwrap() > epoch);
    let text = boards.says(3, &["guest", "delete", "spare"]);
    assert!(
        text.contains("not while it runs: `hearth guest stop` first"),
        "{text}"
    );
    boards.says(0, &["guest", "stop", "spare", "--wait"]);
    let text = boards.says(3, &["guest", "console", "spare", "--once"]);
    assert!(text.contains("does not run, so it says nothing"), "{text}");
    boards.says(0, &["guest", "delete", "spare"]);
    let text = boards.says(3, &["why", "spare"]);
    assert!(
        text.contains("there is no guest spare; the guests are: web, db"),
        "{text}"
    );

    // Failover off and on.
    boards.says(0, &["disarm", "beta"]);
    boards.says(0, &["disarm"]);
    let text = boards.says(1, &["status", "--check"]);
    assert!(
        text.contains("failover is off everywhere: `hearth arm` turns it on"),
        "{text}"
    );
    assert!(text.contains("beta is disarmed"), "{text}");
    boards.says(0, &["arm"]);
    boards.says(0, &["arm", "beta"]);

    let events = boards.says(0, &["events"]);
    for part in [
        "the cluster was founded by ",
        "alpha was let in",
        "web runs on ",
        "its board is being drained",
    ] {
        assert!(events.contains(part), "{part}: {events}");
    }
    let text = boards.says(3, &["drain", "delta"]);
    assert!(
        text.contains("cluster home has no board delta; it has: alpha, beta, gamma"),
        "{text}"
    );
}

#[test]
fn what_is_wrong_is_named() {
    let boards = Boards::start(THREE, &NAMES, &[]);
    boards.well();
    // A link that works one way.
    boards.cut("alpha", "beta", true);
    let fault = "one way only: alpha hears beta, and beta does not hear alpha";
    boards.eventually(&["status"], |status| {
        let faults = status["links"]["faults"].as_array().into_iter().flatten();
        faults.filter(|it| *it == fault).count() == 1
    });
    boards.cut("alpha", "beta", false);
    let status = boards.well();

    // The leader is lost: another leads, its guests run elsewhere, and what is lost is named.
    let lost = status["leader"].as_str().unwrap().to_string();
    boards.off(&lost);
    let status = boards.eventually(&["status"], |status| {
        let guests = status["guests"].as_array().into_iter().flatten();
        let mut running = guests.filter(|guest| guest["wanted"] == "running");
        status["leader"].is_string()
            && status["leader"] != lost.as_str()
            && named(status, "boards", &lost)["state"] == "out"
            && running.all(|guest| guest["phase"] == "running")
    });
    assert_eq!(status["quorum"]["survives_one_more_loss"], false);
    let text = boards.says(1, &["status", "--check"]);
    assert!(
        text.contains(&format!("nobody hears board {lost}: it is off or cut off")),
        "{text}"
    );
    assert!(
        text.contains("the loss of one more stops the cluster from deciding"),
        "{text}"
    );
    let events = boards.says(0, &["events"]);
    assert!(
        events.contains(&format!(
            "{lost} was put out, and its guests are started elsewhere: too few voters heard"
        )),
        "{events}"
    );

    // A reform is refused while a leader is there, and says so.
    let other = *NAMES.iter().find(|name| **name != lost).unwrap();
    let text = boards.says(3, &["reform", other, "--lost", &lost]);
    assert!(text.contains("no reform is needed"), "{text}");

    // Without a majority nothing is agreed.
    let third = *NAMES
        .iter()
        .find(|name| **name != lost && **name != other)
        .unwrap();
    boards.off(third);
    let status = boards.eventually(&["status"], |status| {
        status["leader"].is_null() && status["ok"] == true
    });
    let troubles = status["troubles"].to_string();
    assert!(
        troubles.contains("there is no leader: 1 of 3 voters answer, and 2 are needed"),
        "{troubles}"
    );
    let text = boards.says(3, &["guest", "stop", "web"]);
    assert!(
        text.contains("the cluster refuses: ") || text.contains("no answer came"),
        "{text}"
    );
    let text = boards.says(3, &["reform", other, "--lost", &lost]);
    assert!(
        text.contains("a voter is neither heard nor given as lost"),
        "{text}"
    );
    boards.says(0, &["reform", other, "--lost", &lost, third]);
    boards.on(&lost);
    boards.on(third);
    let status = boards.well();
    assert_eq!(status["quorum"]["present"], 3);

    boards.off("alpha");
    boards.off("beta");
    boards.off("gamma");
    let text = boards.says(3, &["status"]);
    assert!(
        text.contains("nobody of cluster home answers; asked: alpha at 127.0.0.1:"),
        "{text}"
    );
}

#[test]
fn a_guest_is_moved_while_it_runs() {
    let boards = Boards::start(THREE, &NAMES, &[]);
    let status = boards.well();
    let home = named(&status, "guests", "web")["board"].as_str().unwrap();
    let follow = ["migrate", "web", "--follow", "--patience", "50"];

    // Boards that cannot: the guest stays, and says why.
    let text = boards.says(1, &follow);
    let stays = format!("web stays on {home}, after ");
    let why = "its board cannot move guests while they run";
    assert!(text.contains(&stays) && text.contains(why), "{text}");
    let list = boards.says(0, &["guest", "list"]);
    assert!(
        list.contains(&format!("its last move was given up: {why}")),
        "{list}"
    );

    boards.moves(Moves::Done);
    let output = boards.hearth(&[&follow[..], &["--json"]].concat());
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{told:#}");
    assert_eq!(
        (&told["ok"], &told["outcome"], &told["from"]),
        (&true.into(), &"moved".into(), &home.into())
    );
    let there = told["to"].as_str().unwrap();
    let list = boards.eventually(&["guest", "list"], |it| it["ok"] == true);
    let web = named(&list, "guests", "web");
    assert_eq!(
        (&web["board"], &web["epoch"], &web["stays_because"]),
        (&told["to"], &told["epoch"], &Value::Null)
    );

    // One that takes its time is shown, may not go elsewhere, and can be called off.
    boards.moves(Moves::Endless);
    let text = boards.says(0, &["migrate", "web", "--to", home]);
    let moves = format!("web moves from {there} to {home} while it runs");
    assert!(text.contains(&moves), "{text}");
    let status = boards.well();
    assert_eq!(named(&status, "guests", "web")["moves_to"], home);
    let text = boards.says(1, &["migrate", "web", "--follow", "--timeout", "1"]);
    assert!(text.contains("and goes on moving"), "{text}");
    let other = NAMES.iter().find(|name| ![home, there].contains(name));
    let text = boards.says(3, &["migrate", "web", "--to", other.unwrap()]);
    assert!(
        text.contains(&format!(
            "the cluster refuses: web is on its way to {home}: "
        )),
        "{text}"
    );
    let text = boards.says(0, &["migrate", "web", "--cancel"]);
    assert!(
        text.contains(&format!("its move to {home} is called off")),
        "{text}"
    );
    let text = boards.says(3, &["migrate", "web", "--cancel"]);
    assert!(
        text.contains(&format!("it is running on {there}")),
        "{text}"
    );
    let events = boards.says(0, &["events"]);
    let off = format!("web was not moved and stays on {there} (epoch ");
    assert!(
        events.contains(&off) && events.contains("an operator called it off"),
        "{events}"
    );
    let text = boards.says(3, &["migrate", "spare"]);
    assert!(text.contains("spare is stopped, and only"), "{text}");

    // A drain moves it, too.
    boards.moves(Moves::Done);
    boards.says(0, &["drain", there, "--wait", "--timeout", "50"]);
    let events = boards.says(0, &["events"]);
    let newest = events.lines().rfind(|line| line.contains("handed over"));
    assert!(
        newest.is_some_and(|line| line.ends_with("its board is being drained")),
        "{events}"
    );
}

#[test]
fn a_guest_is_made_while_the_cluster_runs() {
    let boards = Boards::start(THREE, &NAMES, &[]);
    boards.well();
    let kernel: Vec<u8> = (0..200_000u32).map(|n| (n * 7 % 251) as u8).collect();
    fs::write(boards.path("new-kernel"), kernel).unwrap();
    fs::write(boards.path("disk"), vec![5; 70_000]).unwrap();
    let table = "[[guest]]\nname = 'late'\nmemory = 16\nkernel = 'new-kernel'\nallowed = ['beta']\n[[guest.disk]]\nimage = 'disk'\noverlay = 2\n";
    fs::write(boards.path("late.toml"), table).unwrap();
    boards.says(0, &["guest", "create", "late.toml"]);
    let status = boards.well();
    let late = named(&status, "guests", "late");
    assert_eq!(
        (&late["phase"], &late["board"]),
        (&"running".into(), &"beta".into())
    );
    assert_eq!(late["memory_mib"], 18);
    let note = "if beta is lost, no other board can run all of its guests";
    assert_eq!(status["notes"], serde_json::json!([note]));
    // Of the same images and by options, on a board that has to fetch them.
    let options = [
        "--name",
        "later",
        "--kernel",
        "new-kernel",
        "--memory",
        "16",
        "--disk",
        "disk",
        "--stopped",
    ];
    boards.says(0, &[&["guest", "create"], &options[..]].concat());
    boards.says(0, &["drain", "beta"]);
    boards.says(0, &["guest", "start", "later", "--wait"]);
    let text = boards.says(3, &[&["guest", "create"], &options[..]].concat());
    assert!(text.contains("there is a guest later already"), "{text}");
    let table = table.replace("memory = 16", "memory = 17");
    fs::write(boards.path("late.toml"), table).unwrap();
    let text = boards.says(1, &["guest", "create", "late.toml"]);
    assert!(text.contains("--> late.toml:3:10"), "{text}");
}

const TWO: &str = "\
cluster.name = 'home'
[[board]]
name = 'alpha'
address = '10.7.0.1/24'
[[board]]
name = 'beta'
address = '10.7.0.2/24'
[[witness]]
name = 'desk'
[[guest]]
name = 'web'
memory = 64
kernel = 'kernel'
";

/// A witness that is killed when the test ends.
struct Witness(Child);

impl Witness {
    /// Starts one, and waits until it has said `first`.
    fn start(boards: &Boards, at: SocketAddrV4, first: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hearth"));
        command.args(["witness", "--folder", "memory", "--listen", &at.to_string()]);
        for address in boards.addresses() {
            command.args(["--peer", &address.to_string()]);
        }
        command
            .current_dir(boards.folder.path())
            .env_remove("HEARTH_LAB");
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let mut lines = out.lines();
        let said = lines
            .by_ref()
            .any(|line| line.unwrap_or_default().contains(first));
        assert!(said, "the witness never said {first}");
        // It goes on to speak, and somebody must listen.
        std::thread::spawn(move || lines.count());
        Self(child)
    }

    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_witness_keeps_its_vote() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let at: SocketAddrV4 = socket.local_addr().unwrap().to_string().parse().unwrap();
    drop(socket);
    let boards = Boards::start(TWO, &["alpha", "beta"], &[at]);
    let desk = Witness::start(&boards, at, "it votes");
    let place = format!("--at=desk={at}");
    let status = || boards.eventually(&["status", &place], |status| status["well"] == true);
    let first = status();
    assert_eq!(first["quorum"]["voters"], 3);
    assert_eq!(named(&first, "boards", "desk")["state"], "votes");

    // A second one with the same memory is refused.
    let output = hearth(
        boards.folder.path(),
        &[
            "witness",
            "--folder",
            "memory",
            "--listen",
            "127.0.0.1:0",
            "--peer",
            &at.to_string(),
        ],
    );
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        text.contains("another witness uses the memory in"),
        "{text}"
    );

    // Killed and started anew it remembers: its seat is never emptied.
    desk.kill();
    let desk = Witness::start(&boards, at, "it remembers what it promised");
    status();
    let events = boards.says(0, &["events"]);
    assert!(!events.contains("desk lost its vote"), "{events}");

    // With it, one board is enough.
    boards.off("alpha");
    boards.eventually(&["status", &place], |status| {
        status["leader"].is_string()
            && named(status, "guests", "web")["phase"] == "running"
            && named(status, "guests", "web")["board"] == "beta"
    });
    boards.on("alpha");
    status();

    // A memory that is damaged is put aside; the witness is let in as a newcomer.
    desk.kill();
    let journal = boards.path("memory/journal");
    let mut bytes = fs::read(&journal).unwrap();
    bytes[40] ^= 1;
    fs::write(&journal, bytes).unwrap();
    let _desk = Witness::start(&boards, at, "it begins as a newcomer");
    boards.eventually(&["events"], |events| {
        events.to_string().contains("desk lost its vote")
    });
    status();
    assert!(boards.path("memory/journal.unreadable-1").exists());
}
