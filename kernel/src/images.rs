//! The images that this board has: those of its boot package, and those that were fetched from other boards or given by a tool.
//!
//! A fetched image lies in frames of its own, in one piece. What a guest was started from stays as long as that guest: it holds a [`Keep`].

use alloc::sync::Arc;
use alloc::vec::Vec;

use cluster_proto::ledger::types::Digest;
use cluster_proto::manifest::{self, Image};
use cluster_proto::package::{ImageView, Package};
use el2_hyp::addr::{PAGE_SIZE, Pa};

use crate::{memory, place};

/// A fetched image that is whole. The last who keeps it gives its frames back.
pub struct Fetched {
    room: Room,
    image: Image,
}

/// Keeps a fetched image where it is.
pub type Keep = Arc<Fetched>;

/// Frames for one image.
struct Room {
    at: Pa,
    frames: usize,
}

impl Room {
    fn new(length: u32) -> Option<Self> {
        let frames = (u64::from(length).div_ceil(PAGE_SIZE) as usize).next_power_of_two();
        let at = memory::allocate(frames)?;
        Some(Self { at, frames })
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        memory::free(self.at, self.frames);
    }
}

/// An image that is being fetched.
struct Growing {
    room: Room,
    digest: Digest,
    length: u32,
    /// CRC-32C of what has passed.
    crc: u32,
}

impl Growing {
    /// Where `length` bytes from `from` on lie, if that is inside of the image.
    fn place(&self, from: u32, length: usize) -> Option<*mut u8> {
        let end = (from as usize).checked_add(length)?;
        (end <= self.length as usize).then(|| (self.room.at.0 as usize + from as usize) as *mut u8)
    }
}

/// All of them.
pub struct Images {
    packed: Vec<ImageView<'static>>,
    growing: Vec<Growing>,
    fetched: Vec<Keep>,
}

impl Images {
    /// None yet.
    pub const fn new() -> Self {
        Self {
            packed: Vec::new(),
            growing: Vec::new(),
            fetched: Vec::new(),
        }
    }

    /// Those of the guests of a package that are sound.
    pub fn add_package(&mut self, package: &Package<'static>) {
        for view in package.guests().filter_map(Result::ok) {
            for image in view.images() {
                if self.packed(&image.image.digest.0).is_none() {
                    self.packed.push(*image);
                }
            }
        }
    }

    fn packed(&self, digest: &Digest) -> Option<&ImageView<'static>> {
        self.packed
            .iter()
            .find(|view| view.image.digest.0 == *digest)
    }

    fn fetched(&self, digest: &Digest) -> Option<&Keep> {
        self.fetched
            .iter()
            .find(|one| one.image.digest.0 == *digest)
    }

    fn growing(&mut self, digest: &Digest) -> Option<&mut Growing> {
        self.growing.iter_mut().find(|one| one.digest == *digest)
    }

    /// An image that is here whole, and what keeps it where it is if it was fetched.
    pub fn find(&self, digest: &Digest) -> Option<(ImageView<'static>, Option<Keep>)> {
        if let Some(view) = self.packed(digest) {
            return Some((*view, None));
        }
        let kept = self.fetched(digest)?;
        // SAFETY: the frames hold that many bytes, nobody writes to them any more, the identity map covers them, and the `Keep` that goes with the
        // slice holds them as long as it.
        let bytes = unsafe {
            core::slice::from_raw_parts(kept.room.at.0 as *const u8, kept.image.length as usize)
        };
        let view = ImageView {
            image: kept.image,
            bytes,
        };
        Some((view, Some(kept.clone())))
    }

    /// The length of an image that is here whole.
    pub fn length(&self, digest: &Digest) -> Option<u32> {
        let packed = self.packed(digest).map(|view| view.image.length);
        packed.or_else(|| self.fetched(digest).map(|one| one.image.length))
    }

    /// Makes room for an image; whether there was some.
    pub fn begin(&mut self, digest: &Digest, length: u32) -> bool {
        let Some(room) = Room::new(length) else {
            return false;
        };
        self.growing.push(Growing {
            room,
            digest: *digest,
            length,
            crc: !0,
        });
        true
    }

    /// Puts bytes to their place.
    pub fn write(&mut self, digest: &Digest, from: u32, bytes: &[u8]) {
        let place = self
            .growing(digest)
            .and_then(|one| one.place(from, bytes.len()));
        if let Some(place) = place {
            // SAFETY: the place is inside of frames that are this image's alone, and `&mut self` its only user.
            unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), place, bytes.len()) };
        }
    }

    /// The next bytes in their order.
    pub fn pass(&mut self, digest: &Digest, bytes: &[u8]) {
        if let Some(one) = self.growing(digest) {
            one.crc = place::crc32c(one.crc, bytes);
        }
    }

    /// Gets bytes; false if they are not here.
    pub fn read(&self, digest: &Digest, from: u32, to: &mut [u8]) -> bool {
        if let Some((view, _keep)) = self.find(digest) {
            let bytes = view
                .bytes
                .get(from as usize..)
                .and_then(|rest| rest.get(..to.len()));
            return bytes.map(|bytes| to.copy_from_slice(bytes)).is_some();
        }
        let growing = self.growing.iter().find(|one| one.digest == *digest);
        let Some(place) = growing.and_then(|one| one.place(from, to.len())) else {
            return false;
        };
        // SAFETY: the place is inside of frames that are this image's alone, to which only `write` writes.
        unsafe { core::ptr::copy_nonoverlapping(place, to.as_mut_ptr(), to.len()) };
        true
    }

    /// The image that was begun is whole, or given up.
    pub fn end(&mut self, digest: &Digest, whole: bool) {
        let Some(at) = self.growing.iter().position(|one| one.digest == *digest) else {
            return;
        };
        let done = self.growing.swap_remove(at);
        if whole {
            self.fetched.push(Arc::new(Fetched {
                room: done.room,
                image: Image {
                    digest: manifest::Digest(done.digest),
                    length: done.length,
                    crc32c: !done.crc,
                },
            }));
        }
    }

    /// Lets go of fetched images that nobody needs.
    pub fn drop_unless(&mut self, needs: &dyn Fn(&Digest) -> bool) {
        self.fetched.retain(|one| needs(&one.image.digest.0));
    }
}
