//! A guest's virtio devices: what stands in each slot, and what an access, a frame or a completion leads to.
//!
//! **Who works.** A notification is served by the vCPU that made it, on its way out of the guest, in steps of [`STEP`]: between two of them
//! the core looks whether it is wanted elsewhere, and what is left is noted in `pending` and done before the next entry. So whoever
//! floods a device pays with its own time.
//!
//! **Locks**, each after those before it: a disk, or a card's transmit half; another guest's receive half; the board's own (disk, card);
//! this guest's `vgic`. The registers of a card have a lock of their own, under which no other is taken.

use alloc::boxed::Box;
use core::sync::atomic::Ordering;

use crate::device::pl011::Sink;
use crate::device::virtio::Served;
use crate::device::virtio::block::{self, Block};
use crate::device::virtio::console::{self, Console};
use crate::device::virtio::entropy::{self, Entropy, Generator};
use crate::device::virtio::net::{self, Delivered, Progress, Sent};
use crate::device::virtio::queue::QueueError;
use crate::device::virtio::signals::Signals;
use crate::device::virtio::transport::{self, Written};
use crate::exit::Width;
use crate::frame::{Frame, Mac};
use crate::guest::Guest;
use crate::host::{Host, Network};
use crate::lock::Mutex;
use crate::machine;
use crate::switch::{Delivery, Forwarded, Loss, PortId};
use crate::vgic::{Intid, VcpuId, VcpuMask};

/// Requests or frames that are served at once, before the core looks whether it is wanted.
pub const STEP: u32 = 64;

/// A shared line is no vCPU's own.
const ANY: VcpuId = VcpuId::new(0).expect("there is a first vCPU");

/// What stands in a slot.
pub enum Device {
    /// A disk.
    Block(Signals, Box<Mutex<Block<'static>>>),
    /// A network card.
    Network(Box<Card>),
    /// A console besides the PL011, on the same line of the board.
    Console(Signals, Box<Mutex<Console>>),
    /// A source of random bytes.
    Entropy(Signals, Box<Mutex<(Entropy, Generator)>>),
}

/// A network card.
pub struct Card {
    port: PortId,
    signals: Signals,
    control: Mutex<net::Control>,
    transmit: Mutex<net::Transmit>,
    receive: Mutex<net::Receive>,
}

impl Device {
    /// A disk.
    pub fn block(block: Block<'static>) -> Self {
        Self::Block(Signals::new(), Box::new(Mutex::new(block)))
    }

    /// A network card with the address `mac`, behind a port of the switch.
    pub fn network(mac: Mac, port: PortId) -> Self {
        Self::Network(Box::new(Card {
            port,
            signals: Signals::new(),
            control: Mutex::new(net::Control::new(mac)),
            transmit: Mutex::new(net::Transmit::new()),
            receive: Mutex::new(net::Receive::new()),
        }))
    }

    /// A console.
    pub fn console() -> Self {
        Self::Console(Signals::new(), Box::new(Mutex::new(Console::new())))
    }

    /// A source of the random bytes that `generator` makes.
    pub fn entropy(generator: Generator) -> Self {
        Self::Entropy(
            Signals::new(),
            Box::new(Mutex::new((Entropy::new(), generator))),
        )
    }
}

impl Card {
    /// Its three values, in the order of their locks.
    pub(super) fn halves(
        &self,
    ) -> (
        &Mutex<net::Control>,
        &Mutex<net::Transmit>,
        &Mutex<net::Receive>,
    ) {
        (&self.control, &self.transmit, &self.receive)
    }

    /// What it tells its driver.
    pub(super) fn signals(&self) -> &Signals {
        &self.signals
    }

    /// As new.
    fn restart(&self) {
        let mut control = self.control.lock();
        let (mut transmit, mut receive) = (self.transmit.lock(), self.receive.lock());
        control.carry_out(Written::Stop, &mut transmit, &mut receive, &self.signals);
        *control = net::Control::new(control.mac());
    }

    /// The driver broke a rule.
    #[cold]
    fn fail(&self, _: QueueError) {
        self.signals.fail();
    }
}

/// How an access ended.
pub(super) enum Access {
    /// It is done.
    Done,
    /// It is to be made again: the device cannot answer yet.
    Again,
}

/// The shared interrupt of a slot.
fn intid(slot: usize) -> Intid {
    let number = machine::VIRTIO_SPI + slot as u32;
    Intid::new(machine::intid(machine::InterruptKind::Shared, number)).expect("an SPI")
}

impl Guest {
    /// How many virtio slots are occupied, from the first on.
    pub fn slots(&self) -> u8 {
        self.devices.len() as u8
    }

    /// A read in an occupied slot.
    pub(super) fn slot_read(&self, slot: usize, offset: u64, width: Width) -> u64 {
        match &self.devices[slot] {
            Device::Block(signals, block) => block.lock().read(offset, width, signals),
            Device::Network(card) => card.control.lock().read(offset, width, &card.signals),
            Device::Console(signals, console) => console.lock().read(offset, width, signals),
            Device::Entropy(signals, entropy) => entropy.lock().0.read(offset, width, signals),
        }
    }

    /// A write in an occupied slot.
    pub(super) fn slot_write<H: Host>(
        &self,
        host: &H,
        slot: usize,
        (offset, width, value): (u64, Width, u64),
    ) -> Access {
        match &self.devices[slot] {
            Device::Block(signals, block) => {
                let mut block = block.lock();
                let written = block.write(offset, width, value, signals);
                if written == block::Written::Notified {
                    self.serve_block(host, slot, &mut block, signals);
                }
                let draining = block.is_draining();
                self.update_line(host, slot, signals);
                if written == block::Written::Reset && draining {
                    return Access::Again;
                }
            }
            Device::Network(card) => {
                if transport::notified(offset, width, value) == Some(net::TRANSMIT) {
                    self.serve_transmit(host, slot, card);
                } else {
                    self.write_card(host, card, (offset, width, value));
                    self.update_line(host, slot, &card.signals);
                }
            }
            Device::Console(signals, console) => {
                let sink = &mut host.console(self.id);
                let queue = console.lock().write(offset, width, value, signals, sink);
                match queue {
                    Some(queue) => self.serve_console(host, slot, queue),
                    None => self.update_line(host, slot, signals),
                }
            }
            Device::Entropy(signals, entropy) => {
                let queue = entropy.lock().0.write(offset, width, value, signals);
                match queue {
                    Some(queue) => self.serve_entropy(host, slot, queue),
                    None => self.update_line(host, slot, signals),
                }
            }
        }
        Access::Done
    }

    /// One step of a console's queue.
    fn serve_console<H: Host>(&self, host: &H, slot: usize, queue: u16) {
        let Device::Console(signals, console) = &self.devices[slot] else {
            return;
        };
        let mut console = console.lock();
        if self.put_off(host, slot) {
            return;
        }
        let sink = &mut host.console(self.id);
        let served = console.notify(queue, &self.memory, signals, sink);
        drop(console);
        match served {
            Served::Rest => {}
            Served::More => self.defer(host, slot),
            Served::Full => {
                self.unheard.fetch_or(1 << slot, Ordering::AcqRel);
                // The line may have got room before that was to be seen.
                if !sink.is_full() {
                    self.defer(host, slot);
                }
            }
        }
        self.update_line(host, slot, signals);
    }

    /// One step of a source's queue.
    fn serve_entropy<H: Host>(&self, host: &H, slot: usize, queue: u16) {
        let Device::Entropy(signals, entropy) = &self.devices[slot] else {
            return;
        };
        let (device, generator) = &mut *entropy.lock();
        if self.put_off(host, slot) {
            return;
        }
        let fill = |bytes: &mut [u8]| generator.fill(bytes);
        if device.notify(queue, &self.memory, signals, fill) != Served::Rest {
            self.defer(host, slot);
        }
        self.update_line(host, slot, signals);
    }

    /// The board's line has room again: consoles that waited for it go on.
    pub fn resume_consoles<H: Host>(&self, host: &H) {
        let mut left = self.unheard.swap(0, Ordering::AcqRel);
        while left != 0 {
            let slot = left.trailing_zeros() as usize;
            left &= left - 1;
            self.serve_console(host, slot, console::TRANSMIT);
        }
    }

    /// A byte for the guest's virtio console, if it has one whose driver is ready; handed back otherwise, or when too many wait.
    pub(super) fn receive_virtio<H: Host>(&self, host: &H, byte: u8) -> Result<(), u8> {
        let found = self
            .devices
            .iter()
            .enumerate()
            .find_map(|(slot, device)| match device {
                Device::Console(_, console) => Some((slot, console)),
                _ => None,
            });
        let Some((slot, console)) = found else {
            return Err(byte);
        };
        console.lock().receive(byte)?;
        self.serve_console(host, slot, console::RECEIVE);
        Ok(())
    }

    /// A write to a card's registers that is no notification to send.
    fn write_card<H: Host>(
        &self,
        host: &H,
        card: &Card,
        (offset, width, value): (u64, Width, u64),
    ) {
        let mut control = card.control.lock();
        match control.write(&self.memory, offset, width, value, &card.signals) {
            Written::Nothing | Written::Notify(_) | Written::Config { .. } => {}
            changed => {
                let (mut transmit, mut receive) = (card.transmit.lock(), card.receive.lock());
                control.carry_out(changed, &mut transmit, &mut receive, &card.signals);
                drop((transmit, receive));
                host.network().forget(card.port);
            }
        }
    }

    /// Forwards a step's worth of what a card has to send.
    fn serve_transmit<H: Host>(&self, host: &H, slot: usize, card: &Card) {
        let mut transmit = card.transmit.lock();
        if self.put_off(host, slot) {
            return;
        }
        let network = host.network();
        let served = transmit.serve(&self.memory, STEP as usize, |frame| {
            match network.forward(card.port, frame) {
                Forwarded::Done => Sent::Done,
                Forwarded::Wait => Sent::Wait,
            }
        });
        let interrupts = served.and_then(|progress| {
            let wanted = transmit.should_interrupt(&self.memory)?;
            Ok((progress, wanted))
        });
        drop(transmit);
        network.finish();
        match interrupts {
            Ok((progress, wanted)) => {
                if wanted {
                    card.signals.used();
                }
                if progress == Progress::More {
                    self.defer(host, slot);
                }
            }
            Err(error) => card.fail(error),
        }
        self.update_line(host, slot, &card.signals);
    }

    /// There is room for frames of a card that waited.
    pub fn resume_transmit<H: Host>(&self, host: &H, slot: usize) {
        if let Some(Device::Network(card)) = self.devices.get(slot) {
            self.serve_transmit(host, slot, card);
        }
    }

    /// Whether the guest is to do nothing now. Then what the device in a slot would go on with is left to its vCPUs, for when they run again.
    ///
    /// The device's lock is held, so that a device does nothing any more when the guest is frozen and its lock was free once ([`set_still`](Self::set_still)).
    pub(super) fn put_off<H: Host>(&self, host: &H, slot: usize) -> bool {
        if !self.is_frozen() && !self.is_stopping() {
            return false;
        }
        self.pending.fetch_or(1 << slot, Ordering::AcqRel);
        self.tell(host, VcpuMask::first(self.vcpus.len()));
        true
    }

    /// Gives a card a frame. Its driver hears of it by [`finish_receive`](Self::finish_receive).
    #[inline]
    pub fn receive_frame(&self, slot: usize, frame: &Frame<'_>) -> Delivery {
        let Some(Device::Network(card)) = self.devices.get(slot) else {
            return Delivery::Lost(Loss::Down);
        };
        let delivered = card.receive.lock().deliver(&self.memory, frame);
        match delivered {
            Ok(Delivered::Whole) => Delivery::Done,
            Ok(Delivered::Part(_) | Delivered::NoBuffers) => Delivery::Lost(Loss::NoBuffers),
            Ok(Delivered::TooSmall) => Delivery::Lost(Loss::TooSmall),
            Ok(Delivered::Down) => Delivery::Lost(Loss::Down),
            Err(error) => {
                card.fail(error);
                Delivery::Lost(Loss::Down)
            }
        }
    }

    /// A batch of frames for a card is over.
    pub fn finish_receive<H: Host>(&self, host: &H, slot: usize) {
        let Some(Device::Network(card)) = self.devices.get(slot) else {
            return;
        };
        let wanted = card.receive.lock().should_interrupt(&self.memory);
        match wanted {
            Ok(true) => card.signals.used(),
            Ok(false) => {}
            Err(error) => card.fail(error),
        }
        self.update_line(host, slot, &card.signals);
    }

    /// Goes on with what was left over, one step of each device; whether more is left. Before an entry, when the vCPU was asked to look.
    #[inline]
    pub(super) fn serve_pending<H: Host>(&self, host: &H) -> bool {
        if self.pending.load(Ordering::Relaxed) == 0 {
            return false;
        }
        self.serve_all_pending(host);
        self.pending.load(Ordering::Relaxed) != 0
    }

    fn serve_all_pending<H: Host>(&self, host: &H) {
        let mut left = self.pending.swap(0, Ordering::AcqRel);
        while left != 0 {
            let slot = left.trailing_zeros() as usize;
            left &= left - 1;
            self.serve_slot(host, slot);
        }
    }

    /// One step of a device's work.
    pub(super) fn serve_slot<H: Host>(&self, host: &H, slot: usize) {
        match &self.devices[slot] {
            Device::Block(signals, block) => {
                let mut block = block.lock();
                self.serve_block(host, slot, &mut block, signals);
                self.update_line(host, slot, signals);
            }
            Device::Network(card) => self.serve_transmit(host, slot, card),
            Device::Console(..) => {
                self.serve_console(host, slot, console::RECEIVE);
                self.serve_console(host, slot, console::TRANSMIT);
            }
            Device::Entropy(..) => self.serve_entropy(host, slot, entropy::REQUESTS),
        }
    }

    /// There is more to do in a slot: some vCPU goes on with it before it enters the guest.
    pub(super) fn defer<H: Host>(&self, host: &H, slot: usize) {
        self.pending.fetch_or(1 << slot, Ordering::AcqRel);
        self.tell(host, VcpuMask::first(self.vcpus.len()));
    }

    /// No card gets anything any more: the guest has stopped.
    pub fn stop_cards(&self) {
        for device in &self.devices {
            if let Device::Network(card) = device {
                card.restart();
            }
        }
    }

    /// Every device as new, before the guest's memory is filled anew. No vCPU runs, and nothing is in flight.
    pub fn reset_devices(&self) {
        self.pending.store(0, Ordering::Relaxed);
        self.stalled.store(0, Ordering::Relaxed);
        self.unheard.store(0, Ordering::Relaxed);
        for device in &self.devices {
            match device {
                Device::Block(signals, block) => block.lock().restart(signals),
                Device::Network(card) => card.restart(),
                Device::Console(signals, console) => {
                    *console.lock() = Console::new();
                    signals.clear();
                }
                Device::Entropy(signals, entropy) => {
                    entropy.lock().0 = Entropy::new();
                    signals.clear();
                }
            }
        }
    }

    /// Moves a slot's interrupt line, if it changed.
    #[inline]
    pub(super) fn update_line<H: Host>(&self, host: &H, slot: usize, signals: &Signals) {
        if !signals.has_line_change() {
            return;
        }
        let mut vgic = self.vgic.lock();
        let mut told = VcpuMask::EMPTY;
        while let Some(level) = signals.take_line_change() {
            told |= vgic.set_line(intid(slot), ANY, level);
        }
        drop(vgic);
        self.tell(host, told);
    }
}
