//! Debian's Redis, on an ext4 root in a guest, answers a client on this machine through the lab.

use system::{Guest, Lab, Package, saw};

/// Values that are written and read back, and the length of each.
const VALUES: usize = 200;
const VALUE_BYTES: usize = 2000;

#[test]
fn redis_on_a_disk_answers_a_client_of_this_machine() {
    let test = "io_redis";
    let guest = Guest::debian_on("root.ext4", "web", "redis-durable")
        .with("hearth.ip=10.7.0.11/24")
        .card();
    let lab = Lab::up(test, &Package::of([guest]), 1, 1);
    lab.said("board-1", "hearth-guest: root is ext4 on /dev/vda");
    lab.said("board-1", "hearth-guest: redis answers");
    let mut client = lab.client("10.7.0.11:6379");
    client.ask(b"PING\r\n", b"+PONG\r\n");
    let value = |n: usize| vec![b'a' + (n % 26) as u8; VALUE_BYTES];
    for n in 0..VALUES {
        let mut request =
            format!("*3\r\n$3\r\nSET\r\n$4\r\n{n:04}\r\n${VALUE_BYTES}\r\n").into_bytes();
        request.extend(value(n));
        request.extend(b"\r\n");
        client.ask(&request, b"+OK\r\n");
    }
    for n in 0..VALUES {
        let mut answer = format!("${VALUE_BYTES}\r\n").into_bytes();
        answer.extend(value(n));
        answer.extend(b"\r\n");
        client.ask(format!("GET {n:04}\r\n").as_bytes(), &answer);
    }
    client.ask(b"DBSIZE\r\n", format!(":{VALUES}\r\n").as_bytes());
    lab.good(&["down"]);
    saw!(
        test,
        "{VALUES} values of {VALUE_BYTES} bytes written, flushed and read back"
    );
}

/// What redis-benchmark sets and gets, and the least a second that is no standstill.
const REQUESTS: u32 = 500;
const LEAST: f64 = 1.0;

#[test]
fn debians_own_benchmark_of_redis_runs_between_two_guests() {
    let test = "io_redis_benchmark";
    let web = Guest::debian_on("root.ext4", "web", "redis").with("hearth.ip=10.7.0.11/24");
    let client = Guest::debian_on("root.ext4", "client", "redis-client").with(&format!(
        "hearth.ip=10.7.0.12/24 hearth.peer=10.7.0.11 hearth.requests={REQUESTS}"
    ));
    let lab = Lab::up(test, &Package::of([web.card(), client.card()]), 1, 2);
    lab.said("board-1", "redis-client ended");
    let said = lab.good(&["log", "board-1"]);
    for way in ["SET", "GET"] {
        let words = format!("hearth-guest: redis-benchmark {way} ");
        let rate = said.split_once(&words).and_then(|(_, rest)| {
            let number = rest.split(' ').next()?;
            number.parse::<f64>().ok()
        });
        let rate = rate.unwrap_or_else(|| panic!("no rate of {way} in:\n{said}"));
        saw!(test, "{way}: {rate} a second");
        assert!(rate >= LEAST, "{way}: {rate} a second");
    }
    // What the benchmark wrote is there, by Redis' own account.
    let mut other = lab.client("10.7.0.11:6379");
    other.ask(b"DBSIZE\r\n", b":1\r\n");
}
