use super::*;

#[test]
fn frames_are_sent_in_order_and_given_back() {
    let mut s = Scene::new(ALL);
    let none = VirtioNetHeader::default();
    let frames: Vec<_> = [14, 60, HEAD, HEAD + 1, 1000, MAX_WIRE].map(plain).into();
    for frame in &frames {
        s.queue(&with_header(none, frame), &[12, 30]);
    }
    assert!(s.drivers[1].should_notify(&s.ram));
    assert!(!s.drivers[1].enable_interrupts(&s.ram));
    let (progress, sent) = s.sent(4);
    assert_eq!(progress, Progress::More);
    assert!(s.transmit.should_interrupt(&s.ram).unwrap());
    assert!(!s.transmit.should_interrupt(&s.ram).unwrap());
    let (progress, rest) = s.sent(4);
    assert_eq!(progress, Progress::Idle);
    let sent: Vec<_> = sent
        .into_iter()
        .chain(rest)
        .map(|frame| frame.unwrap()[0].clone())
        .collect();
    assert_eq!(sent, frames);
    for _ in 0..frames.len() {
        assert_eq!(
            s.drivers[1].take(&s.ram).map(|(_, written)| written),
            Some(0)
        );
    }
    assert_eq!(s.drivers[1].take(&s.ram), None);
    s.queue(&with_header(none, &frames[0]), &[]);
    assert!(s.drivers[1].should_notify(&s.ram), "it is to notify again");
}

#[test]
fn a_frame_waits_for_room_and_is_not_lost() {
    let mut s = Scene::new(ALL);
    let frames = [plain(100), plain(200), plain(300)];
    for frame in &frames {
        s.queue(&with_header(VirtioNetHeader::default(), frame), &[]);
    }
    let mut room = 1;
    let mut sent = Vec::new();
    for (wanted, now) in [
        (Progress::Waiting, 1),
        (Progress::Waiting, 0),
        (Progress::Idle, 5),
    ] {
        room += now - 1;
        let progress = s.transmit.serve(&s.ram, 64, |frame| {
            if room <= 0 {
                return Sent::Wait;
            }
            room -= 1;
            sent.extend(finish(frame.unwrap()));
            Sent::Done
        });
        assert_eq!(progress, Ok(wanted));
        room = 1;
        // While it waits, nothing more is heard of it.
        s.drivers[1].should_notify(&s.ram);
        assert!(wanted == Progress::Idle || !s.drivers[1].should_notify(&s.ram));
    }
    assert_eq!(sent, frames);
}

#[test]
fn what_is_no_frame_is_told_and_given_back() {
    let mut s = Scene::new(ALL);
    let (cut, bytes) = tcp(3000, 1000);
    let cases = [
        (with_header(cut, &bytes), None),
        (vec![0; 5], Some(Malformed::Short)),
        (vec![0; 12], Some(Malformed::Short)),
        (vec![0; 25], Some(Malformed::Short)),
        (
            with_header(VirtioNetHeader::default(), &bytes),
            Some(Malformed::Long),
        ),
        (
            with_header(VirtioNetHeader { gso_size: 0, ..cut }, &bytes),
            Some(Malformed::Segmentation),
        ),
        (
            with_header(
                VirtioNetHeader {
                    gso_type: 0,
                    csum_offset: 2,
                    ..cut
                },
                &bytes[..900],
            ),
            Some(Malformed::Checksum),
        ),
    ];
    for (bytes, _) in &cases {
        s.queue(bytes, &[]);
    }
    let (_, sent) = s.sent(64);
    let errors: Vec<_> = sent.into_iter().map(Result::err).collect();
    assert_eq!(errors, cases.clone().map(|(_, error)| error));
    for _ in cases {
        assert!(s.drivers[1].take(&s.ram).is_some());
    }
}

#[test]
fn a_driver_that_did_not_ask_gets_no_offload() {
    let mut s = Scene::new(0);
    let (cut, bytes) = tcp(3000, 1000);
    s.queue(&with_header(cut, &bytes), &[]);
    s.queue(
        &with_header(VirtioNetHeader { gso_type: 0, ..cut }, &bytes[..900]),
        &[],
    );
    let (_, sent) = s.sent(64);
    assert_eq!(
        sent,
        [Err(Malformed::Segmentation), Err(Malformed::Checksum)]
    );
}
