//! A hostile driver of a network card, between the wire and a neighbour: any rings and registers, changed at any time. Nothing outside its own RAM is
//! touched; what leaves carries its own address and fits the wire; and the neighbour, who keeps the rules, gets only such frames, whole.
#![no_main]

use std::cell::RefCell;
use std::num::NonZeroU64;

use el2_hyp::addr::Ipa;
use el2_hyp::device::virtio::net::{
    Control, Delivered, Progress, QUEUES, RECEIVE, Receive, Sent, TRANSMIT, Transmit,
};
use el2_hyp::device::virtio::queue::Layout;
use el2_hyp::device::virtio::signals::Signals;
use el2_hyp::device::virtio::testing::{Driver, Ram};
use el2_hyp::device::virtio::transport::Written;
use el2_hyp::frame::{Frame, MAX_WIRE, Mac, VirtioNetHeader};
use el2_hyp::gate::{Authority, Ticks};
use el2_hyp::switch::{
    Delivery, Forwarded, Loss, OwnFrame, PortId, Ports, Rules, Switch, Uplink, Wire,
};
use el2_hyp::vgic::Width;
use hearth_fuzz::virtio::{self, act, address, layout, register, set_up};
use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;

const HOSTILE: Mac = Mac([2, 0, 0, 0, 0, 1]);
const NEIGHBOUR: Mac = Mac([2, 0, 0, 0, 0, 2]);
const BOARD: Mac = Mac([2, 0, 0, 0, 0, 3]);
const CLUSTER: u16 = 5405;
/// The neighbour's receive buffers.
const BUFFERS: u16 = 8;
const BUFFER_BYTES: u32 = 2048;

thread_local! {
    static NEIGHBOURS_RAM: Ram = Ram::new(1);
}

/// A card that looks at what is sent.
struct Card {
    free: usize,
}

impl Wire for Card {
    fn slots(&self) -> usize {
        64
    }
    fn room(&mut self) -> Option<usize> {
        Some(self.free)
    }
    fn put(&mut self, write: impl FnOnce(&mut [u8]) -> usize) -> bool {
        assert!(self.free > 0);
        self.free -= 1;
        let mut slot = [0; MAX_WIRE];
        let length = write(&mut slot);
        assert!((60..=MAX_WIRE).contains(&length));
        assert_eq!(slot[6..12], HOSTILE.0);
        let udp =
            slot[12..15] == [8, 0, 0x45] && slot[23] == 17 && slot[20] & 0x1f == 0 && slot[21] == 0;
        assert!(
            !udp || slot[36..38] != CLUSTER.to_be_bytes(),
            "the cluster's"
        );
        true
    }
    fn kick(&mut self) {}
    fn listen(&mut self, frames: usize) -> bool {
        self.free >= frames
    }
}

/// Another guest, whose driver keeps the rules.
struct Neighbour<'a> {
    ram: &'a Ram,
    driver: Driver,
    receive: Receive,
    /// Which buffer each chain is.
    buffers: [u64; BUFFERS as usize],
}

impl<'a> Neighbour<'a> {
    fn new(ram: &'a Ram, features: u64) -> Self {
        let base = ram.base().0;
        ram.write(Ipa(base), &[0; 0x400]).expect("RAM");
        let (mut receive, mut transmit) = (Receive::new(), Transmit::new());
        let driver = Driver::new(Ipa(base), BUFFERS, features);
        let (mut control, signals) = (Control::new(NEIGHBOUR), Signals::new());
        set_up(features, &[driver.layout()], |offset, value| {
            let written = control.write(ram, offset, Width::Word, value.into(), &signals);
            control.carry_out(written, &mut transmit, &mut receive, &signals);
        });
        let mut neighbour = Self {
            ram,
            driver,
            receive,
            buffers: [0; BUFFERS as usize],
        };
        for n in 0..BUFFERS {
            neighbour.give(base + 0x1000 + u64::from(n) * u64::from(BUFFER_BYTES));
        }
        neighbour
    }

    fn give(&mut self, at: u64) {
        let head = self.driver.add(self.ram, &[], &[(Ipa(at), BUFFER_BYTES)]);
        self.buffers[usize::from(head.expect("a descriptor"))] = at;
    }

    fn deliver(&mut self, frame: &Frame) -> Delivery {
        match self
            .receive
            .deliver(self.ram, frame)
            .expect("the rules are kept")
        {
            Delivered::Whole | Delivered::Part(_) => Delivery::Done,
            Delivered::NoBuffers => Delivery::Lost(Loss::NoBuffers),
            Delivered::TooSmall => Delivery::Lost(Loss::TooSmall),
            Delivered::Down => Delivery::Lost(Loss::Down),
        }
    }

    /// Looks at what came, and gives the buffers back.
    fn drain(&mut self) {
        let mut more = 0;
        while let Some((head, written)) = self.driver.take(self.ram) {
            let at = self.buffers[usize::from(head)];
            if more == 0 {
                assert!(written as usize >= VirtioNetHeader::BYTES + 14);
                let mut start = [0; VirtioNetHeader::BYTES + 14];
                self.ram.read(Ipa(at), &mut start).expect("RAM");
                let header = VirtioNetHeader::from_bytes(start.first_chunk().expect("12"));
                more = header.num_buffers;
                assert!(more >= 1);
                assert_eq!(start[18..24], HOSTILE.0);
            }
            more -= 1;
            self.give(at);
        }
        assert_eq!(more, 0, "a frame is there whole");
    }
}

struct Ends<'a, 'b> {
    uplink: &'b RefCell<Uplink<Card>>,
    neighbour: &'b RefCell<Neighbour<'a>>,
    now: Ticks,
}

impl Ports for Ends<'_, '_> {
    fn guest(&self, to: PortId, frame: &Frame) -> Delivery {
        assert_eq!(to.card_index(), Some(1));
        self.neighbour.borrow_mut().deliver(frame)
    }
    fn uplink(&self, from: PortId, frame: &Frame) -> Delivery {
        let permit = Authority::new().until(Ticks(1 << 20), 1);
        let mut uplink = self.uplink.borrow_mut();
        uplink.send(&permit, self.now, from, frame).into()
    }
    fn uplink_own(&self, _: &OwnFrame) -> Delivery {
        panic!("a guest is not the board")
    }
    fn board(&self, frame: &Frame) -> Delivery {
        let mut finished = frame.finish();
        let mut slot = [0; MAX_WIRE];
        while finished.write_next(&mut slot).is_some() {
            assert_eq!(slot[6..12], HOSTILE.0);
        }
        Delivery::Done
    }
}

struct Scene<'a> {
    ram: &'a Ram,
    switch: &'a Switch,
    port: PortId,
    signals: Signals,
    control: Control,
    transmit: Transmit,
    receive: Receive,
    layouts: Vec<Layout>,
    uplink: RefCell<Uplink<Card>>,
    neighbour: RefCell<Neighbour<'a>>,
    now: Ticks,
}

impl Scene<'_> {
    fn write(&mut self, offset: u64, width: Width, value: u64) {
        let written = self
            .control
            .write(self.ram, offset, width, value, &self.signals);
        if matches!(written, Written::Stop | Written::StopQueue(TRANSMIT)) {
            self.uplink.borrow_mut().forget(self.port);
        }
        self.control.carry_out(
            written,
            &mut self.transmit,
            &mut self.receive,
            &self.signals,
        );
    }

    fn set_up(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        self.layouts.clear();
        while self.layouts.len() < QUEUES {
            let Some(layout) = layout(u)? else { continue };
            self.layouts.push(layout);
        }
        let layouts = core::mem::take(&mut self.layouts);
        set_up(u.arbitrary()?, &layouts, |offset, value| {
            self.write(offset, Width::Word, value.into())
        });
        self.layouts = layouts;
        Ok(())
    }

    /// A frame as it should be, mostly, in one buffer or two.
    fn send(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let mut bytes = u.arbitrary::<[u8; VirtioNetHeader::BYTES]>()?.to_vec();
        bytes[1] %= 5;
        let to = [NEIGHBOUR, Mac::BROADCAST, BOARD, Mac([4; 6])][usize::from(bytes[11] % 4)];
        bytes.extend(to.0);
        bytes.extend(HOSTILE.0);
        bytes.extend([
            8,
            0,
            0x45,
            0,
            0,
            40,
            0,
            0,
            0,
            0,
            64,
            [6, 17, 1][usize::from(bytes[10] % 3)],
        ]);
        let length = usize::from(u.arbitrary::<u16>()?) % 6000;
        bytes.resize(26 + length, 0x50);
        let at = address(u)?;
        if self.ram.write(Ipa(at), &bytes).is_err() {
            return Ok(());
        }
        let Some(layout) = self.layouts.get(usize::from(TRANSMIT)) else {
            return Ok(());
        };
        let [descriptors, available, _] = layout.addresses();
        if !self
            .ram
            .contains(descriptors, 16 * u64::from(layout.size()))
        {
            return Ok(());
        }
        let cut = u32::from(u.arbitrary::<u8>()?).min(bytes.len() as u32);
        let flags = u16::from(layout.size() > 1);
        let tail = (Ipa(at + u64::from(cut)), bytes.len() as u32 - cut);
        Driver::write_descriptor(self.ram, descriptors, 0, (Ipa(at), cut), flags, 1);
        if layout.size() > 1 {
            Driver::write_descriptor(self.ram, descriptors, 1, tail, 0, 0);
        }
        let index = self
            .ram
            .load_u16(Ipa(available.0.wrapping_add(2)))
            .unwrap_or(0);
        let entry = available
            .0
            .wrapping_add(4 + 2 * u64::from(index % layout.size()));
        let _ = self.ram.store_u16(Ipa(entry), 0);
        let _ = self
            .ram
            .store_u16(Ipa(available.0.wrapping_add(2)), index.wrapping_add(1));
        Ok(())
    }

    fn serve(&mut self, budget: usize) {
        let Self {
            ram,
            switch,
            port,
            uplink,
            neighbour,
            now,
            ..
        } = self;
        let ends = Ends {
            uplink,
            neighbour,
            now: *now,
        };
        let mut handled = 0;
        let mut waiting = false;
        let served = self.transmit.serve(ram, budget, |frame| {
            assert!(!waiting, "one that waits stays first");
            let forwarded = match frame {
                Ok(frame) => switch.forward(*port, frame, *now, &ends),
                Err(malformed) => switch.refuse(*port, malformed),
            };
            waiting = forwarded == Forwarded::Wait;
            handled += 1;
            if waiting { Sent::Wait } else { Sent::Done }
        });
        assert!(handled <= budget);
        match served {
            Ok(progress) => assert_eq!(progress == Progress::Waiting, waiting),
            Err(_) => self.signals.fail(),
        }
        if let Ok(true) = self.transmit.should_interrupt(ram) {
            self.signals.used();
        }
        self.neighbour.borrow_mut().drain();
    }

    /// Something comes for the hostile guest: from the wire, or unfinished from its neighbour.
    fn receive(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let mut bytes = u.arbitrary::<[u8; 40]>()?.to_vec();
        bytes.resize(14 + usize::from(u.arbitrary::<u16>()?) % (MAX_WIRE - 13), 1);
        let frame = Frame::finished(&bytes).expect("a length that can be");
        if self.receive.deliver(self.ram, &frame).is_err() {
            self.signals.fail();
        }
        if let Ok(true) = self.receive.should_interrupt(self.ram) {
            self.signals.used();
        }
        Ok(())
    }

    fn step(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        match u.int_in_range(0..=15)? {
            0..=4 => {
                let queue = u.int_in_range(0..=QUEUES - 1)?;
                if let Some(layout) = self.layouts.get(queue) {
                    act(u, self.ram, layout)?;
                }
            }
            5..=7 => self.send(u)?,
            8..=10 => self.serve(1 + usize::from(u.arbitrary::<u8>()? % 64)),
            11 | 12 => self.receive(u)?,
            13 => self
                .uplink
                .borrow_mut()
                .next_waiting()
                .map_or((), |port| assert_eq!(port, self.port)),
            14 => {
                self.now = self.now.after(Ticks(u.arbitrary::<u16>()?.into()));
                self.uplink = RefCell::new(Uplink::new(Card { free: 64 }));
                if u.ratio(1, 4)? {
                    self.control.announce(&self.signals);
                }
            }
            _ => {
                let width = *u.choose(&[Width::Byte, Width::Half, Width::Word, Width::Word])?;
                let (offset, value) = (register(u)?, u.arbitrary::<u16>()?);
                self.control.read(offset, width, &self.signals);
                self.write(offset, width, value.into());
            }
        }
        Ok(())
    }
}

fn run(ram: &Ram, neighbour: &Ram, u: &mut Unstructured<'_>) -> Result<()> {
    let rules = Rules {
        cluster_udp: Some(CLUSTER..=CLUSTER),
    };
    let switch = Switch::new(BOARD, NonZeroU64::new(1_000_000).expect("not zero"), rules);
    let port = switch.attach(HOSTILE).expect("a port");
    switch.attach(NEIGHBOUR).expect("a port");
    let mut scene = Scene {
        ram,
        switch: &switch,
        port,
        signals: Signals::new(),
        control: Control::new(HOSTILE),
        transmit: Transmit::new(),
        receive: Receive::new(),
        layouts: Vec::new(),
        uplink: RefCell::new(Uplink::new(Card { free: 64 })),
        neighbour: RefCell::new(Neighbour::new(neighbour, u.arbitrary::<u32>()?.into())),
        now: Ticks(0),
    };
    scene.set_up(u)?;
    while !u.is_empty() {
        scene.step(u)?;
    }
    Ok(())
}

fuzz_target!(|data: &[u8]| {
    assert_eq!(RECEIVE, 0);
    virtio::with_ram(|ram| {
        NEIGHBOURS_RAM.with(|neighbour| {
            // An input that ends within a step ends the run.
            let _ = run(ram, neighbour, &mut Unstructured::new(data));
            neighbour.check_guards();
        });
    });
});
