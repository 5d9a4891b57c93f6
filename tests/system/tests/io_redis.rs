//! Debian's Redis, on an ext4 root in a guest, answers a client on this machine through the lab.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Output};
use std::time::Duration;

use system::{Guest, Package, paths, saw, slots};

/// A board and its Debian come up within this, on a machine that has much else to do.
const UP: &str = "240s";
/// An answer takes milliseconds.
const ANSWER: Duration = Duration::from_secs(60);
/// Values that are written and read back, and the length of each.
const VALUES: usize = 200;
const VALUE_BYTES: usize = 2000;

/// A lab; dropping it ends it.
struct Lab {
    name: String,
    _slots: slots::Slots,
}

impl Lab {
    fn run(&self, words: &[&str]) -> Output {
        Command::new(paths::tool())
            .args(["lab", "--name", &self.name])
            .args(words)
            .output()
            .expect("hearth started")
    }

    #[track_caller]
    fn good(&self, words: &[&str]) -> String {
        let output = self.run(words);
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words:?}: {complaint}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // It may never have come up.
        let _ = self.run(&["down"]);
    }
}

/// A client of Redis.
struct Client(TcpStream);

impl Client {
    /// Sends `request`, and reads an answer as long as `wanted`, which it must be.
    #[track_caller]
    fn ask(&mut self, request: &[u8], wanted: &[u8]) {
        self.0.write_all(request).expect("a request sent");
        let mut answer = vec![0; wanted.len()];
        self.0.read_exact(&mut answer).expect("an answer");
        assert!(answer == wanted, "{}", String::from_utf8_lossy(&answer));
    }
}

#[test]
fn redis_on_a_disk_answers_a_client_of_this_machine() {
    let test = "io_redis";
    let guest = Guest::debian_on("root.ext4", "web", "redis-durable")
        .with("hearth.ip=10.7.0.11/24")
        .card();
    let package = Package::of([guest]).pack(test);
    let lab = Lab {
        name: format!("io-redis-{}", std::process::id()),
        _slots: slots::take(1),
    };
    lab.good(&[
        "up",
        "--boards=1",
        &format!("--image={}", paths::image().display()),
        &format!("--package={}", package.display()),
        &format!("--folder={}", paths::results().join(test).display()),
    ]);
    let wait = |text| lab.good(&["wait", "board-1", "--for", text, "--timeout", UP]);
    assert!(wait("hearth-guest: root is ").contains("ext4 on /dev/vda"));
    wait("hearth-guest: redis answers");
    let said = lab.good(&["forward", "127.0.0.1:0", "10.7.0.11:6379"]);
    let port = said
        .split("127.0.0.1:")
        .nth(1)
        .map(|rest| {
            rest.chars()
                .take_while(char::is_ascii_digit)
                .collect::<String>()
        })
        .and_then(|digits| digits.parse::<u16>().ok())
        .unwrap_or_else(|| panic!("no port in {said:?}"));

    let stream = TcpStream::connect(("127.0.0.1", port)).expect("the forward takes a client");
    stream.set_read_timeout(Some(ANSWER)).expect("a time limit");
    let mut client = Client(stream);
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
