//! `hearth lab console`: this terminal becomes a board's.

use std::io::{self, IsTerminal as _, Read as _, Write as _, stderr, stdin, stdout};
use std::net::Shutdown;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::thread;

use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

use super::client::Answered;

/// Ctrl-\, the key that scripts/run has for QEMU, too.
const ESCAPE: u8 = 0x1c;
const HELP: &str = "\r\n[Ctrl-\\ x leaves this console and lets the board run; Ctrl-\\ Ctrl-\\ is one Ctrl-\\]\r\n";

/// The terminal as it was; dropping brings that back.
struct Raw(Termios);

impl Raw {
    /// Makes standard input pass every key, if it is a terminal.
    fn new() -> Option<Self> {
        let before = tcgetattr(stdin().as_fd()).ok()?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(stdin().as_fd(), SetArg::TCSANOW, &raw).ok()?;
        Some(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // There is nobody to tell if it fails.
        let _ = tcsetattr(stdin().as_fd(), SetArg::TCSANOW, &self.0);
    }
}

/// What the keyboard's reader does with a key.
#[derive(Debug, PartialEq, Eq)]
enum Key {
    /// For the board.
    Pass(u8),
    /// Nothing yet.
    Wait,
    /// Show help.
    Help,
    /// Leave.
    Leave,
}

/// Sorts keys.
#[derive(Debug, Default)]
struct Keys {
    escaped: bool,
}

impl Keys {
    fn sort(&mut self, key: u8) -> Key {
        match (std::mem::take(&mut self.escaped), key) {
            (false, ESCAPE) => {
                self.escaped = true;
                Key::Wait
            }
            (false, key) => Key::Pass(key),
            (true, b'x') => Key::Leave,
            (true, ESCAPE) => Key::Pass(ESCAPE),
            (true, _) => Key::Help,
        }
    }
}

/// Joins this terminal and a board's console until either ends.
///
/// # Errors
/// If the terminal cannot be written to.
pub fn attach(answered: Answered) -> Result<(), String> {
    let mut reader = answered.reader;
    let board = answered.answer["console"]
        .as_str()
        .unwrap_or_default()
        .to_string();
    let to = reader
        .get_ref()
        .try_clone()
        .map_err(|error| format!("cannot attach: {error}"))?;
    let terminal = stdin().is_terminal();
    if terminal {
        // Where standard error goes is for people alone.
        let _ = writeln!(stderr(), "[console of {board}: Ctrl-\\ x leaves it]");
    }
    let raw = Raw::new();
    // It ends with the process, or when it closes the connection.
    thread::spawn(move || type_keys(to, terminal));
    let mut chunk = vec![0; 16 << 10];
    let shown = loop {
        match reader.read(&mut chunk) {
            Ok(0) => break Ok(()),
            Ok(length) => {
                let mut out = stdout();
                if let Err(error) = out.write_all(&chunk[..length]).and_then(|()| out.flush()) {
                    break Err(error);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break Ok(()),
        }
    };
    drop(raw);
    if terminal {
        let _ = writeln!(stderr(), "\n[left the console of {board}]");
    }
    match shown {
        // A reader that went away, such as `head`, is no trouble of ours.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(format!("cannot show the console: {error}"))
        }
        _ => Ok(()),
    }
}

/// Passes keys on until the operator leaves. What comes from a file is passed as it is, and its end leaves the console open.
fn type_keys(mut to: UnixStream, terminal: bool) {
    let mut keys = Keys::default();
    let mut chunk = [0; 4096];
    while let Ok(length @ 1..) = stdin().read(&mut chunk) {
        let mut pass = Vec::with_capacity(length);
        for key in &chunk[..length] {
            let sorted = if terminal {
                keys.sort(*key)
            } else {
                Key::Pass(*key)
            };
            match sorted {
                Key::Pass(key) => pass.push(key),
                Key::Wait => {}
                Key::Help => drop(stderr().write_all(HELP.as_bytes())),
                Key::Leave => {
                    // The other thread sees the end and puts the terminal back.
                    let _ = to.shutdown(Shutdown::Both);
                    return;
                }
            }
        }
        if to.write_all(&pass).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_escape_key_is_ours() {
        let mut keys = Keys::default();
        let mut sort = |key| keys.sort(key);
        assert_eq!(sort(0x03), Key::Pass(0x03));
        assert_eq!(sort(0x1d), Key::Pass(0x1d));
        assert_eq!((sort(ESCAPE), sort(ESCAPE)), (Key::Wait, Key::Pass(ESCAPE)));
        assert_eq!((sort(ESCAPE), sort(b'?')), (Key::Wait, Key::Help));
        assert_eq!((sort(ESCAPE), sort(b'x')), (Key::Wait, Key::Leave));
    }
}
