//! The boot package: what a board is given to run, in one file that its loader carries as the initrd.
//!
//! A newc cpio archive (module `cpio`) whose first entry is the `manifest` ([`crate::manifest`]), whose second is the cluster's `key`, and whose
//! other entries are images, `images/` and the SHA-256 of their bytes. `hearth pack` writes it and
//! finds mistakes there; a board that gets a damaged one says which entry is wrong and runs what is
//! sound. So [`Package::parse`] fails only without a sound manifest, and [`Package::guests`] gives for each
//! guest either its description and images or the reason why not.
//!
//! Where an archive's chain of headers is broken, the images behind the break are taken from where `pack` puts
//! them, each behind those that the manifest lists before it: one damaged header costs no other guest.
//!
//! Nothing here walks an image's bytes. Who starts a guest calls [`ImageView::check`] with the quickest
//! CRC-32C it has: the processor's instructions on a board, [`crc32c`] anywhere else.

mod cpio;
mod error;
#[cfg(test)]
mod tests;

use heapless::Vec;

use crate::manifest::{
    Backing, Board, BoardNumber, Guest, Image, ImageNumber, MAX_DISKS, ManifestView, Name,
};

pub use error::{EntryName, Fault, GuestError, PackageError};

use cpio::Entries;
use error::IMAGE_NAME_BYTES;

/// The manifest's entry.
pub const MANIFEST_ENTRY: &str = "manifest";
/// The entry of the cluster's key.
pub const KEY_ENTRY: &str = "key";
/// Bytes of the cluster's key.
pub const KEY_BYTES: usize = 32;
/// What the names of images begin with.
pub const IMAGE_PREFIX: &str = "images/";

/// CRC-32C (RFC 3720, section 12.1; the polynomial of arm64's CRC32C instructions), in software.
pub fn crc32c(bytes: &[u8]) -> u32 {
    const CRC: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISCSI);
    CRC.checksum(bytes)
}

/// The length of an entry's bytes, which the format keeps below 4 GiB.
fn length_of(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

/// A boot package whose manifest is sound.
#[derive(Clone, Debug)]
pub struct Package<'a> {
    archive: &'a [u8],
    manifest: ManifestView<'a>,
    board: Board,
    /// Where the first entry behind the manifest starts.
    behind_manifest: usize,
}

/// A guest and the bytes that it starts from.
#[derive(Clone, Debug)]
pub struct GuestView<'a> {
    /// Its description.
    pub guest: Guest,
    /// Its kernel.
    pub kernel: ImageView<'a>,
    /// Its initrd.
    pub initrd: Option<ImageView<'a>>,
    /// The images of its disks, in their order; none for a disk that is a volume of the board.
    pub disks: Vec<Option<ImageView<'a>>, MAX_DISKS, u8>,
}

/// An image in a package, its length right, its bytes not yet checked.
#[derive(Clone, Copy, Debug)]
pub struct ImageView<'a> {
    /// What the manifest says of it.
    pub image: Image,
    /// Its bytes.
    pub bytes: &'a [u8],
}

impl ImageView<'_> {
    /// Checks the bytes with `crc`, which gives the CRC-32C of what it is given.
    ///
    /// # Errors
    /// [`Fault::Checksum`] if they are not the bytes that were packed.
    pub fn check(&self, crc: impl FnOnce(&[u8]) -> u32) -> Result<(), Fault> {
        let found = crc(self.bytes);
        if found == self.image.crc32c {
            return Ok(());
        }
        Err(Fault::Checksum {
            said: self.image.crc32c,
            found,
        })
    }

    /// The entry's name, for messages.
    pub fn entry(&self) -> EntryName {
        EntryName::Image(self.image.digest)
    }
}

impl<'a> GuestView<'a> {
    /// All its images: kernel, initrd, disks.
    pub fn images(&self) -> impl Iterator<Item = &ImageView<'a>> {
        core::iter::once(&self.kernel)
            .chain(&self.initrd)
            .chain(self.disks.iter().flatten())
    }

    /// Checks the bytes of all its images with `crc`, which gives the CRC-32C of what it is given.
    ///
    /// # Errors
    /// A [`GuestError`] that names the corrupted entry.
    pub fn check(&self, mut crc: impl FnMut(&[u8]) -> u32) -> Result<(), GuestError> {
        for image in self.images() {
            image.check(&mut crc).map_err(|what| GuestError {
                name: self.guest.name.clone(),
                entry: image.entry(),
                what,
            })?;
        }
        Ok(())
    }
}

impl<'a> Package<'a> {
    /// Finds and checks the manifest of the package `archive`. What stands behind the archive's last
    /// entry does not matter: loaders round lengths up.
    ///
    /// # Errors
    /// A [`PackageError`] that names the entry, if no sound manifest is found.
    pub fn parse(archive: &'a [u8]) -> Result<Self, PackageError> {
        for entry in Entries::new(archive) {
            let entry = entry.map_err(|(entry, what)| PackageError { entry, what })?;
            if entry.name != MANIFEST_ENTRY.as_bytes() {
                continue;
            }
            let wrong = |what| PackageError {
                entry: EntryName::Manifest,
                what,
            };
            let manifest =
                ManifestView::parse(entry.bytes).map_err(|e| wrong(Fault::Manifest(e)))?;
            let number = usize::from(manifest.summary().board.0);
            let board = manifest.boards().nth(number).ok_or(wrong(Fault::NoImage))?;
            return Ok(Self {
                archive,
                manifest,
                board,
                behind_manifest: entry.next,
            });
        }
        Err(PackageError {
            entry: EntryName::Manifest,
            what: Fault::Missing,
        })
    }

    /// The manifest.
    pub fn manifest(&self) -> &ManifestView<'a> {
        &self.manifest
    }

    /// The cluster's name.
    pub fn cluster(&self) -> &Name {
        &self.manifest.summary().cluster
    }

    /// The board that the package is for.
    pub fn board(&self) -> &Board {
        &self.board
    }

    /// The cluster's key, if there is one and it is the one that was packed.
    pub fn key(&self) -> Option<[u8; KEY_BYTES]> {
        self.find_key().ok()?
    }

    /// What is wrong with the archive as a whole: where its chain of entries ends before its end mark, or that the key is not the one that was packed. The
    /// board reports it, and goes on.
    pub fn damage(&self) -> Option<PackageError> {
        let broken = Entries::new(self.archive).find_map(Result::err);
        let broken = broken.map(|(entry, what)| PackageError { entry, what });
        broken.or(self.find_key().err())
    }

    /// The key, checked; nothing if none was packed.
    fn find_key(&self) -> Result<Option<[u8; KEY_BYTES]>, PackageError> {
        let Some(said) = self.manifest.summary().key else {
            return Ok(None);
        };
        let named = Entries::new(self.archive)
            .flatten()
            .find(|entry| entry.name == KEY_ENTRY.as_bytes());
        // Behind a broken header it is where `pack` puts it.
        let in_place = || {
            let start = cpio::start_of_contents(KEY_ENTRY.len())?;
            let start = self.behind_manifest.checked_add(start)?;
            self.archive.get(start..)?.get(..KEY_BYTES)
        };
        let wrong = |what| PackageError {
            entry: EntryName::Key,
            what,
        };
        let bytes = named.map(|entry| entry.bytes).or_else(in_place);
        let bytes = bytes.ok_or(wrong(Fault::Missing))?;
        let key = <[u8; KEY_BYTES]>::try_from(bytes).map_err(|_| {
            wrong(Fault::Length {
                // 32 bytes.
                said: KEY_BYTES as u32,
                found: length_of(bytes),
            })
        })?;
        let found = crc32c(&key);
        if found == said {
            Ok(Some(key))
        } else {
            Err(wrong(Fault::Checksum { said, found }))
        }
    }

    /// Every guest with its images, or why it cannot run, in the operator's order.
    pub fn guests(&self) -> impl Iterator<Item = Result<GuestView<'a>, GuestError>> {
        self.manifest.guests().map(|guest| {
            let kernel = self.image_of(&guest, guest.kernel)?;
            let initrd = guest
                .initrd
                .map(|number| self.image_of(&guest, number))
                .transpose()?;
            let image = |backing: &Backing| match backing {
                Backing::Ephemeral { image, .. } => self.image_of(&guest, *image).map(Some),
                Backing::Local { .. } => Ok(None),
            };
            let disks = guest.disks.iter().map(|disk| image(&disk.backing));
            let disks = disks.collect::<Result<_, _>>()?;
            Ok(GuestView {
                guest,
                kernel,
                initrd,
                disks,
            })
        })
    }

    /// The number of the board that the package is for: it starts the guests whose [`Guest::first_board`] it is.
    pub fn board_number(&self) -> BoardNumber {
        self.manifest.summary().board
    }

    /// One of `guest`'s images.
    fn image_of(&self, guest: &Guest, number: ImageNumber) -> Result<ImageView<'a>, GuestError> {
        let index = usize::from(number.0);
        let Some(image) = self.manifest.images().nth(index) else {
            let entry = EntryName::Manifest;
            return Err(GuestError {
                name: guest.name.clone(),
                entry,
                what: Fault::NoImage,
            });
        };
        self.find(&image, index).map_err(|what| GuestError {
            name: guest.name.clone(),
            entry: EntryName::Image(image.digest),
            what,
        })
    }

    /// The bytes of `image`, which is number `index` of the manifest.
    fn find(&self, image: &Image, index: usize) -> Result<ImageView<'a>, Fault> {
        let name = EntryName::Image(image.digest);
        let said = image.length;
        let mut fault = Fault::Missing;
        for entry in Entries::new(self.archive) {
            match entry {
                Ok(entry)
                    if EntryName::of(entry.name) == name && entry.bytes.len() == said as usize =>
                {
                    return Ok(ImageView {
                        image: *image,
                        bytes: entry.bytes,
                    });
                }
                Ok(entry) if EntryName::of(entry.name) == name => {
                    fault = Fault::Length {
                        said,
                        found: length_of(entry.bytes),
                    };
                }
                Err((broken, what)) if broken == name => fault = what,
                Err(_) if fault == Fault::Missing => fault = Fault::ArchiveEnds,
                Ok(_) | Err(_) => {}
            }
        }
        if fault == Fault::Missing {
            return Err(fault); // A whole archive without this entry.
        }
        self.at_its_place(image, index).ok_or(fault)
    }

    /// The bytes where `pack` puts image number `index`, if the archive is long enough. Whether they are the
    /// image's is for their checksum to say.
    fn at_its_place(&self, image: &Image, index: usize) -> Option<ImageView<'a>> {
        let mut at = self.behind_manifest;
        if self.manifest.summary().key.is_some() {
            at = at.checked_add(cpio::entry_bytes(KEY_ENTRY.len(), KEY_BYTES)?)?;
        }
        for before in self.manifest.images().take(index) {
            at = at.checked_add(cpio::entry_bytes(IMAGE_NAME_BYTES, before.length as usize)?)?;
        }
        let start = at.checked_add(cpio::start_of_contents(IMAGE_NAME_BYTES)?)?;
        let bytes = self.archive.get(start..)?.get(..image.length as usize)?;
        Some(ImageView {
            image: *image,
            bytes,
        })
    }
}
