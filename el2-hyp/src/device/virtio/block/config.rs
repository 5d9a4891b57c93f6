//! What a driver reads of a block device: its features (section 5.2.3) and its configuration (section 5.2.4).

use super::super::chain::MAX_SEGMENTS;
use super::disk::{Limits, MAX_PIECES};
use crate::volume::SECTOR_BYTES;
use crate::volume::table::BLOCK_SECTORS;

/// Feature bits (section 5.2.3).
pub mod feature {
    /// VIRTIO_BLK_F_SEG_MAX: a request has at most so many buffers of data.
    pub const SEG_MAX: u64 = 1 << 2;
    /// VIRTIO_BLK_F_RO: the disk can only be read.
    pub const READ_ONLY: u64 = 1 << 5;
    /// VIRTIO_BLK_F_BLK_SIZE: the size of a block is told.
    pub const BLOCK_SIZE: u64 = 1 << 6;
    /// VIRTIO_BLK_F_FLUSH: what was written can be made safe.
    pub const FLUSH: u64 = 1 << 9;
    /// VIRTIO_BLK_F_TOPOLOGY: in which blocks it is best written is told.
    pub const TOPOLOGY: u64 = 1 << 10;
    /// VIRTIO_BLK_F_DISCARD: ranges can be given up.
    pub const DISCARD: u64 = 1 << 13;
    /// VIRTIO_BLK_F_WRITE_ZEROES: ranges can be cleared without data.
    pub const WRITE_ZEROES: u64 = 1 << 14;
}

/// Bytes of the configuration.
const CONFIG_BYTES: usize = 60;
/// Offsets in it.
mod offset {
    pub const CAPACITY: usize = 0;
    pub const SEG_MAX: usize = 12;
    pub const BLOCK_SIZE: usize = 20;
    pub const PHYSICAL_BLOCK_EXPONENT: usize = 24;
    pub const MIN_IO_SIZE: usize = 26;
    pub const NUM_QUEUES: usize = 34;
    pub const MAX_DISCARD_SECTORS: usize = 36;
    pub const MAX_DISCARD_SEGMENTS: usize = 40;
    pub const DISCARD_ALIGNMENT: usize = 44;
    pub const MAX_WRITE_ZEROES_SECTORS: usize = 48;
    pub const MAX_WRITE_ZEROES_SEGMENTS: usize = 52;
    pub const WRITE_ZEROES_MAY_UNMAP: usize = 56;
}

/// Most sectors that one request discards or clears: 8 MiB, which bounds the work of one step.
pub const MAX_CLEAR_SECTORS: u32 = 1 << 14;
/// Most buffers of data of a request: the header and the status have one each.
const MAX_DATA_SEGMENTS: usize = MAX_SEGMENTS - 2;

/// What identifies a disk to a guest: what VIRTIO_BLK_T_GET_ID answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Serial([u8; Self::BYTES]);

impl Serial {
    /// Its length (section 5.2.6).
    pub const BYTES: usize = 20;

    /// The first [`BYTES`](Self::BYTES) of `text`, with zeros behind if there are fewer.
    pub fn new(text: &str) -> Self {
        let mut serial = [0; Self::BYTES];
        let length = text.len().min(Self::BYTES);
        serial[..length].copy_from_slice(&text.as_bytes()[..length]);
        Self(serial)
    }

    /// The serial of these bytes.
    pub const fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }
}

/// What a device is to its driver. It never changes.
pub struct Shape {
    sectors: u64,
    features: u64,
    serial: Serial,
    config: [u8; CONFIG_BYTES],
}

impl Shape {
    /// A disk in memory.
    pub fn ephemeral(sectors: u64, read_only: bool, serial: Serial) -> Self {
        let clears = feature::DISCARD | feature::WRITE_ZEROES;
        let features = if read_only { 0 } else { clears };
        Self::new(sectors, read_only, features, MAX_DATA_SEGMENTS, serial)
    }

    /// A disk on the board's.
    pub fn local(sectors: u64, limits: Limits, read_only: bool, serial: Serial) -> Self {
        // A buffer that is contiguous for the guest may be in two pieces, since its memory is in blocks.
        let segments = limits.pieces.min(MAX_PIECES) / 2;
        let segments = segments.clamp(1, MAX_DATA_SEGMENTS);
        Self::new(sectors, read_only, 0, segments, serial)
    }

    fn new(sectors: u64, read_only: bool, features: u64, segments: usize, serial: Serial) -> Self {
        // Section 5.2.5.2: a device should offer to flush, also if there is nothing to be flushed.
        let always = feature::SEG_MAX | feature::BLOCK_SIZE | feature::TOPOLOGY | feature::FLUSH;
        let read_only = if read_only { feature::READ_ONLY } else { 0 };
        let features = features | always | read_only;
        let mut config = [0; CONFIG_BYTES];
        let mut put = |at: usize, bytes: &[u8]| config[at..at + bytes.len()].copy_from_slice(bytes);
        put(offset::CAPACITY, &sectors.to_le_bytes());
        put(offset::SEG_MAX, &(segments as u32).to_le_bytes());
        put(offset::BLOCK_SIZE, &(SECTOR_BYTES as u32).to_le_bytes());
        // Whole blocks of 4 KiB are best: an overlay copies none of them, and disks have them.
        let exponent = BLOCK_SECTORS.trailing_zeros() as u8;
        put(offset::PHYSICAL_BLOCK_EXPONENT, &[exponent]);
        put(offset::MIN_IO_SIZE, &(BLOCK_SECTORS as u16).to_le_bytes());
        put(offset::NUM_QUEUES, &1_u16.to_le_bytes());
        if features & feature::DISCARD != 0 {
            let most = MAX_CLEAR_SECTORS.to_le_bytes();
            put(offset::MAX_DISCARD_SECTORS, &most);
            put(offset::MAX_DISCARD_SEGMENTS, &1_u32.to_le_bytes());
            let block = BLOCK_SECTORS as u32;
            put(offset::DISCARD_ALIGNMENT, &block.to_le_bytes());
            put(offset::MAX_WRITE_ZEROES_SECTORS, &most);
            put(offset::MAX_WRITE_ZEROES_SEGMENTS, &1_u32.to_le_bytes());
            put(offset::WRITE_ZEROES_MAY_UNMAP, &[1]);
        }
        Self {
            sectors,
            features,
            serial,
            config,
        }
    }

    /// The features that the device offers, besides those that every device has.
    pub fn features(&self) -> u64 {
        self.features
    }

    /// Whether it has a feature.
    #[inline]
    pub fn has(&self, feature: u64) -> bool {
        self.features & feature != 0
    }

    /// Sectors of the disk.
    #[inline]
    pub fn sectors(&self) -> u64 {
        self.sectors
    }

    /// What identifies it.
    pub fn serial(&self) -> &Serial {
        &self.serial
    }

    /// The configuration's bytes.
    pub fn config(&self) -> &[u8] {
        &self.config
    }
}
