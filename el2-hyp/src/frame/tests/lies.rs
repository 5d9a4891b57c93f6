use super::*;

#[test]
fn lies_about_segments_are_refused() {
    for v6 in [false, true] {
        let packet = sample(v6);
        let good = packet.header(1000);
        assert!(check(&packet, good, ALL).is_ok());
        let refused = |header| {
            assert_eq!(
                check(&packet, header, ALL),
                Err(Malformed::Segmentation),
                "{header:?}"
            );
        };
        for size in [0, 1, 15, 1500 - packet.headers() as u16 + 15, u16::MAX] {
            refused(VirtioNetHeader {
                gso_size: size,
                ..good
            });
        }
        for start in [0, good.csum_start - 1, good.csum_start + 1, u16::MAX] {
            refused(VirtioNetHeader {
                csum_start: start,
                ..good
            });
        }
        for offset in [0, 15, 17, u16::MAX] {
            refused(VirtioNetHeader {
                csum_offset: offset,
                ..good
            });
        }
        for kind in [2, 3, 5, 0x80, 0x81, 0x84, 5 - good.gso_type] {
            refused(VirtioNetHeader {
                gso_type: kind,
                ..good
            });
        }
        refused(VirtioNetHeader { flags: 0, ..good });
        for taken in [
            Taken::default(),
            Taken {
                tcp4: v6,
                tcp6: !v6,
                checksum: true,
            },
        ] {
            assert_eq!(check(&packet, good, taken), Err(Malformed::Segmentation));
        }
        // A hint is a hint.
        assert!(
            check(
                &packet,
                VirtioNetHeader {
                    hdr_len: 0xffff,
                    ..good
                },
                ALL
            )
            .is_ok()
        );
        let empty = Tcp {
            payload: Vec::new(),
            ..packet.clone()
        };
        assert_eq!(check(&empty, good, ALL), Err(Malformed::Segmentation));
    }
}

#[test]
fn fragments_and_routed_packets_are_not_cut() {
    let packet = sample(false);
    let mut bytes = packet.build();
    bytes[20] |= 0x20;
    let refused = from_guest(&bytes, &[], packet.header(1000), ALL, |frame| frame.err());
    assert_eq!(refused, Some(Malformed::Segmentation));

    let packet = Tcp {
        options: [8, 0],
        ..sample(true)
    };
    let mut bytes = packet.build();
    let good = from_guest(&bytes, &[], packet.header(1000), ALL, |frame| frame.err());
    assert_eq!(good, None);
    bytes[20] = 43;
    let refused = from_guest(&bytes, &[], packet.header(1000), ALL, |frame| frame.err());
    assert_eq!(refused, Some(Malformed::Segmentation));
}

#[test]
fn a_checksum_goes_where_it_belongs_and_nowhere_else() {
    let packet = Tcp {
        payload: vec![0; 100],
        ..sample(false)
    };
    let udp = |frame: &mut Vec<u8>| frame[23] = 17;
    let icmp = |frame: &mut Vec<u8>| frame[23] = 1;
    let tcp = |_: &mut Vec<u8>| ();
    type Change = fn(&mut Vec<u8>);
    let cases: [(Change, u16, u16, bool); 14] = [
        (tcp, 34, 16, true),
        (tcp, 34, 2, false),
        (tcp, 0, 12, false),
        (tcp, 14, 9, false),
        (tcp, 34, 32, true),
        (tcp, 34, 31, false),
        (udp, 34, 6, true),
        (udp, 34, 2, false),
        (udp, 34, 16, true),
        (icmp, 34, 2, true),
        (icmp, 20, 10, false),
        (tcp, 34, 92, true),
        (tcp, 34, 93, false),
        (tcp, 0xffff, 2, false),
    ];
    for (change, start, offset, fits) in cases {
        let mut bytes = packet.build();
        change(&mut bytes);
        let header = VirtioNetHeader {
            flags: 1,
            csum_start: start,
            csum_offset: offset,
            ..Default::default()
        };
        let made = from_guest(&bytes, &[], header, ALL, |frame| {
            frame.map(|frame| frame.offload())
        });
        let wanted = if fits {
            Ok(Offload::Checksum { start, offset })
        } else {
            Err(Malformed::Checksum)
        };
        assert_eq!(made, wanted, "{start} {offset}");
        let untaken = from_guest(&bytes, &[], header, Taken::default(), |frame| frame.err());
        assert_eq!(untaken, Some(Malformed::Checksum));
    }
}

#[test]
fn lengths() {
    let none = VirtioNetHeader::default();
    for (length, wanted) in [
        (0, Err(Malformed::Short)),
        (13, Err(Malformed::Short)),
        (14, Ok(14)),
        (MAX_WIRE, Ok(MAX_WIRE)),
        (MAX_WIRE + 1, Err(Malformed::Long)),
        (70_000, Err(Malformed::Long)),
    ] {
        let bytes = vec![0x88; length];
        let made = from_guest(&bytes, &[5, 700], none, ALL, |frame| {
            frame.map(|frame| frame.length())
        });
        assert_eq!(made, wanted);
        assert_eq!(Frame::finished(&bytes).map(|frame| frame.length()), wanted);
    }
    // The longest that is to be cut, and one byte more.
    for (more, error) in [(0, None), (1, Some(Malformed::Long))] {
        let mut packet = sample(false);
        packet.payload = vec![7; MAX_UNCUT - packet.headers() + more];
        assert_eq!(check(&packet, packet.header(1448), ALL).err(), error);
    }
}

#[test]
fn what_the_headers_say() {
    let read = |bytes: &[u8]| Layers::read(&bytes[..bytes.len().min(HEAD)]);
    let plain = sample(false).build();
    let layers = read(&plain);
    assert_eq!(layers.network, Network::V4);
    assert_eq!(layers.transport, Transport::Tcp { header: 32 });
    assert_eq!((layers.network_at, layers.transport_at), (14, 34));

    // Tags: two are looked through, behind a third could be anything.
    for (tags, transport) in [
        (1, layers.transport),
        (2, layers.transport),
        (3, Transport::Hidden),
    ] {
        let mut bytes = plain.clone();
        for _ in 0..tags {
            bytes.splice(12..12, [0x88, 0xa8, 0, 1]);
        }
        assert_eq!(read(&bytes).transport, transport, "{tags} tags");
    }
    // Truncated anywhere, nothing is taken for what it is not.
    for length in 14..66 {
        let hidden = read(&plain[..length]).transport == Transport::Hidden;
        assert!(hidden, "{length}");
    }
    // A fragment after the first has no header, the first has.
    let mut fragment = plain.clone();
    fragment[21] = 1;
    assert_eq!(read(&fragment).transport, Transport::Other);
    fragment[20..22].copy_from_slice(&[0x20, 0]);
    assert_eq!(read(&fragment).transport, layers.transport);
    assert!(read(&fragment).fragment);
    // Version and header length that cannot be.
    for first in [0x44, 0x55, 0x65] {
        let mut bytes = plain.clone();
        bytes[14] = first;
        assert_eq!(read(&bytes).transport, Transport::Hidden);
    }

    // Extension headers: four are looked through.
    let six = sample(true).build();
    for count in 0..7 {
        let mut bytes = six.clone();
        for n in 0..count {
            bytes.splice(54..54, [if n == 0 { 6 } else { 60 }, 0, 1, 4, 0, 0, 0, 0]);
        }
        if count > 0 {
            bytes[20] = 60;
        }
        let wanted = if count <= 4 {
            Transport::Tcp { header: 32 }
        } else {
            Transport::Hidden
        };
        assert_eq!(read(&bytes).transport, wanted, "{count} extension headers");
    }
    let arp = [&[0xff; 12][..], &[8, 6], &[0; 28]].concat();
    assert_eq!(read(&arp), Layers { ..Layers::UNKNOWN });
}
