//! Which cluster is meant, and how it is reached: its description, its key, and whether its boards are in a lab.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;

use cluster_proto::ids::BoardId;
use cluster_proto::wire::auth::cluster_tag;

use super::session::Session;
use super::wire::{PORT, UdpWire, Wire};
use crate::lab;
use crate::pack::{self, Outline, secret};
use crate::report::Failure;
use crate::source::Source;

/// The options that every verb has that speaks with a cluster.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Which cluster")]
pub struct Reach {
    /// The cluster's description.
    #[arg(
        long,
        value_name = "FILE",
        env = "HEARTH_CLUSTER",
        default_value = "cluster.toml"
    )]
    pub cluster: PathBuf,
    /// The cluster's key; otherwise what the description says, or cluster.key beside it.
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// The lab whose boards they are; otherwise the one lab that is up with these boards, or this machine's network.
    #[arg(long, value_name = "LAB", env = "HEARTH_LAB")]
    pub lab: Option<String>,
    /// Where a board or witness is, if not at the address in the description; may be given several times.
    #[arg(long = "at", value_name = "BOARD=ADDRESS[:PORT]", value_parser = place)]
    pub at: Vec<(String, SocketAddrV4)>,
}

/// `BOARD=ADDRESS`, perhaps with a port.
fn place(text: &str) -> Result<(String, SocketAddrV4), String> {
    let parts = text.split_once('=').and_then(|(board, address)| {
        let whole = address.parse().ok();
        let bare = || Some(SocketAddrV4::new(address.parse::<Ipv4Addr>().ok()?, PORT));
        Some((board.to_string(), whole.or_else(bare)?))
    });
    parts.ok_or_else(|| "write it like this: alpha=10.7.0.1, or alpha=10.7.0.1:7266".to_string())
}

/// A cluster as its description and its key say.
pub struct Known {
    /// Its description.
    pub outline: Outline,
    /// Its key.
    pub key: [u8; 32],
    /// What its frames are marked with.
    pub tag: u32,
    /// Where boards and witnesses are, by number, as far as that is known.
    pub addresses: Vec<Option<SocketAddrV4>>,
}

impl Reach {
    /// Reads description and key.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn known(&self) -> Result<Known, Failure> {
        let path = &self.cluster;
        let text = std::fs::read_to_string(path).map_err(|error| {
            Failure::Trouble(format!(
                "cannot read the cluster's description {}: {error}; --cluster or HEARTH_CLUSTER names it",
                path.display()
            ))
        })?;
        let source = Source {
            path: path.clone(),
            text,
        };
        let outline = match pack::outline(&source) {
            Ok(outline) => outline,
            Err(problems) => return Err(Failure::Mistakes(source, problems)),
        };
        let key = pack::key_path(path, self.key.as_deref(), outline.key.as_deref());
        let secret = secret::read(&key)?.ok_or_else(|| {
            Failure::Trouble(format!(
                "the cluster's key {} is not there: `hearth pack` makes it; if boards were packed elsewhere, bring it from there (--key names it)",
                key.display()
            ))
        })?;
        let addresses = self.addresses(&outline).map_err(Failure::Trouble)?;
        Ok(Known {
            key: secret.key,
            tag: cluster_tag(&secret.key, outline.cluster.as_str()),
            addresses,
            outline,
        })
    }

    fn addresses(&self, outline: &Outline) -> Result<Vec<Option<SocketAddrV4>>, String> {
        let own = |board: &cluster_proto::manifest::Board| {
            board
                .address
                .map(|place| SocketAddrV4::new(place.address(), PORT))
        };
        let mut addresses: Vec<_> = outline.boards.iter().map(own).collect();
        for (name, address) in &self.at {
            let at = outline.find(name).ok_or_else(|| outline.no_board(name))?;
            addresses[at.at()] = Some(*address);
        }
        Ok(addresses)
    }

    /// Begins to speak with the cluster.
    ///
    /// # Errors
    /// What is wrong with its description, or that there is no way to its boards.
    pub fn open(&self) -> Result<Session, Failure> {
        let known = self.known()?;
        if known.addresses.iter().all(Option::is_none) {
            return Err(Failure::Trouble(format!(
                "no board of cluster {} has an address: give them `address` in {}, or name one with --at",
                known.outline.cluster,
                self.cluster.display()
            )));
        }
        let wire = self.wire(&known.outline).map_err(Failure::Trouble)?;
        Session::new(known, wire).map_err(Failure::Trouble)
    }

    fn wire(&self, outline: &Outline) -> Result<Box<dyn Wire>, String> {
        if let Some(lab) = self.lab_of(outline)? {
            let wire = lab::LabWire::connect(&lab, lab::Ask::default())?;
            return Ok(Box::new(wire));
        }
        let wire = UdpWire::open().map_err(|error| format!("cannot open a socket: {error}"))?;
        Ok(Box::new(wire))
    }

    /// The lab in which the cluster is: the one that is named, or the only one that has its boards. Who says where boards are means no lab.
    ///
    /// # Errors
    /// There are several.
    pub fn lab_of(&self, outline: &Outline) -> Result<Option<String>, String> {
        if self.lab.is_some() || !self.at.is_empty() {
            return Ok(self.lab.clone());
        }
        // A lab runs witnesses like boards.
        let names = outline.boards.iter().map(|board| board.name.to_string());
        let mut own: Vec<_> = names.collect();
        own.sort();
        let has_them = |lab: &String| {
            lab::boards(lab).is_ok_and(|mut boards| {
                boards.sort();
                boards == own
            })
        };
        let labs = lab::labs().unwrap_or_default();
        let mut labs: Vec<_> = labs.into_iter().filter(has_them).collect();
        if labs.len() > 1 {
            return Err(format!(
                "several labs have these boards: choose one with --lab: {}",
                labs.join(", ")
            ));
        }
        Ok(labs.pop())
    }
}

impl Outline {
    /// The number of the board or witness called `name`.
    pub fn find(&self, name: &str) -> Option<BoardId> {
        let at = self.boards.iter().position(|it| it.name.as_str() == name);
        // A description has at most 16.
        at.map(|at| BoardId(at as u8))
    }

    /// That there is no board called `name`, and which there are.
    pub fn no_board(&self, name: &str) -> String {
        let names: Vec<_> = self.boards.iter().map(|it| it.name.as_str()).collect();
        format!(
            "cluster {} has no board {name}; it has: {}",
            self.cluster,
            names.join(", ")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read() {
        let alpha = |address: &str| Ok(("alpha".to_string(), address.parse().unwrap()));
        assert_eq!(place("alpha=10.7.0.1"), alpha("10.7.0.1:7266"));
        assert_eq!(place("alpha=10.7.0.1:9"), alpha("10.7.0.1:9"));
        assert!(place("alpha").is_err() && place("alpha=b").is_err());
    }
}
