//! A small client of QEMU's gdbstub, to break a board on purpose: the shipped image has no hook for that, and needs none.
//!
//! Only what the tests use of GDB's remote protocol ("GDB Remote Serial Protocol", Debugging with GDB, appendix E): stop, registers, continue.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::paths;

/// QEMU has its socket within this.
const CONNECT: Duration = Duration::from_secs(30);
/// QEMU answers a packet within this.
const ANSWER: Duration = Duration::from_secs(60);
/// PSTATE.M: the exception level and, in bit 0, whose stack pointer.
const MODE: u32 = 0xf;
/// PSTATE.M of EL2 with its own stack pointer.
const EL2H: u32 = 0b1001;
/// The number of the program counter among a core's registers.
const PC: usize = 32;
/// Hexadecimal digits of x0 to x30, sp and pc.
const WIDE_DIGITS: usize = 33 * 16;

/// A core's registers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registers {
    /// x0 to x30, sp, pc.
    pub wide: Vec<u64>,
    /// PSTATE as SPSR has it.
    pub pstate: u32,
}

impl Registers {
    fn parse(hex: &str) -> Option<Self> {
        let wide = (0..WIDE_DIGITS)
            .step_by(16)
            .map(|at| {
                let digits = hex.get(at..at + 16)?;
                u64::from_str_radix(digits, 16).ok().map(u64::swap_bytes)
            })
            .collect::<Option<_>>()?;
        let pstate = u32::from_str_radix(hex.get(WIDE_DIGITS..WIDE_DIGITS + 8)?, 16).ok()?;
        Some(Self {
            wide,
            pstate: pstate.swap_bytes(),
        })
    }

    /// x0 to x30.
    pub fn x(&self, n: usize) -> u64 {
        self.wide[n]
    }

    /// The stack pointer.
    pub fn sp(&self) -> u64 {
        self.wide[31]
    }

    /// Whether the core is in EL2.
    pub fn is_el2(&self) -> bool {
        self.pstate & MODE == EL2H
    }
}

/// The arguments that give a QEMU a gdbstub, and where its socket will be.
pub fn arguments(test: &str) -> (Vec<String>, PathBuf) {
    let socket = paths::results().join(test).with_extension("gdb");
    // A socket that an earlier run left would be connected to; that there is none is as good.
    let _ = std::fs::remove_file(&socket);
    let device = format!("socket,id=gdb,server=on,wait=off,path={}", socket.display());
    let words = ["-chardev", &device, "-gdb", "chardev:gdb"];
    (words.map(String::from).to_vec(), socket)
}

/// A connection to a board's gdbstub. The board stands still from [`connect`](Self::connect) to [`run`](Self::run).
#[derive(Debug)]
pub struct Debugger {
    stream: UnixStream,
}

impl Debugger {
    /// Connects, which stops the board.
    ///
    /// # Panics
    /// If there is no gdbstub at that socket.
    pub fn connect(socket: &Path) -> Self {
        let limit = Instant::now() + CONNECT;
        let stream = loop {
            match UnixStream::connect(socket) {
                Ok(stream) => break stream,
                Err(error) if Instant::now() > limit => panic!("the gdbstub: {error}"),
                Err(_) => thread::sleep(Duration::from_millis(20)),
            }
        };
        stream
            .set_read_timeout(Some(ANSWER))
            .expect("a socket's time limit");
        let mut debugger = Self { stream };
        debugger.ask("?");
        debugger
    }

    /// A core's registers, by its number from 0.
    ///
    /// # Panics
    /// If the answer makes no sense.
    pub fn registers(&mut self, core: u8) -> Registers {
        self.choose(core);
        let answer = self.ask("g");
        Registers::parse(&answer).unwrap_or_else(|| panic!("not registers: {answer}"))
    }

    /// Sets a core's program counter.
    ///
    /// # Panics
    /// If QEMU refuses.
    pub fn jump(&mut self, core: u8, to: u64) {
        self.choose(core);
        let answer = self.ask(&format!("P{PC:x}={:016x}", to.swap_bytes()));
        assert_eq!(answer, "OK", "the gdbstub on writing the program counter");
    }

    /// Lets the board go on.
    ///
    /// # Panics
    /// If the connection is lost.
    pub fn run(&mut self) {
        self.send("c");
    }

    /// Stops the board again.
    ///
    /// # Panics
    /// If the connection is lost.
    pub fn stop(&mut self) {
        const INTERRUPT: u8 = 3;
        self.stream.write_all(&[INTERRUPT]).expect("gdbstub");
        self.receive();
    }

    fn choose(&mut self, core: u8) {
        let answer = self.ask(&format!("Hg{:x}", core + 1));
        assert_eq!(answer, "OK", "the gdbstub on choosing core {core}");
    }

    fn ask(&mut self, packet: &str) -> String {
        self.send(packet);
        self.receive()
    }

    fn send(&mut self, packet: &str) {
        let framed = format!("${packet}#{:02x}", checksum(packet.as_bytes()));
        self.stream.write_all(framed.as_bytes()).expect("gdbstub");
    }

    fn byte(&mut self) -> u8 {
        let mut byte = [0];
        self.stream.read_exact(&mut byte).expect("gdbstub answers");
        byte[0]
    }

    /// The next packet; acknowledgements before it are passed over.
    fn receive(&mut self) -> String {
        while self.byte() != b'$' {}
        let mut packet = Vec::new();
        loop {
            match self.byte() {
                b'#' => break,
                byte => packet.push(byte),
            }
        }
        // A stream socket does not garble: the two digits of the sum are only taken off.
        let _sum = [self.byte(), self.byte()];
        self.stream.write_all(b"+").expect("gdbstub");
        String::from_utf8(packet).expect("a packet of text")
    }
}

fn checksum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

#[cfg(test)]
mod tests {
    use super::{Registers, checksum};

    #[test]
    fn packets_are_summed() {
        assert_eq!(checksum(b"Hg1"), 0x48 + 0x67 + 0x31);
    }

    #[test]
    fn registers_are_little_endian() {
        let mut hex: String = (0..33).map(|n| format!("{n:02x}00000000000040")).collect();
        hex += "c9030060";
        let registers = Registers::parse(&hex).expect("registers");
        assert_eq!(registers.x(1), 0x4000_0000_0000_0001);
        assert_eq!(registers.sp() & 0xff, 31);
        assert!(registers.is_el2());
        assert_eq!(Registers::parse("0011"), None);
    }
}
