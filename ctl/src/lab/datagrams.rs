//! Datagrams over a connection to a lab, and the tool's end of it: boards of a lab as a tool reaches them.
//!
//! Each datagram is a head, the length of its payload (2 bytes, little endian), the port (2, little endian) and the IPv4 address of whom it is for or
//! who sent it (4), and the payload. A datagram for which there is no room at either end is lost, as on any network.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::client;
use super::protocol::{Ask, Request};
use super::station::MAX_DATAGRAM;
use crate::cluster::wire::Wire;

/// Length, port and address.
const HEAD: usize = 8;
/// What is read at once, bytes.
const CHUNK: usize = 16 << 10;

/// Adds a datagram to what is to be written.
pub fn put(buffer: &mut Vec<u8>, peer: SocketAddrV4, payload: &[u8]) {
    // Both are below 64 KiB: whoever made the datagram has seen to it.
    let length = payload.len() as u16;
    buffer.extend(length.to_le_bytes());
    buffer.extend(peer.port().to_le_bytes());
    buffer.extend(peer.ip().octets());
    buffer.extend(payload);
}

/// Takes the first datagram out of what was read, if all of it is there.
///
/// # Errors
/// If it is longer than one may be.
pub fn take(buffer: &mut Vec<u8>) -> io::Result<Option<(SocketAddrV4, Vec<u8>)>> {
    let Some(&[l0, l1, p0, p1, a, b, c, d]) = buffer.first_chunk::<HEAD>() else {
        return Ok(None);
    };
    let length = usize::from(u16::from_le_bytes([l0, l1]));
    if length > MAX_DATAGRAM {
        let trouble = format!("a datagram of {length} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidData, trouble));
    }
    if buffer.len() < HEAD + length {
        return Ok(None);
    }
    let payload = buffer[HEAD..HEAD + length].to_vec();
    buffer.drain(..HEAD + length);
    let address = Ipv4Addr::new(a, b, c, d);
    let peer = SocketAddrV4::new(address, u16::from_le_bytes([p0, p1]));
    Ok(Some((peer, payload)))
}

/// A connection that exchanges datagrams with a lab's boards.
#[derive(Debug)]
pub struct LabWire {
    stream: UnixStream,
    read: Vec<u8>,
}

impl LabWire {
    /// Connects to the lab of that name.
    ///
    /// # Errors
    /// What the lab refuses, or that there is none.
    pub fn connect(lab: &str, ask: Ask) -> Result<Self, String> {
        let answered = client::ask(lab, Request::Datagrams(ask))?;
        // Datagrams may have come right behind the answer.
        let read = answered.reader.buffer().to_vec();
        let stream = answered.reader.into_inner();
        Ok(Self { stream, read })
    }

    /// Waits until there is something to read; whether there is.
    fn wait(&self, until: Instant) -> io::Result<bool> {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            // Rounded up, so that a rest of less than a millisecond is waited for, not spun through.
            let millis = left.as_nanos().div_ceil(1_000_000);
            let timeout = PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX);
            let mut watched = [PollFd::new(self.stream.as_fd(), PollFlags::POLLIN)];
            match poll(&mut watched, timeout) {
                Ok(0) if Instant::now() < until => {}
                Ok(ready) => return Ok(ready > 0),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl Wire for LabWire {
    fn send(&mut self, to: SocketAddrV4, bytes: &[u8]) -> io::Result<()> {
        if bytes.len() > MAX_DATAGRAM {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut record = Vec::with_capacity(HEAD + bytes.len());
        put(&mut record, to, bytes);
        self.stream.write_all(&record)
    }

    fn receive(&mut self, patience: Duration) -> io::Result<Option<(SocketAddrV4, Vec<u8>)>> {
        let until = Instant::now() + patience;
        let mut chunk = [0; CHUNK];
        loop {
            if let Some(datagram) = take(&mut self.read)? {
                return Ok(Some(datagram));
            }
            if !self.wait(until)? {
                return Ok(None);
            }
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(length) => self.read.extend(&chunk[..length]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_come_apart_as_they_were_put_together() {
        let peers = [1, 2, 3].map(|n| SocketAddrV4::new(Ipv4Addr::new(10, 7, 0, n), 7266));
        let payloads: [&[u8]; 3] = [b"", b"one", &[7; MAX_DATAGRAM]];
        let mut whole = Vec::new();
        for (peer, payload) in peers.into_iter().zip(payloads) {
            put(&mut whole, peer, payload);
        }
        // However it is cut.
        for step in [1, 7, 8, 9, 1000] {
            let (mut buffer, mut came) = (Vec::new(), Vec::new());
            for piece in whole.chunks(step) {
                buffer.extend(piece);
                while let Some(datagram) = take(&mut buffer).unwrap() {
                    came.push(datagram);
                }
            }
            assert!(buffer.is_empty());
            let sent = peers.into_iter().zip(payloads);
            assert!(sent.eq(came.iter().map(|(peer, it)| (*peer, &it[..]))));
        }
        assert!(take(&mut vec![0xff; HEAD]).is_err());
    }
}
