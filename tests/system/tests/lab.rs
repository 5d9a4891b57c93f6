//! The lab with real boards: started, looked at, stalled, killed and ended.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use system::lab::UP;
use system::{Guest, Lab, Package, saw};

/// The processes whose command line holds this.
fn processes(text: &str) -> usize {
    let all = std::fs::read_dir("/proc").expect("/proc").flatten();
    all.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
        .filter(|line| String::from_utf8_lossy(line).contains(text))
        .count()
}

#[test]
fn three_boards_are_started_stalled_killed_and_ended() {
    let test = "lab_three_boards";
    let package = Package::of([Guest::bare_metal("spin", 1)]);
    let lab = Lab::up(test, &package, 3, 2);
    let boards = ["board-1", "board-2", "board-3"];
    for board in boards {
        lab.said(board, "guest spin starts: 1 vCPU");
    }
    let package = format!("{test}/board-");
    assert_eq!(processes(&package), 3);

    lab.good(&["pause", "board-2"]);
    assert!(lab.good(&["list"]).contains("board-2      paused"));
    lab.good(&["type", "board-2", r"\x1ds"]);
    let silent = lab.run(&[
        "wait",
        "board-2",
        "--for",
        "hearth: status:",
        "--timeout",
        "300ms",
    ]);
    assert!(!silent.status.success(), "a paused board answers");
    lab.good(&["resume", "board-2"]);
    lab.said("board-2", "hearth: status:");

    lab.good(&["kill", "board-3"]);
    assert_eq!(processes(&package), 2);
    assert!(lab.good(&["list"]).contains("board-3      ended: killed"));
    let again = lab.good(&["log", "board-3"]).len().to_string();
    lab.good(&["restart", "board-3"]);
    lab.good(&[
        "wait",
        "board-3",
        "--for",
        "guest spin starts",
        "--after",
        &again,
        "--timeout",
        UP,
    ]);

    // A board that turns itself off has ended by itself.
    lab.good(&["type", "board-1", r"\x1dq"]);
    let start = Instant::now();
    while !lab
        .good(&["list"])
        .contains("board-1      ended: turned itself off")
    {
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "board-1 stays on"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    let begin = Instant::now();
    lab.good(&["down"]);
    assert_eq!(processes(&package), 0);
    saw!(
        test,
        "three boards, down in {} ms",
        begin.elapsed().as_millis()
    );
}

/// What Redis answers to a command.
fn redis(stream: &mut BufReader<TcpStream>, command: &str) -> String {
    let line = format!("{command}\r\n");
    stream
        .get_mut()
        .write_all(line.as_bytes())
        .expect("a command sent");
    let mut answer = String::new();
    stream.read_line(&mut answer).expect("an answer");
    answer.trim_end().to_string()
}

#[test]
fn a_client_of_this_machine_talks_with_a_guests_redis() {
    let test = "lab_redis";
    let web = Guest::debian_on("root.ext4", "web", "redis")
        .with("hearth.ip=10.7.0.11/24")
        .card();
    let lab = Lab::up(test, &Package::of([web]), 1, 2);
    lab.said("board-1", "redis answers");
    lab.good(&["ping", "10.7.0.11"]);
    // Its answer to the ping's ARP has told who it is.
    let leads = lab.good(&["forward", "127.0.0.1:0", "web:6379"]);
    let listen = leads.split(' ').next().expect("an address");
    let stream = TcpStream::connect(listen).expect("a connection");
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .expect("a limit");
    stream.set_nodelay(true).expect("no delay");
    let mut stream = BufReader::new(stream);
    assert_eq!(redis(&mut stream, "SET hearth warm"), "+OK");

    // 20 ms each way; a round trip cannot be shorter.
    lab.good(&["faults", "board-1", "--delay", "20ms"]);
    let begin = Instant::now();
    assert_eq!(redis(&mut stream, "PING"), "+PONG");
    let delayed = begin.elapsed();
    assert!(delayed >= Duration::from_millis(40), "{delayed:?}");

    // What is lost is sent again, in both directions, each time after twice as long. Of what was sent twice no side knows how long it takes (RFC 6298, section
    // 3), so that it stays: at four times this loss a request now and then takes a minute.
    lab.good(&[
        "faults",
        "board-1",
        "--delay",
        "off",
        "--loss",
        "5%",
        "--duplicate",
        "10%",
        "--reorder",
        "10%",
        "--corrupt",
        "5%",
    ]);
    for number in 1..=50 {
        assert_eq!(redis(&mut stream, "INCR count"), format!(":{number}"));
    }
    lab.good(&["heal"]);

    // A stall, as the client sees it: the connection goes on.
    lab.good(&["pause", "board-1"]);
    stream
        .get_mut()
        .write_all(b"INCR count\r\n")
        .expect("a command sent");
    lab.good(&["resume", "board-1"]);
    let mut answer = String::new();
    stream.read_line(&mut answer).expect("an answer");
    assert_eq!(answer, ":51\r\n");
    let links = lab.good(&["links"]);
    assert!(
        links.contains("lost") && links.contains("10.7.0.11"),
        "{links}"
    );
    saw!(
        test,
        "Redis answered through loss, duplicates, reordering and a stall; a round trip with 40 ms of delay took {} ms",
        delayed.as_millis()
    );
}
