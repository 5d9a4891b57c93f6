//! What has happened to a lab, for whoever asks later: faults, starts and ends of boards, and on which link guests were heard.

use std::collections::VecDeque;
use std::time::Duration;

use smoltcp::wire::{EthernetFrame, EthernetProtocol, IpProtocol, Ipv4Packet, UdpPacket};

use super::super::protocol::{Happened, Happening, Journal};
use super::Supervisor;

/// Entries that are kept; the oldest go first.
const MAX_ENTRIES: usize = 16_384;
/// Entries that one answer holds.
const MAX_ANSWER: usize = 4096;

/// The entries, numbered from the lab's beginning.
#[derive(Debug, Default)]
pub struct Entries {
    entries: VecDeque<Happened>,
    /// The number of the first that is kept.
    first: u64,
}

impl Entries {
    /// Adds one.
    pub fn add(&mut self, at: Duration, what: Happening) {
        if self.entries.len() == MAX_ENTRIES {
            self.entries.pop_front();
            self.first += 1;
        }
        // 584,000 years fit.
        let at_us = at.as_micros() as u64;
        self.entries.push_back(Happened { at_us, what });
    }

    /// Those from this number on, as many as an answer holds.
    pub fn from(&self, number: u64) -> Journal {
        let skipped = number.saturating_sub(self.first);
        let skipped = usize::try_from(skipped).unwrap_or(usize::MAX);
        let entries = self.entries.iter().skip(skipped).take(MAX_ANSWER);
        let happened: Vec<_> = entries.cloned().collect();
        let first = number
            .max(self.first)
            .min(self.first + self.entries.len() as u64);
        Journal {
            next: first + happened.len() as u64,
            lost: self.first.saturating_sub(number),
            happened,
        }
    }
}

impl Supervisor<'_> {
    /// A line for the lab's own log and its journal.
    pub fn note(&mut self, what: &str) {
        let now = self.began.elapsed();
        eprintln!("{:.6} {what}", now.as_secs_f64());
        self.journal
            .add(self.epoch + now, Happening::Lab(what.into()));
    }

    /// Notes what a board has said of itself.
    pub fn note_lines(&mut self, board: usize) {
        let now = self.epoch + self.began.elapsed();
        let entry = &mut self.boards[board];
        for line in entry.take_lines() {
            let board = entry.plan.name.clone();
            self.journal.add(now, Happening::Said { board, line });
        }
    }

    /// Notes which guests were heard on another link than before.
    pub fn note_guests(&mut self) {
        for heard in self.switch.stations.take_heard() {
            let mut guests = self.plan.guests.iter();
            let Some(guest) = guests.find(|guest| guest.macs.contains(&heard.mac.0)) else {
                continue;
            };
            let what = Happening::Heard {
                guest: guest.name.clone(),
                link: self.switch.name(heard.port).into(),
                datagram: datagram(&heard.frame),
            };
            self.journal
                .add(self.epoch + Duration::from_nanos(heard.at.0), what);
        }
    }
}

/// The text of a frame that is a whole UDP datagram with nothing but text in it.
fn datagram(frame: &[u8]) -> Option<String> {
    let frame = EthernetFrame::new_checked(frame).ok()?;
    if frame.ethertype() != EthernetProtocol::Ipv4 {
        return None;
    }
    let packet = Ipv4Packet::new_checked(frame.payload()).ok()?;
    if packet.next_header() != IpProtocol::Udp || packet.more_frags() || packet.frag_offset() != 0 {
        return None;
    }
    let datagram = UdpPacket::new_checked(packet.payload()).ok()?;
    let text = std::str::from_utf8(datagram.payload()).ok()?;
    Some(text.trim_end().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame with a UDP datagram that says so.
    fn frame(text: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; 14 + 20 + 8];
        frame[12] = 8;
        let length = |more: usize| (more + text.len()) as u16;
        frame[14] = 0x45;
        frame[16..18].copy_from_slice(&length(28).to_be_bytes());
        frame[23] = 17;
        frame[36..38].copy_from_slice(&[0x1b, 0x5f]);
        frame[38..40].copy_from_slice(&length(8).to_be_bytes());
        frame.extend(text);
        frame
    }

    #[test]
    fn a_datagram_of_text_is_told_and_nothing_else() {
        let whole = frame(b"3f-a 12 7\n");
        assert_eq!(datagram(&whole).as_deref(), Some("3f-a 12 7"));
        for end in 0..whole.len() {
            assert_eq!(datagram(&whole[..end]), None, "{end}");
        }
        assert_eq!(datagram(&frame(&[0xff, 0xfe])), None);
        let change = |at: usize, byte: u8| {
            let mut frame = whole.clone();
            frame[at] = byte;
            datagram(&frame)
        };
        let (other_type, tcp, fragment) = (change(13, 6), change(23, 6), change(20, 0x20));
        assert_eq!([other_type, tcp, fragment], [None, None, None]);
    }

    #[test]
    fn a_reader_gets_every_entry_once_or_is_told_what_is_lost() {
        let mut entries = Entries::default();
        assert_eq!(entries.from(7).next, 0);
        for n in 0..MAX_ENTRIES + 10 {
            let at = Duration::from_micros(n as u64);
            entries.add(at, Happening::Lab(String::new()));
        }
        let journal = entries.from(0);
        assert_eq!((journal.lost, journal.happened[0].at_us), (10, 10));
        let (mut next, mut seen) = (journal.next, journal.happened.len());
        loop {
            let journal = entries.from(next);
            assert_eq!(journal.lost, 0);
            if journal.happened.is_empty() {
                break;
            }
            assert_eq!(journal.happened[0].at_us, next);
            seen += journal.happened.len();
            next = journal.next;
        }
        assert_eq!(seen, MAX_ENTRIES);
        assert_eq!(next, MAX_ENTRIES as u64 + 10);
    }
}
