//! One client's connection: a TCP stream of this machine on one side, smoltcp's to the guest on the other.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd as _;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::{Socket, State};

use super::super::switch::pipe::Time;

/// A guest must take a connection within this.
pub const CONNECT: Duration = Duration::from_secs(20);

/// A client's connection.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    /// smoltcp's side.
    pub handle: SocketHandle,
    /// Which forward it belongs to.
    pub forward: u64,
    since: Time,
    /// What the client's socket was last known to be ready for.
    pub readable: bool,
    /// See `readable`.
    pub writable: bool,
    /// The client has said all.
    client_done: bool,
    /// The guest has said all, and it was passed on.
    guest_done: bool,
    established: bool,
}

/// What a turn has left of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// It goes on.
    Open,
    /// Both sides have closed it.
    Closed,
    /// One side has broken it off.
    Broken,
}

impl Connection {
    /// Joins a client's stream and a connecting socket.
    pub fn new(stream: TcpStream, handle: SocketHandle, forward: u64, since: Time) -> Self {
        Self {
            stream,
            handle,
            forward,
            since,
            readable: true,
            writable: true,
            client_done: false,
            guest_done: false,
            established: false,
        }
    }

    /// Until when the guest must have taken the connection, if it has not.
    pub fn deadline(&self) -> Option<Time> {
        (!self.established).then(|| Time(self.since.0 + CONNECT.as_nanos() as u64))
    }

    /// The client's socket.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Passes on what there is.
    pub fn turn(&mut self, now: Time, socket: &mut Socket<'_>) -> Left {
        self.established |= socket.may_send();
        if self.deadline().is_some_and(|deadline| now >= deadline) {
            socket.abort();
        }
        let passed = self
            .pass_to_guest(socket)
            .and_then(|()| self.pass_to_client(socket));
        if passed.is_err() {
            socket.abort();
            return Left::Broken;
        }
        match socket.state() {
            // TIME-WAIT is smoltcp's own affair, which a new port number makes unnecessary.
            State::Closed | State::TimeWait if self.client_done && self.guest_done => Left::Closed,
            State::Closed => Left::Broken,
            _ => Left::Open,
        }
    }

    fn pass_to_guest(&mut self, socket: &mut Socket<'_>) -> io::Result<()> {
        while self.readable && !self.client_done && socket.can_send() {
            let read = socket.send(|room| match self.stream.read(room) {
                Ok(length) => (length, Ok(length)),
                Err(error) => (0, Err(error)),
            });
            match read.map_err(io::Error::other)? {
                Ok(0) => {
                    self.client_done = true;
                    socket.close();
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.readable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn pass_to_client(&mut self, socket: &mut Socket<'_>) -> io::Result<()> {
        while self.writable && socket.can_recv() {
            let written = socket.recv(|data| match self.stream.write(data) {
                Ok(length) => (length, Ok(())),
                Err(error) => (0, Err(error)),
            });
            match written.map_err(io::Error::other)? {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        // The guest's end of data, not its reset.
        let ended = !socket.may_recv() && !socket.can_recv() && self.established;
        if ended && !self.guest_done && socket.state() != State::Closed {
            self.guest_done = true;
            self.stream.shutdown(Shutdown::Write)?;
        }
        Ok(())
    }

    /// Lets the client see that the connection was broken off.
    pub fn break_off(self) {
        let linger = nix::libc::linger {
            l_onoff: 1,
            l_linger: 0,
        };
        // If even that fails the client sees an end instead of a reset.
        let _ = setsockopt(&self.stream.as_fd(), sockopt::Linger, &linger);
    }
}
