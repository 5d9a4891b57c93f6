//! `hearth lab`: boards under QEMU on one machine, on an Ethernet that can be made to misbehave.
//!
//! A lab is one process. `up` starts it; every other verb is a request to it over a socket.
//!
//! ```text
//! hearth lab VERB ── client ──► supervisor ── board ──► QEMU, one a board
//!   (verbs, up, attach)             │ ports ◄──frames──┘
//!                                   ├─ switch      who gets a frame, when, and what is wrong with it
//!                                   ├─ forwarder   a TCP of its own, for clients of this machine
//!                                   └─ station     datagrams, for tools that speak with boards
//! ```
//!
//! Read [`switch`] first, which is pure logic; then [`ports`], [`forward`] and [`station`], what lies behind its ports; [`plan`], [`spawn`], [`scrollback`] and
//! [`board`]; [`supervisor`], which has them all; [`protocol`], [`client`] and [`datagrams`]; [`describe`], [`up`], [`attach`] and [`verbs`], the operator's side.

mod attach;
mod board;
mod client;
mod datagrams;
mod describe;
mod forward;
mod pcap;
mod plan;
mod ports;
mod protocol;
mod scrollback;
mod show;
mod spawn;
mod station;
mod supervisor;
mod switch;
mod up;
mod verbs;

pub use client::{choose, labs};
pub use datagrams::LabWire;
pub use protocol::{Ask, Happening, Journal, PAUSED};
pub use switch::faults::duration;
pub use up::Arguments as UpArguments;
pub use verbs::{Arguments, run};

/// What has happened to a lab, from this number on.
///
/// # Errors
/// If the lab does not tell.
pub fn events(lab: &str, after: u64) -> Result<Journal, String> {
    client::get(lab, protocol::Request::Events { after })
}

/// Starts a lab from a description, whatever `arguments` name.
///
/// # Errors
/// What is wrong with the description, or why the lab does not run.
pub fn up(
    name: Option<&str>,
    arguments: &UpArguments,
    description: &std::path::Path,
) -> Result<crate::report::Answer, crate::report::Failure> {
    let mut arguments = arguments.clone();
    arguments.description = Some(description.to_path_buf());
    up::run(name, &arguments)
}

/// The cluster's description that a description of a lab, or of a cluster itself, is about.
///
/// # Errors
/// What is wrong with it.
pub fn cluster_of(
    description: &std::path::Path,
) -> Result<Option<std::path::PathBuf>, crate::report::Failure> {
    describe::describe(Some(description)).map(|(_, cluster, _)| cluster)
}

/// The names of a lab's boards.
///
/// # Errors
/// If the lab does not tell.
pub fn boards(lab: &str) -> Result<Vec<String>, String> {
    let state: protocol::LabState = client::get(lab, protocol::Request::List)?;
    Ok(state.boards.into_iter().map(|board| board.name).collect())
}

/// Ends a lab.
///
/// # Errors
/// If it is not up.
pub fn down(lab: &str) -> Result<(), String> {
    client::get::<protocol::Done>(lab, protocol::Request::Down).map(|_| ())
}

/// An answer as JSON; only maps with keys that are no texts cannot be, and no answer has any.
fn value(answer: impl serde::Serialize) -> serde_json::Value {
    serde_json::to_value(answer).unwrap_or_default()
}

/// A lab's folder, and the names of its boards and witnesses: the packages in it are called so.
///
/// # Errors
/// If the lab does not tell.
pub fn packages(lab: &str) -> Result<(std::path::PathBuf, Vec<String>), String> {
    let state: protocol::LabState = client::get(lab, protocol::Request::List)?;
    let names = state.boards.into_iter().map(|board| board.name).collect();
    Ok((state.folder, names))
}

/// Begins a capture of a lab's switch.
///
/// # Errors
/// Why the lab cannot.
pub fn capture(lab: &str, file: std::path::PathBuf) -> Result<(), String> {
    let request = protocol::Request::Capture { file, link: None };
    client::get::<protocol::Done>(lab, request).map(drop)
}

/// Types on a board's console.
///
/// # Errors
/// Why the lab cannot.
pub fn type_in(lab: &str, board: &str, text: &str) -> Result<(), String> {
    let (board, text) = (board.to_string(), text.to_string());
    client::get::<protocol::Done>(lab, protocol::Request::Type { board, text }).map(drop)
}

/// Pulls a board's plug.
///
/// # Errors
/// Why the lab cannot.
pub fn kill(lab: &str, board: &str) -> Result<(), String> {
    let board = board.to_string();
    client::get::<protocol::Done>(lab, protocol::Request::Kill { board }).map(drop)
}

/// Starts a board anew.
///
/// # Errors
/// Why the lab cannot.
pub fn restart(lab: &str, board: &str) -> Result<(), String> {
    let board = board.to_string();
    client::get::<protocol::Done>(lab, protocol::Request::Restart { board, image: None }).map(drop)
}
