//! How a tool reaches boards: datagrams, over this machine's network or a lab's.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::time::Duration;

/// The UDP port on which boards and witnesses hear each other and tools.
pub const PORT: u16 = 7266;
/// The port of a board's end of a bulk stream, by which guests come and go.
pub const BULK_PORT: u16 = PORT + 1;
/// The multicast group of boards and witnesses, of the range for one organisation (RFC 2365, section 6.2).
pub const GROUP: Ipv4Addr = Ipv4Addr::new(239, 72, 69, 65);
/// The longest datagram that is received whole; a frame of the protocol is shorter.
const MAX_DATAGRAM: usize = 2_048;
/// The system takes no shorter patience.
const LEAST_PATIENCE: Duration = Duration::from_micros(100);

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

/// This machine's network.
#[derive(Debug)]
pub struct UdpWire {
    socket: UdpSocket,
}

impl UdpWire {
    /// For a tool: any port of this machine.
    ///
    /// # Errors
    /// What the system says.
    pub fn open() -> io::Result<Self> {
        Self::bound(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0))
    }

    /// At that address and port.
    ///
    /// # Errors
    /// What the system says.
    pub fn bound(at: SocketAddrV4) -> io::Result<Self> {
        let socket = UdpSocket::bind(at)?;
        Ok(Self { socket })
    }

    /// Hears, and is heard by, all members of a multicast group on the network of the interface with that address.
    ///
    /// # Errors
    /// What the system says.
    pub fn join(&self, group: Ipv4Addr, interface: Ipv4Addr) -> io::Result<()> {
        self.socket.join_multicast_v4(&group, &interface)?;
        // A node takes its own frames for nobody's.
        self.socket.set_multicast_loop_v4(false)
    }
}

/// Whether a datagram was lost on its way out, as it may be anywhere.
fn is_loss(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
            | ErrorKind::NetworkDown
            | ErrorKind::ConnectionRefused
            | ErrorKind::WouldBlock
            | ErrorKind::Interrupted
    )
}

impl Wire for UdpWire {
    fn send(&mut self, to: SocketAddrV4, bytes: &[u8]) -> io::Result<()> {
        match self.socket.send_to(bytes, to) {
            Ok(_) => Ok(()),
            Err(error) if is_loss(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn receive(&mut self, patience: Duration) -> io::Result<Option<(SocketAddrV4, Vec<u8>)>> {
        self.socket
            .set_read_timeout(Some(patience.max(LEAST_PATIENCE)))?;
        let mut buffer = vec![0; MAX_DATAGRAM];
        match self.socket.recv_from(&mut buffer) {
            Ok((length, SocketAddr::V4(from))) => {
                buffer.truncate(length);
                Ok(Some((from, buffer)))
            }
            Ok((_, SocketAddr::V6(_))) => Ok(None),
            Err(error) if is_loss(&error) || error.kind() == ErrorKind::TimedOut => Ok(None),
            Err(error) => Err(error),
        }
    }
}
