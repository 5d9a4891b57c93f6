//! What was seen from outside during a drill, line by line.

use std::collections::HashSet;
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
        /// The question that it answers, if it is an answer of the service.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        answers: Option<u64>,
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

/// Counts a guest's boots in a file of records that grows.
#[derive(Debug)]
pub struct Boots {
    records: BufReader<File>,
    /// What has come of a line that is not whole yet.
    line: String,
    identities: HashSet<String>,
}

impl Boots {
    /// Begins with what is in the file.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(path: &Path) -> Result<Self, String> {
        let records = File::open(path)
            .map_err(|error| format!("nothing is watched: {}: {error}", path.display()))?;
        Ok(Self {
            records: BufReader::new(records),
            line: String::new(),
            identities: HashSet::new(),
        })
    }

    /// How many boots have given an answer, with those that have come since the last look.
    ///
    /// # Errors
    /// What the system says, or that a line is no record.
    pub fn count(&mut self) -> Result<usize, String> {
        let trouble = |error: &dyn std::fmt::Display| format!("cannot read what is seen: {error}");
        while self
            .records
            .read_line(&mut self.line)
            .map_err(|error| trouble(&error))?
            > 0
            && self.line.ends_with('\n')
        {
            let record: Record =
                serde_json::from_str(&self.line).map_err(|error| trouble(&error))?;
            if let Seen::Answered { boot, .. } = record.what {
                self.identities.insert(boot);
            }
            self.line.clear();
        }
        Ok(self.seen())
    }

    /// How many had given one at the last look.
    pub fn seen(&self) -> usize {
        self.identities.len()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boots_are_counted_while_the_trace_grows() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trace");
        assert!(Boots::open(&path).is_err());
        let mut file = File::create(&path).unwrap();
        let mut boots = Boots::open(&path).unwrap();
        assert_eq!(boots.count(), Ok(0));
        let mut write = |text: &str| file.write_all(text.as_bytes()).unwrap();
        let answer = |boot: &str| {
            let record = Record {
                at: 1,
                what: Seen::Answered {
                    number: 1,
                    boot: boot.into(),
                    counter: 1,
                },
            };
            format!("{}\n", serde_json::to_string(&record).unwrap())
        };
        write(&answer("one"));
        write(&answer("one"));
        assert_eq!(boots.count(), Ok(1));
        // Half a line is none yet.
        let line = answer("two");
        write(&line[..20]);
        assert_eq!(boots.count(), Ok(1));
        write(&line[20..]);
        write(&answer("one"));
        assert_eq!((boots.count(), boots.seen()), (Ok(2), 2));
        write("no record\n");
        assert!(boots.count().is_err());
    }
}
