//! What is done for each request.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::super::pcap::CaptureState;
use super::super::plan::{LAB_LINK, What};
use super::super::protocol::{
    Condition, DirectionState, LinkState, LinksState, PAUSED, Request, Said,
};
use super::super::switch::faults::Faults;
use super::super::switch::{Direction, Mac, PortId};
use super::super::value;
use super::Supervisor;
use super::clients::{Reply, Waiting, done};

/// The board's escape key; see docs/console.md.
const ESCAPE: u8 = 0x1d;
/// Guests that have a digit on the board's console.
const DIGITS: usize = 9;
/// The longest wait, milliseconds: a day.
const MAX_WAIT: u64 = 86_400_000;

impl Supervisor<'_> {
    /// Does what is wanted.
    pub fn command(&mut self, request: Request) -> Result<Reply, String> {
        if self.ending.is_some() && !matches!(request, Request::Down) {
            return Err(format!("lab {} is ending", self.plan.name));
        }
        match request {
            Request::List => Ok(Reply::Now(value(self.state()))),
            Request::Down => {
                self.end();
                Ok(Reply::Later(Waiting::Down))
            }
            Request::Kill { board } => {
                let board = self.board(&board)?;
                self.boards[board].signal(Signal::SIGKILL)?;
                self.note(&format!("board {} is killed", self.boards[board].plan.name));
                Ok(Reply::Later(Waiting::Ended(board)))
            }
            Request::Pause { board } => self.pause(&board, Signal::SIGSTOP, PAUSED),
            Request::Resume { board } => self.pause(&board, Signal::SIGCONT, "runs on"),
            Request::Restart { board, image } => self.restart(&board, image),
            Request::Links => Ok(Reply::Now(value(self.links(None)?))),
            Request::Faults {
                link,
                direction,
                change,
            } => self.set_faults(link.as_deref(), direction, |faults| change.apply(faults)),
            Request::Heal { link, direction } => {
                self.set_faults(link.as_deref(), direction, |_| Faults::default())
            }
            Request::Capture { file, link } => self.capture(file, link),
            Request::EndCapture { file } => {
                let ended = self.ports.end_captures(file.as_deref());
                match (ended.is_empty(), file) {
                    (true, Some(file)) => Err(format!("there is no capture to {}", file.display())),
                    _ => Ok(Reply::Now(serde_json::json!({ "captures": ended }))),
                }
            }
            Request::Forward { listen, to } => {
                let to = self.endpoint(&to)?;
                let listen = self.forwarder.add(listen, to)?;
                self.forward = true;
                self.note(&format!("forward from {listen} to {to}"));
                Ok(Reply::Now(
                    serde_json::json!({ "listen": listen, "to": to }),
                ))
            }
            Request::EndForward { listen } => match self.forwarder.remove(listen) {
                true => Ok(Reply::Now(done(format!(
                    "no forward from {listen} any more"
                )))),
                false => Err(format!(
                    "there is no forward from {listen}: `hearth lab list` shows them"
                )),
            },
            Request::Ping { who, timeout_ms } => {
                let address = self.address(&who)?;
                let question = self.forwarder.ask(address, self.now())?;
                self.forward = true;
                Ok(Reply::Later(Waiting::Echo(
                    address,
                    question,
                    self.until(timeout_ms),
                )))
            }
            Request::Events { after } => Ok(Reply::Now(value(self.journal.from(after)))),
            Request::Datagrams(ask) => Ok(Reply::Datagrams(ask)),
            Request::Console { who, board, lines } => self.console(&who, board.as_deref(), lines),
            Request::Log { board, lines } => {
                let said = &self.boards[self.board(&board)?].said;
                let bytes = said.read(said.last_lines(lines), usize::MAX);
                Ok(Reply::Now(value(Said {
                    text: String::from_utf8_lossy(&bytes).into_owned(),
                    at: said.end(),
                })))
            }
            Request::Type { board, text } => self.type_text(&board, &text),
            Request::Wait {
                board,
                text,
                after,
                timeout_ms,
            } => {
                if text.is_empty() {
                    return Err("there is nothing to wait for: give a text".into());
                }
                let board = self.board(&board)?;
                let deadline = self.until(timeout_ms);
                Ok(Reply::Later(Waiting::Text(
                    board,
                    text,
                    after.unwrap_or(0),
                    deadline,
                )))
            }
        }
    }

    fn until(&self, timeout_ms: u64) -> super::Time {
        self.after(Duration::from_millis(timeout_ms.min(MAX_WAIT)))
    }

    fn board(&self, name: &str) -> Result<usize, String> {
        let names = || self.boards.iter().map(|board| board.plan.name.as_str());
        names().position(|it| it == name).ok_or_else(|| {
            let known = names().collect::<Vec<_>>().join(", ");
            format!(
                "lab {} has no board {name}: its boards are {known}",
                self.plan.name
            )
        })
    }

    fn pause(&mut self, name: &str, signal: Signal, what: &str) -> Result<Reply, String> {
        let board = self.board(name)?;
        self.boards[board].signal(signal)?;
        self.note(&format!("board {name} {what}"));
        Ok(Reply::Now(done(format!("board {name} {what}"))))
    }

    fn restart(&mut self, name: &str, image: Option<PathBuf>) -> Result<Reply, String> {
        let board = self.board(name)?;
        if let Some(image) = image {
            let What::Emulated(emulated) = &mut self.boards[board].plan.what else {
                return Err(format!("{name} is a witness, which has no image"));
            };
            emulated.kernel = image;
        }
        if self.boards[board].process.is_none() {
            self.start(board)?;
        } else {
            self.boards[board].signal(Signal::SIGKILL)?;
            self.revive[board] = true;
        }
        Ok(Reply::Later(Waiting::Running(board)))
    }

    fn type_text(&mut self, name: &str, text: &str) -> Result<Reply, String> {
        let board = self.board(name)?;
        let entry = &mut self.boards[board];
        if matches!(entry.condition, Condition::Ended(_)) {
            return Err(entry.not_running());
        }
        let taken = entry.type_in(text.as_bytes());
        self.watch_console(board);
        if taken < text.len() {
            return Err(format!(
                "board {name} took {taken} of {} bytes: it does not read",
                text.len()
            ));
        }
        Ok(Reply::Now(done(format!("typed {taken} bytes"))))
    }

    /// The ports of a link, or of all.
    fn ports_of(&self, link: Option<&str>) -> Result<Vec<PortId>, String> {
        let Some(name) = link else {
            return Ok(self.switch.ports().collect());
        };
        let port = self.switch.find(name).ok_or_else(|| {
            let known: Vec<_> = self
                .switch
                .ports()
                .map(|port| self.switch.name(port))
                .collect();
            format!(
                "lab {} has no link {name}: its links are {}",
                self.plan.name,
                known.join(", ")
            )
        })?;
        Ok(vec![port])
    }

    fn links(&self, link: Option<&str>) -> Result<LinksState, String> {
        let state = |port: PortId| {
            let direction = |direction| DirectionState {
                faults: self.switch.faults(port, direction),
                counters: self.switch.counters(port, direction),
            };
            let station = |mac: Mac| match self.ports.neighbour(mac) {
                Some(address) => format!("{mac} {address}"),
                None => mac.to_string(),
            };
            LinkState {
                name: self.switch.name(port).into(),
                from: direction(Direction::From),
                to: direction(Direction::To),
                malformed: self.switch.malformed(port),
                untaken: self.ports.untaken(port),
                stations: self
                    .switch
                    .stations
                    .behind(port)
                    .into_iter()
                    .map(station)
                    .collect(),
            }
        };
        Ok(LinksState {
            links: self.ports_of(link)?.into_iter().map(state).collect(),
            moves: self.switch.stations.moves,
        })
    }

    fn set_faults(
        &mut self,
        link: Option<&str>,
        direction: Option<Direction>,
        becomes: impl Fn(Faults) -> Faults,
    ) -> Result<Reply, String> {
        for port in self.ports_of(link)? {
            let ways = Direction::BOTH.into_iter();
            let wanted: Vec<_> = ways
                .filter(|way| direction.is_none_or(|wanted| wanted == *way))
                .collect();
            let mut said = Vec::new();
            for way in &wanted {
                let before = self.switch.faults(port, *way);
                let faults = becomes(before);
                self.switch.set_faults(port, *way, faults);
                if faults != before {
                    said.push((*way, faults.to_string()));
                }
            }
            let name = self.switch.name(port).to_string();
            match &said[..] {
                [(_, one), (_, other)] if one == other => self.note(&format!("link {name}: {one}")),
                _ => {
                    for (way, faults) in &said {
                        self.note(&format!("link {name} {}: {faults}", way.name()));
                    }
                }
            }
        }
        Ok(Reply::Now(value(self.links(link)?)))
    }

    fn capture(&mut self, file: PathBuf, link: Option<String>) -> Result<Reply, String> {
        let port = match &link {
            Some(name) => self.ports_of(Some(name))?.first().copied(),
            None => None,
        };
        let what = link
            .as_ref()
            .map_or_else(|| "the switch".into(), |link| format!("link {link}"));
        let to = file.display().to_string();
        let state = CaptureState {
            file,
            link,
            frames: 0,
            trouble: None,
        };
        self.ports.capture(state, port)?;
        Ok(Reply::Now(done(format!(
            "frames of {what} go to {to} until `hearth lab capture --end`"
        ))))
    }

    /// The address of a station: as it stands, or what a guest of that name has told.
    fn address(&self, who: &str) -> Result<Ipv4Addr, String> {
        if let Ok(address) = who.parse() {
            return Ok(address);
        }
        let guest = self.plan.guests.iter().find(|guest| guest.name == who);
        let guest = guest
            .ok_or_else(|| format!("`{who}` is neither an IPv4 address nor a guest of this lab"))?;
        let told = |mac: &[u8; 6]| self.ports.neighbour(Mac(*mac));
        guest.macs.iter().find_map(told).ok_or_else(|| {
            format!("guest {who} has not told its address on this network yet: give the address instead of the name")
        })
    }

    fn endpoint(&self, to: &str) -> Result<SocketAddrV4, String> {
        let help = || format!("`{to}` is no guest and port: write 10.0.0.5:6379 or web:6379");
        let (who, port) = to.rsplit_once(':').ok_or_else(help)?;
        let port = port.parse().map_err(|_| help())?;
        Ok(SocketAddrV4::new(self.address(who)?, port))
    }

    /// The board of that name; or the one where that guest is, with its console turned to it.
    fn console(&mut self, who: &str, on: Option<&str>, lines: usize) -> Result<Reply, String> {
        let place = self.plan.guests.iter().position(|guest| guest.name == who);
        let (board, keys) = match (self.board(who), place) {
            (Ok(board), _) => (board, Vec::new()),
            (Err(error), None) => {
                let guests: Vec<_> = self
                    .plan
                    .guests
                    .iter()
                    .map(|guest| guest.name.as_str())
                    .collect();
                return Err(match guests.is_empty() {
                    true => error,
                    false => format!("{error}, its guests {}", guests.join(", ")),
                });
            }
            (Err(_), Some(place)) if place >= DIGITS => {
                return Err(format!(
                    "the console has digits for {DIGITS} guests, and {who} is number {}: attach to its board, and use Ctrl-] n",
                    place + 1
                ));
            }
            (Err(_), Some(place)) => {
                // At most the digit 9.
                let digit = b'1' + place as u8;
                (self.home(place, on)?, vec![ESCAPE, digit])
            }
        };
        let entry = &mut self.boards[board];
        let from = entry.said.last_lines(lines);
        entry.type_in(&keys);
        self.watch_console(board);
        Ok(Reply::Console(board, from))
    }

    /// The board on which a guest is: as told, where it was last heard, or where it starts.
    fn home(&self, place: usize, on: Option<&str>) -> Result<usize, String> {
        let guest = &self.plan.guests[place];
        if let Some(name) = on {
            return self.board(name);
        }
        let heard = guest
            .macs
            .iter()
            .find_map(|mac| self.switch.stations.last(Mac(*mac)));
        let heard = heard.filter(|port| self.switch.name(*port) != LAB_LINK);
        match heard {
            Some(port) => self.board(self.switch.name(port)),
            None => self.board(&guest.board),
        }
    }
}
