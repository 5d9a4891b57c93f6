mod lies;

use super::*;
use crate::addr::Ipa;
use crate::device::virtio::chain::Chain;
use crate::device::virtio::queue::Queue;
use crate::device::virtio::testing::{Driver, Ram};
use checksum::Sum;
use proptest::prelude::*;
use std::vec::Vec;

const ALL: Taken = Taken {
    checksum: true,
    tcp4: true,
    tcp6: true,
};

/// Calls `body` with what is made of a frame that a guest has laid into its memory in pieces that end at `cuts`.
fn from_guest<T>(
    bytes: &[u8],
    cuts: &[usize],
    header: VirtioNetHeader,
    taken: Taken,
    body: impl FnOnce(Result<Frame, Malformed>) -> T,
) -> T {
    let ram = Ram::new(1);
    let base = ram.base();
    let mut driver = Driver::new(base, 64, 0);
    let mut queue = Queue::new();
    queue.start(driver.layout(), 0);
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
    cuts.extend([0, bytes.len()]);
    cuts.sort();
    let mut at = base.0 + 0x10_0001;
    let mut buffers = Vec::new();
    for pair in cuts.windows(2) {
        ram.write(Ipa(at), &bytes[pair[0]..pair[1]]).unwrap();
        buffers.push((Ipa(at), (pair[1] - pair[0]) as u32));
        at += (pair[1] - pair[0]) as u64 + 37;
    }
    driver.add(&ram, &buffers, &[]).unwrap();
    let mut chain = Chain::new();
    assert!(queue.pop(&ram, &mut chain).unwrap());
    let mut head = [0; HEAD];
    let mut reader = chain.reader(&ram);
    let read = reader.read(&mut head).unwrap();
    let head = &head[..read];
    let checked = Checked::new(head, bytes.len(), &header, taken);
    body(checked.map(|checked| Frame::from_guest(head, reader, checked)))
}

/// A TCP packet's parts, for building and for taking apart again.
#[derive(Clone, Debug, PartialEq)]
struct Tcp {
    v6: bool,
    tagged: bool,
    /// Bytes of options: IPv4's, or a destination options header of IPv6; TCP's.
    options: [u8; 2],
    id: u16,
    sequence: u32,
    flags: u8,
    payload: Vec<u8>,
}

impl Tcp {
    fn network_at(&self) -> usize {
        14 + if self.tagged { 4 } else { 0 }
    }

    fn tcp_at(&self) -> usize {
        self.network_at() + usize::from(self.options[0]) + if self.v6 { 40 } else { 20 }
    }

    fn headers(&self) -> usize {
        self.tcp_at() + 20 + usize::from(self.options[1])
    }

    /// The packet as a driver leaves it to the device: the checksum field holds something else.
    fn build(&self) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        if self.tagged {
            frame.extend([0x81, 0, 0, 7]);
        }
        let tcp_bytes = 20 + usize::from(self.options[1]) + self.payload.len();
        let options = usize::from(self.options[0]);
        if self.v6 {
            frame.extend([0x86, 0xdd, 0x60, 1, 2, 3]);
            frame.extend(((options + tcp_bytes) as u16).to_be_bytes());
            frame.push(if options > 0 { 60 } else { 6 });
            frame.push(64);
            frame.extend((1..=32).map(|n| n * 7));
            if options > 0 {
                frame.extend([6, (options / 8 - 1) as u8]);
                frame.extend(vec![1; options - 2]);
            }
        } else {
            frame.extend([8, 0, 0x45 + (options / 4) as u8, 0]);
            frame.extend(((20 + options + tcp_bytes) as u16).to_be_bytes());
            frame.extend(self.id.to_be_bytes());
            frame.extend([0x40, 0, 64, 6, 0xde, 0xad, 10, 0, 0, 1, 10, 0, 0, 2]);
            frame.extend(vec![1; options]);
        }
        frame.extend([0x1f, 0x90, 0xc0, 0x01]);
        frame.extend(self.sequence.to_be_bytes());
        frame.extend([1, 2, 3, 4, (5 + self.options[1] / 4) << 4, self.flags]);
        frame.extend([0xff, 0xff, 0xbe, 0xef, 0, 0]);
        frame.extend(vec![1; usize::from(self.options[1])]);
        frame.extend(&self.payload);
        frame
    }

    fn header(&self, size: u16) -> VirtioNetHeader {
        VirtioNetHeader {
            flags: 1,
            gso_type: match (size, self.v6) {
                (0, _) => 0,
                (_, false) => 1,
                (_, true) => 4,
            },
            hdr_len: self.headers() as u16,
            gso_size: size,
            csum_start: self.tcp_at() as u16,
            csum_offset: 16,
            num_buffers: 0,
        }
    }

    /// Takes a finished frame of the same shape apart, with all its lengths and checksums verified in the plainest way.
    fn parse(&self, frame: &[u8]) -> Tcp {
        let sum = |data: &[u8]| {
            let words = data.chunks(2);
            words
                .map(|w| u64::from(w[0]) << 8 | u64::from(*w.get(1).unwrap_or(&0)))
                .sum::<u64>()
        };
        let u16_at = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
        let (network, tcp) = (self.network_at(), self.tcp_at());
        let addresses = if self.v6 {
            assert_eq!(usize::from(u16_at(network + 4)), frame.len() - network - 40);
            &frame[network + 8..network + 40]
        } else {
            assert_eq!(usize::from(u16_at(network + 2)), frame.len() - network);
            assert_eq!(sum(&frame[network..tcp]) % 0xffff, 0, "IP checksum");
            &frame[network + 12..network + 20]
        };
        let pseudo = sum(addresses) + 6 + (frame.len() - tcp) as u64;
        assert_eq!((pseudo + sum(&frame[tcp..])) % 0xffff, 0, "TCP checksum");
        Tcp {
            id: if self.v6 {
                self.id
            } else {
                u16_at(network + 4)
            },
            sequence: u32::from_be_bytes(*frame[tcp + 4..].first_chunk().unwrap()),
            flags: frame[tcp + 13],
            payload: frame[self.headers()..].to_vec(),
            ..self.clone()
        }
    }
}

fn tcp() -> impl Strategy<Value = Tcp> {
    (
        any::<[bool; 2]>(),
        (0u8..3, 0u8..4),
        any::<(u16, u32, u8)>(),
        prop::collection::vec(any::<u8>(), 1..9000),
    )
        .prop_map(
            |([v6, tagged], (network, tcp), (id, sequence, flags), payload)| Tcp {
                v6,
                tagged,
                options: [network * if v6 { 8 } else { 4 }, tcp * 4],
                id,
                sequence,
                flags,
                payload,
            },
        )
}

fn finish(frame: &Frame) -> Vec<Vec<u8>> {
    let mut finished = frame.finish();
    let mut frames = Vec::new();
    let mut slot = [0xee; MAX_WIRE];
    while let Some(length) = finished.write_next(&mut slot) {
        frames.push(slot[..length].to_vec());
    }
    assert_eq!(frames.len(), frame.parts());
    frames
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn segments_are_the_packet_again(packet in tcp(), size in 40u16..1400, cuts: [usize; 4]) {
        let bytes = packet.build();
        let parts = from_guest(&bytes, &cuts, packet.header(size), ALL, |frame| finish(&frame.unwrap()));
        let last = parts.len() - 1;
        let mut whole = Vec::new();
        for (n, part) in parts.iter().enumerate() {
            prop_assert_eq!(&part[..packet.network_at()], &bytes[..packet.network_at()]);
            let part = packet.parse(part);
            prop_assert_eq!(part.sequence, packet.sequence.wrapping_add(whole.len() as u32));
            if !packet.v6 {
                prop_assert_eq!(part.id, packet.id.wrapping_add(n as u16));
            }
            let mut flags = packet.flags;
            if n > 0 { flags &= !0x80 }
            if n < last { flags &= !0x09 }
            prop_assert_eq!(part.flags, flags);
            prop_assert!(n == last || part.payload.len() == usize::from(size));
            whole.extend(part.payload);
        }
        prop_assert_eq!(whole, packet.payload);
    }

    #[test]
    fn a_checksum_is_filled_in(mut packet in tcp(), cuts: [usize; 4]) {
        packet.payload.truncate(1300);
        let mut bytes = packet.build();
        // As a driver does it: the field holds the sum of the pseudo header.
        let mut sum = Sum::new();
        let network = packet.network_at();
        sum.add(if packet.v6 { &bytes[network + 8..network + 40] } else { &bytes[network + 12..network + 20] });
        sum.add_u16(6);
        sum.add_u16((bytes.len() - packet.tcp_at()) as u16);
        let field = packet.tcp_at() + 16;
        bytes[field..field + 2].copy_from_slice(&sum.bytes());
        if !packet.v6 {
            let mut sum = Sum::new();
            bytes[network + 10..network + 12].fill(0);
            sum.add(&bytes[network..packet.tcp_at()]);
            bytes[network + 10..network + 12].copy_from_slice(&sum.complement());
        }
        let parts = from_guest(&bytes, &cuts, packet.header(0), ALL, |frame| finish(&frame.unwrap()));
        prop_assert_eq!(parts.len(), 1);
        prop_assert_eq!(packet.parse(&parts[0]), packet);
    }

    #[test]
    fn any_bytes_and_header(bytes in prop::collection::vec(any::<u8>(), 0..3000), cuts: [usize; 4], header: [u8; 12], kind in 0usize..6) {
        let mut bytes = bytes;
        let start: &[u8] = [&[][..], &[8, 0, 0x45], &[0x86, 0xdd, 0x60], &[0x81, 0, 0, 0, 8, 0, 0x45], &[8, 6], &[0x88, 0xa8]][kind];
        if bytes.len() > 12 + start.len() {
            bytes[12..12 + start.len()].copy_from_slice(start);
        }
        let header = VirtioNetHeader::from_bytes(&header);
        prop_assert_eq!(VirtioNetHeader::from_bytes(&header.to_bytes()), header);
        from_guest(&bytes, &cuts, header, ALL, |frame| {
            if let Ok(frame) = frame {
                for part in finish(&frame) {
                    assert!(part.len() <= MAX_WIRE);
                    assert_eq!(part[..14], bytes[..14]);
                }
            }
        });
    }
}

fn sample(v6: bool) -> Tcp {
    Tcp {
        v6,
        tagged: false,
        options: [0, 12],
        id: 0xfffe,
        sequence: 0xffff_ff00,
        flags: 0x18,
        payload: (0..5000u32).map(|n| n as u8).collect(),
    }
}

fn check(packet: &Tcp, header: VirtioNetHeader, taken: Taken) -> Result<Offload, Malformed> {
    from_guest(&packet.build(), &[], header, taken, |frame| {
        frame.map(|frame| frame.offload())
    })
}
