//! What was seen from outside during a drill, line by line.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, BufWriter, Write as _};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// A moment: microseconds of this machine's clock after the Unix epoch.
pub type Moment = u64;

/// This moment.
pub fn now() -> Moment {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    // 584,000 years fit.
    since.unwrap_or_default().as_micros() as u64
}

/// Something that was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// When.
    pub at: Moment,
    /// What.
    #[serde(flatten)]
    pub what: Seen,
}

/// What can be seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "seen", rename_all = "kebab-case")]
pub enum Seen {
    /// The client asked the guest's service.
    Asked {
        /// With this number.
        number: u64,
    },
    /// The service answered.
    Answered {
        /// The question's number.
        number: u64,
        /// The identity that the guest has drawn when it booted.
        boot: String,
        /// How many questions it has answered since then.
        counter: u64,
    },
    /// What a board said of the cluster.
    View(View),
    /// A frame from the guest's card came from another link than the one before it.
    Frame {
        /// The link.
        link: String,
    },
    /// A board said a line of its own.
    Said {
        /// Which board.
        board: String,
        /// What.
        line: String,
    },
    /// What happened to the lab: faults, kills, starts.
    Lab {
        /// What.
        what: String,
    },
}

/// The cluster as the ledger has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct View {
    /// Who leads, by name.
    pub leader: Option<String>,
    /// In which term.
    pub term: u64,
    /// Who owns the guest, by name.
    pub owner: Option<String>,
    /// How far the owner is: unowned, starting, running, leaving.
    pub phase: String,
    /// In which history the cluster is: another one after it was founded anew.
    pub era: u64,
    /// The guest's ownership epoch.
    pub epoch: u64,
    /// Boards that are in.
    pub members: Vec<String>,
}

/// A file of records that grows.
#[derive(Debug)]
pub struct Writer {
    out: BufWriter<File>,
}

impl Writer {
    /// Makes the file, or empties it.
    ///
    /// # Errors
    /// What the system says.
    pub fn create(path: &Path) -> io::Result<Self> {
        let out = BufWriter::new(File::create(path)?);
        Ok(Self { out })
    }

    /// Adds what was seen.
    ///
    /// # Errors
    /// What the system says.
    pub fn add(&mut self, at: Moment, what: Seen) -> io::Result<()> {
        serde_json::to_writer(&mut self.out, &Record { at, what })?;
        self.out.write_all(b"\n")
    }

    /// Lets readers see all of it.
    ///
    /// # Errors
    /// What the system says.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Reads all records of a file, in the order of their moments.
///
/// # Errors
/// What the system says, or which line is none.
pub fn read(path: &Path) -> Result<Vec<Record>, String> {
    let trouble = |error: io::Error| format!("cannot read {}: {error}", path.display());
    let mut records = Vec::new();
    for (number, line) in BufReader::new(File::open(path).map_err(trouble)?)
        .lines()
        .enumerate()
    {
        let line = line.map_err(trouble)?;
        let record: Record = serde_json::from_str(&line)
            .map_err(|error| format!("{}, line {}: {error}", path.display(), number + 1))?;
        records.push(record);
    }
    records.sort_by_key(|record| record.at);
    Ok(records)
}
