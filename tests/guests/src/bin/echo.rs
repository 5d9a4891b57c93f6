//! `echo`: a small host on the network, by interrupts: it answers ARP, ping, UDP to any port, and frames of the guests' own kind.
//!
//! What it sends back is what came, with the addresses turned round, so that whoever asks can tell whether anything was lost or changed on the
//! way. It says nothing but at its end, which is a `q` on its console, or `count=` answers.
//!
//! Parameters: `ip=` (10.0.2.15), its IPv4 address; `count=` (never). Output: `ECHO ready`, and `PASS echo answered=N interrupts=N`.
#![no_std]
#![no_main]

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use guest::traffic;
use guest::virtio::net::{Card, Mac};
use guest::{Machine, console, exception, gic, mmio, println, report, timer, virtio};
use virtio_drivers::transport::DeviceType;

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

/// The card's interrupt, and its registers.
static CARD_INTERRUPT: AtomicU64 = AtomicU64::new(0);
static CARD_BASE: AtomicU64 = AtomicU64::new(0);
/// The card's interrupt came since it was looked at, and how often in all.
static CALLED: AtomicBool = AtomicBool::new(false);
static CALLS: AtomicU64 = AtomicU64::new(0);

/// Offsets of the registers that tell why the card interrupts, and end that (VIRTIO 1.2, section 4.2.2).
const INTERRUPT_STATUS: usize = 0x60;
const INTERRUPT_ACK: usize = 0x64;

guest::entry!(main);

fn main(machine: &'static Machine) {
    let found = virtio::devices(machine, DeviceType::Network).next();
    let Some(mut card) = found.and_then(|(slot, device)| Card::open(slot, device)) else {
        return report::fail("echo", format_args!("no card"));
    };
    let own = Own {
        mac: card.mac(),
        ip: machine
            .text("ip")
            .and_then(address)
            .unwrap_or([10, 0, 2, 15]),
    };
    let limit = machine.number("count", u64::MAX);
    let slot = card.slot();
    CARD_INTERRUPT.store(slot.interrupt.into(), Ordering::Relaxed);
    CARD_BASE.store(slot.base as u64, Ordering::Relaxed);
    exception::set_irq_handler(handler);
    gic::set_target(slot.interrupt, 0);
    gic::enable(slot.interrupt);
    gic::enable(timer::VIRTUAL_PPI);
    card.interrupt(true);
    println!("ECHO ready {:?}", own.ip);
    exception::unmask_interrupts();
    let mut answered = 0;
    while answered < limit && console::get() != Some(b'q') {
        timer::arm_virtual(timer::now() + timer::micros(LOOK_US));
        exception::park_until(|| CALLED.load(Ordering::Relaxed));
        CALLED.store(false, Ordering::Relaxed);
        card.interrupt(false);
        loop {
            let news = answer(&mut card, &own);
            answered += news.1;
            if news.0 < BATCH {
                card.interrupt(true);
                // What came before the wish was seen does not interrupt.
                if answer(&mut card, &own).0 == 0 {
                    break;
                }
            }
        }
    }
    exception::mask_interrupts();
    let calls = CALLS.load(Ordering::Relaxed);
    match report::failures() {
        0 => println!("PASS echo answered={answered} interrupts={calls}"),
        failures => println!("FAIL echo failures={failures}"),
    }
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

/// Who it is.
struct Own {
    mac: Mac,
    ip: [u8; 4],
}

/// Looks at a batch of frames; gives how many there were, and how many were answered.
fn answer(card: &mut Card, own: &Own) -> (usize, u64) {
    const MOST: usize = virtio::net::FRAME;
    let mut frames = [([0; MOST], 0); 4];
    let (mut seen, mut answered) = (0, 0);
    // A few at a time: the card is borrowed while it shows frames.
    while seen < BATCH {
        let mut count = 0;
        let shown = card.receive(frames.len(), |frame| {
            let (copy, length) = &mut frames[count];
            let fits = frame.len() <= MOST;
            if fits {
                copy[..frame.len()].copy_from_slice(frame);
            }
            *length = if fits { frame.len() } else { 0 };
            count += 1;
        });
        for (frame, length) in &mut frames[..count] {
            let frame = &mut frame[..*length];
            if own.turn(frame).is_some()
                && card.put(frame.len(), |room| room.copy_from_slice(frame))
            {
                answered += 1;
            }
        }
        card.kick();
        seen += shown;
        if shown < frames.len() {
            break;
        }
    }
    (seen, answered)
}

impl Own {
    /// Makes the answer out of a frame; `None` for one that is not answered.
    fn turn(&self, frame: &mut [u8]) -> Option<()> {
        let kind: [u8; 2] = frame.get(12..14)?.try_into().ok()?;
        let to: Mac = frame[..6].try_into().ok()?;
        if to != self.mac && kind != ARP {
            return None;
        }
        match kind {
            ARP => self.turn_arp(frame.get_mut(14..42)?)?,
            IPV4 => self.turn_ipv4(frame.get_mut(14..)?)?,
            traffic::TYPE => {}
            _ => return None,
        }
        frame.copy_within(6..12, 0);
        frame[6..12].copy_from_slice(&self.mac);
        Some(())
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
    fn turn_ipv4(&self, packet: &mut [u8]) -> Option<()> {
        if packet.len() < 28 || packet[0] != 0x45 || packet[16..20] != self.ip {
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
            UDP => turn_pair(&mut packet[20..24], 2),
            _ => return None,
        }
        turn_pair(&mut packet[12..20], 4);
        Some(())
    }
}

/// Lets two fields of `bytes` bytes each change places.
fn turn_pair(fields: &mut [u8], bytes: usize) {
    let (one, other) = fields.split_at_mut(bytes);
    one.swap_with_slice(other);
}
