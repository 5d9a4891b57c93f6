//! The interrupt controller as bytes.
//!
//! What a guest can see of it, and no more: each interrupt's configuration and state, the senders of a GICv2's SGIs, routes, and whose an SPI is that
//! was acknowledged. What is listed has been folded before: no virtual processor is loaded. What follows from that (which interrupts belong into list
//! registers) is worked out anew by the reader.

use super::ids::{
    FIRST_SPI, INTIDS, Intid, MappedInterrupt, Priority, VcpuId, VcpuMask, Version, WORDS,
};
use super::model::{NOBODY, ROUTE_BITS, Vgic, bank};
use super::state::{Bank, READY};
use crate::record::codec::{Decoder, Encoder, Malformed, require};

/// SGIs, which are edge-triggered; PPIs are level-sensitive.
const SGIS: u32 = 0xffff;

impl Vgic {
    /// Writes the controller.
    ///
    /// # Panics
    /// If something is listed: some virtual processor is loaded.
    pub fn to_record(&self, to: &mut Encoder<'_>) {
        let idle = self.cpus.iter().all(|cpu| cpu.used | cpu.vacated == 0);
        assert!(idle, "a virtual processor is loaded");
        for on in self.group_on {
            to.bool(on != 0);
        }
        for vcpu in self.everyone() {
            self.banks[bank(vcpu, 0)].encode(to);
            self.encode_own(vcpu, to);
        }
        for word in 1..WORDS {
            let bank = &self.banks[bank(VcpuId::wrap(0), word)];
            bank.encode(to);
            to.u32(bank.edge);
        }
        for intid in spis() {
            to.u64(self.route(intid));
            to.u8(self
                .owner(VcpuId::wrap(0), intid)
                .map_or(NOBODY, |owner| owner.index() as u8));
        }
    }

    /// What a virtual processor has beside its bank.
    fn encode_own(&self, vcpu: VcpuId, to: &mut Encoder<'_>) {
        let cpu = &self.cpus[vcpu.index()];
        to.bool(cpu.mapped.pending);
        to.bool(cpu.mapped.active);
        match self.version {
            Version::V2 => {
                to.bytes(&cpu.sources);
                cpu.in_service
                    .iter()
                    .for_each(|sender| to.u8(sender.index() as u8));
            }
            Version::V3 => to.bool(cpu.asleep),
        }
    }

    /// The controller of `vcpus` virtual processors that [`to_record`](Self::to_record) wrote, on a board with this mapped interrupt.
    ///
    /// # Errors
    /// If no controller can be as the bytes say.
    pub fn from_record(
        from: &mut Decoder<'_>,
        version: Version,
        vcpus: usize,
        mapped: MappedInterrupt,
    ) -> Result<Self, Malformed> {
        let mut vgic = Self::new(version, vcpus, mapped)
            .map_err(|_| Malformed::Value("the number of vCPUs"))?;
        for on in &mut vgic.group_on {
            *on = if from.bool("GICD_CTLR")? { u32::MAX } else { 0 };
        }
        for vcpu in vgic.everyone() {
            let bank = &mut vgic.banks[bank(vcpu, 0)];
            bank.decode(from)?;
            bank.edge = SGIS;
            let no_line = SGIS | mapped.virtual_intid.bit();
            require(bank.line & no_line == 0, "the line of an SGI or the timer")?;
            vgic.decode_own(vcpu, from)?;
        }
        for word in 1..WORDS {
            let bank = &mut vgic.banks[bank(VcpuId::wrap(0), word)];
            bank.decode(from)?;
            bank.edge = from.u32()?;
        }
        for intid in spis() {
            vgic.decode_route(intid, from)?;
        }
        vgic.work_out();
        Ok(vgic)
    }

    fn decode_own(&mut self, vcpu: VcpuId, from: &mut Decoder<'_>) -> Result<(), Malformed> {
        let everyone = self.everyone();
        let bank = &self.banks[bank(vcpu, 0)];
        let cpu = &mut self.cpus[vcpu.index()];
        cpu.mapped.pending = from.bool("the timer's pending state")?;
        cpu.mapped.active = from.bool("the timer's active state")?;
        let bit = self.mapped.virtual_intid.bit();
        let held = |holds: bool, by: u32| !holds || by & bit != 0;
        let sound = held(cpu.mapped.pending, bank.latch) && held(cpu.mapped.active, bank.active);
        require(sound, "the timer's state")?;
        if self.version == Version::V3 {
            cpu.asleep = from.bool("GICR_WAKER")?;
            return Ok(());
        }
        cpu.sources = from.array()?;
        for (sgi, senders) in cpu.sources.iter().enumerate() {
            let waits = bank.latch >> sgi & 1 != 0;
            require(waits == (*senders != 0), "the senders of an SGI")?;
            require(
                VcpuMask(*senders) & everyone == VcpuMask(*senders),
                "a sender of an SGI",
            )?;
        }
        for sender in &mut cpu.in_service {
            let number = usize::from(from.u8()?);
            *sender = VcpuId::new(number)
                .filter(|sender| everyone.contains(*sender))
                .ok_or(Malformed::Value("the sender of an SGI"))?;
        }
        Ok(())
    }

    /// An SPI's route, and whose it is.
    fn decode_route(&mut self, intid: Intid, from: &mut Decoder<'_>) -> Result<(), Malformed> {
        let (route, owner) = (from.u64()?, from.u8()?);
        let implemented = match self.version {
            Version::V2 => u64::from(self.everyone().0),
            Version::V3 => ROUTE_BITS,
        };
        require(route & !implemented == 0, "the route of an interrupt")?;
        require(
            owner == NOBODY || usize::from(owner) < self.vcpus(),
            "the owner of an interrupt",
        )?;
        self.place_spi(intid, route, owner);
        Ok(())
    }

    /// What follows from the state of all interrupts.
    fn work_out(&mut self) {
        for intid in spis() {
            self.settle(intid);
        }
        for vcpu in self.everyone() {
            for word in 0..WORDS {
                self.touch(vcpu, word, u32::MAX);
            }
            self.cpus[vcpu.index()].attention = READY;
        }
    }
}

fn spis() -> impl Iterator<Item = Intid> {
    (FIRST_SPI..INTIDS as u32).map(Intid::wrap)
}

impl Bank {
    /// All but `edge`, which only SPIs have to choose, and what concerns list registers.
    fn encode(&self, to: &mut Encoder<'_>) {
        for word in [
            self.enabled,
            self.latch,
            self.line,
            self.active,
            self.group1,
        ] {
            to.u32(word);
        }
        to.bytes(&self.priority);
    }

    fn decode(&mut self, from: &mut Decoder<'_>) -> Result<(), Malformed> {
        for word in [
            &mut self.enabled,
            &mut self.latch,
            &mut self.line,
            &mut self.active,
            &mut self.group1,
        ] {
            *word = from.u32()?;
        }
        self.priority = from.array()?;
        let sound = |byte: &u8| Priority::from_byte(*byte).byte() == *byte;
        require(self.priority.iter().all(sound), "a priority")
    }
}
