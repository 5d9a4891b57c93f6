//! The sockets behind the switch's ports, and the captures: where frames come from and go to.

use std::collections::{HashMap, VecDeque};
use std::io::IoSliceMut;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use nix::sys::socket::{MsgFlags, MultiHeaders, recvmmsg, send};

use super::pcap::{Capture, CaptureState};
use super::switch::pipe::Time;
use super::switch::stations::MAX_STATIONS;
use super::switch::{MAX_FRAME, Mac, Place, PortId, Wire};

/// Frames that may wait for a board that is slow, beyond what its socket holds.
const MAX_BACKLOG: usize = 1024;
/// Frames that are read at once.
pub const BATCH: usize = 32;
/// Room for a frame; one that is longer than the switch takes is seen to be.
const SLOT: usize = MAX_FRAME + 64;
/// Buffers that are kept for later frames.
const MAX_SPARE: usize = 256;
/// The type of ARP frames.
const ARP: [u8; 2] = [0x08, 0x06];
/// Captures that run at once.
pub const MAX_CAPTURES: usize = 8;

/// A board's network.
#[derive(Debug, Default)]
struct Port {
    socket: Option<OwnedFd>,
    /// What epoll says of the socket.
    token: u64,
    backlog: VecDeque<Vec<u8>>,
    untaken: u64,
    /// Its station is in the lab's own process, and takes its frames from the backlog.
    inside: bool,
}

/// A capture and what of.
#[derive(Debug)]
struct Running {
    capture: Capture,
    state: CaptureState,
    port: Option<PortId>,
}

/// All ports.
pub struct Ports {
    ports: Vec<Port>,
    epoll: Rc<Epoll>,
    spare: Vec<Vec<u8>>,
    captures: Vec<Running>,
    /// What stations have told of themselves by ARP.
    neighbours: HashMap<Mac, Ipv4Addr>,
    /// When the lab began, after the Unix epoch.
    began: Duration,
}

impl Ports {
    /// So many ports without sockets.
    pub fn new(count: usize, epoll: Rc<Epoll>, began: Duration) -> Self {
        Self {
            ports: (0..count).map(|_| Port::default()).collect(),
            epoll,
            spare: Vec::new(),
            captures: Vec::new(),
            neighbours: HashMap::new(),
            began,
        }
    }

    /// The station behind this port is in this process: [`Ports::take`] has its frames.
    pub fn plug_inside(&mut self, port: PortId) {
        self.ports[port.0].inside = true;
    }

    /// The next frame for a station in this process; [`Ports::recycle`] takes it back.
    pub fn take(&mut self, port: PortId) -> Option<Vec<u8>> {
        let port = &mut self.ports[port.0];
        match port.inside {
            true => port.backlog.pop_front(),
            false => None,
        }
    }

    /// Whether frames wait for a station in this process.
    pub fn has_inside(&self) -> bool {
        let waits = |port: &Port| port.inside && !port.backlog.is_empty();
        self.ports.iter().any(waits)
    }

    /// Joins a board's socket to its port; its events will have this token.
    ///
    /// # Errors
    /// What the system says.
    pub fn plug(&mut self, port: PortId, socket: OwnedFd, token: u64) -> nix::Result<()> {
        self.epoll
            .add(&socket, EpollEvent::new(EpollFlags::EPOLLIN, token))?;
        self.ports[port.0] = Port {
            socket: Some(socket),
            token,
            untaken: self.ports[port.0].untaken,
            ..Port::default()
        };
        Ok(())
    }

    /// Takes a board's socket away.
    pub fn unplug(&mut self, port: PortId) {
        let port = &mut self.ports[port.0];
        port.socket = None;
        port.inside = false;
        port.backlog.clear();
    }

    /// Frames that the board did not take in time.
    pub fn untaken(&self, port: PortId) -> u64 {
        self.ports[port.0].untaken
    }

    /// The board takes frames again.
    pub fn drain(&mut self, port: PortId) {
        let entry = &mut self.ports[port.0];
        let Some(socket) = &entry.socket else {
            return;
        };
        while let Some(frame) = entry.backlog.front() {
            match put(socket, frame) {
                Err(Errno::EAGAIN | Errno::ENOBUFS) => return,
                Ok(()) => {}
                Err(_) => entry.untaken += 1,
            }
            if let Some(frame) = entry.backlog.pop_front()
                && self.spare.len() < MAX_SPARE
            {
                self.spare.push(frame);
            }
        }
        // Failing costs a few needless looks at this port.
        let event = &mut EpollEvent::new(EpollFlags::EPOLLIN, entry.token);
        let _ = self.epoll.modify(socket, event);
    }

    /// Reads what the board has sent into `batch`.
    pub fn read(&self, port: PortId, batch: &mut Batch) {
        batch.count = 0;
        if let Some(socket) = &self.ports[port.0].socket {
            batch.read(socket);
        }
    }

    /// Takes the buffer of a frame for a station in this process back.
    pub fn recycle(&mut self, frame: Vec<u8>) {
        if self.spare.len() < MAX_SPARE {
            self.spare.push(frame);
        }
    }

    /// Begins a capture.
    ///
    /// # Errors
    /// Why it cannot begin.
    pub fn capture(&mut self, state: CaptureState, port: Option<PortId>) -> Result<(), String> {
        let file = state.file.display();
        if self.captures.len() == MAX_CAPTURES {
            return Err(format!(
                "{MAX_CAPTURES} captures run already: end one with `--end`"
            ));
        }
        if self.captures.iter().any(|it| it.state.file == state.file) {
            return Err(format!("{file} is being written already"));
        }
        let capture = Capture::create(&state.file)
            .map_err(|error| format!("cannot write {file}: {error}"))?;
        self.captures.push(Running {
            capture,
            state,
            port,
        });
        Ok(())
    }

    /// Ends the capture to this file, or all; gives what they were.
    pub fn end_captures(&mut self, file: Option<&std::path::Path>) -> Vec<CaptureState> {
        let ended = self.captures();
        let chosen = |state: &CaptureState| file.is_none_or(|file| file == state.file);
        self.flush();
        self.captures.retain(|running| !chosen(&running.state));
        ended.into_iter().filter(|state| chosen(state)).collect()
    }

    /// All captures.
    pub fn captures(&self) -> Vec<CaptureState> {
        let state = |running: &Running| CaptureState {
            frames: running.capture.frames,
            trouble: running.capture.trouble.clone(),
            ..running.state.clone()
        };
        self.captures.iter().map(state).collect()
    }

    /// Lets readers see what was captured.
    pub fn flush(&mut self) {
        for running in &mut self.captures {
            running.capture.flush();
        }
    }

    /// The IP address of a station, if it has told it.
    pub fn neighbour(&self, mac: Mac) -> Option<Ipv4Addr> {
        self.neighbours.get(&mac).copied()
    }

    /// Remembers who an ARP packet says that it is from (RFC 826).
    fn overhear(&mut self, frame: &[u8]) {
        const ETHERNET_IPV4: [u8; 6] = [0, 1, 8, 0, 6, 4];
        if frame.len() < 42 || frame[14..20] != ETHERNET_IPV4 {
            return;
        }
        let mac = Mac(std::array::from_fn(|at| frame[22 + at]));
        let address: [u8; 4] = std::array::from_fn(|at| frame[28 + at]);
        let address = Ipv4Addr::from(address);
        let room = self.neighbours.len() < MAX_STATIONS || self.neighbours.contains_key(&mac);
        if !address.is_unspecified() && room {
            self.neighbours.insert(mac, address);
        }
    }

    fn keep(spare: &mut Vec<Vec<u8>>, frame: &[u8]) -> Vec<u8> {
        let mut buffer = spare.pop().unwrap_or_default();
        buffer.clear();
        buffer.extend_from_slice(frame);
        buffer
    }
}

fn put(socket: &OwnedFd, frame: &[u8]) -> nix::Result<()> {
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    send(socket.as_raw_fd(), frame, flags).map(drop)
}

impl Wire for Ports {
    fn deliver(&mut self, port: PortId, frame: &[u8]) {
        let entry = &mut self.ports[port.0];
        match &entry.socket {
            None if !entry.inside => return,
            None => {}
            Some(_) if !entry.backlog.is_empty() => {}
            Some(socket) => match put(socket, frame) {
                Ok(()) => return,
                Err(Errno::EAGAIN | Errno::ENOBUFS) => {
                    let interest = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT;
                    let event = &mut EpollEvent::new(interest, entry.token);
                    if self.epoll.modify(socket, event).is_err() {
                        entry.untaken += 1;
                        return;
                    }
                }
                Err(_) => {
                    entry.untaken += 1;
                    return;
                }
            },
        }
        if entry.backlog.len() == MAX_BACKLOG {
            entry.untaken += 1;
            return;
        }
        entry.backlog.push_back(Self::keep(&mut self.spare, frame));
    }

    fn look(&mut self, at: Time, place: Place, port: PortId, frame: &[u8]) {
        if place == Place::Switched && frame[12..14] == ARP {
            self.overhear(frame);
        }
        for running in &mut self.captures {
            let wanted = match running.port {
                None => place == Place::Switched,
                Some(link) => place != Place::Switched && link == port,
            };
            if wanted {
                let at = self.began + Duration::from_nanos(at.0);
                running.capture.add(at, frame);
            }
        }
    }
}

/// Frames that were read at once.
pub struct Batch {
    buffer: Vec<u8>,
    headers: MultiHeaders<()>,
    lengths: [usize; BATCH],
    count: usize,
}

impl Batch {
    /// An empty one.
    pub fn new() -> Self {
        Self {
            buffer: vec![0; SLOT * BATCH],
            headers: MultiHeaders::preallocate(BATCH, None),
            lengths: [0; BATCH],
            count: 0,
        }
    }

    fn read(&mut self, socket: &OwnedFd) {
        let mut slots = self.buffer.chunks_exact_mut(SLOT);
        let mut slices: [[IoSliceMut<'_>; 1]; BATCH] =
            std::array::from_fn(|_| [IoSliceMut::new(slots.next().unwrap_or_default())]);
        let received = recvmmsg(
            socket.as_raw_fd(),
            &mut self.headers,
            slices.iter_mut(),
            MsgFlags::MSG_DONTWAIT,
            None,
        );
        // Nothing there, or a board that is gone: its end is told otherwise.
        let Ok(messages) = received else { return };
        for message in messages {
            self.lengths[self.count] = message.bytes;
            self.count += 1;
        }
    }

    /// The frames.
    pub fn frames(&self) -> impl Iterator<Item = &[u8]> {
        let slots = self.buffer.chunks_exact(SLOT);
        slots
            .zip(&self.lengths[..self.count])
            .map(|(slot, length)| &slot[..*length])
    }

    /// Whether more may be waiting.
    pub fn is_full(&self) -> bool {
        self.count == BATCH
    }
}
