//! Frames in a file that Wireshark and tcpdump read.
//!
//! The format is that of draft-ietf-opsawg-pcap ("PCAP Capture File Format"), with nanoseconds, little-endian: sections 4
//! (file header) and 5 (packet record).

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::switch::MAX_FRAME;

/// Says that times have nanoseconds.
const MAGIC: u32 = 0xa1b2_3c4d;
/// LINKTYPE_ETHERNET.
const ETHERNET: u32 = 1;
/// A capture ends when its file would get longer than this, bytes.
pub const MAX_FILE: u64 = 4 << 30;

/// A file of frames that grows.
#[derive(Debug)]
pub struct Capture<W: Write = BufWriter<File>> {
    out: W,
    /// Frames in it.
    pub frames: u64,
    bytes: u64,
    /// Why it takes no more frames.
    pub trouble: Option<String>,
}

impl Capture {
    /// Makes the file, or empties it.
    ///
    /// # Errors
    /// What the system says, or that something other than a plain file is there.
    pub fn create(path: &Path) -> io::Result<Self> {
        // Opening a pipe that nobody reads would stop the lab.
        if std::fs::metadata(path).is_ok_and(|there| !there.is_file()) {
            return Err(io::Error::other("there is something that is no file"));
        }
        Self::new(BufWriter::new(File::create(path)?))
    }
}

impl<W: Write> Capture<W> {
    /// Begins a file.
    ///
    /// # Errors
    /// What the system says.
    pub fn new(mut out: W) -> io::Result<Self> {
        let mut head = [0; 24];
        head[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        head[4..6].copy_from_slice(&2_u16.to_le_bytes());
        head[6..8].copy_from_slice(&4_u16.to_le_bytes());
        head[16..20].copy_from_slice(&(MAX_FRAME as u32).to_le_bytes());
        head[20..24].copy_from_slice(&ETHERNET.to_le_bytes());
        out.write_all(&head)?;
        out.flush()?;
        Ok(Self {
            out,
            frames: 0,
            bytes: head.len() as u64,
            trouble: None,
        })
    }

    /// Adds a frame of at most [`MAX_FRAME`] bytes, `at` after the Unix epoch.
    pub fn add(&mut self, at: Duration, frame: &[u8]) {
        let after = self.bytes + 16 + frame.len() as u64;
        if self.trouble.is_some() {
            return;
        }
        if after > MAX_FILE {
            self.trouble = Some(format!("full at {} GiB", MAX_FILE >> 30));
            return;
        }
        let length = (frame.len() as u32).to_le_bytes();
        let mut head = [0; 16];
        // The format has 32 bits for seconds, enough until 2106.
        head[0..4].copy_from_slice(&(at.as_secs() as u32).to_le_bytes());
        head[4..8].copy_from_slice(&at.subsec_nanos().to_le_bytes());
        head[8..12].copy_from_slice(&length);
        head[12..16].copy_from_slice(&length);
        let written = self
            .out
            .write_all(&head)
            .and_then(|()| self.out.write_all(frame));
        match written {
            Ok(()) => (self.frames, self.bytes) = (self.frames + 1, after),
            Err(error) => self.trouble = Some(error.to_string()),
        }
    }

    /// Lets readers see what was added.
    pub fn flush(&mut self) {
        if let Err(error) = self.out.flush() {
            self.trouble.get_or_insert(error.to_string());
        }
    }
}

/// What a capture is of, for people and scripts.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct CaptureState {
    /// The file.
    pub file: PathBuf,
    /// The link, if not the whole switch.
    pub link: Option<String>,
    /// Frames in it.
    pub frames: u64,
    /// Why it takes no more.
    pub trouble: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_as_specified() {
        let mut capture = Capture::new(Vec::new()).unwrap();
        capture.add(Duration::new(5, 7), &[0xab; 60]);
        capture.flush();
        let bytes = capture.out;
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        assert_eq!(word(0), 0xa1b2_3c4d);
        assert_eq!(word(4), 0x0004_0002, "version 2.4");
        assert_eq!((word(8), word(12), word(16), word(20)), (0, 0, 65536, 1));
        assert_eq!((word(24), word(28), word(32), word(36)), (5, 7, 60, 60));
        assert_eq!(bytes[40..], [0xab; 60]);
    }

    #[test]
    fn a_full_disk_ends_the_capture_and_no_more() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                if bytes.len() == 24 {
                    return Ok(24);
                }
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut capture = Capture::new(Full).unwrap();
        capture.add(Duration::ZERO, &[0; 60]);
        capture.add(Duration::ZERO, &[0; 60]);
        assert_eq!(capture.frames, 0);
        assert!(capture.trouble.is_some());
    }
}
