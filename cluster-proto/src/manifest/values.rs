//! The values that a manifest is made of, each with its own rule.

use core::fmt;

use heapless::String;
use serde::{Deserialize, Serialize};

use super::{Ipv4Place, Serial};

/// A value that breaks its type's rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutOfRange {
    /// Not a DNS label; see [`Name`].
    Name,
    /// Not one to eight; see [`VcpuCount`].
    Vcpus,
    /// Odd, zero or beyond the guest machine's room; see [`MemoryMib`].
    Memory,
    /// Too long or with control characters; see [`CommandLine`].
    CommandLine,
    /// Not six bytes that an operator may give; see [`super::Mac`].
    Mac,
    /// Not a host's address with its network's length; see [`super::Ipv4Place`].
    Address,
    /// Not another host of the same network; see [`super::Ipv4Place`].
    Gateway,
    /// Nothing, or too much; see [`super::DiskSize`].
    DiskSize,
    /// Too long, or not visible; see [`super::Serial`].
    Serial,
}

impl fmt::Display for OutOfRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name => write!(
                f,
                "a name has 1 to {} letters a to z, digits and hyphens, and begins and ends with a letter or digit",
                Name::MAX_BYTES
            ),
            Self::CommandLine => write!(
                f,
                "a command line has up to {} bytes and no control characters",
                CommandLine::MAX_BYTES
            ),
            Self::Mac => write!(
                f,
                "an address like 02:00:5e:10:20:30, whose first byte's last two bits are 10 (2, 6, a or e as its second digit): unicast and locally administered"
            ),
            Self::Address => write!(
                f,
                "an address is a host's, with the length of its network's part, 1 to {}: 10.7.0.1/24",
                Ipv4Place::MAX_PREFIX
            ),
            Self::Gateway => write!(f, "a gateway is another host of the board's own network"),
            Self::DiskSize => write!(f, "a disk has at least a sector, and less than 2 TiB"),
            Self::Serial => write!(
                f,
                "a serial has 1 to {} visible ASCII characters",
                Serial::MAX_BYTES
            ),
            Self::Vcpus => write!(f, "a guest has 1 to {} vCPUs", VcpuCount::MAX),
            Self::Memory => {
                write!(
                    f,
                    "memory is an even number of MiB from {} to {}",
                    MemoryMib::MIN,
                    MemoryMib::MAX
                )
            }
        }
    }
}

impl core::error::Error for OutOfRange {}

/// The name of a cluster, a board or a guest: a DNS label in lower case (RFC 1123, section 2.1, and
/// RFC 1034, section 3.5), so that it can stand in a host name, on a command line and in a file name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String<{ Name::MAX_BYTES }, u8>")]
pub struct Name(String<{ Name::MAX_BYTES }, u8>);

impl Name {
    /// The longest label.
    pub const MAX_BYTES: usize = 63;

    /// The name `text`.
    ///
    /// # Errors
    /// [`OutOfRange::Name`] if it is not a label.
    pub fn new(text: &str) -> Result<Self, OutOfRange> {
        String::try_from(text)
            .map_err(|_| OutOfRange::Name)?
            .try_into()
    }

    /// The label.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String<{ Name::MAX_BYTES }, u8>> for Name {
    type Error = OutOfRange;

    fn try_from(text: String<{ Name::MAX_BYTES }, u8>) -> Result<Self, OutOfRange> {
        let bytes = text.as_bytes();
        let plain = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let sound = bytes.first().is_some_and(plain)
            && bytes.last().is_some_and(plain)
            && bytes.iter().all(|byte| plain(byte) || *byte == b'-');
        if sound {
            Ok(Self(text))
        } else {
            Err(OutOfRange::Name)
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A guest's command line: any text without control characters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String<{ CommandLine::MAX_BYTES }>")]
pub struct CommandLine(String<{ CommandLine::MAX_BYTES }>);

impl CommandLine {
    /// The longest, bytes; Linux on arm64 takes 2,047.
    pub const MAX_BYTES: usize = 1024;

    /// The command line `text`.
    ///
    /// # Errors
    /// [`OutOfRange::CommandLine`] if it is too long or has control characters.
    pub fn new(text: &str) -> Result<Self, OutOfRange> {
        String::try_from(text)
            .map_err(|_| OutOfRange::CommandLine)?
            .try_into()
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String<{ CommandLine::MAX_BYTES }>> for CommandLine {
    type Error = OutOfRange;

    fn try_from(text: String<{ CommandLine::MAX_BYTES }>) -> Result<Self, OutOfRange> {
        if text.chars().any(char::is_control) {
            Err(OutOfRange::CommandLine)
        } else {
            Ok(Self(text))
        }
    }
}

/// How many processors a guest has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u8")]
pub struct VcpuCount(u8);

impl VcpuCount {
    /// The most: a GICv2 addresses eight.
    pub const MAX: u8 = 8;

    /// `count` processors.
    ///
    /// # Errors
    /// [`OutOfRange::Vcpus`] for none or more than [`Self::MAX`].
    pub const fn new(count: u8) -> Result<Self, OutOfRange> {
        if count >= 1 && count <= Self::MAX {
            Ok(Self(count))
        } else {
            Err(OutOfRange::Vcpus)
        }
    }

    /// The number, one to eight.
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl TryFrom<u8> for VcpuCount {
    type Error = OutOfRange;

    fn try_from(count: u8) -> Result<Self, OutOfRange> {
        Self::new(count)
    }
}

/// An amount of memory in MiB, a whole number of the 2 MiB blocks that stage 2 maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u32")]
pub struct MemoryMib(u32);

impl MemoryMib {
    /// The least, MiB: one block.
    pub const MIN: u32 = 2;
    /// The most, MiB: 255 GiB, what lies between the start of memory and the high devices on QEMU's `virt`.
    pub const MAX: u32 = 255 * 1024;

    /// `mib` times 1,048,576 bytes.
    ///
    /// # Errors
    /// [`OutOfRange::Memory`] if it is odd, below [`Self::MIN`] or above [`Self::MAX`].
    pub const fn new(mib: u32) -> Result<Self, OutOfRange> {
        if mib >= Self::MIN && mib <= Self::MAX && mib.is_multiple_of(2) {
            Ok(Self(mib))
        } else {
            Err(OutOfRange::Memory)
        }
    }

    /// The amount in MiB.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The amount in bytes.
    pub const fn bytes(self) -> u64 {
        (self.0 as u64) << 20
    }
}

impl TryFrom<u32> for MemoryMib {
    type Error = OutOfRange;

    fn try_from(mib: u32) -> Result<Self, OutOfRange> {
        Self::new(mib)
    }
}

/// A SHA-256 digest (FIPS 180-4). Shown in hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Digest(pub [u8; 32]);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
