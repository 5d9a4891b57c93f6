//! A guest in a file: its record, checked as it is written, and all of it before any of it is sent.

use std::fs::{self, File};
use std::io::{BufReader, BufWriter, ErrorKind, Read, Write as _};
use std::path::{Path, PathBuf};

use el2_hyp::record::header::Header;
use el2_hyp::record::images::Digest;
use el2_hyp::record::intake::{Error, Event, Intake, Taken};
use el2_hyp::record::section::HEAD_BYTES;
use el2_hyp::record::units::{UNIT_BYTES, Units};
use el2_hyp::record::{MAX_SECTION, Malformed};
use el2_hyp::vgic::{Intid, MappedInterrupt};

use crate::report::Failure;

/// A board's interrupt behind its guests' timers. Which it is there makes no difference to what a record may hold.
const ANY_TIMER: MappedInterrupt = MappedInterrupt {
    virtual_intid: Intid::VIRTUAL_TIMER,
    physical_intid: 27,
};
/// Where a section's head has the length of its payload.
const LENGTH_AT: usize = 8;

/// Looks at a record, section by section, as a board does.
pub struct Checker {
    intake: Intake,
    images: Vec<Digest>,
    /// The highest page so far, and whether pages have begun anew: further rounds.
    page: u32,
    is_again: bool,
    bytes: u64,
}

impl Checker {
    /// Nothing has come.
    pub fn new() -> Self {
        Self {
            intake: Intake::new(ANY_TIMER),
            images: Vec::new(),
            page: 0,
            is_again: false,
            bytes: 0,
        }
    }

    /// Takes the section in `bytes`, if all of it is there; whether it was the last.
    ///
    /// # Errors
    /// Why it is none, in words.
    pub fn take(&mut self, bytes: &[u8]) -> Result<Option<bool>, String> {
        let taken = self.intake.take(bytes);
        let Taken::Section(length, event) = taken.map_err(|error| in_words(&error))? else {
            return Ok(None);
        };
        if length != bytes.len() {
            return Err("something follows a section".into());
        }
        self.bytes += length as u64;
        match event {
            Event::Images(images) => self.images = images.digests().to_vec(),
            Event::Pages(units) => {
                let first = units.clone().next().map_or(0, |unit| unit.0);
                self.is_again |= first < self.page;
                self.page = unpack(units)?.max(self.page);
            }
            Event::Blocks(_, units) => drop(unpack(units)?),
            Event::End => return Ok(Some(true)),
            _ => {}
        }
        Ok(Some(false))
    }

    /// Percent of the guest's memory that have come once.
    pub fn percent(&self) -> u64 {
        let pages = self.intake.header().map_or(1, Header::pages).max(1);
        match self.is_again {
            true => 100,
            false => u64::from(self.page) * 100 / u64::from(pages),
        }
    }

    /// Bytes so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What the record has said of itself, if it has come to its end.
    ///
    /// # Errors
    /// It has not, in words.
    fn finish(self) -> Result<Contents, String> {
        let (images, bytes) = (self.images, self.bytes);
        let parts = self.intake.finish(0).map_err(|error| in_words(&error))?;
        Ok(Contents {
            header: parts.header,
            images,
            bytes,
        })
    }
}

/// Unpacks units; the last one's number.
fn unpack(units: Units<'_>) -> Result<u32, String> {
    let (mut last, mut scratch) = (0, [0; UNIT_BYTES]);
    for (number, content) in units {
        last = number;
        let unpacked = content.unpack(&mut scratch);
        unpacked.map_err(|error| format!("a page or block is damaged: {error}"))?;
    }
    Ok(last)
}

/// Why a record is none. What it says of the file is what an operator can do something about.
fn in_words(error: &Error) -> String {
    match error {
        Error::Malformed(_, Malformed::Value("the version of the format")) => format!(
            "it is of another version of the format than {}, which this tool reads: restore it with the tool and boards that saved it",
            el2_hyp::record::header::FORMAT
        ),
        Error::Malformed(_, Malformed::Value("the first bytes of a record")) => {
            "it is no saved guest".into()
        }
        other => other.to_string(),
    }
}

/// What a file has.
#[derive(Debug)]
pub struct Contents {
    /// Which guest, on what processor.
    pub header: Header,
    /// The digests of its kernel, its initial RAM disk, and its disks' images.
    pub images: Vec<Digest>,
    /// Its length.
    pub bytes: u64,
}

/// A file's sections, one after another.
pub struct Sections(BufReader<File>);

impl Sections {
    /// Those of the file at `path`.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let file = File::open(path).map_err(|error| Failure::file("open", path, error))?;
        Ok(Self(BufReader::new(file)))
    }

    /// The next section, into `room`; whether there is one.
    ///
    /// # Errors
    /// It is cut off or too long, or cannot be read, in words.
    pub fn next(&mut self, room: &mut Vec<u8>) -> Result<bool, String> {
        room.resize(HEAD_BYTES, 0);
        if self
            .0
            .read(&mut room[..1])
            .map_err(|error| read_error(&error))?
            == 0
        {
            return Ok(false);
        }
        let mut rest = |to: &mut [u8]| self.0.read_exact(to).map_err(|error| read_error(&error));
        rest(&mut room[1..])?;
        let length = room[LENGTH_AT..]
            .first_chunk()
            .map(|it| u32::from_le_bytes(*it));
        let length = length.map_or(usize::MAX, |length| length as usize);
        if length > MAX_SECTION - HEAD_BYTES {
            return Err("it is no saved guest, or is damaged: a section of it is too long".into());
        }
        room.resize(HEAD_BYTES + length, 0);
        rest(&mut room[HEAD_BYTES..])?;
        Ok(true)
    }
}

fn read_error(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::UnexpectedEof => "it is cut off".into(),
        _ => format!("it cannot be read: {error}"),
    }
}

/// Reads all of a file, as a board would.
///
/// # Errors
/// It cannot be read, or is not the whole record of a guest.
pub fn inspect(path: &Path) -> Result<Contents, Failure> {
    let wrong = |why: String| {
        let path = path.display();
        Failure::Trouble(format!("{path} cannot be restored: {why}"))
    };
    let (mut sections, mut checker) = (Sections::open(path)?, Checker::new());
    let (mut section, mut is_over) = (Vec::new(), false);
    while sections.next(&mut section).map_err(wrong)? {
        if is_over {
            return Err(wrong("something follows its end".into()));
        }
        match checker.take(&section).map_err(wrong)? {
            Some(is_last) => is_over = is_last,
            None => return Err(wrong("it is cut off".into())),
        }
    }
    if !is_over {
        return Err(wrong("it is cut off: it has no end".into()));
    }
    checker.finish().map_err(wrong)
}

/// A file that is being written: under another name until it is whole, and gone if it never is.
pub struct Draft {
    path: PathBuf,
    aside: PathBuf,
    file: Option<BufWriter<File>>,
}

impl Draft {
    /// Begins the file at `path`.
    ///
    /// # Errors
    /// There is one, and it is not to be replaced; or none can be written there.
    pub fn begin(path: &Path, replaces: bool) -> Result<Self, Failure> {
        let Some(name) = path.file_name() else {
            let what = format!("{} is no name of a file", path.display());
            return Err(Failure::Trouble(what));
        };
        if path.exists() && !replaces {
            let what = format!("{} exists; --force replaces it", path.display());
            return Err(Failure::Trouble(what));
        }
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}", std::process::id()));
        let aside = path.with_file_name(hidden);
        let file = File::create_new(&aside);
        let file = file.map_err(|error| Failure::file("write", &aside, error))?;
        Ok(Self {
            path: path.into(),
            aside,
            file: Some(BufWriter::new(file)),
        })
    }

    /// Adds to it.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        let written = file.write_all(bytes);
        written.map_err(|error| Failure::file("write", &self.aside, error))
    }

    /// It is whole: from here on it is there, also if this machine loses its power.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn finish(mut self) -> Result<(), Failure> {
        let Some(mut file) = self.file.take() else {
            return Ok(());
        };
        let folder = self.path.parent().filter(|folder| *folder != Path::new(""));
        let folder = folder.unwrap_or(Path::new(".")).to_path_buf();
        let done = file
            .flush()
            .and_then(|()| file.get_ref().sync_all())
            .and_then(|()| fs::rename(&self.aside, &self.path))
            .and_then(|()| File::open(&folder)?.sync_all());
        if done.is_err() {
            let _ = fs::remove_file(&self.aside);
        }
        done.map_err(|error| Failure::file("write", &self.path, error))
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if self.file.take().is_some() {
            // It is of no use to anybody; who cannot remove it finds it under its odd name.
            let _ = fs::remove_file(&self.aside);
        }
    }
}

#[cfg(test)]
#[path = "saved_tests.rs"]
mod tests;
