//! The cluster's key: 32 random bytes, as 64 hexadecimal digits in a file that only its owner reads.
//!
//! Who has it commands the cluster. It is made by the first `hearth pack`, goes into every board's package, and is what the operator's verbs
//! prove themselves with.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use cluster_proto::package::KEY_BYTES;

use crate::report::Failure;

/// What the key's file is called, beside the description of the cluster, where nothing else is said.
pub const KEY_FILE: &str = "cluster.key";
/// Readable and writable for its owner, and for nobody else.
const OWNER_ONLY: u32 = 0o600;
/// The bits of a file's mode that are others' and the group's.
const NOT_OWNER: u32 = 0o077;

/// A key and how it was come by.
pub struct Secret {
    /// The key.
    pub key: [u8; KEY_BYTES],
    /// Whether it was made just now.
    pub made: bool,
    /// Whether others than its owner can read its file.
    pub open: bool,
}

/// Reads the key, and makes one first if there is no such file.
///
/// # Errors
/// [`Failure::Trouble`] if the file can be neither read nor made, or holds no key.
pub fn read_or_make(path: &Path) -> Result<Secret, Failure> {
    if let Some(secret) = read(path)? {
        return Ok(secret);
    }
    let key = make(path).map_err(|error| Failure::file("write", path, error))?;
    Ok(Secret {
        key,
        made: true,
        open: false,
    })
}

/// Reads the key, if there is such a file.
///
/// # Errors
/// [`Failure::Trouble`] if it cannot be read, or holds no key.
pub fn read(path: &Path) -> Result<Option<Secret>, Failure> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Failure::file("read the key", path, error)),
    };
    let key = parse(text.trim()).ok_or_else(|| {
        Failure::Trouble(format!(
            "{} holds no key, which is {} hexadecimal digits: put the cluster's key back. Without the file, `hearth pack` makes a new key, and boards packed with another do not understand it",
            path.display(),
            2 * KEY_BYTES
        ))
    })?;
    let mode = fs::metadata(path).map_or(0, |file| file.permissions().mode());
    Ok(Some(Secret {
        key,
        made: false,
        open: mode & NOT_OWNER != 0,
    }))
}

/// The key of these digits, nothing more or less.
fn parse(digits: &str) -> Option<[u8; KEY_BYTES]> {
    let mut key = [0; KEY_BYTES];
    if digits.len() != 2 * KEY_BYTES || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, pair) in key.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(key)
}

/// A new key in a new file.
fn make(path: &Path) -> io::Result<[u8; KEY_BYTES]> {
    let key = random()?;
    let mut digits = String::new();
    for byte in key {
        let _ = write!(digits, "{byte:02x}"); // A string takes everything.
    }
    digits.push('\n');
    let mut file = owner_only(path, true)?;
    file.write_all(digits.as_bytes())?;
    file.sync_all()?;
    Ok(key)
}

/// A file for its owner alone, to be written from its start.
///
/// # Errors
/// What the system says; with `new`, that there is one already.
pub fn owner_only(path: &Path, new: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).mode(OWNER_ONLY);
    if new {
        options.create_new(true);
    } else {
        options.create(true).truncate(true);
    }
    options.open(path)
}

/// Random bytes from the system.
///
/// # Errors
/// What the system says.
pub fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    let mut filled = 0;
    while filled < N {
        filled +=
            rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty())?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_for_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(KEY_FILE);
        assert!(read(&path).unwrap().is_none());
        let first = read_or_make(&path).unwrap();
        assert!(first.made && !first.open);
        assert_ne!(first.key, [0; KEY_BYTES]);
        let again = read_or_make(&path).unwrap();
        assert!(!again.made && !again.open);
        assert_eq!(again.key, first.key);
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(read(&path).unwrap().unwrap().open);
    }

    #[test]
    fn what_is_no_key_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(KEY_FILE);
        let digits = "0123456789abcdefABCDEF".repeat(3);
        for text in [
            "",
            "00",
            &digits[..62],
            &digits[..66],
            &"+1".repeat(32),
            &"é".repeat(32),
        ] {
            fs::write(&path, text).unwrap();
            let Err(Failure::Trouble(trouble)) = read_or_make(&path) else {
                panic!("{text:?} is a key")
            };
            assert!(trouble.contains("holds no key"), "{trouble}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        fs::write(&path, format!("\n{}\n", &digits[..64])).unwrap();
        let key = read(&path).unwrap().unwrap().key;
        assert_eq!(key[..4], [0x01, 0x23, 0x45, 0x67]);
    }
}
