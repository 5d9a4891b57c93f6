//! Any bytes as a guest's frame, with any header before it: what comes out is finished frames, no longer than the wire takes, that carry what
//! the switch has looked at when it let them pass. A receiver that takes the offload is told what the device has checked, and no more.
#![no_main]

use el2_hyp::addr::Ipa;
use el2_hyp::device::virtio::chain::Chain;
use el2_hyp::device::virtio::queue::Queue;
use el2_hyp::device::virtio::testing::{Driver, Ram};
use el2_hyp::frame::{
    Checked, Frame, HEAD, Layers, MAX_PARTS, MAX_WIRE, Network, Offload, Taken, Transport, VirtioNetHeader,
};
use libfuzzer_sys::fuzz_target;

/// Beginnings that the fuzzer would seldom guess: they lie behind the addresses.
const TYPES: [&[u8]; 8] = [
    &[],
    &[8, 0, 0x45],
    &[8, 0, 0x45, 0, 0, 0, 0, 0, 0, 0, 64, 6],
    &[8, 0, 0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17],
    &[0x86, 0xdd, 0x60],
    &[0x86, 0xdd, 0x60, 0, 0, 0, 0, 0, 6],
    &[0x81, 0, 0, 1, 8, 0, 0x45, 0, 0, 0, 0, 0, 0, 0, 64, 6],
    &[0x88, 0xa8, 0, 1, 0x81, 0, 0, 1, 0x86, 0xdd, 0x60],
];
/// The input's first bytes: the header, what is taken and the beginning, two cuts, and how often the rest is repeated.
const FIRST: usize = VirtioNetHeader::BYTES + 5;

thread_local! {
    static RAM: Ram = Ram::new(1);
}

/// What the switch goes by.
fn looked_at(layers: &Layers) -> (Network, Transport) {
    let transport = match layers.transport {
        Transport::Tcp { .. } => Transport::Tcp { header: 0 },
        other => other,
    };
    (layers.network, transport)
}

fn check(frame: &Frame, head: &[u8], taken: Taken) {
    assert!(frame.parts() >= 1 && frame.parts() <= MAX_PARTS);
    assert!(frame.offload().is_taken(taken));
    let mut finished = frame.finish();
    let mut slot = [0; MAX_WIRE];
    let (mut parts, mut bytes) = (0, 0);
    while let Some(length) = finished.write_next(&mut slot) {
        assert!(length <= MAX_WIRE);
        assert_eq!(slot[..14], head[..14], "no address changes");
        let layers = Layers::read(&slot[..length.min(HEAD)]);
        assert_eq!(looked_at(&layers), looked_at(frame.layers()));
        parts += 1;
        bytes += length;
    }
    assert_eq!(parts, frame.parts());
    let headers = match frame.offload() {
        Offload::Segments { headers, .. } => usize::from(headers),
        _ => 0,
    };
    assert_eq!(bytes, frame.length() + (parts - 1) * headers);
}

fuzz_target!(|data: &[u8]| {
    let Some((first, rest)) = data.split_at_checked(FIRST) else {
        return;
    };
    let header = VirtioNetHeader::from_bytes(first.first_chunk().expect("long enough"));
    let &[choice, cut_a, cut_b, repeat, align] = &first[VirtioNetHeader::BYTES..] else {
        return;
    };
    let taken = Taken {
        checksum: choice & 1 == 0,
        tcp4: choice & 3 == 0,
        tcp6: choice & 5 == 0,
    };
    let mut bytes = rest.to_vec();
    let begin = TYPES[usize::from(choice >> 5)];
    if bytes.len() >= 12 + begin.len() {
        bytes[12..12 + begin.len()].copy_from_slice(begin);
    }
    for _ in 0..repeat % 8 {
        bytes.extend_from_slice(rest);
    }
    RAM.with(|ram| {
        let base = ram.base().0;
        ram.write(Ipa(base), &[0; 0x400]).expect("RAM");
        let mut driver = Driver::new(Ipa(base), 8, 0);
        let mut queue = Queue::new();
        queue.start(driver.layout(), 0);
        let at = base + 0x1000 + u64::from(align % 16);
        ram.write(Ipa(at), &bytes).expect("RAM");
        let mut cuts = [0, cut_a.into(), 3 * usize::from(cut_b), bytes.len()];
        cuts[1..3]
            .iter_mut()
            .for_each(|cut| *cut = (*cut).min(bytes.len()));
        cuts.sort();
        let pieces = [0, 1, 2].map(|n| (Ipa(at + cuts[n] as u64), (cuts[n + 1] - cuts[n]) as u32));
        driver.add(ram, &pieces, &[]);
        let mut chain = Chain::new();
        assert_eq!(queue.pop(ram, &mut chain), Ok(true));
        let mut head = [0; HEAD];
        let mut reader = chain.reader(ram);
        let read = reader.read(&mut head).expect("RAM");
        let head = &head[..read];
        let Ok(checked) = Checked::new(head, bytes.len(), &header, taken) else {
            return;
        };
        let frame = Frame::from_guest(head, reader, checked);
        check(&frame, head, taken);
        let told = frame.offload().header(frame.layers());
        let again = Checked::new(head, bytes.len(), &told, taken).expect("it was checked");
        assert_eq!(again.offload(), frame.offload());
    });
});
