//! The other end of the board's cable: a stream of frames over a socket of this machine, answered by a thread.
//!
//! It speaks what the bare-metal guests speak (`tests/guests/src/traffic.rs`): asked for frames it sends them, never more than a window
//! ahead of what the catcher says it has; asked for none it answers with a credit. All other frames are read and forgotten.
//!
//! QEMU takes whatever a stream holds in one go, so the frames of a window reach the board as close together as those of a fast
//! cable, and not one by one with this machine's scheduling between them.

use std::io::{self, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::{env, fs, process, thread};

/// The peer's address.
pub const MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xfe];
/// The same for guests' command lines.
pub const MAC_DIGITS: &str = "0200000000fe";

/// Type and kinds of the guests' frames, and the length of the longest and of the shortest.
const TYPE: [u8; 2] = [0x88, 0xb5];
const GO: u8 = 1;
const CREDIT: u8 = 2;
const DATA: u8 = 3;
const FRAME: usize = 1514;
const SHORT: usize = 60;
/// Frames of data that may be under way.
const WINDOW: u32 = 96;
/// The longest frame that QEMU may pass on.
const MOST: usize = 68 << 10;

/// The end of a cable, until it is dropped.
pub struct Peer {
    path: PathBuf,
}

impl Peer {
    /// A peer for one board.
    ///
    /// # Panics
    /// If there is no socket to be had.
    pub fn new(name: &str) -> Self {
        // Not beside the results: a socket's path is at most 107 bytes long.
        let path = env::temp_dir().join(format!("hearth-{name}-{}", process::id()));
        let _ = fs::remove_file(&path);
        let listener = UnixListener::bind(&path).expect("a socket");
        thread::spawn(move || {
            let (stream, _) = listener.accept()?;
            match Cable::new(stream)?.run() {
                // The board is gone.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(()),
                other => other,
            }
        });
        Self { path }
    }

    /// QEMU's arguments for a card at this cable.
    pub fn arguments(&self) -> Vec<String> {
        [
            "-global",
            "virtio-mmio.force-legacy=false",
            "-netdev",
            &format!(
                "stream,id=wire,server=off,addr.type=unix,addr.path={}",
                self.path.display()
            ),
            "-device",
            "virtio-net-device,netdev=wire",
        ]
        .map(String::from)
        .into()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may never have been used.
        let _ = fs::remove_file(&self.path);
    }
}

/// What was asked for, and how far it is.
#[derive(Debug, Default, PartialEq, Eq)]
struct Flow {
    to: [u8; 6],
    total: u32,
    sent: u32,
    has: u32,
}

impl Flow {
    /// What is to be sent after this frame, each with its length before it as QEMU wants it.
    fn take(&mut self, frame: &[u8]) -> Vec<u8> {
        let Some(head) = frame.first_chunk::<20>() else {
            return Vec::new();
        };
        if head[..6] != MAC || head[12..14] != TYPE {
            return Vec::new();
        }
        let from = [head[6], head[7], head[8], head[9], head[10], head[11]];
        let number = u32::from_le_bytes([head[16], head[17], head[18], head[19]]);
        let mut out = Vec::new();
        match head[14] {
            GO => {
                *self = Self {
                    to: from,
                    total: number,
                    ..Self::default()
                };
                if number == 0 {
                    push(&mut out, from, CREDIT, 0, SHORT);
                }
            }
            CREDIT => self.has = number.clamp(self.has, self.sent),
            _ => {}
        }
        while self.sent < self.total && self.sent - self.has < WINDOW {
            push(&mut out, self.to, DATA, self.sent, FRAME);
            self.sent += 1;
        }
        out
    }
}

/// Adds a frame.
fn push(out: &mut Vec<u8>, to: [u8; 6], kind: u8, number: u32, length: usize) {
    out.extend((length as u32).to_be_bytes());
    let start = out.len();
    out.extend(to);
    out.extend(MAC);
    out.extend(TYPE);
    out.extend([kind, 0]);
    out.extend(number.to_le_bytes());
    out.resize(start + length, 0);
}

/// The stream, both ways.
struct Cable {
    from: BufReader<UnixStream>,
    to: UnixStream,
}

impl Cable {
    fn new(stream: UnixStream) -> io::Result<Self> {
        Ok(Self {
            from: BufReader::new(stream.try_clone()?),
            to: stream,
        })
    }

    fn run(mut self) -> io::Result<()> {
        let mut flow = Flow::default();
        let mut frame = vec![0; MOST];
        loop {
            let mut length = [0; 4];
            self.from.read_exact(&mut length)?;
            let length = u32::from_be_bytes(length) as usize;
            let frame = frame
                .get_mut(..length)
                .ok_or_else(|| io::Error::other("QEMU sends a frame that is too long"))?;
            self.from.read_exact(frame)?;
            let answer = flow.take(frame);
            self.to.write_all(&answer)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUEST: [u8; 6] = [2, 1, 2, 3, 4, 5];

    fn frame(kind: u8, number: u32) -> Vec<u8> {
        let mut out = Vec::new();
        push(&mut out, MAC, kind, number, SHORT);
        out[10..16].copy_from_slice(&GUEST);
        out.split_off(4)
    }

    fn numbers(mut bytes: &[u8]) -> Vec<u32> {
        let mut numbers = Vec::new();
        while let Some((length, rest)) = bytes.split_first_chunk() {
            let (frame, rest) = rest.split_at(u32::from_be_bytes(*length) as usize);
            assert_eq!((&frame[..6], frame[14]), (&GUEST[..], DATA));
            numbers.push(u32::from_le_bytes(frame[16..20].try_into().unwrap()));
            bytes = rest;
        }
        numbers
    }

    #[test]
    fn no_more_is_under_way_than_the_window() {
        let mut flow = Flow::default();
        assert_eq!(numbers(&flow.take(&frame(GO, 150))), Vec::from_iter(0..96));
        assert_eq!(
            numbers(&flow.take(&frame(CREDIT, 32))),
            Vec::from_iter(96..128)
        );
        assert_eq!(numbers(&flow.take(&frame(CREDIT, 16))), []);
        assert_eq!(
            numbers(&flow.take(&frame(CREDIT, 1000))),
            Vec::from_iter(128..150)
        );
        assert_eq!(numbers(&flow.take(&frame(CREDIT, 150))), []);
    }

    #[test]
    fn what_is_not_for_it_is_left_alone() {
        let mut flow = Flow::default();
        let mut other = frame(GO, 5);
        other[0] = 4;
        assert_eq!(flow.take(&other), []);
        assert_eq!(flow.take(&frame(GO, 5)[..19]), []);
        assert_eq!(flow.take(&frame(GO, 0)).len(), 4 + SHORT);
    }
}
