//! The network card (VIRTIO 1.2, section 5.1): one pair of queues and a control queue.
//!
//! A card comes in three values, so that its two directions can have locks of their own:
//! - [`Control`]: registers, configuration and the control queue. - [`Transmit`]: what the guest sends. - [`Receive`]: what it gets.
//!
//! Its [`Signals`](super::signals::Signals) are shared by the three. The owner's part, with the locks in the order control, transmit, receive:
//!
//! ```text
//! register write:  match control.write(memory, offset, width, value, &signals) {
//!                      Written::Notify(TRANSMIT) => serve,
//!                      Written::Nothing | Written::Notify(_) | Written::Config { .. } => {}
//!                      changed => control.carry_out(changed, &mut transmit, &mut receive, &signals),
//!                  }
//! serve:           transmit.serve(memory, budget, |frame| …) ─► Progress: all done, more to do, or waiting for room
//!                  uplink.flush(), and for each card that got a frame, this one included:
//!                  if half.should_interrupt(memory)? { signals.used() }
//! a frame:         receive.deliver(memory, frame)
//! an error:        signals.fail(): the driver broke a rule of the queue, which stands still until it resets the card
//! ```
//!
//! A notification of the receive queue needs no answer: new buffers are found when a frame comes. A guest's transmit queue that waits for
//! room is served again when [`Uplink::next_waiting`](crate::switch::Uplink::next_waiting) names its port.
//!
//! **Arrival.** After a guest was moved here, the switches of the network still send its frames to where it was. [`Control::announce`] asks
//! the guest to speak up (VIRTIO 1.2, section 5.1.6.5.4): its driver sends gratuitous ARP and neighbour advertisements from its own
//! address, as an ordinary broadcast that each switch learns from, and then confirms. Where the driver did not negotiate that,
//! `announce` says so, and the board sends a frame in its name.

mod control;
mod receive;
pub mod record;
#[cfg(test)]
mod tests;
mod transmit;

pub use control::Control;
pub use receive::{Delivered, MAX_MERGED, Receive};
pub use transmit::{Progress, Sent, Transmit};

use crate::frame::Taken;

/// The queues, by index (section 5.1.2).
pub const RECEIVE: u16 = 0;
/// See [`RECEIVE`].
pub const TRANSMIT: u16 = 1;
/// See [`RECEIVE`].
pub const CONTROL: u16 = 2;
/// How many there are.
pub const QUEUES: usize = 3;

/// Feature bits (section 5.1.3).
pub mod feature {
    /// The device fills in checksums.
    pub const CSUM: u64 = 1 << 0;
    /// The driver takes frames without them.
    pub const GUEST_CSUM: u64 = 1 << 1;
    /// The configuration has the largest packet.
    pub const MTU: u64 = 1 << 3;
    /// The configuration has the address.
    pub const MAC: u64 = 1 << 5;
    /// The driver takes uncut TCP over IPv4.
    pub const GUEST_TSO4: u64 = 1 << 7;
    /// The driver takes uncut TCP over IPv6.
    pub const GUEST_TSO6: u64 = 1 << 8;
    /// The device cuts TCP over IPv4.
    pub const HOST_TSO4: u64 = 1 << 11;
    /// The device cuts TCP over IPv6.
    pub const HOST_TSO6: u64 = 1 << 12;
    /// A frame may be put into several buffers.
    pub const MRG_RXBUF: u64 = 1 << 15;
    /// The configuration has the state of the link.
    pub const STATUS: u64 = 1 << 16;
    /// There is a control queue.
    pub const CTRL_VQ: u64 = 1 << 17;
    /// The driver announces the guest when it is asked.
    pub const GUEST_ANNOUNCE: u64 = 1 << 21;
    /// All that this device offers.
    pub const OFFERED: u64 = CSUM
        | GUEST_CSUM
        | MTU
        | MAC
        | GUEST_TSO4
        | GUEST_TSO6
        | HOST_TSO4
        | HOST_TSO6
        | MRG_RXBUF
        | STATUS
        | CTRL_VQ
        | GUEST_ANNOUNCE;

    /// Whether what a driver chose goes together (section 5.1.3.1). STATUS for announcements is ours to ask for: the bit is in its field.
    pub(super) fn accepts(chosen: u64) -> bool {
        let has = |feature: u64| chosen & feature != 0;
        let needs = |feature, other| !has(feature) || has(other);
        needs(GUEST_TSO4 | GUEST_TSO6, GUEST_CSUM)
            && needs(HOST_TSO4 | HOST_TSO6, CSUM)
            && needs(GUEST_ANNOUNCE, CTRL_VQ)
    }
}

/// What the device takes from a driver that chose `features`.
fn taken_by_device(features: u64) -> Taken {
    Taken {
        checksum: features & feature::CSUM != 0,
        tcp4: features & feature::HOST_TSO4 != 0,
        tcp6: features & feature::HOST_TSO6 != 0,
    }
}

/// What a driver that chose `features` takes.
fn taken_by_driver(features: u64) -> Taken {
    Taken {
        checksum: features & feature::GUEST_CSUM != 0,
        tcp4: features & feature::GUEST_TSO4 != 0,
        tcp6: features & feature::GUEST_TSO6 != 0,
    }
}
