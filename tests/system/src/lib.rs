//! The harness of the system tests: boots boards under QEMU and reads what they say.
//!
//! A test in `tests/` describes a board ([`machine::Machine`]) and what it runs ([`package::Package`]), boots it
//! ([`board::Board::boot`]), and waits for lines on its console. It knows of the board only what an operator could see; guests
//! are built to notice from inside what went wrong, and to say so in a line.
//!
//! Rules that the harness keeps for all tests:
//! - waiting is always for an event with a limit, never for time to pass, and limits are ten times what a quiet machine needs;
//! - a line that nobody expects to be good (`FAIL`, `FAULT`, `PANIC`, a board's warning, a Linux kernel's complaint) ends
//!   the test where it stands ([`verdict`]);
//! - a failure shows the console's whole text, which is also in `target/system-tests/NAME.log`;
//! - no QEMU outlives its test, and no more of them run at once than the machine has cores for ([`slots`]).
//!
//! Read in this order: [`paths`] (what is tested), [`machine`], [`package`], [`board`] with [`verdict`] and [`status`], [`gdb`] (to break
//! a board on purpose), [`slots`], [`lab`] (several boards on one Ethernet),
//! [`cluster`] (boards that are one) with [`stalls`], [`moves`] between them.

pub mod board;
pub mod cluster;
pub mod gdb;
pub mod lab;
pub mod machine;
pub mod moves;
pub mod package;
pub mod paths;
pub mod slots;
pub mod stalls;
pub mod status;
pub mod verdict;

pub use board::Board;
pub use cluster::Cluster;
pub use lab::Lab;
pub use machine::Machine;
pub use package::{Guest, Package};

/// `saw!(test, "…", …)`: [`paths::saw`] with a formatted text.
#[macro_export]
macro_rules! saw {
    ($test:expr, $($argument:tt)*) => {
        $crate::paths::saw($test, &format!($($argument)*))
    };
}
