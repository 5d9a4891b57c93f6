//! The frame by which a station that has moved makes itself known to the switches outside.

use super::Mac;

/// Its length, bytes: the shortest that Ethernet carries.
pub const ANNOUNCEMENT: usize = 60;

/// EtherType of reverse ARP (RFC 903).
const REVERSE_ARP: [u8; 2] = [0x80, 0x35];
/// What goes before the addresses: hardware Ethernet, protocol IPv4, the lengths of their addresses, and the operation: request reverse.
const REQUEST: [u8; 8] = [0, 1, 0x08, 0x00, 6, 4, 0, 3];

/// A frame from `station` to all: it asks for its own IPv4 address, which nobody answers nowadays. Whoever forwards it learns where the station is.
pub fn announcement(station: Mac) -> [u8; ANNOUNCEMENT] {
    let nowhere = [0; 4];
    let parts: [&[u8]; 8] = [
        &Mac::BROADCAST.0,
        &station.0,
        &REVERSE_ARP,
        &REQUEST,
        &station.0,
        &nowhere,
        &station.0,
        &nowhere,
    ];
    let mut frame = [0; ANNOUNCEMENT];
    let mut at = 0;
    for part in parts {
        frame[at..at + part.len()].copy_from_slice(part);
        at += part.len();
    }
    frame
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Frame;

    #[test]
    fn it_is_what_qemu_sends() {
        let station = Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56]);
        let frame = announcement(station);
        // As in QEMU's net/announce.c: 42 bytes that matter, and filling.
        let wanted = [
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x52, 0x54, 0x00, 0x12, 0x34, 0x56, 0x80, 0x35,
            0x00, 0x01, 0x08, 0x00, 0x06, 0x04, 0x00, 0x03, 0x52, 0x54, 0x00, 0x12, 0x34, 0x56,
            0x00, 0x00, 0x00, 0x00, 0x52, 0x54, 0x00, 0x12, 0x34, 0x56, 0x00, 0x00, 0x00, 0x00,
        ];
        assert_eq!(frame[..42], wanted);
        assert_eq!(frame[42..], [0; 18]);
        let read = Frame::finished(&frame).unwrap();
        assert!(read.destination().is_group() && read.source() == station);
    }
}
