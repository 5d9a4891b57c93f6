//! The devices of boards and guests, each value with its own rule.

use core::fmt;
use core::net::Ipv4Addr;
use core::str::FromStr;

use heapless::String;
use serde::{Deserialize, Serialize};

use super::values::{Name, OutOfRange};
use super::{ImageNumber, MemoryMib};

/// Most network cards of a guest.
pub const MAX_NICS: usize = 4;
/// Most disks of a guest.
pub const MAX_DISKS: usize = 4;

/// An Ethernet address that an operator may give: unicast and locally administered (IEEE Std 802, section 8.4), so that it is
/// nobody's by manufacture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "[u8; 6]")]
pub struct Mac([u8; 6]);

impl Mac {
    /// The address of these bytes, in the order in which they are sent.
    ///
    /// # Errors
    /// [`OutOfRange::Mac`] for a group's address, or one that belongs to a manufacturer.
    pub const fn new(octets: [u8; 6]) -> Result<Self, OutOfRange> {
        if octets[0] & 0b11 == 0b10 {
            Ok(Self(octets))
        } else {
            Err(OutOfRange::Mac)
        }
    }

    /// Its bytes, in the order in which they are sent.
    pub const fn octets(self) -> [u8; 6] {
        self.0
    }
}

impl TryFrom<[u8; 6]> for Mac {
    type Error = OutOfRange;

    fn try_from(octets: [u8; 6]) -> Result<Self, OutOfRange> {
        Self::new(octets)
    }
}

impl FromStr for Mac {
    type Err = OutOfRange;

    /// Six pairs of hexadecimal digits with colons between them.
    fn from_str(text: &str) -> Result<Self, OutOfRange> {
        let mut octets = [0; 6];
        let mut pairs = text.split(':');
        for octet in &mut octets {
            let pair = pairs.next().filter(|pair| pair.len() == 2);
            let digits = pair.filter(|pair| pair.bytes().all(|byte| byte.is_ascii_hexdigit()));
            let value = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
            *octet = value.ok_or(OutOfRange::Mac)?;
        }
        if pairs.next().is_some() {
            return Err(OutOfRange::Mac);
        }
        Self::new(octets)
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// A board's own place on an IPv4 network: its address, how many bits of it are the network's, and the way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawIpv4Place", into = "RawIpv4Place")]
pub struct Ipv4Place {
    address: Ipv4Addr,
    prefix: u8,
    gateway: Option<Ipv4Addr>,
}

/// What stands for an [`Ipv4Place`] in a manifest: address, prefix, gateway.
type RawIpv4Place = ([u8; 4], u8, Option<[u8; 4]>);

impl Ipv4Place {
    /// The longest prefix: of a network of two there is one other.
    pub const MAX_PREFIX: u8 = 30;

    /// `address` in the network that its first `prefix` bits name, which is left through `gateway`.
    ///
    /// # Errors
    /// [`OutOfRange::Address`] for a prefix that is none or beyond [`Self::MAX_PREFIX`], or an address that is no single host's
    /// in that network; [`OutOfRange::Gateway`] for a gateway that is no other host of it.
    pub fn new(
        address: Ipv4Addr,
        prefix: u8,
        gateway: Option<Ipv4Addr>,
    ) -> Result<Self, OutOfRange> {
        if prefix == 0 || prefix > Self::MAX_PREFIX {
            return Err(OutOfRange::Address);
        }
        let hosts = u32::MAX >> prefix;
        // The network itself and its broadcast address have all of these bits alike (RFC 1122, section 3.2.1.3).
        let a_host = |address: Ipv4Addr| {
            let bits = address.to_bits() & hosts;
            let special = address.is_multicast() || address.is_loopback();
            bits != 0 && bits != hosts && !special && (1..240).contains(&address.octets()[0])
        };
        if !a_host(address) {
            return Err(OutOfRange::Address);
        }
        let another_here = |gateway: Ipv4Addr| {
            a_host(gateway)
                && gateway != address
                && (gateway.to_bits() ^ address.to_bits()) & !hosts == 0
        };
        if !gateway.is_none_or(another_here) {
            return Err(OutOfRange::Gateway);
        }
        Ok(Self {
            address,
            prefix,
            gateway,
        })
    }

    /// The board's address.
    pub const fn address(self) -> Ipv4Addr {
        self.address
    }

    /// How many bits of the address are its network's, 1 to [`Self::MAX_PREFIX`].
    pub const fn prefix(self) -> u8 {
        self.prefix
    }

    /// Who forwards to other networks.
    pub const fn gateway(self) -> Option<Ipv4Addr> {
        self.gateway
    }
}

impl TryFrom<RawIpv4Place> for Ipv4Place {
    type Error = OutOfRange;

    fn try_from((address, prefix, gateway): RawIpv4Place) -> Result<Self, OutOfRange> {
        Self::new(address.into(), prefix, gateway.map(Ipv4Addr::from))
    }
}

impl From<Ipv4Place> for RawIpv4Place {
    fn from(place: Ipv4Place) -> Self {
        let gateway = place.gateway.map(|gateway| gateway.octets());
        (place.address.octets(), place.prefix, gateway)
    }
}

impl fmt::Display for Ipv4Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// A guest's network card: a port of its board's switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nic {
    /// Its address, different from every other in the cluster. It goes where the guest goes.
    pub mac: Mac,
}

/// How large a disk is: whole sectors of [`DiskSize::SECTOR_BYTES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u32")]
pub struct DiskSize(u32);

impl DiskSize {
    /// Bytes of a sector (Virtual I/O Device (VIRTIO) Version 1.2, section 5.2.4).
    pub const SECTOR_BYTES: u64 = 512;

    /// `sectors` times 512 bytes; up to 2 TiB.
    ///
    /// # Errors
    /// [`OutOfRange::DiskSize`] for none.
    pub const fn from_sectors(sectors: u32) -> Result<Self, OutOfRange> {
        if sectors == 0 {
            Err(OutOfRange::DiskSize)
        } else {
            Ok(Self(sectors))
        }
    }

    /// The least that holds `bytes`.
    ///
    /// # Errors
    /// [`OutOfRange::DiskSize`] for none or more than 2 TiB.
    pub fn holding(bytes: u64) -> Result<Self, OutOfRange> {
        let sectors = u32::try_from(bytes.div_ceil(Self::SECTOR_BYTES));
        Self::from_sectors(sectors.map_err(|_| OutOfRange::DiskSize)?)
    }

    /// The size in sectors, at least one.
    pub const fn sectors(self) -> u32 {
        self.0
    }

    /// The size in bytes.
    pub const fn bytes(self) -> u64 {
        self.0 as u64 * Self::SECTOR_BYTES
    }
}

impl TryFrom<u32> for DiskSize {
    type Error = OutOfRange;

    fn try_from(sectors: u32) -> Result<Self, OutOfRange> {
        Self::from_sectors(sectors)
    }
}

/// What a disk tells when asked who it is: 1 to 20 visible characters (VIRTIO 1.2, section 5.2.6.1, `VIRTIO_BLK_ID_BYTES`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String<{ Serial::MAX_BYTES }, u8>")]
pub struct Serial(String<{ Serial::MAX_BYTES }, u8>);

impl Serial {
    /// The longest.
    pub const MAX_BYTES: usize = 20;

    /// The serial `text`.
    ///
    /// # Errors
    /// [`OutOfRange::Serial`] for nothing, too much, or what is not visible ASCII.
    pub fn new(text: &str) -> Result<Self, OutOfRange> {
        String::try_from(text)
            .map_err(|_| OutOfRange::Serial)?
            .try_into()
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String<{ Serial::MAX_BYTES }, u8>> for Serial {
    type Error = OutOfRange;

    fn try_from(text: String<{ Serial::MAX_BYTES }, u8>) -> Result<Self, OutOfRange> {
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()) {
            Ok(Self(text))
        } else {
            Err(OutOfRange::Serial)
        }
    }
}

/// Where a disk's bytes are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Backing {
    /// An image of the package, as it was packed at every start of the guest. What the guest writes is kept beside it, in memory.
    Ephemeral {
        /// The image; behind its end the disk is zero.
        image: ImageNumber,
        /// The disk's size, no less than the image's.
        size: DiskSize,
        /// How much the guest can write before writes fail, whole blocks of memory; none for a disk that is only read.
        overlay: Option<MemoryMib>,
    },
    /// A volume on the disk of the board. It keeps what is written, and keeps the guest on that board.
    Local {
        /// The volume's name on that disk.
        volume: Name,
    },
}

/// A guest's disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// Where its bytes are.
    pub backing: Backing,
    /// Whether the guest cannot write to it.
    pub read_only: bool,
    /// Who it says it is, different from the guest's other disks.
    pub serial: Serial,
}
