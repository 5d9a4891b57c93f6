//! How a tool reaches boards: datagrams, over this machine's network or a lab's.

use std::io;
use std::net::SocketAddrV4;
use std::time::Duration;

/// The UDP port on which boards and witnesses hear each other and tools.
pub const PORT: u16 = 7266;

/// What carries datagrams to boards and theirs back. Any of them may be lost, doubled, or come late.
pub trait Wire {
    /// Sends a datagram.
    ///
    /// # Errors
    /// If the wire itself is broken.
    fn send(&mut self, to: SocketAddrV4, bytes: &[u8]) -> io::Result<()>;

    /// Waits up to `patience` for a datagram, and gives it with its sender.
    ///
    /// # Errors
    /// If the wire itself is broken.
    fn receive(&mut self, patience: Duration) -> io::Result<Option<(SocketAddrV4, Vec<u8>)>>;
}
