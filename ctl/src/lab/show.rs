//! Answers as they are printed for people; as JSON they are what the lab has sent.

use std::fmt;
use std::net::{SocketAddr, SocketAddrV4};

use serde::{Deserialize, Serialize};

use super::pcap::CaptureState;
use super::protocol::{
    BoardState, Condition, DirectionState, Done, Echo, Found, Happened, Happening, Journal,
    LabState, LinksState, Said,
};

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.done)
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting => f.write_str("starting"),
            Self::Running => f.write_str("running"),
            Self::Paused => f.write_str("paused"),
            Self::Ended(how) => write!(f, "ended: {how}"),
        }
    }
}

impl fmt::Display for BoardState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            condition,
            mac,
            starts,
            ..
        } = self;
        write!(f, "{name:<12} {condition}, {mac}")?;
        if let Some(pid) = self.pid {
            write!(f, ", process {pid}")?;
        }
        if *starts > 1 {
            write!(f, ", start {starts}")?;
        }
        Ok(())
    }
}

impl fmt::Display for LabState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let folder = self.folder.display();
        writeln!(
            f,
            "lab {}: process {}, seed {}, logs in {folder}",
            self.lab, self.pid, self.seed
        )?;
        for board in &self.boards {
            writeln!(f, "  board   {board}")?;
        }
        for forward in &self.forwards {
            writeln!(
                f,
                "  forward {} to {} as {}: {} connections open, {} in all",
                forward.listen, forward.to, forward.from, forward.connections, forward.total
            )?;
        }
        for capture in &self.captures {
            writeln!(f, "  capture {capture}")?;
        }
        Ok(())
    }
}

impl fmt::Display for CaptureState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = self.link.as_ref().map_or("the switch", String::as_str);
        write!(f, "{} of {of}: {} frames", self.file.display(), self.frames)?;
        match &self.trouble {
            Some(trouble) => write!(f, ", and no more: {trouble}"),
            None => Ok(()),
        }
    }
}

/// All labs.
#[derive(Debug, Serialize)]
pub struct Labs {
    /// By name.
    pub labs: Vec<LabState>,
}

impl fmt::Display for Labs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.labs.is_empty() {
            return f.write_str("no lab is up: `hearth lab up` starts one");
        }
        self.labs.iter().try_for_each(|lab| write!(f, "{lab}"))
    }
}

/// Links.
#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Links(LinksState);

impl fmt::Display for DirectionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let it = &self.counters;
        write!(
            f,
            "{}; {} frames, {} bytes, {} passed",
            self.faults, it.frames, it.bytes, it.passed
        )?;
        for (name, count) in [
            ("cut", it.cut),
            ("lost", it.lost),
            ("overrun", it.overrun),
            ("corrupted", it.corrupted),
            ("duplicated", it.duplicated),
            ("reordered", it.reordered),
        ] {
            if count > 0 {
                write!(f, ", {count} {name}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for link in &self.0.links {
            writeln!(f, "{}", link.name)?;
            writeln!(f, "  from  {}", link.from)?;
            writeln!(f, "  to    {}", link.to)?;
            for (name, count) in [
                ("not taken by the board", link.untaken),
                ("malformed", link.malformed),
            ] {
                if count > 0 {
                    writeln!(f, "  {count} frames {name}")?;
                }
            }
            for station in &link.stations {
                writeln!(f, "  heard {station}")?;
            }
        }
        Ok(())
    }
}

/// Captures that have ended.
#[derive(Debug, Serialize, Deserialize)]
pub struct Captures {
    captures: Vec<CaptureState>,
}

impl fmt::Display for Captures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.captures.is_empty() {
            return f.write_str("there was no capture");
        }
        self.captures
            .iter()
            .try_for_each(|capture| writeln!(f, "ended: {capture}"))
    }
}

/// A forward that was made.
#[derive(Debug, Serialize, Deserialize)]
pub struct Forwarded {
    listen: SocketAddr,
    to: SocketAddrV4,
}

impl fmt::Display for Forwarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} leads to {}", self.listen, self.to)
    }
}

/// An echo.
#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Echoed(Echo);

impl fmt::Display for Echoed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Echo { address, micros } = &self.0;
        write!(f, "{address} answers in {micros} us")
    }
}

impl fmt::Display for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Happened { at_us, what } in &self.happened {
            let (seconds, micros) = (at_us / 1_000_000, at_us % 1_000_000);
            match what {
                Happening::Lab(what) => writeln!(f, "{seconds}.{micros:06} {what}")?,
                Happening::Said { board, line } => {
                    writeln!(f, "{seconds}.{micros:06} {board} says: {line}")?;
                }
                Happening::Heard { guest, link, .. } => {
                    writeln!(
                        f,
                        "{seconds}.{micros:06} guest {guest} is heard on link {link}"
                    )?;
                }
            }
        }
        Ok(())
    }
}

/// A datagram that came back.
#[derive(Debug, Serialize)]
pub struct Answered {
    /// Who sent it.
    pub from: SocketAddrV4,
    /// What it holds, with escapes for what is no ASCII letter.
    pub text: String,
}

impl fmt::Display for Answered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} answers: {}", self.from, self.text)
    }
}

/// What a board said.
#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Log(Said);

impl fmt::Display for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.text)
    }
}

/// What was waited for.
#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seen(Found);

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.line)
    }
}
