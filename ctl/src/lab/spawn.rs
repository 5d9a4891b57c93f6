//! Starts a board's QEMU so that it cannot outlive the lab.
//!
//! A board gets its network, console and control as sockets that it inherits, so that nothing has a name which could be left behind.
//! The kernel kills it when the thread that started it ends, which is the supervisor's only one.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::unistd;

/// Starts `command` with these descriptors open under the numbers that they have here, in a process group of its own.
///
/// # Errors
/// What the system says.
pub fn spawn(mut command: Command, inherited: Vec<OwnedFd>) -> io::Result<Child> {
    let parent = unistd::getpid();
    let prepare = move || {
        prctl::set_pdeathsig(Signal::SIGKILL)?;
        // Had the parent died before that, nobody would tell.
        if unistd::getppid() != parent {
            return Err(io::ErrorKind::NotConnected.into());
        }
        // The supervisor blocks what it reads from a descriptor; QEMU is to end on it.
        SigSet::empty().thread_set_mask()?;
        for descriptor in &inherited {
            fcntl(descriptor, FcntlArg::F_SETFD(FdFlag::empty()))?;
        }
        Ok(())
    };
    // SAFETY: the closure runs between fork and exec. It makes system calls alone, and neither allocates nor takes a lock: the errors
    // that it makes are plain numbers and kinds.
    unsafe { command.pre_exec(prepare) };
    command.process_group(0).spawn()
}
