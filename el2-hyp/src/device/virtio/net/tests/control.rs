use super::*;

#[test]
fn a_driver_brings_the_card_up() {
    let s = Scene::new(ALL);
    let read = |offset, width| s.control.read(offset, width, &s.signals);
    assert_eq!(read(8, Width::Word), 1);
    for (n, byte) in MAC.0.into_iter().enumerate() {
        assert_eq!(read(0x100 + n as u64, Width::Byte), byte.into());
    }
    assert_eq!(
        (
            s.status(),
            read(0x108, Width::Half),
            read(0x10a, Width::Half)
        ),
        (1, 1, 1500)
    );
}

#[test]
fn features_that_need_others() {
    for (chosen, accepted) in [
        (0, true),
        (OFFERED, true),
        (OFFERED & !CSUM, false),
        (OFFERED & !GUEST_CSUM, false),
        (OFFERED & !CTRL_VQ, false),
        (HOST_TSO6, false),
        (HOST_TSO6 | CSUM, true),
        (GUEST_TSO4 | CSUM, false),
    ] {
        assert_eq!(accepts(chosen), accepted, "{chosen:#x}");
    }
}

#[test]
fn a_guest_announces_itself_when_it_is_asked() {
    let mut s = Scene::new(ALL);
    let generation = s.control.read(0xfc, Width::Word, &s.signals);
    assert!(s.control.announce(&s.signals));
    assert_ne!(s.control.read(0xfc, Width::Word, &s.signals), generation);
    assert_eq!((s.status(), s.signals.causes()), (3, 2));
    s.signals.acknowledge(2);
    let answer = s.buffer(1);
    for (command, status, result) in [([3, 1], 3, 1), ([0, 0], 3, 1), ([3, 0], 1, 0)] {
        let request = s.buffer(2);
        s.ram.write(request.0, &command).unwrap();
        s.ram.write(answer.0, &[0xee]).unwrap();
        s.drivers[2].enable_interrupts(&s.ram);
        s.drivers[2].add(&s.ram, &[request], &[answer]).unwrap();
        assert!(s.drivers[2].should_notify(&s.ram));
        assert_eq!(s.write(0x50, CONTROL.into()), Written::Nothing);
        assert_eq!(s.signals.causes(), 1);
        s.signals.acknowledge(1);
        assert_eq!(
            s.drivers[2].take(&s.ram).map(|(_, written)| written),
            Some(1)
        );
        let mut byte = [0];
        s.ram.read(answer.0, &mut byte).unwrap();
        assert_eq!((byte[0], s.status()), (result, status), "{command:?}");
    }
    assert!(!s.control.is_announcing());
    // A driver that cannot, or is not there.
    assert!(
        !Scene::new(ALL & !GUEST_ANNOUNCE)
            .control
            .announce(&Signals::new())
    );
    assert!(!Control::new(MAC).announce(&Signals::new()));
}

#[test]
fn a_reset_stops_everything() {
    let mut s = Scene::new(ALL);
    s.control.announce(&s.signals);
    s.give(&[&[2000]]);
    s.queue(&with_header(VirtioNetHeader::default(), &plain(100)), &[]);
    assert_eq!(s.write(0x70, 0), Written::Stop);
    assert_eq!((s.status(), s.signals.causes()), (1, 0));
    assert_eq!(s.sent(64), (Progress::Idle, vec![]));
    let bytes = plain(100);
    let delivered = s.receive.deliver(&s.ram, &Frame::finished(&bytes).unwrap());
    assert_eq!(delivered, Ok(Delivered::Down));
    assert_eq!(s.drivers[1].take(&s.ram), None);
}

#[test]
fn a_broken_rule_stops_the_queue_and_no_other() {
    let mut s = Scene::new(ALL);
    s.drivers[1].make_available(&s.ram, 64);
    assert!(s.transmit.serve(&s.ram, 64, |_| Sent::Done).is_err());
    assert_eq!(s.sent(64), (Progress::Idle, vec![]));
    s.give(&[&[2000]]);
    let bytes = plain(100);
    let delivered = s.receive.deliver(&s.ram, &Frame::finished(&bytes).unwrap());
    assert_eq!(delivered, Ok(Delivered::Whole));
}
