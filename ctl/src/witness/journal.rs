//! A witness' memory on disk: records behind one another, each there before anything that follows from it leaves this machine.
//!
//! A file is a head (magic and version) and records, each behind its length (4 bytes, little endian); a record ends with its own checksum, which the node looks at
//! (`docs/protocol.md`, section 8). A new journal is written beside the old one and takes its place when it is complete. A last record that was not written out
//! whole was never answered for, and is dropped.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use cluster_proto::limits::MAX_RECORD;
use cluster_proto::node::Journal as Place;

/// The first bytes of a journal, and its version.
const HEAD: [u8; 12] = *b"HEARTHJL\x01\0\0\0";
/// Bytes of a record's length.
const LENGTH: usize = 4;
/// The longest journal that is read; one is begun anew after some thousand records.
const MAX_BYTES: u64 = 64 << 20;

/// The journal's file.
const CURRENT: &str = "journal";
/// One that is not complete yet.
const NEW: &str = "journal.new";

/// What was on disk.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// These records.
    Records(Vec<Vec<u8>>),
    /// Something that is no journal: why.
    Unreadable(String),
}

/// A journal that is written.
#[derive(Debug)]
pub struct Journal {
    folder: PathBuf,
    /// Where records go behind the last; none before the first journal is complete.
    current: Option<File>,
    /// A new journal that is not complete yet.
    new: Option<File>,
}

impl Journal {
    /// The journal in `folder`, to go on with.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(folder: &Path) -> io::Result<Self> {
        let path = folder.join(CURRENT);
        let current = match OpenOptions::new().append(true).open(path) {
            Ok(file) => Some(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        Ok(Self {
            folder: folder.to_path_buf(),
            current,
            new: None,
        })
    }

    /// Writes a record where it belongs. It is durable when this returns, or, in a journal that is not complete yet, when that is.
    ///
    /// # Errors
    /// What the system says; then nothing may be done that follows from the record.
    pub fn write(&mut self, place: Place, record: &[u8]) -> io::Result<()> {
        match place {
            Place::Begin => {
                let mut file = File::create(self.folder.join(NEW))?;
                file.write_all(&HEAD)?;
                put(&mut file, record)?;
                self.new = Some(file);
                Ok(())
            }
            Place::Append => match (&mut self.new, &mut self.current) {
                (Some(new), _) => put(new, record),
                (None, Some(current)) => {
                    put(current, record)?;
                    current.sync_data()
                }
                (None, None) => Err(io::Error::other("a record without a journal")),
            },
            Place::Complete => self.complete(record),
        }
    }

    fn complete(&mut self, record: &[u8]) -> io::Result<()> {
        let mut file = self
            .new
            .take()
            .ok_or_else(|| io::Error::other("the end of no journal"))?;
        put(&mut file, record)?;
        file.sync_all()?;
        fs::rename(self.folder.join(NEW), self.folder.join(CURRENT))?;
        File::open(&self.folder)?.sync_all()?;
        self.current = Some(file);
        Ok(())
    }
}

fn put(file: &mut File, record: &[u8]) -> io::Result<()> {
    let length = u32::try_from(record.len()).map_err(io::Error::other)?;
    // One write, so that a record is mostly there or not.
    let mut bytes = Vec::with_capacity(LENGTH + record.len());
    bytes.extend(length.to_le_bytes());
    bytes.extend(record);
    file.write_all(&bytes)
}

/// Reads the journal in `folder`.
///
/// # Errors
/// What the system says; that is no answer to what is in it.
pub fn read(folder: &Path) -> io::Result<Found> {
    let mut bytes = Vec::new();
    match File::open(folder.join(CURRENT)) {
        Ok(file) => file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) => return Err(error),
    };
    if bytes.len() as u64 > MAX_BYTES {
        return Ok(Found::Unreadable("it is longer than any journal".into()));
    }
    let Some(mut rest) = bytes.strip_prefix(&HEAD) else {
        return Ok(Found::Unreadable("it does not begin like one".into()));
    };
    let mut records = Vec::new();
    while let Some((length, behind)) = rest.split_first_chunk::<LENGTH>() {
        let length = u32::from_le_bytes(*length) as usize;
        if length == 0 && behind.iter().all(|byte| *byte == 0) {
            break; // The file grew, and its bytes did not get there.
        }
        if length == 0 || length > MAX_RECORD {
            return Ok(Found::Unreadable(format!(
                "record {} has a length of {length}",
                records.len() + 1
            )));
        }
        let Some((record, behind)) = behind.split_at_checked(length) else {
            break;
        };
        records.push(record.to_vec());
        rest = behind;
    }
    Ok(Found::Records(records))
}

/// Puts a journal that cannot be read aside, so that whoever wants to know can look at it. Returns where it is now.
///
/// # Errors
/// What the system says.
pub fn put_aside(folder: &Path) -> io::Result<PathBuf> {
    let mut number = 1;
    let aside = loop {
        let aside = folder.join(format!("{CURRENT}.unreadable-{number}"));
        if !aside.exists() {
            break aside;
        }
        number += 1;
    };
    fs::rename(folder.join(CURRENT), &aside)?;
    File::open(folder)?.sync_all()?;
    Ok(aside)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(folder: &Path) -> Vec<Vec<u8>> {
        match read(folder).unwrap() {
            Found::Records(records) => records,
            other => panic!("{other:?}"),
        }
    }

    /// A folder whose journal has the records `a`, `bb`, `ccc`.
    fn written() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(folder.path()).unwrap();
        journal.write(Place::Begin, b"a").unwrap();
        journal.write(Place::Append, b"bb").unwrap();
        assert_eq!(read(folder.path()).unwrap(), Found::Nothing);
        journal.write(Place::Complete, b"ccc").unwrap();
        folder
    }

    #[test]
    fn what_is_written_is_read_and_gone_on_with() {
        let folder = written();
        assert_eq!(records(folder.path()), [&b"a"[..], b"bb", b"ccc"]);
        let mut journal = Journal::open(folder.path()).unwrap();
        journal.write(Place::Append, b"d").unwrap();
        assert_eq!(records(folder.path()).len(), 4);
        // A new one that is not complete changes nothing.
        journal.write(Place::Begin, b"x").unwrap();
        journal.write(Place::Append, b"y").unwrap();
        assert_eq!(records(folder.path()).len(), 4);
        drop(journal);
        let mut journal = Journal::open(folder.path()).unwrap();
        journal.write(Place::Append, b"e").unwrap();
        assert_eq!(records(folder.path()).len(), 5);
        journal.write(Place::Begin, b"x").unwrap();
        journal.write(Place::Complete, b"z").unwrap();
        journal.write(Place::Append, b"f").unwrap();
        assert_eq!(records(folder.path()), [b"x", b"z", b"f"]);
    }

    #[test]
    fn a_torn_tail_is_dropped_wherever_it_is_torn() {
        let folder = written();
        let path = folder.path().join(CURRENT);
        let whole = fs::read(&path).unwrap();
        let two = HEAD.len() + LENGTH + 1 + LENGTH + 2;
        for end in two..whole.len() {
            fs::write(&path, &whole[..end]).unwrap();
            assert_eq!(records(folder.path()), [&b"a"[..], b"bb"], "at {end}");
        }
        let mut zeros = whole[..two].to_vec();
        zeros.extend([0; 100]);
        fs::write(&path, zeros).unwrap();
        assert_eq!(records(folder.path()).len(), 2);
    }

    #[test]
    fn anything_else_is_unreadable() {
        let folder = written();
        let path = folder.path().join(CURRENT);
        let whole = fs::read(&path).unwrap();
        let unreadable = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            matches!(read(folder.path()).unwrap(), Found::Unreadable(_))
        };
        assert!(unreadable(b"") && unreadable(b"HEARTHJL") && unreadable(&[0; 64]));
        let mut other = whole.clone();
        other[8] = 2; // Another version.
        assert!(unreadable(&other));
        for (byte, value) in [(3, 1), (1, 0xff)] {
            let mut long = whole.clone();
            long[HEAD.len() + byte] = value;
            assert!(unreadable(&long), "{byte}");
        }
        let aside = put_aside(folder.path()).unwrap();
        assert!(aside.exists() && !path.exists());
        assert_eq!(read(folder.path()).unwrap(), Found::Nothing);
    }

    #[test]
    fn a_full_disk_is_told() {
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/dev/full", folder.path().join(CURRENT)).unwrap();
        let mut journal = Journal::open(folder.path()).unwrap();
        let error = journal.write(Place::Append, b"a").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        std::os::unix::fs::symlink("/dev/full", folder.path().join(NEW)).unwrap();
        assert!(journal.write(Place::Begin, b"a").is_err());
        assert!(
            Journal::open(folder.path())
                .unwrap()
                .write(Place::Complete, b"a")
                .is_err()
        );
    }
}
