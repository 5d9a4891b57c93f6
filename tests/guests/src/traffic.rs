//! Frames of the test guests' own, and a flow of them that loses nothing: the catcher asks for so many, and the sender is never more than
//! [`WINDOW`] ahead of what the catcher says it has.
//!
//! A frame is two addresses, [`TYPE`], the kind, a zero and a number of 32 bits, little endian; the rest is filling. The peer outside
//! (`tests/bench`) speaks the same.

use crate::virtio::net::{Card, FRAME, Mac};

/// IEEE 802's type for local experiments.
pub const TYPE: [u8; 2] = [0x88, 0xb5];
/// The shortest frame of this kind that is sent.
pub const SHORT: usize = 60;
/// Frames of data that may be under way.
pub const WINDOW: u32 = 96;
/// The catcher says what it has each time after so many frames.
pub const CREDIT: u32 = 32;
/// Frames for which the card is told once.
pub const BATCH: u32 = 32;

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Asks for so many frames of data; for none, it asks for a credit.
    Go = 1,
    /// So many frames of data have come.
    Credit = 2,
    /// A frame of data, by its number from 0.
    Data = 3,
}

/// The head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Who sent it.
    pub from: Mac,
    /// What it is for.
    pub kind: Kind,
    /// Its number.
    pub number: u32,
}

/// Reads a frame's head, if it is of this kind.
pub fn read(frame: &[u8]) -> Option<Head> {
    let head = frame.first_chunk::<20>()?;
    if head[12..14] != TYPE {
        return None;
    }
    let kind = match head[14] {
        1 => Kind::Go,
        2 => Kind::Credit,
        3 => Kind::Data,
        _ => return None,
    };
    let [_, _, _, _, _, _, from @ .., _, _, _, _, _, _, _, _] = *head;
    let number = u32::from_le_bytes([head[16], head[17], head[18], head[19]]);
    Some(Head { from, kind, number })
}

/// Puts a frame of `length` bytes into the card, which is not told; says whether there was room.
pub fn put(card: &mut Card, to: Mac, kind: Kind, number: u32, length: usize) -> bool {
    let from = card.mac();
    card.put(length.max(SHORT), |frame| {
        frame[..6].copy_from_slice(&to);
        frame[6..12].copy_from_slice(&from);
        frame[12..14].copy_from_slice(&TYPE);
        frame[14] = kind as u8;
        frame[15] = 0;
        frame[16..20].copy_from_slice(&number.to_le_bytes());
    })
}

/// Sends one short frame.
pub fn tell(card: &mut Card, to: Mac, kind: Kind, number: u32) {
    while !put(card, to, kind, number, SHORT) {
        core::hint::spin_loop();
    }
    card.kick();
}

/// Asks for `total` frames and takes them; `again` says whether to go on waiting. Returns how many frames came, out of how many that
/// should have (by the highest number), when it has all or `again` says no.
pub fn catch(
    card: &mut Card,
    from: Mac,
    total: u32,
    mut again: impl FnMut() -> bool,
) -> (u32, u32) {
    let (mut came, mut highest, mut said) = (0, 0, 0);
    tell(card, from, Kind::Go, total);
    while highest < total && again() {
        card.receive(BATCH as usize, |frame| {
            if let Some(Head {
                kind: Kind::Data,
                number,
                ..
            }) = read(frame)
            {
                came += 1;
                highest = highest.max(number + 1);
            }
        });
        if highest - said >= CREDIT {
            said = highest;
            tell(card, from, Kind::Credit, said);
        }
    }
    (came, highest)
}

/// Waits until somebody asks for frames, and sends them; `again` says whether to go on waiting. Returns how many were sent.
pub fn serve(card: &mut Card, mut again: impl FnMut() -> bool) -> u32 {
    let mut asked = None;
    while asked.is_none() && again() {
        card.receive(BATCH as usize, |frame| {
            if let Some(head @ Head { kind: Kind::Go, .. }) = read(frame) {
                asked = Some(head);
            }
        });
    }
    let Some(Head {
        from: to,
        number: total,
        ..
    }) = asked
    else {
        return 0;
    };
    let (mut sent, mut has) = (0, 0);
    while sent < total && again() {
        let mut put_now = 0;
        while put_now < BATCH && sent < total && sent - has < WINDOW {
            if !put(card, to, Kind::Data, sent, FRAME) {
                break;
            }
            (sent, put_now) = (sent + 1, put_now + 1);
        }
        if put_now > 0 {
            card.kick();
        }
        card.receive(BATCH as usize, |frame| {
            if let Some(Head {
                kind: Kind::Credit,
                number,
                ..
            }) = read(frame)
            {
                has = number.max(has).min(sent);
            }
        });
    }
    sent
}
