use super::*;

#[test]
fn a_frame_is_received() {
    for wanted in [0, ALL, MRG_RXBUF, crate::device::virtio::feature::EVENT_IDX] {
        let mut s = Scene::new(wanted);
        let bytes = plain(1000);
        let frame = Frame::finished(&bytes).unwrap();
        assert_eq!(s.receive.deliver(&s.ram, &frame), Ok(Delivered::NoBuffers));
        s.give(&[&[1526], &[5, 3, 4, 1, 0, 2000]]);
        s.drivers[0].enable_interrupts(&s.ram);
        for _ in 0..2 {
            assert_eq!(s.receive.deliver(&s.ram, &frame), Ok(Delivered::Whole));
        }
        assert!(s.receive.should_interrupt(&s.ram).unwrap());
        assert_eq!(s.receive.deliver(&s.ram, &frame), Ok(Delivered::NoBuffers));
        for _ in 0..2 {
            let (header, received) = s.received().unwrap();
            assert_eq!(
                header,
                VirtioNetHeader {
                    num_buffers: 1,
                    ..Default::default()
                }
            );
            assert_eq!(received, bytes);
        }
        assert_eq!(s.received(), None);
    }
}

#[test]
fn a_card_that_is_still_leaves_memory_and_queue_as_they_are() {
    let mut s = Scene::new(ALL);
    s.give(&[&[1526]]);
    let bytes = plain(1000);
    let frame = Frame::finished(&bytes).unwrap();
    s.receive.set_still(true);
    assert_eq!(s.receive.deliver(&s.ram, &frame), Ok(Delivered::Down));
    assert_eq!(s.received(), None);
    s.receive.set_still(false);
    assert_eq!(s.receive.deliver(&s.ram, &frame), Ok(Delivered::Whole));
    assert_eq!(s.received().unwrap().1, bytes);
}

#[test]
fn a_frame_may_take_several_buffers() {
    let mut s = Scene::new(MRG_RXBUF);
    let bytes = plain(1500);
    let frame = Frame::finished(&bytes).unwrap();
    s.give(&[&[600], &[3, 7, 390]]);
    // Two are too few. They are left for a shorter frame.
    assert_eq!(s.receive.deliver(&s.ram, &frame), Ok(Delivered::NoBuffers));
    assert_eq!(s.received(), None);
    s.give(&[&[600], &[600]]);
    assert_eq!(s.receive.deliver(&s.ram, &frame), Ok(Delivered::Whole));
    let (header, received) = s.received().unwrap();
    assert_eq!((header.num_buffers, received), (3, bytes.clone()));

    // The count is written where it belongs, however the header lies.
    let mut s = Scene::new(MRG_RXBUF);
    s.give(&[&[4, 7, 1, 100], &[3000]]);
    assert_eq!(s.receive.deliver(&s.ram, &frame), Ok(Delivered::Whole));
    assert_eq!(s.received().unwrap().0.num_buffers, 2);

    // Without the feature one has to do.
    let mut s = Scene::new(0);
    s.give(&[&[600], &[3000]]);
    assert_eq!(s.receive.deliver(&s.ram, &frame), Ok(Delivered::TooSmall));
    // Nor are there endlessly many, or any without room for a header.
    let mut s = Scene::new(MRG_RXBUF);
    s.give(&[&[14][..]; MAX_MERGED + 1]);
    assert_eq!(s.receive.deliver(&s.ram, &frame), Ok(Delivered::TooSmall));
    let mut s = Scene::new(MRG_RXBUF);
    s.give(&[&[11], &[3000]]);
    assert_eq!(s.receive.deliver(&s.ram, &frame), Ok(Delivered::TooSmall));
}

/// Sends what one guest left unfinished to another that took these features.
fn across(
    header: VirtioNetHeader,
    bytes: &[u8],
    wanted: u64,
    buffers: &[&[u32]],
) -> (Delivered, Vec<(VirtioNetHeader, Vec<u8>)>) {
    let mut from = Scene::new(ALL);
    let mut to = Scene::new(wanted);
    to.give(buffers);
    from.queue(&with_header(header, bytes), &[12, 54, 100, 1]);
    let mut delivered = None;
    let Scene { transmit, ram, .. } = &mut from;
    let served = transmit.serve(ram, 1, |frame| {
        delivered = Some(to.receive.deliver(&to.ram, frame.unwrap()).unwrap());
        Sent::Done
    });
    assert_eq!(served, Ok(Progress::More));
    (
        delivered.unwrap(),
        std::iter::from_fn(|| to.received()).collect(),
    )
}

#[test]
fn a_receiver_that_takes_it_gets_it_unfinished() {
    let (header, bytes) = tcp(20_000, 1448);
    let (delivered, received) = across(header, &bytes, ALL, &[&[2000][..]; 64]);
    assert_eq!(delivered, Delivered::Whole);
    assert_eq!(
        received,
        [(
            VirtioNetHeader {
                num_buffers: 11,
                ..header
            },
            bytes.clone()
        )]
    );
    // Into one large buffer, without merging.
    let (_, received) = across(header, &bytes, ALL & !MRG_RXBUF, &[&[65_562]]);
    assert_eq!(
        received,
        [(
            VirtioNetHeader {
                num_buffers: 1,
                ..header
            },
            bytes
        )]
    );

    let (header, bytes) = tcp(900, 0);
    let (_, received) = across(header, &bytes, GUEST_CSUM, &[&[1526]]);
    let wanted = VirtioNetHeader {
        hdr_len: 0,
        num_buffers: 1,
        ..header
    };
    assert_eq!(received, [(wanted, bytes)]);
}

#[test]
fn a_receiver_that_does_not_gets_it_finished() {
    let (header, bytes) = tcp(20_000, 1448);
    for wanted in [0, MRG_RXBUF, GUEST_CSUM, GUEST_CSUM | GUEST_TSO6] {
        let (delivered, received) = across(header, &bytes, wanted, &[&[1526][..]; 64]);
        assert_eq!(delivered, Delivered::Whole);
        assert_eq!(received.len(), 14);
        let mut payload = Vec::<u8>::new();
        for (header, part) in received {
            assert_eq!(
                header,
                VirtioNetHeader {
                    num_buffers: 1,
                    ..Default::default()
                }
            );
            assert!(is_sound(&part));
            payload.extend(&part[54..]);
        }
        assert_eq!(payload, bytes[54..]);
    }
    let (delivered, received) = across(header, &bytes, 0, &[&[1526][..]; 3]);
    assert_eq!((delivered, received.len()), (Delivered::Part(3), 3));

    let (header, bytes) = tcp(901, 0);
    let (_, received) = across(header, &bytes, 0, &[&[1526]]);
    assert!(is_sound(&received[0].1) && !is_sound(&bytes));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// From guest to guest, in whatever pieces: what arrives is what was sent.
    #[test]
    fn frames_cross(
        length in 14usize..MAX_WIRE,
        cuts in prop::collection::vec(0u32..700, 0..6),
        buffers in prop::collection::vec(prop::collection::vec(1u32..900, 1..5), 1..40),
        merge: bool,
    ) {
        let mut from = Scene::new(ALL);
        let mut to = Scene::new(if merge { ALL } else { ALL & !MRG_RXBUF });
        let lengths: Vec<&[u32]> = buffers.iter().map(Vec::as_slice).collect();
        to.give(&lengths);
        let bytes = plain(length);
        from.queue(&with_header(VirtioNetHeader::default(), &bytes), &cuts);
        let room = |n: usize| buffers[n].iter().sum::<u32>() as usize;
        let fits = match merge {
            _ if room(0) < 12 => false,
            true => (0..buffers.len()).map(room).sum::<usize>() >= length + 12,
            false => room(0) >= length + 12,
        };
        let mut delivered = Delivered::Down;
        let Scene { transmit, ram, .. } = &mut from;
        transmit.serve(ram, 1, |frame| {
            delivered = to.receive.deliver(&to.ram, frame.unwrap()).unwrap();
            Sent::Done
        }).unwrap();
        prop_assert_eq!(delivered == Delivered::Whole, fits, "{:?}", delivered);
        prop_assert_eq!(to.received().map(|(_, frame)| frame), fits.then_some(bytes));
    }
}
