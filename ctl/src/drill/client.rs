//! The client outside: asks a guest's service a numbered question every few milliseconds, and notes what comes back.
//!
//! A question is its number in decimal, in a datagram; an answer is `BOOT COUNTER NUMBER`: the identity that the guest has drawn when it booted, how many
//! answers it has given since, and the question's number. Datagrams and not a stream, so that what is seen is the guest, and not
//! when some TCP tries again.

use std::io;
use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use super::trace::{Moment, Seen, now};
use crate::cluster::wire::Wire;

/// The longest identity, bytes.
const MAX_IDENTITY: usize = 64;

/// A client.
#[derive(Debug)]
pub struct Client<W> {
    wire: W,
    service: SocketAddrV4,
    every: Duration,
    next: Instant,
    number: u64,
}

impl<W: Wire> Client<W> {
    /// A client that asks at once, and then this often.
    pub fn new(wire: W, service: SocketAddrV4, every: Duration) -> Self {
        Self {
            wire,
            service,
            every,
            next: Instant::now(),
            number: 0,
        }
    }

    /// Asks, if it is time to, or waits for an answer until it is. What was seen goes to `note`.
    ///
    /// # Errors
    /// If the wire is broken.
    pub fn turn(&mut self, mut note: impl FnMut(Moment, Seen)) -> io::Result<()> {
        let left = self.next.saturating_duration_since(Instant::now());
        if left.is_zero() {
            self.number += 1;
            let number = self.number;
            note(now(), Seen::Asked { number });
            self.wire
                .send(self.service, number.to_string().as_bytes())?;
            // A client that was held up does not ask the more afterwards.
            self.next = (self.next + self.every).max(Instant::now());
            return Ok(());
        }
        if let Some((from, bytes)) = self.wire.receive(left)?
            && from == self.service
            && let Some(answer) = parse(&bytes)
        {
            note(now(), answer);
        }
        Ok(())
    }
}

/// Reads an answer; none in anything else.
fn parse(bytes: &[u8]) -> Option<Seen> {
    let text = std::str::from_utf8(bytes).ok()?;
    let mut words = text.split_ascii_whitespace();
    let boot = words.next().filter(|boot| boot.len() <= MAX_IDENTITY)?;
    let counter = words.next()?.parse().ok()?;
    let number = words.next()?.parse().ok()?;
    words.next().is_none().then(|| Seen::Answered {
        number,
        boot: boot.into(),
        counter,
    })
}

/// The number of the question that an answer is to; none in anything else.
pub fn question(bytes: &[u8]) -> Option<u64> {
    match parse(bytes)? {
        Seen::Answered { number, .. } => Some(number),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    #[test]
    fn answers_are_read() {
        let answer = Seen::Answered {
            number: 7,
            boot: "3f-a".into(),
            counter: 12,
        };
        assert_eq!(parse(b"3f-a 12 7\n"), Some(answer));
        let long = format!("{} 1 1", "x".repeat(MAX_IDENTITY + 1));
        for wrong in ["", "a", "a 1", "a 1 b", "a b 1", "a 1 1 1", "a -1 1", &long] {
            assert_eq!(parse(wrong.as_bytes()), None, "{wrong}");
        }
        assert_eq!(parse(&[0xff, b' ', b'1', b' ', b'1']), None);
    }

    /// Answers every second question.
    #[derive(Debug, Default)]
    struct Every2nd {
        asked: u64,
        answers: VecDeque<Vec<u8>>,
    }

    const SERVICE: &str = "10.7.0.11:7007";

    impl Wire for Every2nd {
        fn send(&mut self, to: SocketAddrV4, bytes: &[u8]) -> io::Result<()> {
            assert_eq!(to.to_string(), SERVICE);
            self.asked += 1;
            assert_eq!(bytes, self.asked.to_string().as_bytes());
            if self.asked.is_multiple_of(2) {
                let answer = format!("boot {} {}\n", self.asked / 2, self.asked);
                self.answers.push_back(answer.into_bytes());
            }
            Ok(())
        }

        fn receive(&mut self, patience: Duration) -> io::Result<Option<(SocketAddrV4, Vec<u8>)>> {
            let answer = self.answers.pop_front();
            if answer.is_none() {
                std::thread::sleep(patience);
            }
            let from = SERVICE.parse().expect("an address");
            Ok(answer.map(|answer| (from, answer)))
        }
    }

    #[test]
    fn questions_do_not_wait_for_answers() {
        let every = Duration::from_millis(1);
        let service = SERVICE.parse().expect("an address");
        let mut client = Client::new(Every2nd::default(), service, every);
        let (mut asked, mut answered) = (0, Vec::new());
        while asked < 10 {
            let note = |_, seen| match seen {
                Seen::Asked { number } => asked = number,
                Seen::Answered { number, .. } => answered.push(number),
                _ => {}
            };
            client.turn(note).expect("a wire");
        }
        assert_eq!(answered, [2, 4, 6, 8]);
    }
}
