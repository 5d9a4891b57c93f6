//! What the line shows, and where its input goes.
//!
//! With [`Mode::All`] every guest's output is shown in whole lines behind its name. With [`Mode::Focus`] one guest has the line for itself, byte by
//! byte, and what the others say is kept for when they are looked at. The escape key is Ctrl-].

use core::fmt;

use alloc::boxed::Box;
use alloc::string::String;
use heapless::Deque;

use super::record::Record;

/// Guests that have a place, at most.
pub const GUESTS: usize = 64;
/// What waits for the line.
const QUEUE: usize = 16 << 10;
/// A guest in focus waits once this much does, so that the board's own messages still fit.
const QUEUE_FOR_GUESTS: usize = QUEUE - (2 << 10);
/// A line that is longer is shown in pieces.
const LINE: usize = 240;

/// Ctrl-]
const ESCAPE: u8 = 0x1d;

/// How guests share the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// One guest's output as it is.
    Focus,
    /// Lines of all, each behind its guest's name.
    All,
}

/// What input asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// A byte for the guest in focus.
    Input {
        /// Which guest.
        guest: usize,
        /// The byte.
        byte: u8,
    },
    /// Freeze the guest in focus, or let it go on.
    Freeze {
        /// Which guest.
        guest: usize,
    },
    /// Destroy the guest in focus, and make it anew.
    Restart {
        /// Which guest.
        guest: usize,
    },
    /// Move the guest in focus to another place of this board.
    Move {
        /// Which guest.
        guest: usize,
    },
    /// Measure how much the guest in focus writes.
    Watch {
        /// Which guest.
        guest: usize,
    },
    /// Measure what packing the pages of the guest in focus would bring.
    Pack {
        /// Which guest.
        guest: usize,
    },
    /// Have the next move wait at the step of that key.
    Hold {
        /// The key.
        step: u8,
    },
    /// Tell how the newest move went over time.
    Course,
    /// Tell how the board is.
    Status,
    /// Turn the board off.
    PowerOff,
}

struct Guest {
    name: String,
    record: Record,
    /// Up to where it was shown.
    shown: u64,
    line: heapless::Vec<u8, LINE>,
}

/// The state of the line. In the beginning it is all zeros, so that the image has no room for it.
pub struct Mux {
    queue: Deque<u8, QUEUE>,
    guests: [Option<Box<Guest>>; GUESTS],
    mode: Mode,
    focus: usize,
    escaped: bool,
    /// The next key names a step.
    names_step: bool,
    /// The line has something on it that was not ended.
    is_begun: bool,
}

impl Mux {
    pub const fn new() -> Self {
        Self {
            queue: Deque::new(),
            guests: [const { None }; GUESTS],
            mode: Mode::Focus,
            focus: 0,
            escaped: false,
            names_step: false,
            is_begun: false,
        }
    }

    /// The next byte for the line.
    #[inline]
    pub fn peek(&self) -> Option<u8> {
        self.queue.front().copied()
    }

    /// The byte that [`peek`](Self::peek) gave has left.
    #[inline]
    pub fn advance(&mut self) {
        self.queue.pop_front();
    }

    fn push(&mut self, byte: u8) {
        push_over(&mut self.queue, byte);
        self.is_begun = byte != b'\n';
    }

    fn push_text(&mut self, text: &[u8]) {
        for &byte in text {
            if byte == b'\n' {
                self.push(b'\r');
            }
            self.push(byte);
        }
    }

    pub fn set_mode(&mut self, mode: Mode) {
        self.mode = mode;
    }

    pub fn add_guest(&mut self, guest: usize, name: &str) {
        self.guests[guest] = Some(Box::new(Guest {
            name: name.into(),
            record: Record::new(),
            shown: 0,
            line: heapless::Vec::new(),
        }));
    }

    /// Takes a guest's place away. What it said of a line that it did not end is shown if all lines are.
    pub fn remove_guest(&mut self, guest: usize) {
        let begun =
            |guest: &Option<Box<Guest>>| guest.as_ref().is_some_and(|it| !it.line.is_empty());
        if begun(&self.guests[guest]) {
            self.show_line(guest);
        }
        self.guests[guest] = None;
    }

    /// What is at one place goes on at another, with all that it said.
    pub fn move_guest(&mut self, from: usize, to: usize) {
        self.guests[to] = self.guests[from].take();
        if self.focus == from {
            self.focus = to;
        }
    }

    /// The board's own voice. It begins a line of its own.
    pub fn board(&mut self) -> Board<'_> {
        if self.is_begun {
            self.push_text(b"\n");
        }
        Board(self)
    }

    /// A byte that a guest says.
    #[inline]
    pub fn put(&mut self, guest: usize, byte: u8) {
        let is_shown = self.mode == Mode::All || guest == self.focus;
        if let Some(guest) = &mut self.guests[guest] {
            guest.record.push(byte);
            if is_shown {
                guest.shown = guest.record.said();
            }
        }
        match self.mode {
            Mode::Focus if is_shown => self.push(byte),
            Mode::Focus => {}
            Mode::All => self.put_in_line(guest, byte),
        }
    }

    #[inline]
    fn put_in_line(&mut self, index: usize, byte: u8) {
        let Some(guest) = &mut self.guests[index] else {
            return;
        };
        match byte {
            b'\r' => {}
            b'\n' => self.show_line(index),
            byte => {
                if guest.line.push(byte).is_err() {
                    self.show_line(index);
                    self.put_in_line(index, byte);
                }
            }
        }
    }

    fn show_line(&mut self, index: usize) {
        // Taken out while it is shown, so that the queue can be written.
        let Some(mut guest) = self.guests[index].take() else {
            return;
        };
        if self.is_begun {
            self.push_text(b"\n");
        }
        self.push(b'[');
        self.push_text(guest.name.as_bytes());
        self.push_text(b"] ");
        self.push_text(&guest.line);
        self.push_text(b"\n");
        guest.line.clear();
        self.guests[index] = Some(guest);
    }

    /// What a guest said from byte `from` on, into `to`: the position of the first byte, and how many there are.
    pub fn read(&self, guest: usize, from: u64, to: &mut [u8]) -> Option<(u64, usize)> {
        let record = &self.guests.get(guest)?.as_ref()?.record;
        let first = record.kept_from(from);
        let count = (record.said() - first).min(to.len() as u64);
        for (position, byte) in (first..first + count).zip(to) {
            *byte = record.byte(position);
        }
        Some((first, count as usize))
    }

    /// A guest that has come said this elsewhere, from byte `from` on; it was shown there.
    pub fn restore(&mut self, guest: usize, from: u64, said: &[u8]) {
        if let Some(guest) = &mut self.guests[guest] {
            guest.record.restore(from, said);
            guest.shown = guest.record.said();
        }
    }

    /// Whether a guest should wait: only one that has the line can make it wait.
    #[inline]
    pub fn is_full(&self, guest: usize) -> bool {
        (self.mode == Mode::All || guest == self.focus) && self.queue.len() >= QUEUE_FOR_GUESTS
    }

    /// A byte that came in.
    pub fn input(&mut self, byte: u8) -> Option<Command> {
        if core::mem::take(&mut self.names_step) {
            return Some(Command::Hold { step: byte });
        }
        if !self.escaped {
            self.escaped = byte == ESCAPE;
            return (byte != ESCAPE).then_some(Command::Input {
                guest: self.focus,
                byte,
            });
        }
        self.escaped = false;
        match byte {
            ESCAPE => {
                return Some(Command::Input {
                    guest: self.focus,
                    byte,
                });
            }
            b'1'..=b'9' => self.look_at(usize::from(byte - b'1')),
            b'n' => self.look_at_next(),
            b'a' => {
                self.mode = Mode::All;
                self.push_text(b"\n[all guests]\n");
            }
            b'f' => return Some(Command::Freeze { guest: self.focus }),
            b'r' => return Some(Command::Restart { guest: self.focus }),
            b'm' => return Some(Command::Move { guest: self.focus }),
            b'w' => return Some(Command::Watch { guest: self.focus }),
            b'h' => self.names_step = true,
            b'p' => return Some(Command::Pack { guest: self.focus }),
            b't' => return Some(Command::Course),
            b's' => return Some(Command::Status),
            b'q' => return Some(Command::PowerOff),
            _ => self.push_text(HELP),
        }
        None
    }

    fn look_at_next(&mut self) {
        let next = (1..=GUESTS)
            .map(|n| (self.focus + n) % GUESTS)
            .find(|&n| self.guests[n].is_some());
        if let Some(next) = next {
            self.look_at(next);
        }
    }

    fn look_at(&mut self, index: usize) {
        let Some(mut guest) = self.guests[index].take() else {
            return self.push_text(b"\n[no such guest]\n");
        };
        self.mode = Mode::Focus;
        self.focus = index;
        self.push_text(b"\n[");
        self.push_text(guest.name.as_bytes());
        self.push_text(b"]\n");
        for position in guest.record.kept_from(guest.shown)..guest.record.said() {
            self.push(guest.record.byte(position));
        }
        guest.shown = guest.record.said();
        self.guests[index] = Some(guest);
    }
}

/// What the escape key offers.
const HELP: &[u8] = b"\n[Ctrl-] 1..9: that guest's console, n: the next one's, a: all at once, f: freeze it or let it go on, r: make it anew, m: move it to another place of this board, w: measure how much it writes, p: measure what packing its pages would bring, t: the course of the newest move, h and a step: hold the next move there, s: status, q: turn the board off]\n";

/// A queue that drops its oldest when full.
#[inline]
fn push_over<const N: usize>(queue: &mut Deque<u8, N>, byte: u8) {
    if queue.is_full() {
        queue.pop_front();
    }
    // There is room now.
    let _ = queue.push_back(byte);
}

/// Writes the board's own lines.
pub struct Board<'a>(&'a mut Mux);

impl fmt::Write for Board<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.push_text(text.as_bytes());
        Ok(())
    }
}
