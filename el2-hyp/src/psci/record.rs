//! Which vCPUs are on, as bytes: one vCPU's state, since each has a section of its own.

use super::{Entry, VcpuPower};
use crate::addr::Ipa;
use crate::record::codec::{Decoder, Encoder, Malformed};

mod state {
    pub const OFF: u8 = 0;
    pub const ON_PENDING: u8 = 1;
    pub const ON: u8 = 2;
}

impl VcpuPower {
    /// Writes the state.
    pub fn to_record(self, to: &mut Encoder<'_>) {
        match self {
            Self::Off => to.u8(state::OFF),
            Self::OnPending(Entry { pc, context }) => {
                to.u8(state::ON_PENDING);
                to.u64(pc.0);
                to.u64(context);
            }
            Self::On => to.u8(state::ON),
        }
    }

    /// The state that [`to_record`](Self::to_record) wrote.
    ///
    /// # Errors
    /// If it is none.
    pub fn from_record(from: &mut Decoder<'_>) -> Result<Self, Malformed> {
        match from.u8()? {
            state::OFF => Ok(Self::Off),
            state::ON_PENDING => Ok(Self::OnPending(Entry {
                pc: Ipa(from.u64()?),
                context: from.u64()?,
            })),
            state::ON => Ok(Self::On),
            _ => Err(Malformed::Value("the power state of a vCPU")),
        }
    }
}
