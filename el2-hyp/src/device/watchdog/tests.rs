use proptest::prelude::*;
use std::vec;
use std::vec::Vec;

use super::*;
use crate::record::codec::{Decoder, Encoder, Malformed};

const STATUS: (Frame, u64) = (Frame::Control, offset::STATUS);
const OFFSET: (Frame, u64) = (Frame::Control, offset::OFFSET);
const REFRESH: (Frame, u64) = (Frame::Refresh, offset::REFRESH);

fn status(it: &Watchdog) -> u32 {
    it.read(Frame::Control, offset::STATUS, false) as u32
}

/// On since `now`, for so long.
fn on(now: u64, ticks: u64) -> Watchdog {
    let mut it = Watchdog::new();
    it.write(OFFSET, ticks, false, now);
    it.write(STATUS, ENABLED.into(), false, now);
    it
}

#[test]
fn one_that_is_off_never_ends() {
    let mut it = Watchdog::new();
    assert_eq!((it.due(), it.expire(u64::MAX)), (None, Expiry::Nothing));
    it.write(OFFSET, 5, false, 10);
    assert_eq!(it.expire(u64::MAX), Expiry::Nothing);
}

#[test]
fn a_refresh_in_time_keeps_it_quiet() {
    let mut it = on(1000, 100);
    assert_eq!(it.expire(1100), Expiry::Nothing);
    it.write(REFRESH, 0, false, 1100);
    assert_eq!(it.expire(1200), Expiry::Nothing);
    assert!(!it.line());
}

#[test]
fn the_first_time_signals_and_the_second_ends() {
    let mut it = on(1000, 100);
    assert_eq!(it.due(), Some(1101));
    assert_eq!(it.expire(1101), Expiry::First);
    assert_eq!(status(&it), ENABLED | WS0);
    assert_eq!(it.expire(1201), Expiry::Nothing);
    assert_eq!(it.expire(1202), Expiry::Second);
    assert_eq!(status(&it) & WS1, 0);
}

#[test]
fn a_refresh_after_the_signal_takes_it_back() {
    for register in [REFRESH, STATUS, OFFSET] {
        let mut it = on(0, 100);
        assert_eq!(it.expire(101), Expiry::First);
        let value = if register == OFFSET { 100 } else { 1 };
        it.write(register, value, false, 150);
        assert!(!it.line());
        assert_eq!(it.due(), Some(251), "{register:?}");
    }
}

#[test]
fn a_guest_that_could_not_refresh_has_its_time_again() {
    let mut it = on(0, 100);
    it.begin_anew(5000);
    assert_eq!(it.expire(5100), Expiry::Nothing);
    assert_eq!(it.expire(5101), Expiry::First);
}

#[test]
fn offsets_have_48_bits_in_one_access_or_in_two() {
    let mut it = Watchdog::new();
    it.write(OFFSET, 0x9abc_def0, false, 0);
    it.write((Frame::Control, offset::OFFSET_HIGH), 0xffff_5678, false, 0);
    assert_eq!(
        it.read(Frame::Control, offset::OFFSET, true),
        0x5678_9abc_def0
    );
    assert_eq!(it.read(Frame::Control, offset::OFFSET_HIGH, false), 0x5678);
    it.write(OFFSET, u64::MAX, true, 0);
    assert_eq!(it.read(Frame::Control, offset::OFFSET, true), OFFSET_BITS);
    for frame in [Frame::Control, Frame::Refresh] {
        assert_eq!(it.read(frame, offset::IDENTIFICATION, false), 1 << 16);
    }
}

fn encode(it: &Watchdog) -> Vec<u8> {
    let mut bytes = vec![0; 64];
    let mut encoder = Encoder::new(&mut bytes);
    it.to_record(&mut encoder);
    let length = encoder.finish().unwrap();
    bytes.truncate(length);
    bytes
}

fn decode(bytes: &[u8]) -> Result<Watchdog, Malformed> {
    let mut decoder = Decoder::new(bytes);
    let it = Watchdog::from_record(&mut decoder)?;
    decoder.end()?;
    Ok(it)
}

proptest! {
    /// Whatever a guest writes and whenever: it never ends without a signal before, nor before its time; and a copy made of its bytes is it.
    #[test]
    fn it_ends_only_after_a_signal(writes: Vec<(bool, u64, u64, bool, u64)>) {
        let (mut it, mut now) = (Watchdog::new(), 0_u64);
        for (control, offset, value, is_wide, step) in writes {
            now = now.saturating_add(step % (1 << 50));
            let frame = if control { Frame::Control } else { Frame::Refresh };
            it.write((frame, offset % 8 * 4), value, is_wide, now);
            it.read(frame, offset % 0x1000, is_wide);
            let before = it.clone();
            let expiry = it.expire(now);
            prop_assert!(expiry == Expiry::Nothing || before.due().is_some_and(|due| due <= now));
            prop_assert!(expiry != Expiry::Second || before.line());
            prop_assert_eq!(decode(&encode(&it)), Ok(it.clone()));
        }
    }

    #[test]
    fn damage_is_refused_or_a_device(bytes in prop::collection::vec(any::<u8>(), 0..24)) {
        if let Ok(it) = decode(&bytes) {
            prop_assert_eq!(encode(&it), bytes);
        }
    }
}
