//! A device in memory, for tests: it follows the standard from the device's side, and breaks it where a test wants that.

use std::cell::RefCell;
use std::vec::Vec;

use super::{Registers, feature, register, status};

/// Flags, as the standard numbers them.
const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;
const QUIET: u16 = 1;

/// A queue as its registers set it up, and how far the device is.
#[derive(Clone, Copy, Default)]
struct FakeQueue {
    size: u32,
    ready: bool,
    descriptors: u64,
    driver: u64,
    device: u64,
    seen: u16,
    used: u16,
    notified: usize,
}

struct State {
    id: u32,
    version: u32,
    offered: u64,
    accepted: u64,
    selected: [u32; 3],
    status: u32,
    most: u32,
    queues: [FakeQueue; 2],
    reasons: u32,
    interrupts: usize,
    configuration: [u8; 64],
    generation: u32,
    moving_configuration: bool,
    stuck: bool,
    refuses: bool,
}

/// A piece of memory that the driver described.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub address: u64,
    pub bytes: u32,
    pub writable: bool,
}

/// The device, and its registers.
#[derive(Clone, Copy)]
pub(crate) struct Fake(&'static RefCell<State>);

/// # Safety
/// The address is in memory that the driver gave.
unsafe fn get<T>(address: u64) -> T {
    // SAFETY: the caller's promise.
    unsafe { (address as *const T).read_volatile() }
}

/// # Safety
/// As [`get`].
unsafe fn set<T>(address: u64, value: T) {
    // SAFETY: the caller's promise.
    unsafe { (address as *mut T).write_volatile(value) }
}

impl Fake {
    /// A device of a kind, with features besides the modern interface, and its configuration.
    pub fn new(id: u32, features: u64, configuration: &[u8]) -> Self {
        let mut bytes = [0; 64];
        bytes[..configuration.len()].copy_from_slice(configuration);
        Self(Box::leak(Box::new(RefCell::new(State {
            id,
            version: 2,
            offered: features | feature::VERSION_1,
            accepted: 0,
            selected: [0; 3],
            status: 0,
            most: 1024,
            queues: [FakeQueue::default(); 2],
            reasons: 0,
            interrupts: 0,
            configuration: bytes,
            generation: 0,
            moving_configuration: false,
            stuck: false,
            refuses: false,
        }))))
    }

    pub fn version(self, version: u32) -> Self {
        self.0.borrow_mut().version = version;
        self
    }

    pub fn most(self, entries: u32) -> Self {
        self.0.borrow_mut().most = entries;
        self
    }

    pub fn stuck(self) -> Self {
        let mut state = self.0.borrow_mut();
        (state.stuck, state.status) = (true, 4);
        drop(state);
        self
    }

    pub fn refusing(self) -> Self {
        self.0.borrow_mut().refuses = true;
        self
    }

    pub fn restless(self) -> Self {
        self.0.borrow_mut().moving_configuration = true;
        self
    }

    pub fn accepted(self) -> u64 {
        self.0.borrow().accepted
    }

    pub fn is_running(self) -> bool {
        self.0.borrow().status & status::DRIVER_OK != 0
    }

    pub fn configure(self, offset: usize, byte: u8) {
        let mut state = self.0.borrow_mut();
        state.configuration[offset] = byte;
        state.generation += 1;
        state.reasons |= 2;
    }

    /// How often the driver has notified a queue, and the device interrupted.
    pub fn notified(self, queue: usize) -> usize {
        self.0.borrow().queues[queue].notified
    }

    pub fn interrupts(self) -> usize {
        self.0.borrow().interrupts
    }

    fn has_events(self) -> bool {
        self.0.borrow().accepted & feature::EVENT_INDEX != 0
    }

    fn queue(self, number: usize) -> FakeQueue {
        let queue = self.0.borrow().queues[number];
        assert!(queue.ready && self.is_running(), "no work before DRIVER_OK");
        queue
    }

    /// The next request of a queue: its head and its pieces.
    pub fn pop(self, number: usize) -> Option<(u16, Vec<Piece>)> {
        let queue = self.queue(number);
        // SAFETY: the driver's rings.
        unsafe {
            if get::<u16>(queue.driver + 2) == queue.seen {
                return None;
            }
            let slot = u64::from(u32::from(queue.seen) % queue.size);
            let head: u16 = get(queue.driver + 4 + 2 * slot);
            self.0.borrow_mut().queues[number].seen = queue.seen.wrapping_add(1);
            assert!(u32::from(head) < queue.size);
            Some((head, chain(queue.descriptors, head)))
        }
    }

    /// The device goes to sleep: it wants to hear of the next request. Says whether there is one already.
    pub fn sleep(self, number: usize) -> bool {
        let queue = self.queue(number);
        let event = queue.device + 4 + 8 * u64::from(queue.size);
        // SAFETY: the driver's rings.
        unsafe {
            set(event, queue.seen);
            set(queue.device, 0u16);
            get::<u16>(queue.driver + 2) != queue.seen
        }
    }

    /// The device is awake, and wants to hear nothing.
    pub fn wake(self, number: usize) {
        let queue = self.queue(number);
        let event = queue.device + 4 + 8 * u64::from(queue.size);
        // SAFETY: the driver's rings.
        unsafe {
            set(event, queue.seen.wrapping_sub(1));
            set(queue.device, QUIET);
        }
    }

    /// Gives back an entry, sound or not, and interrupts if the driver wants that.
    pub fn push(self, number: usize, head: u32, bytes: u32) {
        let queue = self.queue(number);
        let element = queue.device + 4 + 8 * u64::from(u32::from(queue.used) % queue.size);
        // SAFETY: the driver's rings.
        unsafe {
            set(element, head);
            set(element + 4, bytes);
        }
        self.set_used(number, queue.used.wrapping_add(1));
    }

    /// Moves the index of what is used, wherever to.
    pub fn set_used(self, number: usize, used: u16) {
        let queue = self.queue(number);
        // SAFETY: the driver's rings.
        let wanted = unsafe {
            set(queue.device + 2, used);
            if self.has_events() {
                let event: u16 = get(queue.driver + 4 + 2 * u64::from(queue.size));
                used.wrapping_sub(event).wrapping_sub(1) < used.wrapping_sub(queue.used)
            } else {
                get::<u16>(queue.driver) & QUIET == 0
            }
        };
        let mut state = self.0.borrow_mut();
        state.queues[number].used = used;
        if wanted {
            state.reasons |= 1;
            state.interrupts += 1;
        }
    }
}

/// # Safety
/// The table is the driver's, and whole.
unsafe fn chain(table: u64, head: u16) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let (mut table, mut index) = (table, head);
    loop {
        let at = table + 16 * u64::from(index);
        // SAFETY: the caller's promise.
        let (address, bytes, flags, next): (u64, u32, u16, u16) =
            unsafe { (get(at), get(at + 8), get(at + 12), get(at + 14)) };
        if flags & INDIRECT != 0 {
            assert_eq!((flags, bytes % 16, pieces.len()), (INDIRECT, 0, 0));
            (table, index) = (address, 0);
            continue;
        }
        pieces.push(Piece {
            address,
            bytes,
            writable: flags & WRITE != 0,
        });
        assert!(pieces.len() < 1024, "a loop");
        if flags & NEXT == 0 {
            return pieces;
        }
        index = next;
    }
}

impl Piece {
    pub fn read(&self) -> Vec<u8> {
        assert!(!self.writable);
        // SAFETY: the driver described it, and does not touch it.
        (0..u64::from(self.bytes))
            .map(|n| unsafe { get(self.address + n) })
            .collect()
    }

    pub fn write(&self, bytes: &[u8]) {
        assert!(self.writable && bytes.len() <= self.bytes as usize);
        for (n, &byte) in bytes.iter().enumerate() {
            // SAFETY: as in `read`.
            unsafe { set(self.address + n as u64, byte) };
        }
    }
}

impl Registers for Fake {
    fn read(&self, offset: usize) -> u32 {
        let mut state = self.0.borrow_mut();
        let [device_half, _, queue] = state.selected;
        match offset {
            register::MAGIC => 0x7472_6976,
            register::VERSION => state.version,
            register::DEVICE_ID => state.id,
            register::DEVICE_FEATURES => (state.offered >> (32 * device_half)) as u32,
            register::QUEUE_NUM_MAX if queue < 2 => state.most,
            register::QUEUE_NUM_MAX => 0,
            register::INTERRUPT_STATUS => state.reasons,
            register::STATUS => state.status,
            register::CONFIG_GENERATION => {
                state.generation += u32::from(state.moving_configuration);
                state.generation
            }
            register::CONFIG.. => {
                let at = offset - register::CONFIG;
                u32::from_le_bytes(state.configuration[at..at + 4].try_into().unwrap())
            }
            _ => panic!("register {offset:#x} is not for reading"),
        }
    }

    fn write(&self, offset: usize, value: u32) {
        let mut state = self.0.borrow_mut();
        let (half, number) = (state.selected[1], state.selected[2] as usize);
        let low = |old: u64| old & !0xffff_ffff | u64::from(value);
        let high = |old: u64| old & 0xffff_ffff | u64::from(value) << 32;
        match offset {
            register::DEVICE_FEATURES_SEL => state.selected[0] = value,
            register::DRIVER_FEATURES_SEL => state.selected[1] = value,
            register::QUEUE_SEL => state.selected[2] = value,
            register::DRIVER_FEATURES => {
                assert_eq!(state.status, status::ACKNOWLEDGE | status::DRIVER);
                state.accepted |= u64::from(value) << (32 * half);
                assert_eq!(state.accepted & !state.offered, 0, "only what is offered");
            }
            register::STATUS if value == 0 && !state.stuck => {
                (state.status, state.accepted, state.reasons) = (0, 0, 0);
                state.queues = [FakeQueue::default(); 2];
            }
            register::STATUS if state.stuck => {}
            register::STATUS if state.refuses => state.status = value & !status::FEATURES_OK,
            register::STATUS => state.status = value,
            register::QUEUE_NUM => state.queues[number].size = value,
            register::QUEUE_READY => state.queues[number].ready = value == 1,
            register::QUEUE_NOTIFY => state.queues[value as usize].notified += 1,
            register::INTERRUPT_ACK => state.reasons &= !value,
            _ => {
                assert!(!state.queues[number].ready, "set up before it is ready");
                let queue = &mut state.queues[number];
                match offset {
                    register::QUEUE_DESC => queue.descriptors = low(queue.descriptors),
                    register::QUEUE_DRIVER => queue.driver = low(queue.driver),
                    register::QUEUE_DEVICE => queue.device = low(queue.device),
                    0x084 => queue.descriptors = high(queue.descriptors),
                    0x094 => queue.driver = high(queue.driver),
                    0x0a4 => queue.device = high(queue.device),
                    _ => panic!("register {offset:#x} is not for writing"),
                }
            }
        }
    }

    fn read8(&self, offset: usize) -> u8 {
        self.0.borrow().configuration[offset - register::CONFIG]
    }

    fn read16(&self, offset: usize) -> u16 {
        let at = offset - register::CONFIG;
        let bytes = &self.0.borrow().configuration[at..at + 2];
        u16::from_le_bytes(bytes.try_into().unwrap())
    }
}
