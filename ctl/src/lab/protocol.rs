//! What the tool and a lab say to each other.
//!
//! A lab listens on an abstract Unix socket, which has no file and is gone with its process. A connection carries one request,
//! a line of JSON, and its answer, another: `{"ok":true,…}` or `{"ok":false,"trouble":"…"}`. After the answer to
//! [`Request::Console`] the connection is the board's console, byte by byte in both directions; after that to [`Request::Datagrams`] it
//! carries datagrams ([`super::datagrams`]).

use std::net::{SocketAddr, SocketAddrV4};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::pcap::CaptureState;
use super::switch::Direction;
use super::switch::faults::{Faults, Probability, Rate, Span};
use super::switch::pipe::Counters;

/// What tool and lab must agree on.
pub const VERSION: u32 = 1;
/// The longest request, bytes.
pub const MAX_REQUEST: usize = 64 << 10;
/// What a lab may be called.
const MAX_NAME: usize = 63;

/// A request with the version of who makes it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Envelope {
    /// [`VERSION`].
    pub hearth_lab: u32,
    /// What is wanted.
    #[serde(flatten)]
    pub request: Request,
}

/// What is wanted.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "kebab-case")]
pub enum Request {
    /// How the lab is.
    List,
    /// End it.
    Down,
    /// SIGKILL for a board.
    Kill {
        /// Its name.
        board: String,
    },
    /// SIGSTOP for a board.
    Pause {
        /// Its name.
        board: String,
    },
    /// SIGCONT for a board.
    Resume {
        /// Its name.
        board: String,
    },
    /// Start a board anew, whether it runs or not.
    Restart {
        /// Its name.
        board: String,
        /// Its image from now on, if it is to have another.
        #[serde(default)]
        image: Option<PathBuf>,
    },
    /// Links, their faults and counters.
    Links,
    /// Change what is wrong with links.
    Faults {
        /// A link, or all.
        link: Option<String>,
        /// A direction, or both.
        direction: Option<Direction>,
        /// What to change.
        change: Change,
    },
    /// Nothing is wrong any more.
    Heal {
        /// A link, or all.
        link: Option<String>,
        /// A direction, or both.
        direction: Option<Direction>,
    },
    /// Write frames to a file.
    Capture {
        /// It; made or emptied.
        file: PathBuf,
        /// A link, or the whole switch.
        link: Option<String>,
    },
    /// End captures.
    EndCapture {
        /// That to this file, or all.
        file: Option<PathBuf>,
    },
    /// Let a port of this machine lead to a guest's.
    Forward {
        /// This machine's.
        listen: SocketAddr,
        /// The guest's: its address or name, and the port.
        to: String,
    },
    /// End a forward.
    EndForward {
        /// This machine's end.
        listen: SocketAddr,
    },
    /// Ask an address on the lab's network for an echo.
    Ping {
        /// Whom: an address, or a guest's name.
        who: String,
        /// How long to wait, milliseconds.
        timeout_ms: u64,
    },
    /// What has happened to the lab.
    Events {
        /// From this number on; 0 for all that is kept.
        after: u64,
    },
    /// Exchange datagrams with boards.
    Datagrams(Ask),
    /// Become the console of a board.
    Console {
        /// Its name, or a guest's.
        who: String,
        /// Which board the guest is to be looked for on.
        board: Option<String>,
        /// How many lines of what was said come first.
        lines: usize,
    },
    /// What a board said.
    Log {
        /// Its name.
        board: String,
        /// How many lines, from the end.
        lines: usize,
    },
    /// Type on a board's console.
    Type {
        /// Its name.
        board: String,
        /// What.
        text: String,
    },
    /// Wait for a text on a board's console.
    Wait {
        /// Its name.
        board: String,
        /// What for.
        text: String,
        /// Where on the console to begin; at its start unless told.
        after: Option<u64>,
        /// How long, milliseconds.
        timeout_ms: u64,
    },
}

/// A change of faults: what is not given stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Change {
    /// As [`Faults::cut`].
    pub cut: Option<bool>,
    /// As [`Faults::loss`].
    pub loss: Option<Probability>,
    /// As [`Faults::corrupt`].
    pub corrupt: Option<Probability>,
    /// As [`Faults::duplicate`].
    pub duplicate: Option<Probability>,
    /// As [`Faults::reorder`].
    pub reorder: Option<Probability>,
    /// As [`Faults::hold`].
    pub hold: Option<Span>,
    /// As [`Faults::delay`].
    pub delay: Option<Span>,
    /// As [`Faults::jitter`].
    pub jitter: Option<Span>,
    /// As [`Faults::rate`].
    pub rate: Option<Rate>,
}

impl Change {
    /// What it makes of `faults`.
    pub fn apply(&self, faults: Faults) -> Faults {
        Faults {
            cut: self.cut.unwrap_or(faults.cut),
            loss: self.loss.unwrap_or(faults.loss),
            corrupt: self.corrupt.unwrap_or(faults.corrupt),
            duplicate: self.duplicate.unwrap_or(faults.duplicate),
            reorder: self.reorder.unwrap_or(faults.reorder),
            hold: self.hold.unwrap_or(faults.hold),
            delay: self.delay.unwrap_or(faults.delay),
            jitter: self.jitter.unwrap_or(faults.jitter),
            rate: self.rate.unwrap_or(faults.rate),
        }
    }
}

/// What [`Request::Datagrams`] asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ask {
    /// As which witness; otherwise as one of the lab's own clients.
    pub witness: Option<String>,
    /// The port that datagrams come from and answers come to; a free one unless told.
    pub port: Option<u16>,
    /// Groups and ports whose datagrams are wanted, too.
    pub groups: Vec<SocketAddrV4>,
}

/// The answer to [`Request::Datagrams`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Opened {
    /// The port that datagrams come from.
    pub port: u16,
}

/// How a board is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Condition {
    /// QEMU is being started.
    Starting,
    /// It runs.
    Running,
    /// It is stopped; its clock runs on.
    Paused,
    /// Its process has ended.
    Ended(String),
}

/// A board, for [`Request::List`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BoardState {
    /// Its name, which is also its link's.
    pub name: String,
    /// How it is.
    pub condition: Condition,
    /// QEMU's process.
    pub pid: Option<u32>,
    /// Its network card's address.
    pub mac: String,
    /// How often it was started.
    pub starts: u32,
    /// All that its console said, in a file.
    pub log: PathBuf,
    /// The place behind the last byte that its console said.
    pub said: u64,
}

/// A forward, for [`Request::List`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ForwardState {
    /// This machine's end.
    pub listen: SocketAddr,
    /// The guest's.
    pub to: SocketAddrV4,
    /// As whom the lab talks to the guest.
    pub from: std::net::Ipv4Addr,
    /// Connections that are open.
    pub connections: usize,
    /// Connections that ever were.
    pub total: u64,
}

/// The answer to [`Request::List`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LabState {
    /// Its name.
    pub lab: String,
    /// The supervisor's process.
    pub pid: u32,
    /// Where its logs are.
    pub folder: PathBuf,
    /// What its dice began with.
    pub seed: u64,
    /// Its boards.
    pub boards: Vec<BoardState>,
    /// Its forwards.
    pub forwards: Vec<ForwardState>,
    /// Its captures.
    pub captures: Vec<CaptureState>,
}

/// One direction of a link, for [`Request::Links`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DirectionState {
    /// What is wrong.
    pub faults: Faults,
    /// What happened.
    pub counters: Counters,
}

/// A link, for [`Request::Links`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LinkState {
    /// Its name, which is its board's.
    pub name: String,
    /// What the board sends.
    pub from: DirectionState,
    /// What it receives.
    pub to: DirectionState,
    /// Frames that it sent and that were none.
    pub malformed: u64,
    /// Frames that the board did not take in time.
    pub untaken: u64,
    /// The stations behind it.
    pub stations: Vec<String>,
}

/// The answer to [`Request::Links`], [`Request::Faults`] and [`Request::Heal`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LinksState {
    /// All of them, or those that changed.
    pub links: Vec<LinkState>,
    /// How often a station moved from one link to another.
    pub moves: u64,
}

/// The answer to what only has to be done.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Done {
    /// What was done.
    pub done: String,
}

/// The answer to [`Request::Wait`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Found {
    /// The line that holds the text.
    pub line: String,
    /// The place behind the text, for the next one to begin at.
    pub at: u64,
}

/// The answer to [`Request::Log`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Said {
    /// What was said.
    pub text: String,
    /// The place behind it.
    pub at: u64,
}

/// What happens to a board that is paused, in the words of [`Happening::Lab`].
pub const PAUSED: &str = "is paused; its clock runs on";

/// Something that happened to a lab.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Happened {
    /// When, microseconds after the Unix epoch.
    pub at_us: u64,
    /// What.
    #[serde(flatten)]
    pub what: Happening,
}

/// What can happen to a lab.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Happening {
    /// Faults, and starts and ends of boards, in words.
    Lab(String),
    /// A board said a line of its own, not one of its guests.
    Said {
        /// Which board.
        board: String,
        /// The line, without what it begins with.
        line: String,
    },
    /// A guest's card was heard on another link than before.
    Heard {
        /// Whose.
        guest: String,
        /// Where.
        link: String,
        /// What the frame said that was heard, if it was a short datagram of text.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        datagram: Option<String>,
    },
}

/// The answer to [`Request::Events`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Journal {
    /// What happened, in the order in which it did.
    pub happened: Vec<Happened>,
    /// What to ask for next.
    pub next: u64,
    /// Entries from before that are not kept any more.
    pub lost: u64,
}

/// The answer to [`Request::Ping`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Echo {
    /// Who answered.
    pub address: std::net::Ipv4Addr,
    /// How long it took, microseconds.
    pub micros: u64,
}

/// Whether labs and boards may be called so.
///
/// # Errors
/// What is wrong, and what is right.
pub fn check_name(name: &str) -> Result<(), String> {
    let right = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(right) || name.starts_with('-')
    {
        return Err(format!(
            "`{name}` cannot be a name: up to {MAX_NAME} letters a to z, digits and hyphens, no hyphen in front"
        ));
    }
    Ok(())
}

/// What all labs' control sockets of this user begin with.
pub fn address_prefix() -> String {
    format!("hearth-lab-{}-", nix::unistd::geteuid())
}
