//! A lab of boards on one Ethernet, driven by the operator's own tool as a user would.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use crate::slots::{self, Slots};
use crate::{Package, paths};

/// A board and its Debian come up within this, on a machine that has much else to do.
pub const UP: &str = "240s";
/// An answer takes milliseconds.
const ANSWER: Duration = Duration::from_secs(60);

/// A lab that is up; dropping it ends it.
#[derive(Debug)]
pub struct Lab {
    name: String,
    _slots: Slots,
}

impl Lab {
    /// Starts so many boards, called `board-1` and so on, of so many cores each, which all run these guests.
    ///
    /// # Panics
    /// If it does not come up.
    #[track_caller]
    pub fn up(test: &str, package: &Package, boards: usize, cores: usize) -> Self {
        let slots = slots::take(boards * cores);
        let description = paths::results().join(test).with_extension("toml");
        std::fs::write(&description, package.description()).expect("the description written");
        let lab = Self {
            name: format!("{}-{}", test.replace('_', "-"), std::process::id()),
            _slots: slots,
        };
        lab.good(&[
            "up",
            &format!("--boards={boards}"),
            &format!("--smp={cores}"),
            &format!("--image={}", paths::image().display()),
            &format!("--folder={}", paths::results().join(test).display()),
            &description.display().to_string(),
        ]);
        lab
    }

    /// Runs a verb of `hearth lab`.
    ///
    /// # Panics
    /// If the tool does not start.
    pub fn run(&self, words: &[&str]) -> Output {
        Command::new(paths::tool())
            .args(["lab", "--name", &self.name])
            .args(words)
            .output()
            .expect("hearth started")
    }

    /// Runs a verb that is to succeed; gives what it says.
    ///
    /// # Panics
    /// If it does not.
    #[track_caller]
    pub fn good(&self, words: &[&str]) -> String {
        let output = self.run(words);
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words:?}: {complaint}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Waits until a board has said this; gives the line, of which the end may not have come yet.
    ///
    /// # Panics
    /// If it does not come in time.
    #[track_caller]
    pub fn said(&self, board: &str, text: &str) -> String {
        self.good(&["wait", board, "--for", text, "--timeout", UP])
    }

    /// A client of this machine for a guest's port, as `ADDRESS:PORT`.
    ///
    /// # Panics
    /// If the forward does not take it.
    #[track_caller]
    pub fn client(&self, guest: &str) -> Client {
        Client::of(&self.good(&["forward", "127.0.0.1:0", guest]))
    }
}

/// How long a guest was still for a move at the longest, as boards tell, microseconds.
pub fn longest_still(said: &str) -> u64 {
    let still = said.lines().filter_map(|line| {
        let (before, _) = line.split_once(" us still")?;
        before.rsplit(' ').next()?.parse::<u64>().ok()
    });
    still.max().unwrap_or_default()
}

impl Drop for Lab {
    fn drop(&mut self) {
        // It may be down already, or never have come up.
        let _ = self.run(&["down"]);
    }
}

/// A client of a service that answers requests in turn, such as Redis.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    longest: Duration,
}

impl Client {
    /// One that comes in through what `hearth lab forward` said.
    ///
    /// # Panics
    /// If the forward does not take it.
    #[track_caller]
    pub fn of(forward: &str) -> Self {
        let digits = forward.split("127.0.0.1:").nth(1).map(|rest| {
            let digits = rest.chars().take_while(char::is_ascii_digit);
            digits.collect::<String>()
        });
        let port = digits.and_then(|digits| digits.parse::<u16>().ok());
        let port = port.unwrap_or_else(|| panic!("no port in {forward:?}"));
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("the forward takes a client");
        stream.set_nodelay(true).expect("no delay");
        stream.set_read_timeout(Some(ANSWER)).expect("a time limit");
        Self {
            stream,
            longest: Duration::ZERO,
        }
    }

    /// The connection itself, for what is no service that answers in turn.
    pub fn into_stream(self) -> TcpStream {
        self.stream
    }

    /// How long an answer took at the longest, since this was asked last.
    pub fn take_longest(&mut self) -> Duration {
        std::mem::take(&mut self.longest)
    }

    /// Redis keeps what it is given: so many values of `bytes` bytes, which `seed` makes others, are written and read back, one after the other.
    ///
    /// # Panics
    /// If an answer is another.
    #[track_caller]
    pub fn keeps(&mut self, values: usize, bytes: usize, seed: usize) {
        for n in 0..values {
            let mut request =
                format!("*3\r\n$3\r\nSET\r\n$4\r\n{n:04}\r\n${bytes}\r\n").into_bytes();
            request.extend(value(n, bytes, seed));
            self.ask(&request, b"+OK\r\n");
            self.reads(n, bytes, seed);
        }
    }

    /// Redis has what [`keeps`](Self::keeps) gave it with the same words.
    ///
    /// # Panics
    /// If an answer is another.
    #[track_caller]
    pub fn has(&mut self, values: usize, bytes: usize, seed: usize) {
        for n in 0..values {
            self.reads(n, bytes, seed);
        }
    }

    #[track_caller]
    fn reads(&mut self, n: usize, bytes: usize, seed: usize) {
        let mut answer = format!("${bytes}\r\n").into_bytes();
        answer.extend(value(n, bytes, seed));
        self.ask(format!("GET {n:04}\r\n").as_bytes(), &answer);
    }

    /// Sends `request`, and reads an answer as long as `wanted`, which it must be.
    ///
    /// # Panics
    /// If it is another, or none comes.
    #[track_caller]
    pub fn ask(&mut self, request: &[u8], wanted: &[u8]) {
        let asked = Instant::now();
        self.stream.write_all(request).expect("a request sent");
        let mut answer = vec![0; wanted.len()];
        self.stream.read_exact(&mut answer).expect("an answer");
        self.longest = self.longest.max(asked.elapsed());
        assert!(answer == wanted, "{}", String::from_utf8_lossy(&answer));
    }
}

/// The value of that number, with the end of a line.
fn value(n: usize, bytes: usize, seed: usize) -> Vec<u8> {
    let mut value = vec![b'a' + ((n + seed) % 26) as u8; bytes];
    value.extend(b"\r\n");
    value
}
