//! The register block as bytes.

use super::{NO_QUEUE, QueueRegisters, Transport, status};
use crate::addr::Ipa;
use crate::device::virtio::queue::Layout;
use crate::record::codec::{Decoder, Encoder, Malformed, require};

/// The bits of a device's status that its registers keep.
const KEPT: u32 =
    status::ACKNOWLEDGE | status::DRIVER | status::DRIVER_OK | status::FEATURES_OK | status::FAILED;

impl<const QUEUES: usize> Transport<QUEUES> {
    /// Writes the registers.
    pub fn to_record(&self, to: &mut Encoder<'_>) {
        to.u64(self.offered);
        to.u32(self.status);
        to.u64(self.driver_features);
        to.u32(self.device_features_select);
        to.u32(self.driver_features_select);
        to.u32(self.queue_select);
        to.u32(self.generation);
        for queue in &self.queues {
            to.u32(queue.size);
            to.u64(queue.descriptors);
            to.u64(queue.available);
            to.u64(queue.used);
            to.bool(queue.layout.is_some());
        }
    }

    /// The registers that [`to_record`](Self::to_record) wrote, of the same kind of device as `fresh`, which is as after reset. They go on
    /// offering what the guest has seen: another version of Hearth may offer more, but not less.
    ///
    /// # Errors
    /// If no driver can have brought them to that state.
    pub fn from_record(from: &mut Decoder<'_>, fresh: Self) -> Result<Self, Malformed> {
        let mut it = fresh;
        let offered = from.u64()?;
        require(
            offered & !it.offered == 0,
            "the features that a device offers",
        )?;
        it.offered = offered;
        it.status = from.u32()?;
        it.driver_features = from.u64()?;
        it.device_features_select = from.u32()?;
        it.driver_features_select = from.u32()?;
        it.queue_select = from.u32()?;
        it.generation = from.u32()?;
        require(it.status & !KEPT == 0, "the status of a device")?;
        let has = |bit: u32| it.status & bit != 0;
        require(
            !has(status::FEATURES_OK) || it.is_acceptable(),
            "the features of a driver",
        )?;
        require(
            !has(status::DRIVER_OK) || has(status::FEATURES_OK),
            "the status of a device",
        )?;
        for queue in &mut it.queues {
            *queue = QueueRegisters::from_record(from)?;
        }
        Ok(it)
    }
}

impl QueueRegisters {
    fn from_record(from: &mut Decoder<'_>) -> Result<Self, Malformed> {
        let mut it = NO_QUEUE;
        it.size = from.u32()?;
        it.descriptors = from.u64()?;
        it.available = from.u64()?;
        it.used = from.u64()?;
        if from.bool("QueueReady")? {
            let size = u16::try_from(it.size).ok();
            let (descriptors, available) = (Ipa(it.descriptors), Ipa(it.available));
            it.layout =
                size.and_then(|size| Layout::new(size, descriptors, available, Ipa(it.used)));
            require(it.layout.is_some(), "the place of a queue")?;
        }
        Ok(it)
    }
}
