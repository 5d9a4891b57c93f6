//! What guest a record is of, and what it needs of a board. Compared before anything else is read.

use core::fmt;

use heapless::Vec;

use super::codec::{Decoder, Encoder, Malformed, require};
use super::vcpu::Aarch32;
use crate::addr::BLOCK_2M;
use crate::device::virtio::DeviceId;
use crate::idregs::{self, IdRegisters};
use crate::machine;
use crate::psci::MAX_VCPUS;
use crate::vgic::Version;

/// The first bytes of a record.
pub const MAGIC: [u8; 8] = *b"HEARTHGR";
/// The version of this format.
pub const FORMAT: u16 = 4;
/// Most RAM of a guest: what an IPA of 39 bits reaches.
const MAX_RAM: u64 = (1 << 39) - machine::RAM_BASE;

/// What a guest has seen of the processor. It must find the same again: Linux looks once, when it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// MIDR_EL1: which core, and so which errata a guest works around.
    pub midr: u64,
    /// CTR_EL0: the lines of the caches, by which a guest maintains them.
    pub ctr: u64,
    /// DCZID_EL0: how much a guest zeroes with one instruction.
    pub dczid: u64,
    /// The ID registers as guests see them.
    pub id: IdRegisters,
}

impl Identity {
    /// Whether EL0 may run 32-bit instructions (ID_AA64PFR0_EL1.EL0).
    pub fn aarch32(&self) -> Aarch32 {
        aarch32(&self.id)
    }
}

/// Whether EL0 may run 32-bit instructions, by what a guest sees (ID_AA64PFR0_EL1.EL0).
pub fn aarch32(id: &IdRegisters) -> Aarch32 {
    const PFR0: usize = (4 - 1) * 8;
    if id.read(PFR0) & 15 == 2 {
        Aarch32::AtEl0
    } else {
        Aarch32::No
    }
}

/// The kinds of devices in the virtio slots, from the first on.
pub type Slots = Vec<DeviceId, { machine::VIRTIO_SLOTS as usize }>;

/// The header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The interrupt controller that the guest has.
    pub gic: Version,
    /// Registers of active priorities of each group that its CPU interfaces had.
    pub priority_registers: u8,
    /// How many vCPUs it has.
    pub vcpus: u8,
    /// Bytes of its RAM.
    pub ram: u64,
    /// Ticks of its counter in a second.
    pub frequency: u32,
    /// What it has seen of the processor.
    pub identity: Identity,
    /// Its virtio devices.
    pub slots: Slots,
}

/// What a board has for a guest.
#[derive(Clone, Debug)]
pub struct Board<'a> {
    /// The interrupt controller that its guests see.
    pub gic: Version,
    /// Registers of active priorities of each group.
    pub priority_registers: u8,
    /// Bytes of memory for the guest's RAM.
    pub memory: u64,
    /// Ticks of its counter in a second.
    pub frequency: u32,
    /// What its guests see of the processor.
    pub identity: &'a Identity,
}

/// Why a board cannot host a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The guest has another kind of interrupt controller than this board's guests.
    Gic,
    /// The guest's interrupts have more levels of priority.
    Priorities,
    /// The counter runs at another speed: what the guest's has, and the board's.
    Frequency(u32, u32),
    /// The processor is another one.
    Processor,
    /// The processor is the same, and shows other features.
    Features,
    /// There is not enough memory: bytes that are needed, and there are.
    Memory(u64, u64),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gic => f.write_str("its interrupt controller is of the other kind"),
            Self::Priorities => {
                f.write_str("its interrupts have more levels of priority than this board's")
            }
            Self::Frequency(guest, board) => {
                write!(
                    f,
                    "its counter runs at {guest} Hz, this board's at {board} Hz"
                )
            }
            Self::Processor => f.write_str("its processor is another model"),
            Self::Features => f.write_str("its processor has other features"),
            Self::Memory(needed, there) => write!(
                f,
                "it needs {} MiB of memory, and there are {} MiB",
                needed >> 20,
                there >> 20
            ),
        }
    }
}

impl Header {
    /// Whether `board` can host the guest.
    ///
    /// # Errors
    /// Why not.
    pub fn fits(&self, board: &Board<'_>) -> Result<(), Refused> {
        let (own, its) = (&self.identity, board.identity);
        if self.gic != board.gic {
            Err(Refused::Gic)
        } else if self.priority_registers > board.priority_registers {
            Err(Refused::Priorities)
        } else if self.frequency != board.frequency {
            Err(Refused::Frequency(self.frequency, board.frequency))
        } else if (own.midr, own.ctr, own.dczid) != (its.midr, its.ctr, its.dczid) {
            Err(Refused::Processor)
        } else if own.id != its.id {
            Err(Refused::Features)
        } else if self.ram > board.memory {
            Err(Refused::Memory(self.ram, board.memory))
        } else {
            Ok(())
        }
    }

    /// How many pages of RAM there are.
    pub fn pages(&self) -> u32 {
        (self.ram / crate::addr::PAGE_SIZE) as u32
    }

    /// Writes the header.
    pub fn to_record(&self, to: &mut Encoder<'_>) {
        to.bytes(&MAGIC);
        to.u16(FORMAT);
        to.u16(machine::VERSION);
        to.u8(match self.gic {
            Version::V2 => 2,
            Version::V3 => 3,
        });
        to.u8(self.priority_registers);
        to.u8(self.vcpus);
        to.u64(self.ram);
        to.u32(self.frequency);
        to.u64(self.identity.midr);
        to.u64(self.identity.ctr);
        to.u64(self.identity.dczid);
        (0..idregs::REGISTERS).for_each(|index| to.u64(self.identity.id.read(index)));
        to.u8(self.slots.len() as u8);
        self.slots.iter().for_each(|device| to.u8(*device as u8));
    }

    /// The header that [`to_record`](Self::to_record) wrote.
    ///
    /// # Errors
    /// If it is none, or one of another version.
    pub fn from_record(from: &mut Decoder<'_>) -> Result<Self, Malformed> {
        require(from.array()? == MAGIC, "the first bytes of a record")?;
        require(from.u16()? == FORMAT, "the version of the format")?;
        require(
            from.u16()? == machine::VERSION,
            "the version of the guest machine",
        )?;
        let gic = match from.u8()? {
            2 => Version::V2,
            3 => Version::V3,
            _ => return Err(Malformed::Value("the kind of interrupt controller")),
        };
        let priority_registers = from.u8()?;
        require(
            matches!(priority_registers, 1 | 2 | 4),
            "the levels of priority",
        )?;
        let vcpus = from.u8()?;
        require(
            (1..=MAX_VCPUS).contains(&vcpus.into()),
            "the number of vCPUs",
        )?;
        let ram = from.u64()?;
        let whole = ram > 0 && ram <= MAX_RAM && ram.is_multiple_of(BLOCK_2M);
        require(whole, "the size of RAM")?;
        let frequency = from.u32()?;
        require(frequency > 0, "the speed of the counter")?;
        let (midr, ctr, dczid) = (from.u64()?, from.u64()?, from.u64()?);
        let mut values = [0; idregs::REGISTERS];
        for value in &mut values {
            *value = from.u64()?;
        }
        let identity = Identity {
            midr,
            ctr,
            dczid,
            id: IdRegisters::from_values(values),
        };
        let mut slots = Slots::new();
        for _ in 0..from.u8()? {
            let device = DeviceId::from_number(from.u8()?)
                .ok_or(Malformed::Value("the kind of a device"))?;
            slots
                .push(device)
                .map_err(|_| Malformed::Value("the number of devices"))?;
        }
        Ok(Self {
            gic,
            priority_registers,
            vcpus,
            ram,
            frequency,
            identity,
            slots,
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub fn header(gic: Version, vcpus: u8, slots: &[DeviceId]) -> Header {
        Header {
            gic,
            priority_registers: 1,
            vcpus,
            ram: 4 << 20,
            frequency: 62_500_000,
            identity: Identity {
                midr: 0x410f_d083,
                ctr: 0x8444_c004,
                dczid: 4,
                id: IdRegisters::new(|index| index as u64 * 0x1111, gic),
            },
            slots: Slots::from_slice(slots).unwrap(),
        }
    }

    fn encode(header: &Header) -> std::vec::Vec<u8> {
        let mut bytes = vec![0; 1024];
        let mut encoder = Encoder::new(&mut bytes);
        header.to_record(&mut encoder);
        let length = encoder.finish().unwrap();
        bytes.truncate(length);
        bytes
    }

    proptest! {
        #[test]
        fn a_header_comes_back(
            v3: bool, vcpus in 1..=8_u8, blocks in 1..1000_u64, frequency in 1..u32::MAX, midr: u64,
            slots in prop::collection::vec(prop::sample::select(vec![DeviceId::Network, DeviceId::Block, DeviceId::Console, DeviceId::Entropy]), 0..=32)
        ) {
            let gic = if v3 { Version::V3 } else { Version::V2 };
            let mut it = header(gic, vcpus, &slots);
            (it.ram, it.frequency, it.identity.midr) = (blocks * BLOCK_2M, frequency, midr);
            let bytes = encode(&it);
            prop_assert_eq!(Header::from_record(&mut Decoder::new(&bytes)), Ok(it));
        }

        #[test]
        fn damage_is_refused_or_a_header(at: prop::sample::Index, byte: u8) {
            let mut bytes = encode(&header(Version::V2, 2, &[DeviceId::Block]));
            bytes[at.index(500)] = byte;
            if let Ok(header) = Header::from_record(&mut Decoder::new(&bytes)) {
                let again = encode(&header);
                prop_assert_eq!(&again[..], &bytes[..again.len()]);
            }
        }
    }

    #[test]
    fn it_looks_like_this() {
        let bytes = encode(&header(Version::V2, 2, &[DeviceId::Network]));
        assert_eq!(bytes[..15], *b"HEARTHGR\x04\0\x02\0\x02\x01\x02");
        assert_eq!(bytes.len(), 501);
        assert_eq!(bytes[499..], [1, 1]);
        for (at, what) in [
            (0, "the first bytes of a record"),
            (8, "the version of the format"),
            (10, "the version of the guest machine"),
            (12, "the kind of interrupt controller"),
            (13, "the levels of priority"),
            (14, "the number of vCPUs"),
            (15, "the size of RAM"),
            (500, "the kind of a device"),
        ] {
            let mut wrong = bytes.clone();
            wrong[at] = 9;
            let read = Header::from_record(&mut Decoder::new(&wrong));
            assert_eq!(read, Err(Malformed::Value(what)));
        }
    }

    #[test]
    fn a_board_that_cannot_says_why() {
        let guest = header(Version::V2, 1, &[]);
        let same = guest.identity.clone();
        let board = Board {
            gic: Version::V2,
            priority_registers: 1,
            memory: 4 << 20,
            frequency: 62_500_000,
            identity: &same,
        };
        assert_eq!(guest.fits(&board), Ok(()));
        let mut other = same.clone();
        other.midr += 1;
        let mut more = same.clone();
        more.id = IdRegisters::new(|_| u64::MAX, Version::V2);
        for (board, why) in [
            (
                Board {
                    gic: Version::V3,
                    ..board.clone()
                },
                Refused::Gic,
            ),
            (
                Board {
                    frequency: 54_000_000,
                    ..board.clone()
                },
                Refused::Frequency(62_500_000, 54_000_000),
            ),
            (
                Board {
                    identity: &other,
                    ..board.clone()
                },
                Refused::Processor,
            ),
            (
                Board {
                    identity: &more,
                    ..board.clone()
                },
                Refused::Features,
            ),
            (
                Board {
                    memory: 2 << 20,
                    ..board.clone()
                },
                Refused::Memory(4 << 20, 2 << 20),
            ),
        ] {
            assert_eq!(guest.fits(&board), Err(why));
            assert!(!std::string::ToString::to_string(&why).is_empty());
        }
        let finer = Header {
            priority_registers: 4,
            ..guest
        };
        assert_eq!(finer.fits(&board), Err(Refused::Priorities));
    }
}
