//! The guests' exerciser: keeps every CPU of a Linux guest busy and reports, once a second, what each got done.
//!
//! `exerciser spin [SECONDS]`: one loop a CPU that does nothing but count, so that the counters
//! show how the time was shared out.
//! `exerciser crosscall [SECONDS]`: one loop a CPU that calls all the other CPUs and waits for
//! them, so that every turn is an interrupt to each of them; a lost one stops the counters.
//! Without SECONDS, or with 0, it goes on for ever.
//! `exerciser counter`: how far the virtual counter has come, in microseconds.
//! `exerciser answer IDENTITY`: the service that drills ask, on UDP port 7007: to each number it answers `IDENTITY COUNTER NUMBER`, the
//! counter being how many it has answered (`tests/guests/src/bin/answer.rs` is the same without Linux).
//!
//! It is a static program for Linux on arm64, made with the same bare target as the image, so
//! that a guest's test needs no second tool chain: hence no `std`, and system calls by number.
//! In reading order: [`sys`] (the calls to Linux), [`Line`] (output), workers, the report.

#![no_std]
#![no_main]
#![deny(missing_docs, unsafe_op_in_unsafe_fn)]

use core::fmt::{self, Write};
use core::hint::black_box;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The most CPUs that are exercised; those beyond stay idle.
const MAX_CPUS: usize = 64;
/// Turns of the spin loop for one count.
const SPIN_BATCH: u32 = 10_000;
/// The port of the service that answers.
const ANSWER_PORT: u16 = 7007;
/// The longest question that is answered, digits.
const MAX_QUESTION: usize = 20;
/// The longest line that is printed whole, in bytes.
const LINE_BYTES: usize = 2048;

/// What one CPU's worker has done; written by that worker alone.
#[repr(align(64))]
struct Cell {
    /// Batches counted or calls made.
    count: AtomicU64,
    /// The longest call so far, in microseconds.
    longest: AtomicU64,
}

/// One cell for each CPU, in memory that all the processes share.
type Table = [Cell; MAX_CPUS];

/// The system calls in use, as Linux numbers them (include/uapi/asm-generic/unistd.h).
mod sys {
    use super::Table;
    use core::arch::asm;

    /// A bit for each CPU, as the affinity calls have it.
    pub type CpuMask = u64;

    const WRITE: usize = 64;
    const EXIT_GROUP: usize = 94;
    const NANOSLEEP: usize = 101;
    const SCHED_SETAFFINITY: usize = 122;
    const SCHED_GETAFFINITY: usize = 123;
    const KILL: usize = 129;
    const SOCKET: usize = 198;
    const BIND: usize = 200;
    const SENDTO: usize = 206;
    const RECVFROM: usize = 207;
    const CLONE: usize = 220;
    const MMAP: usize = 222;
    const MEMBARRIER: usize = 283;

    const SIGKILL: usize = 9;
    const SIGCHLD: usize = 17;
    const PROT_READ_WRITE: usize = 3;
    const MAP_SHARED_ANONYMOUS: usize = 0x21;
    const AF_INET: u16 = 2;
    const SOCK_DGRAM: usize = 2;
    const MEMBARRIER_GLOBAL_EXPEDITED: usize = 1 << 1;
    const MEMBARRIER_REGISTER_GLOBAL_EXPEDITED: usize = 1 << 2;

    /// # Safety
    /// The arguments must be valid for the call that `number` names.
    unsafe fn call(number: usize, arguments: [usize; 6]) -> isize {
        let result: isize;
        // SAFETY: Linux's system call convention for arm64: the number in x8, arguments and result
        // from x0, all else is kept. The caller answers for what the call does to memory.
        unsafe {
            asm!("svc #0", in("x8") number, inlateout("x0") arguments[0] => result,
                in("x1") arguments[1], in("x2") arguments[2], in("x3") arguments[3],
                in("x4") arguments[4], in("x5") arguments[5], options(nostack));
        }
        result
    }

    pub fn print(bytes: &[u8]) {
        // SAFETY: the slice is readable for its length.
        unsafe { call(WRITE, [1, bytes.as_ptr() as usize, bytes.len(), 0, 0, 0]) };
    }

    pub fn exit(code: usize) -> ! {
        loop {
            // SAFETY: no memory is involved.
            unsafe { call(EXIT_GROUP, [code, 0, 0, 0, 0, 0]) };
        }
    }

    pub fn sleep_one_second() {
        let (duration, remaining) = ([1_i64, 0], 0);
        // SAFETY: the duration is a timespec that outlives the call, and nothing is written back.
        unsafe {
            call(
                NANOSLEEP,
                [duration.as_ptr() as usize, remaining, 0, 0, 0, 0],
            )
        };
    }

    /// The CPUs that this process may run on.
    pub fn cpus() -> CpuMask {
        // Linux writes as many bytes as it has CPUs configured, and refuses a mask shorter than that.
        let mut mask: [CpuMask; 64] = [0; 64];
        // SAFETY: the mask is writable for the length given.
        unsafe {
            call(
                SCHED_GETAFFINITY,
                [0, size_of_val(&mask), mask.as_mut_ptr() as usize, 0, 0, 0],
            )
        };
        mask[0]
    }

    /// Moves the calling process to one CPU.
    pub fn stay_on(cpu: usize) -> bool {
        let mask: CpuMask = 1 << cpu;
        // SAFETY: the mask is readable for the length given.
        unsafe {
            call(
                SCHED_SETAFFINITY,
                [0, size_of_val(&mask), &raw const mask as usize, 0, 0, 0],
            ) == 0
        }
    }

    /// Linux's fork: `None` in the new process, its number in the old one, negative on failure.
    pub fn fork() -> Option<isize> {
        // SAFETY: with no flag but the signal and no new stack this is a plain fork, and each
        // process goes on with its own copy of all memory.
        match unsafe { call(CLONE, [SIGCHLD, 0, 0, 0, 0, 0]) } {
            0 => None,
            child => Some(child),
        }
    }

    pub fn kill(process: isize) {
        // SAFETY: no memory is involved.
        unsafe { call(KILL, [process.unsigned_abs(), SIGKILL, 0, 0, 0, 0]) };
    }

    /// A zeroed table that this process and those it forks share.
    pub fn shared_table() -> Option<&'static Table> {
        let arguments = [
            0,
            size_of::<Table>(),
            PROT_READ_WRITE,
            MAP_SHARED_ANONYMOUS,
            usize::MAX,
            0,
        ];
        // SAFETY: a mapping at an address of the kernel's choice takes nothing from anyone.
        let address = unsafe { call(MMAP, arguments) };
        // SAFETY: fresh zeroed pages that nobody unmaps, large and aligned enough; zero is a valid
        // atomic, and all later access is through the atomics.
        (address > 0).then(|| unsafe { &*(address as *const Table) })
    }

    /// Asks for this process's CPU to be interrupted by the others' [`call_all`].
    pub fn accept_calls() -> bool {
        // SAFETY: no memory is involved.
        unsafe {
            call(
                MEMBARRIER,
                [MEMBARRIER_REGISTER_GLOBAL_EXPEDITED, 0, 0, 0, 0, 0],
            ) == 0
        }
    }

    /// Interrupts every other CPU that runs an accepting process, and waits for each.
    pub fn call_all() -> bool {
        // SAFETY: no memory is involved.
        unsafe { call(MEMBARRIER, [MEMBARRIER_GLOBAL_EXPEDITED, 0, 0, 0, 0, 0]) == 0 }
    }

    /// Who sent a datagram, as Linux has it (struct sockaddr_in).
    #[repr(C)]
    pub struct Peer {
        family: u16,
        port: [u8; 2],
        address: [u8; 4],
        filling: [u8; 8],
    }

    impl Peer {
        /// Anybody, at this port.
        pub const fn any(port: u16) -> Self {
            Peer {
                family: AF_INET,
                port: port.to_be_bytes(),
                address: [0; 4],
                filling: [0; 8],
            }
        }
    }

    /// A socket that takes datagrams to this port.
    pub fn listen(port: u16) -> Option<usize> {
        // SAFETY: no memory is involved.
        let socket = unsafe { call(SOCKET, [AF_INET.into(), SOCK_DGRAM, 0, 0, 0, 0]) };
        let socket = usize::try_from(socket).ok()?;
        let own = Peer::any(port);
        let (address, size) = (&raw const own as usize, size_of::<Peer>());
        // SAFETY: the address is readable for the size given.
        (unsafe { call(BIND, [socket, address, size, 0, 0, 0]) } == 0).then_some(socket)
    }

    /// Waits for a datagram; gives its length, as far as there is room, and who sent it.
    pub fn receive(socket: usize, room: &mut [u8]) -> Option<(usize, Peer)> {
        let (mut peer, mut size) = (Peer::any(0), size_of::<Peer>() as u32);
        // SAFETY: all three are writable for their sizes.
        let length = unsafe {
            call(
                RECVFROM,
                [
                    socket,
                    room.as_mut_ptr() as usize,
                    room.len(),
                    0,
                    &raw mut peer as usize,
                    &raw mut size as usize,
                ],
            )
        };
        Some((usize::try_from(length).ok()?, peer))
    }

    /// Sends a datagram; it may be lost.
    pub fn send(socket: usize, bytes: &[u8], peer: &Peer) {
        let (address, size) = (peer as *const Peer as usize, size_of::<Peer>());
        // SAFETY: bytes and address are readable for their sizes.
        unsafe {
            call(
                SENDTO,
                [
                    socket,
                    bytes.as_ptr() as usize,
                    bytes.len(),
                    0,
                    address,
                    size,
                ],
            )
        };
    }

    /// Virtual time in microseconds.
    pub fn now() -> u64 {
        let (count, frequency): (u64, u64);
        // SAFETY: Linux lets programs read both; the barrier keeps the read in its place.
        unsafe {
            asm!("isb", "mrs {}, cntvct_el0", "mrs {}, cntfrq_el0", out(reg) count, out(reg) frequency,
                options(nostack, nomem));
        }
        (u128::from(count) * 1_000_000 / u128::from(frequency.max(1))) as u64
    }
}

/// A line that is written in one piece; what is too long is cut.
struct Line {
    bytes: [u8; LINE_BYTES],
    used: usize,
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // One byte stays free for the line's end.
        let room = LINE_BYTES - 1 - self.used;
        let fits = text.len().min(room);
        self.bytes[self.used..self.used + fits].copy_from_slice(&text.as_bytes()[..fits]);
        self.used += fits;
        Ok(())
    }
}

impl Line {
    const fn new() -> Self {
        Line {
            bytes: [0; LINE_BYTES],
            used: 0,
        }
    }

    /// Prints the line as this program's, with its end.
    fn say(mut self) {
        self.bytes[self.used] = b'\n';
        sys::print(&self.bytes[..=self.used]);
    }
}

macro_rules! say {
    ($($what:tt)*) => {{
        let mut line = Line::new();
        // Writing to a line cannot fail.
        let _ = write!(line, $($what)*);
        line.say();
    }};
}

/// What the workers do.
#[derive(Clone, Copy)]
enum Exercise {
    Spin,
    Crosscall,
}

/// One CPU's endless work.
fn work(exercise: Exercise, cpu: usize, cell: &Cell) -> ! {
    if !sys::stay_on(cpu) || (matches!(exercise, Exercise::Crosscall) && !sys::accept_calls()) {
        say!("exerciser: cpu{cpu}'s worker FAILED to start");
        sys::exit(1);
    }
    for done in 1.. {
        match exercise {
            Exercise::Spin => {
                for turn in 0..SPIN_BATCH {
                    black_box(turn);
                }
            }
            Exercise::Crosscall => {
                let start = sys::now();
                if !sys::call_all() {
                    say!("exerciser: cpu{cpu}'s cross-call FAILED");
                    sys::exit(1);
                }
                let took = sys::now().saturating_sub(start);
                cell.longest
                    .store(took.max(cell.longest.load(Relaxed)), Relaxed);
            }
        }
        cell.count.store(done, Relaxed);
    }
    unreachable!("a u64 does not overflow in a lifetime");
}

/// Prints a second's line: everyone's counters when spinning; the sum, the slowest CPU of this
/// second and the longest call so far when cross-calling.
fn report(
    exercise: Exercise,
    second: u64,
    mask: sys::CpuMask,
    table: &Table,
    before: &mut [u64; MAX_CPUS],
) {
    let cpus = || (0..MAX_CPUS).filter(|cpu| mask >> cpu & 1 == 1);
    match exercise {
        Exercise::Spin => {
            let mut line = Line::new();
            let _ = write!(line, "spin {second} s:");
            for cpu in cpus() {
                let _ = write!(line, " cpu{cpu} {}", table[cpu].count.load(Relaxed));
            }
            line.say();
        }
        Exercise::Crosscall => {
            let (mut calls, mut longest, mut least) = (0, 0, (u64::MAX, 0));
            for cpu in cpus() {
                let count = table[cpu].count.load(Relaxed);
                calls += count;
                longest = longest.max(table[cpu].longest.load(Relaxed));
                least = least.min((count - before[cpu], cpu));
                before[cpu] = count;
            }
            let (least, slowest) = least;
            say!(
                "crosscall {second} s: {calls} calls, least {least} on cpu{slowest}, longest {longest} us"
            );
        }
    }
}

/// Runs one exercise on every CPU for so many seconds, or for ever with 0.
fn run(exercise: Exercise, seconds: u64) {
    let mask = sys::cpus();
    let Some(table) = sys::shared_table() else {
        say!("exerciser: FAILED: Linux gives no shared memory");
        sys::exit(1);
    };
    let mut workers = [0; MAX_CPUS];
    for (cpu, worker) in workers
        .iter_mut()
        .enumerate()
        .filter(|(cpu, _)| mask >> cpu & 1 == 1)
    {
        match sys::fork() {
            None => work(exercise, cpu, &table[cpu]),
            Some(child) if child > 0 => *worker = child,
            Some(_) => say!("exerciser: cpu{cpu}'s worker FAILED to start"),
        }
    }
    let mut before = [0; MAX_CPUS];
    for second in 1.. {
        sys::sleep_one_second();
        report(exercise, second, mask, table, &mut before);
        if second == seconds {
            break;
        }
    }
    for worker in workers.into_iter().filter(|&worker| worker != 0) {
        sys::kill(worker);
    }
}

/// Answers questions for ever.
fn answer(identity: &str) {
    let Some(socket) = sys::listen(ANSWER_PORT) else {
        say!("exerciser: FAILED to listen on port {ANSWER_PORT}");
        sys::exit(1);
    };
    let mut room = [0; 64];
    let mut answered = 0_u64;
    loop {
        let Some((length, peer)) = sys::receive(socket, &mut room) else {
            continue;
        };
        let number = room[..length].trim_ascii();
        let is_number = !number.is_empty()
            && number.len() <= MAX_QUESTION
            && number.iter().all(u8::is_ascii_digit);
        let Ok(number) = str::from_utf8(number) else {
            continue;
        };
        if is_number {
            answered += 1;
            let mut line = Line::new();
            // Writing to a line cannot fail.
            let _ = writeln!(line, "{identity} {answered} {number}");
            sys::send(socket, &line.bytes[..line.used], &peer);
        }
    }
}

/// The argument with this place, from the stack that Linux starts a program with: the number of
/// arguments, then a pointer to each.
///
/// # Safety
/// `stack` must be the stack pointer at the program's start.
unsafe fn argument(stack: *const usize, place: usize) -> &'static [u8] {
    // SAFETY: the first word is the number of arguments.
    if place >= unsafe { *stack } {
        return b"";
    }
    // SAFETY: that many pointers follow, each to a string that ends in a zero and lives as long as the program.
    unsafe { core::ffi::CStr::from_ptr(*stack.add(1 + place) as *const core::ffi::c_char) }
        .to_bytes()
}

/// # Safety
/// `stack` must be the stack pointer at the program's start.
unsafe extern "C" fn start(stack: *const usize) -> ! {
    // SAFETY: passed on.
    let (name, second) = unsafe { (argument(stack, 1), argument(stack, 2)) };
    let second = str::from_utf8(second).unwrap_or_default();
    let seconds = second.parse().unwrap_or(0);
    match name {
        b"spin" => run(Exercise::Spin, seconds),
        b"crosscall" => run(Exercise::Crosscall, seconds),
        b"answer" if !second.is_empty() => answer(second),
        b"counter" => say!("exerciser: counter {} us", sys::now()),
        _ => {
            say!("usage: exerciser spin|crosscall [SECONDS] | counter | answer IDENTITY");
            sys::exit(2);
        }
    }
    sys::exit(0);
}

/// Where Linux enters the program, with nothing but a stack.
#[unsafe(naked)]
#[unsafe(no_mangle)]
extern "C" fn _start() -> ! {
    core::arch::naked_asm!("mov x0, sp", "b {start}", start = sym start)
}

#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    say!("exerciser: FAILED: {info}");
    sys::exit(101);
}
