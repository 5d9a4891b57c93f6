//! A network card as bytes. No frame is under way while nobody serves it: what it could not send yet is still first in its queue.

use super::{
    CONTROL, Control, RECEIVE, Receive, TRANSMIT, Transmit, control, feature, taken_by_device,
    taken_by_driver,
};
use crate::device::virtio::queue::Queue;
use crate::device::virtio::transport::Transport;
use crate::frame::Mac;
use crate::record::codec::{Decoder, Encoder, Malformed, require};

/// The three values of a card.
pub struct Parts {
    /// Registers, configuration and the control queue.
    pub control: Control,
    /// What the guest sends.
    pub transmit: Transmit,
    /// What it gets.
    pub receive: Receive,
}

/// Writes a card.
pub fn to_record(control: &Control, transmit: &Transmit, receive: &Receive, to: &mut Encoder<'_>) {
    to.bytes(&control.mac().0);
    to.bool(control.is_announcing());
    control.transport.to_record(to);
    control.queue.to_record(0, to);
    transmit.queue.to_record(0, to);
    receive.queue.to_record(0, to);
    to.bool(receive.asked);
}

impl Parts {
    /// The card that [`to_record`] wrote. Its transmit queue is to be served once.
    ///
    /// # Errors
    /// If no card can be so.
    pub fn from_record(from: &mut Decoder<'_>) -> Result<Self, Malformed> {
        let mut control = Control::new(Mac(from.array()?));
        if from.bool("whether a card announces its guest")? {
            control.config[control::STATUS_AT] |= control::ANNOUNCE;
        }
        control.transport = Transport::from_record(from, control.transport)?;
        let transport = &control.transport;
        let features = transport.features();
        let can_announce = features & feature::GUEST_ANNOUNCE != 0 && transport.is_running();
        require(
            can_announce || !control.is_announcing(),
            "whether a card announces its guest",
        )?;
        control.queue = Queue::from_record(from, transport, CONTROL)?;
        let mut transmit = Transmit::new();
        transmit.queue = Queue::from_record(from, transport, TRANSMIT)?;
        transmit.taken = taken_by_device(features);
        let mut receive = Receive::new();
        receive.queue = Queue::from_record(from, transport, RECEIVE)?;
        receive.taken = taken_by_driver(features);
        receive.merges = features & feature::MRG_RXBUF != 0;
        receive.asked = from.bool("whether a driver was asked not to notify")?;
        Ok(Self {
            control,
            transmit,
            receive,
        })
    }
}
