//! The board's one line, shared by its own messages and the consoles of its guests.
//!
//! [`mux`] decides what is shown and where input goes; it is plain logic over queues. Here it meets the UART: bytes leave while
//! the line takes them, the rest when its interrupt says that there is room.
//!
//! A core that faults cannot wait for a lock: [`emergency`] writes past all of this.

mod mux;
mod record;

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicUsize, Ordering};

use el2_hyp::lock::Mutex;
use platform::tree::Tree;
use platform::uart;

pub use mux::{Command, Mode};

struct Line {
    uart: Option<uart::Console>,
    mux: mux::Mux,
    waiting_for_room: bool,
}

static LINE: Mutex<Line> = Mutex::new(Line {
    uart: None,
    mux: mux::Mux::new(),
    waiting_for_room: false,
});

/// The UART's registers, for a core that must speak whoever holds the lock; zero before there is one.
static REGISTERS: AtomicUsize = AtomicUsize::new(0);

/// Starts to use the UART that the tree calls the console.
pub fn initialise(tree: &Tree) {
    let Some(console) = tree.console else { return };
    let description = &tree.uarts[console.uart];
    // SAFETY: the final map holds the UART as device memory, and this is its only driver but `emergency`.
    let uart = unsafe { uart::Console::new(description, console.baud) };
    REGISTERS.store(description.region.base() as usize, Ordering::Release);
    let mut line = LINE.lock();
    line.uart = uart;
    line.drain();
}

impl Line {
    /// Sends what the line takes now.
    fn drain(&mut self) {
        let Some(uart) = &mut self.uart else { return };
        while let Some(byte) = self.mux.peek() {
            if !uart.try_send(byte) {
                break;
            }
            self.mux.advance();
        }
        let waiting = self.mux.peek().is_some();
        if waiting != self.waiting_for_room {
            uart.notify_room(waiting);
            self.waiting_for_room = waiting;
        }
    }
}

/// Says how guests' output is shown.
pub fn set_mode(mode: Mode) {
    LINE.lock().mux.set_mode(mode);
}

/// Gives a guest a place on the line.
pub fn add_guest(guest: usize, name: &str) {
    LINE.lock().mux.add_guest(guest, name);
}

/// A guest is gone, and its place on the line free.
pub fn remove_guest(guest: usize) {
    let mut line = LINE.lock();
    line.mux.remove_guest(guest);
    line.drain();
}

/// A guest goes on at another place.
pub fn move_guest(from: usize, to: usize) {
    LINE.lock().mux.move_guest(from, to);
}

/// A byte of a guest's output.
#[inline]
pub fn put(guest: usize, byte: u8) {
    let mut line = LINE.lock();
    line.mux.put(guest, byte);
    line.drain();
}

/// What a guest said from byte `from` of its life's on, into `to`: the position of the first byte, and how many there are. None if it has no place.
pub fn read(guest: usize, from: u64, to: &mut [u8]) -> Option<(u64, usize)> {
    LINE.lock().mux.read(guest, from, to)
}

/// A guest that has come said this elsewhere, from byte `from` of its life's on: all of it, or as much as is kept.
pub fn restore(guest: usize, from: u64, said: &[u8]) {
    LINE.lock().mux.restore(guest, from, said);
}

/// Whether a guest should wait with more output.
#[inline]
pub fn is_full(guest: usize) -> bool {
    LINE.lock().mux.is_full(guest)
}

/// The line's interrupt: sends what waits, and gives each byte that came in, or the command that it completes, to `act`. The lock is not
/// held meanwhile.
pub fn interrupt(mut act: impl FnMut(Command)) {
    {
        let mut line = LINE.lock();
        if let Some(uart) = &mut line.uart {
            uart.clear_interrupt();
        }
        line.drain();
    }
    loop {
        let mut line = LINE.lock();
        let Some(byte) = line.uart.as_mut().and_then(uart::Console::receive) else {
            return;
        };
        let command = line.mux.input(byte);
        line.drain();
        drop(line);
        if let Some(command) = command {
            act(command);
        }
    }
}

/// A message of the board, one line. Use [`crate::info!`] and [`crate::warn!`].
pub fn say(arguments: fmt::Arguments<'_>) {
    let mut line = LINE.lock();
    // The queue takes everything, or drops what is oldest.
    let _ = writeln!(line.mux.board(), "hearth: {arguments}");
    line.drain();
}

/// Waits until everything said has left, for at most a second: before the board stops.
pub fn flush() {
    let deadline = el2_hyp::arch::timer::now() + el2_hyp::arch::timer::frequency();
    loop {
        let mut line = LINE.lock();
        line.drain();
        if line.mux.peek().is_none() || el2_hyp::arch::timer::now() > deadline {
            return;
        }
    }
}

/// Writes straight to the UART, whoever holds the lock.
pub struct Emergency;

/// The way out for a core that faults.
pub fn emergency() -> Emergency {
    Emergency
}

impl Write for Emergency {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        const DR: usize = 0x00;
        const FR: usize = 0x18;
        const FR_TXFF: u32 = 1 << 5;
        let base = REGISTERS.load(Ordering::Acquire);
        if base == 0 {
            return Ok(());
        }
        for byte in text.bytes() {
            let bytes: &[u8] = if byte == b'\n' {
                b"\r\n"
            } else {
                core::slice::from_ref(&byte)
            };
            for &byte in bytes {
                // SAFETY: the registers of the PL011 that `initialise` took; the board is stopping, and bytes that another core sends
                // meanwhile only mix with these.
                unsafe {
                    while ((base + FR) as *const u32).read_volatile() & FR_TXFF != 0 {}
                    ((base + DR) as *mut u32).write_volatile(byte.into());
                }
            }
        }
        Ok(())
    }
}

/// Tells the operator what happens.
#[macro_export]
macro_rules! info {
    ($($argument:tt)*) => { $crate::console::say(format_args!($($argument)*)) };
}

/// Tells the operator what is not well.
#[macro_export]
macro_rules! warn {
    ($($argument:tt)*) => { $crate::console::say(format_args!("warning: {}", format_args!($($argument)*))) };
}
