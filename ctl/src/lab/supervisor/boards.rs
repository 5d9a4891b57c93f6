//! Watches over the boards: their starts, consoles and ends.

use std::os::fd::BorrowedFd;

use nix::errno::Errno;
use nix::sys::epoll::{EpollEvent, EpollFlags};
use nix::sys::signal::Signal;

use super::super::board::{Board, Process, watched};
use super::super::protocol::Condition;
use super::super::switch::pipe::Time;
use super::{END, START, Supervisor, Token};

impl Supervisor<'_> {
    /// The console has something to say, or takes what is typed.
    pub fn hear_console(&mut self, board: usize) {
        let entry = &mut self.boards[board];
        entry.type_on();
        let ended = entry.listen();
        self.note_lines(board);
        self.news = true;
        if ended {
            self.unwatch(board, |process| Some(watched(process).0));
        } else {
            self.watch_console(board);
        }
    }

    /// QEMU's control says something, or has ended.
    pub fn hear_control(&mut self, board: usize, flags: EpollFlags) {
        self.boards[board].greet();
        self.news = true;
        if flags.intersects(EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR) {
            self.unwatch(board, |process| watched(process).1);
        }
    }

    /// A socket of the board has ended and would be ready for ever.
    fn unwatch(&self, board: usize, which: impl Fn(&Process) -> Option<BorrowedFd<'_>>) {
        let process = self.boards[board].process.as_ref();
        if let Some(socket) = process.and_then(which) {
            // It may have been taken out already.
            let _ = self.epoll.delete(socket);
        }
    }

    /// Watches the console for what is to be done there.
    pub fn watch_console(&self, board: usize) {
        let entry = &self.boards[board];
        let mut interest = EpollFlags::EPOLLIN;
        interest.set(EpollFlags::EPOLLOUT, entry.is_typing());
        if let Some(process) = &entry.process {
            let event = &mut EpollEvent::new(interest, Token::Console(board).number());
            // A console that has ended is not watched any more.
            let _ = self.epoll.modify(watched(process).0, event);
        }
    }

    /// Starts a board.
    pub fn start(&mut self, board: usize) -> Result<(), String> {
        let entry = &mut self.boards[board];
        let network = entry.start(&self.plan.qemu)?;
        let (name, port) = (entry.plan.name.clone(), entry.port);
        let trouble = |error: Errno| format!("cannot watch board {name}: {error}");
        if let Some(process) = &entry.process {
            let (console, control) = watched(process);
            let console = (Some(console), Token::Console(board));
            for (socket, token) in [console, (control, Token::Control(board))] {
                let event = EpollEvent::new(EpollFlags::EPOLLIN, token.number());
                socket
                    .map_or(Ok(()), |socket| self.epoll.add(socket, event))
                    .map_err(trouble)?;
            }
        }
        let token = Token::Network(board).number();
        match network {
            Some(network) => self.ports.plug(port, network, token).map_err(trouble)?,
            None => self.ports.plug_inside(port),
        }
        self.note(&format!("board {name} starts"));
        Ok(())
    }

    /// Does what signals mean.
    pub fn take_signals(&mut self) {
        while let Ok(Some(signal)) = self.signals.read_signal() {
            if signal.ssi_signo == Signal::SIGCHLD as u32 {
                self.reap();
            } else {
                self.end();
            }
        }
    }

    /// Sees which boards have ended.
    fn reap(&mut self) {
        for board in 0..self.boards.len() {
            let entry = &mut self.boards[board];
            if !entry.reap() {
                continue;
            }
            let (port, state) = (entry.port, entry.state());
            self.ports.unplug(port);
            self.switch.unplug(port);
            self.news = true;
            self.note(&format!("board {} {}", state.name, state.condition));
            if std::mem::take(&mut self.revive[board])
                && self.ending.is_none()
                && let Err(trouble) = self.start(board)
            {
                self.boards[board].condition = Condition::Ended(trouble);
            }
        }
    }

    /// Tells that all boards run, or why they do not.
    pub fn announce(&mut self, now: Time) {
        if self.report.is_none() || self.ending.is_some() {
            return;
        }
        let state = |board: &&Board| match &board.condition {
            Condition::Ended(how) => Some(format!(
                "board {} has ended at once: {how}\n{}",
                board.plan.name,
                board.complaint()
            )),
            _ => None,
        };
        if let Some(trouble) = self.boards.iter().find_map(|board| state(&board)) {
            self.fail(trouble.trim_end().to_string());
        } else if self
            .boards
            .iter()
            .all(|board| board.condition != Condition::Starting)
        {
            let state = self.state();
            let heard = self.report.take().is_none_or(|report| report(Ok(state)));
            if !heard {
                self.end();
            }
        } else if now.0 >= START.as_nanos() as u64 {
            self.fail(format!(
                "boards do not begin to run within {} s",
                START.as_secs()
            ));
        }
    }

    /// Ends the lab for this reason.
    pub fn fail(&mut self, trouble: String) {
        self.trouble = Some(trouble);
        self.end();
    }

    /// Begins to end the lab.
    pub fn end(&mut self) {
        if self.ending.is_some() {
            return;
        }
        self.note("the lab ends");
        self.ending = Some(self.after(END));
        self.news = true;
        for board in &mut self.boards {
            // One that has ended needs none; one that is paused takes the first only with the second.
            let _ = board.signal(Signal::SIGTERM);
            let _ = board.signal(Signal::SIGCONT);
        }
    }
}
