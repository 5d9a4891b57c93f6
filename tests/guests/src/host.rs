//! A small host on the network, by interrupts: it answers ARP, ping, UDP, and frames of the guests' own kind.
//!
//! What it sends back is what came, with the addresses turned round; what a datagram is answered with may be up to a [`Service`].

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use virtio_drivers::transport::DeviceType;

use crate::virtio::net::{Card, FRAME, Mac};
use crate::{Machine, console, exception, gic, mmio, timer, traffic, virtio};

/// Between looks at the console, microseconds.
const LOOK_US: u64 = 100_000;
/// Frames that are looked at in one go.
const BATCH: usize = 32;

/// IEEE 802 types.
const ARP: [u8; 2] = [0x08, 0x06];
const IPV4: [u8; 2] = [0x08, 0x00];
/// Protocols of IPv4.
const ICMP: u8 = 1;
const UDP: u8 = 17;
/// An Ethernet, an IPv4 and a UDP header.
const ETHERNET: usize = 14;
const IP: usize = 20;
const HEADS: usize = ETHERNET + IP + 8;

/// The card's interrupt, and its registers.
static CARD_INTERRUPT: AtomicU64 = AtomicU64::new(0);
static CARD_BASE: AtomicU64 = AtomicU64::new(0);
/// The card's interrupt came since it was looked at, and how often in all.
static CALLED: AtomicBool = AtomicBool::new(false);
static CALLS: AtomicU64 = AtomicU64::new(0);

/// Offsets of the registers that tell why the card interrupts, and end that (VIRTIO 1.2, section 4.2.2).
const INTERRUPT_STATUS: usize = 0x60;
const INTERRUPT_ACK: usize = 0x64;

/// What answers datagrams.
pub trait Service {
    /// Writes the answer to a datagram for this port, which is as long as `question`; gives how long the answer is, or `None` for silence.
    fn answer(&mut self, port: u16, question: &[u8], answer: &mut [u8]) -> Option<usize>;
}

/// What a host did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Done {
    /// Frames that it answered.
    pub answered: u64,
    /// Interrupts of its card.
    pub interrupts: u64,
}

/// A host.
pub struct Host<'s> {
    card: Card,
    mac: Mac,
    ip: [u8; 4],
    /// Answers datagrams; without it they are sent back.
    service: Option<&'s mut dyn Service>,
}

impl<'s> Host<'s> {
    /// The host on the machine's first card, with the address that the parameter `ip=` gives. `None` without a card.
    pub fn open(machine: &'static Machine, service: Option<&'s mut dyn Service>) -> Option<Self> {
        let (slot, device) = virtio::devices(machine, DeviceType::Network).next()?;
        let card = Card::open(slot, device)?;
        let slot = card.slot();
        CARD_INTERRUPT.store(slot.interrupt.into(), Ordering::Relaxed);
        CARD_BASE.store(slot.base as u64, Ordering::Relaxed);
        Some(Self {
            mac: card.mac(),
            ip: machine
                .text("ip")
                .and_then(address)
                .unwrap_or([10, 0, 2, 15]),
            card,
            service,
        })
    }

    /// Its address.
    pub fn ip(&self) -> [u8; 4] {
        self.ip
    }

    /// Tells everybody where it is, as a host that comes up does: an ARP request for its own address (RFC 5227, section 3).
    pub fn announce(&mut self) {
        let (mac, ip) = (self.mac, self.ip);
        self.card.put(60, |frame| {
            frame.fill(0);
            frame[..6].fill(0xff);
            frame[6..12].copy_from_slice(&mac);
            frame[12..14].copy_from_slice(&ARP);
            frame[14..22].copy_from_slice(&[0, 1, 8, 0, 6, 4, 0, 1]);
            frame[22..28].copy_from_slice(&mac);
            frame[28..32].copy_from_slice(&ip);
            frame[38..42].copy_from_slice(&ip);
        });
        self.card.kick();
    }

    /// Answers until a `q` comes on the console, or so many frames were answered.
    pub fn serve(&mut self, limit: u64) -> Done {
        let slot = self.card.slot();
        exception::set_irq_handler(handler);
        gic::set_target(slot.interrupt, 0);
        gic::enable(slot.interrupt);
        gic::enable(timer::VIRTUAL_PPI);
        self.card.interrupt(true);
        exception::unmask_interrupts();
        let mut answered = 0;
        while answered < limit && console::get() != Some(b'q') {
            timer::arm_virtual(timer::now() + timer::micros(LOOK_US));
            exception::park_until(|| CALLED.load(Ordering::Relaxed));
            CALLED.store(false, Ordering::Relaxed);
            self.card.interrupt(false);
            loop {
                let news = self.look();
                answered += news.1;
                if news.0 < BATCH {
                    self.card.interrupt(true);
                    // What came before the wish was seen does not interrupt.
                    let late = self.look();
                    answered += late.1;
                    if late.0 == 0 {
                        break;
                    }
                }
            }
        }
        exception::mask_interrupts();
        Done {
            answered,
            interrupts: CALLS.load(Ordering::Relaxed),
        }
    }

    /// Looks at a batch of frames; gives how many there were, and how many were answered.
    fn look(&mut self) -> (usize, u64) {
        let mut frames = [([0; FRAME], 0); 4];
        let (mut seen, mut answered) = (0, 0);
        // A few at a time: the card is borrowed while it shows frames.
        while seen < BATCH {
            let mut count = 0;
            let shown = self.card.receive(frames.len(), |frame| {
                let (copy, length) = &mut frames[count];
                let fits = frame.len() <= FRAME;
                if fits {
                    copy[..frame.len()].copy_from_slice(frame);
                }
                *length = if fits { frame.len() } else { 0 };
                count += 1;
            });
            for (frame, length) in &mut frames[..count] {
                if let Some(length) = self.turn(frame, *length)
                    && self
                        .card
                        .put(length, |room| room.copy_from_slice(&frame[..length]))
                {
                    answered += 1;
                }
            }
            self.card.kick();
            seen += shown;
            if shown < frames.len() {
                break;
            }
        }
        (seen, answered)
    }

    /// Makes the answer out of a frame, and gives its length; `None` for one that is not answered.
    fn turn(&mut self, frame: &mut [u8; FRAME], length: usize) -> Option<usize> {
        let kind: [u8; 2] = frame[..length].get(12..14)?.try_into().ok()?;
        let to: Mac = frame[..6].try_into().ok()?;
        if to != self.mac && kind != ARP {
            return None;
        }
        let length = match kind {
            ARP => {
                self.turn_arp(frame[..length].get_mut(14..42)?)?;
                length
            }
            IPV4 => self.turn_ipv4(frame, length)?,
            traffic::TYPE => length,
            _ => return None,
        };
        frame.copy_within(6..12, 0);
        frame[6..12].copy_from_slice(&self.mac);
        Some(length)
    }

    /// RFC 826: Ethernet, IPv4, a request for this address.
    fn turn_arp(&self, packet: &mut [u8]) -> Option<()> {
        if packet[..8] != [0, 1, 8, 0, 6, 4, 0, 1] || packet[24..28] != self.ip {
            return None;
        }
        packet[7] = 2;
        packet.copy_within(8..18, 18);
        packet[8..14].copy_from_slice(&self.mac);
        packet[14..18].copy_from_slice(&self.ip);
        Some(())
    }

    /// RFC 791: whole packets for this address. No sum changes when addresses or ports change places.
    fn turn_ipv4(&mut self, frame: &mut [u8; FRAME], length: usize) -> Option<usize> {
        let packet = &mut frame[ETHERNET..length];
        if packet.len() < IP + 8 || packet[0] != 0x45 || packet[16..20] != self.ip {
            return None;
        }
        let is_fragment = packet[6] & 0x3f != 0 || packet[7] != 0;
        match packet[9] {
            _ if is_fragment => return None,
            // RFC 792: an echo request becomes the reply; the sum is of what the type's change leaves.
            ICMP if packet[20] == 8 => {
                packet[20] = 0;
                let sum = u16::from_be_bytes([packet[22], packet[23]]);
                let (sum, carry) = sum.overflowing_add(0x0800);
                packet[22..24].copy_from_slice(&(sum + u16::from(carry)).to_be_bytes());
            }
            UDP => {
                turn_pair(&mut packet[20..24], 2);
                turn_pair(&mut packet[12..20], 4);
                return match &mut self.service {
                    Some(service) => serve(*service, frame, length),
                    None => Some(length),
                };
            }
            _ => return None,
        }
        turn_pair(&mut packet[12..20], 4);
        Some(length)
    }
}

/// Writes the service's answer into a frame whose addresses and ports are turned already. A damaged datagram is not answered.
fn serve(service: &mut dyn Service, frame: &mut [u8; FRAME], length: usize) -> Option<usize> {
    let word = |frame: &[u8; FRAME], at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    let udp = usize::from(word(frame, ETHERNET + IP + 4));
    let end = ETHERNET + IP + udp;
    // A sum of zero says that there is none (RFC 768).
    let summed = word(frame, ETHERNET + IP + 6) != 0;
    if udp < 8 || end > length || (summed && udp_sum(&frame[ETHERNET..end]) != 0xffff) {
        return None;
    }
    let mut question = [0; FRAME];
    let question = &mut question[..udp - 8];
    question.copy_from_slice(&frame[HEADS..end]);
    let port = word(frame, ETHERNET + IP);
    let written = service.answer(port, question, &mut frame[HEADS..])?;
    let end = HEADS + written;
    for (at, value) in [
        (ETHERNET + 2, IP + 8 + written),
        (ETHERNET + 10, 0),
        (ETHERNET + IP + 4, 8 + written),
        (ETHERNET + IP + 6, 0),
    ] {
        // All of it fits a frame.
        frame[at..at + 2].copy_from_slice(&(value as u16).to_be_bytes());
    }
    let head = !sum(0, &frame[ETHERNET..ETHERNET + IP]);
    frame[ETHERNET + 10..ETHERNET + 12].copy_from_slice(&head.to_be_bytes());
    let whole = match !udp_sum(&frame[ETHERNET..end]) {
        0 => 0xffff,
        sum => sum,
    };
    frame[ETHERNET + IP + 6..HEADS].copy_from_slice(&whole.to_be_bytes());
    Some(end.max(60))
}

/// The sum over a packet's datagram and its pseudo header (RFC 768).
fn udp_sum(packet: &[u8]) -> u16 {
    let length = (packet.len() - IP) as u32;
    sum(
        sum(length + u32::from(UDP), &packet[12..20]).into(),
        &packet[IP..],
    )
}

/// The Internet's sum (RFC 1071), on top of what was summed before.
fn sum(before: u32, bytes: &[u8]) -> u16 {
    let words = bytes
        .chunks(2)
        .map(|word| u32::from(word[0]) << 8 | word.get(1).map_or(0, |low| u32::from(*low)));
    let mut sum = before + words.sum::<u32>();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// Four decimal numbers.
fn address(text: &str) -> Option<[u8; 4]> {
    let mut address = [0; 4];
    let mut words = text.split('.');
    for byte in &mut address {
        *byte = words.next()?.parse().ok()?;
    }
    words.next().is_none().then_some(address)
}

fn handler() {
    let id = gic::acknowledge();
    if u64::from(id) == CARD_INTERRUPT.load(Ordering::Relaxed) {
        let base = CARD_BASE.load(Ordering::Relaxed) as usize;
        mmio::write32(base + INTERRUPT_ACK, mmio::read32(base + INTERRUPT_STATUS));
        CALLS.fetch_add(1, Ordering::Relaxed);
    } else {
        timer::disarm_virtual();
    }
    CALLED.store(true, Ordering::Relaxed);
    gic::end(id);
}

/// Lets two fields of `bytes` bytes each change places.
fn turn_pair(fields: &mut [u8], bytes: usize) {
    let (one, other) = fields.split_at_mut(bytes);
    one.swap_with_slice(other);
}
