//! The verbs of `hearth lab`, as requests to a lab and what is printed of the answers.

use std::net::{SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};

use super::datagrams::LabWire;
use super::protocol::{Ask, Change, Done, LabState, Request};
use super::show::{Answered, Captures, Echoed, Forwarded, Labs, Links, Log, Seen};
use super::switch::Direction;
use super::switch::faults::{Probability, Rate, Span, duration};
use super::{attach, client, up};
use crate::cluster::wire::Wire as _;
use crate::report::{Answer, Failure};

/// Run boards under QEMU on this machine, joined by an Ethernet that can be made to misbehave.
#[derive(Args)]
#[command(after_long_help = EXAMPLE)]
pub struct Arguments {
    /// Which lab; needed where several are up, and what `up` calls a new one.
    #[arg(env = "HEARTH_LAB", long, global = true, value_name = "LAB")]
    name: Option<String>,
    #[command(subcommand)]
    verb: Verb,
}

const EXAMPLE: &str = "\
A lab is one process that needs no rights and leaves nothing behind, however it ends. For example:
  hearth lab up cluster.toml
  hearth lab forward 127.0.0.1:6379 web:6379
  hearth lab faults alpha --loss 20% --delay 5ms
  hearth lab kill alpha
  hearth lab down";

/// What to do with a lab.
#[derive(Subcommand)]
enum Verb {
    Up(Box<up::Arguments>),
    /// End the lab and its boards.
    Down,
    /// Show labs: their boards, forwards and captures.
    List,
    /// Kill a board at once, like pulling its plug.
    Kill(Board),
    /// Stop a board; its clock runs on, as in a machine that stalls.
    Pause(Board),
    /// Let a board that is paused run on.
    Resume(Board),
    Restart(up::Restart),
    /// Show what has happened: faults, starts and ends of boards, and where guests were heard.
    Events,
    /// Show links: what is wrong with them, what passed, and who is behind them.
    Links,
    Faults(Box<Faults>),
    /// Make links sound again: one, or all.
    Heal(Link),
    Capture(Capture),
    Forward(Forward),
    /// Ask a guest for an echo, from the lab's own link.
    Ping(Ping),
    Send(Send),
    Console(Console),
    /// Print what a board said.
    Log(LogArguments),
    /// Type on a board's console.
    Type(Type),
    Wait(Wait),
    /// The lab's process, which `up` starts.
    #[command(hide = true)]
    Supervise,
}

/// A board.
#[derive(Args)]
struct Board {
    /// Its name.
    board: String,
}

/// A link, or one direction of it.
#[derive(Args)]
struct Link {
    /// A board's link, or `lab` for that of the lab's clients; all links unless given.
    link: Option<String>,
    /// Only what the board sends.
    #[arg(long, conflicts_with = "to")]
    from: bool,
    /// Only what the board receives.
    #[arg(long)]
    to: bool,
}

impl Link {
    fn direction(&self) -> Option<Direction> {
        match (self.from, self.to) {
            (true, _) => Some(Direction::From),
            (_, true) => Some(Direction::To),
            _ => None,
        }
    }
}

/// Say what is wrong with links. What is not given stays as it is.
///
/// Each direction of each link has its own dice: the same seed (`up --seed`) and the same frames have the same
/// fate. Without --from or --to both directions change, without a link all links.
#[derive(Args)]
struct Faults {
    #[command(flatten)]
    link: Link,
    /// Nothing passes, and what is under way is lost; `--cut off` joins it again.
    #[arg(long, value_name = "on|off", num_args = 0..=1, default_missing_value = "on", value_parser = switch)]
    cut: Option<bool>,
    /// How many frames are lost: 20%.
    #[arg(long, value_name = "P")]
    loss: Option<Probability>,
    /// How many have one bit flipped.
    #[arg(long, value_name = "P")]
    corrupt: Option<Probability>,
    /// How many come twice.
    #[arg(long, value_name = "P")]
    duplicate: Option<Probability>,
    /// How many are held back, so that those behind pass them.
    #[arg(long, value_name = "P")]
    reorder: Option<Probability>,
    /// How long those are held back; 1ms unless told.
    #[arg(long, value_name = "TIME")]
    hold: Option<Span>,
    /// How long every frame takes: 5ms, up to 60s.
    #[arg(long, value_name = "TIME")]
    delay: Option<Span>,
    /// Up to how much longer, uniformly; frames stay in order.
    #[arg(long, value_name = "TIME")]
    jitter: Option<Span>,
    /// How fast the line is: 100mbit. What would wait longer than 50ms for its turn is dropped.
    #[arg(long, value_name = "RATE")]
    rate: Option<Rate>,
}

/// Write frames to a file that Wireshark and tcpdump read.
///
/// Of the whole switch each frame is written once, as it is switched. Of a link there is what the board
/// sends, before faults, and what it receives, behind them.
#[derive(Args)]
struct Capture {
    /// The file; with --end, which capture ends, or all.
    #[arg(required_unless_present = "end")]
    file: Option<PathBuf>,
    /// Only this link's frames.
    #[arg(long)]
    link: Option<String>,
    /// End it.
    #[arg(long, conflicts_with = "link")]
    end: bool,
}

/// Let a port of this machine lead to a guest's port, wherever the guest lives.
///
/// The lab is a station of its own network: it finds the guest by ARP, and speaks TCP with it. Connections go
/// on when the guest moves to another board.
#[derive(Args)]
struct Forward {
    /// This machine's end, a loopback address: 127.0.0.1:6379; port 0 takes a free one.
    listen: SocketAddr,
    /// The guest's: 10.0.0.5:6379, or web:6379 once it was heard.
    #[arg(required_unless_present = "end")]
    to: Option<String>,
    /// End it, and its connections.
    #[arg(long, conflicts_with = "to")]
    end: bool,
}

/// Whom to ask.
#[derive(Args)]
struct Ping {
    /// An IPv4 address, or the name of a guest that was heard.
    who: String,
    /// How long to wait.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration)]
    timeout: Duration,
}

/// Send a datagram from the lab's own link, and print what comes back first.
#[derive(Args)]
struct Send {
    /// Whom to: an IPv4 address and a port of UDP.
    to: SocketAddrV4,
    /// What; \n, \r, \t, \\ and \xNN are bytes.
    text: String,
    /// How long to wait for an answer.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration)]
    timeout: Duration,
}

/// Attach this terminal to the console of a board, or of a guest.
///
/// Ctrl-\ x leaves. A guest's console is its board's, turned to the guest (docs/console.md).
#[derive(Args)]
struct Console {
    /// A board's name, or a guest's.
    who: String,
    /// On which board to look for the guest; unless told, where it was last heard.
    #[arg(long)]
    board: Option<String>,
    /// How many lines of what was said come first.
    #[arg(long, value_name = "N", default_value_t = 50)]
    lines: usize,
}

/// What to print.
#[derive(Args)]
struct LogArguments {
    /// The board.
    board: String,
    /// How many lines, from the end; all that is kept (1 MiB) unless told.
    #[arg(long, value_name = "N")]
    lines: Option<usize>,
}

/// What to type.
#[derive(Args)]
struct Type {
    /// The board.
    board: String,
    /// The text; \n, \r, \t, \\ and \xNN are what they are in C.
    text: String,
}

/// Wait until a board says something.
#[derive(Args)]
struct Wait {
    /// The board.
    board: String,
    /// What it is to say.
    #[arg(long = "for", value_name = "TEXT")]
    text: String,
    /// How long to wait.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration)]
    timeout: Duration,
    /// Only behind this place on the console, such as the `at` of an earlier wait.
    #[arg(long, value_name = "PLACE")]
    after: Option<u64>,
}

fn switch(text: &str) -> Result<bool, String> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("write on or off".into()),
    }
}

/// Does what the operator asks for.
///
/// # Errors
/// Whatever the lab refuses, and why.
pub fn run(arguments: &Arguments) -> Result<Answer, Failure> {
    let name = arguments.name.as_deref();
    if let Verb::Up(verb) = &arguments.verb {
        return up::run(name, verb);
    }
    verb(name, &arguments.verb).map_err(Failure::Trouble)
}

fn verb(name: Option<&str>, verb: &Verb) -> Result<Answer, String> {
    match verb {
        Verb::Up(_) => Err("`up` is no request".into()),
        Verb::Supervise => up::supervise().map(|()| Answer::from(done("the lab has ended"))),
        Verb::List => list(name).map(Answer::from),
        _ => {
            let lab = client::choose(name)?;
            ask(&lab, verb)
        }
    }
}

/// The verbs that are one request.
fn ask(lab: &str, verb: &Verb) -> Result<Answer, String> {
    let done = |request| client::get::<Done>(lab, request).map(Answer::from);
    let links = |request| client::get::<Links>(lab, request).map(Answer::from);
    match verb {
        Verb::Down => done(Request::Down),
        Verb::Kill(Board { board }) => done(Request::Kill {
            board: board.clone(),
        }),
        Verb::Pause(Board { board }) => done(Request::Pause {
            board: board.clone(),
        }),
        Verb::Resume(Board { board }) => done(Request::Resume {
            board: board.clone(),
        }),
        Verb::Restart(verb) => done(verb.request()?),
        Verb::Events => super::events(lab, 0).map(Answer::from),
        Verb::Links => links(Request::Links),
        Verb::Faults(faults) => links(faults.request()?),
        Verb::Heal(link) => links(Request::Heal {
            link: link.link.clone(),
            direction: link.direction(),
        }),
        Verb::Capture(verb) => capture(lab, verb),
        Verb::Forward(verb) => forward(lab, verb),
        Verb::Ping(verb) => {
            let request = Request::Ping {
                who: verb.who.clone(),
                timeout_ms: millis(verb.timeout),
            };
            client::get::<Echoed>(lab, request).map(Answer::from)
        }
        Verb::Send(verb) => send(lab, verb).map(Answer::from),
        Verb::Console(verb) => {
            let request = Request::Console {
                who: verb.who.clone(),
                board: verb.board.clone(),
                lines: verb.lines,
            };
            attach::attach(client::ask(lab, request)?)?;
            Ok(Answer::from(self::done("")))
        }
        Verb::Log(verb) => {
            let request = Request::Log {
                board: verb.board.clone(),
                lines: verb.lines.unwrap_or(usize::MAX),
            };
            client::get::<Log>(lab, request).map(Answer::from)
        }
        Verb::Type(verb) => done(Request::Type {
            board: verb.board.clone(),
            text: unescape(&verb.text)?,
        }),
        Verb::Wait(verb) => {
            let request = Request::Wait {
                board: verb.board.clone(),
                text: verb.text.clone(),
                after: verb.after,
                timeout_ms: millis(verb.timeout),
            };
            client::get::<Seen>(lab, request).map(Answer::from)
        }
        Verb::Up(_) | Verb::List | Verb::Supervise => Err("this is no request".into()),
    }
}

fn done(what: &str) -> Done {
    Done { done: what.into() }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The lab of that name, or all.
fn list(name: Option<&str>) -> Result<Labs, String> {
    let names = match name {
        Some(name) => vec![name.to_string()],
        None => client::labs()?,
    };
    let state = |lab: &String| client::get::<LabState>(lab, Request::List);
    match name {
        Some(_) => names
            .iter()
            .map(state)
            .collect::<Result<_, _>>()
            .map(|labs| Labs { labs }),
        // One that ends just now is not there any more.
        None => Ok(Labs {
            labs: names.iter().filter_map(|lab| state(lab).ok()).collect(),
        }),
    }
}

fn send(lab: &str, verb: &Send) -> Result<Answered, String> {
    let broken = |error: std::io::Error| format!("lab {lab} is gone: {error}");
    let mut wire = LabWire::connect(lab, Ask::default())?;
    let text = unescape(&verb.text)?;
    wire.send(verb.to, text.as_bytes()).map_err(broken)?;
    let answer = wire.receive(verb.timeout).map_err(broken)?;
    let (from, bytes) = answer.ok_or_else(|| format!("{} does not answer", verb.to))?;
    Ok(Answered {
        from,
        text: bytes.escape_ascii().to_string(),
    })
}

fn capture(lab: &str, verb: &Capture) -> Result<Answer, String> {
    let absolute = |file: &Path| {
        std::path::absolute(file)
            .map_err(|error| format!("cannot tell where {} is: {error}", file.display()))
    };
    let file = verb.file.as_deref().map(absolute).transpose()?;
    if verb.end {
        return client::get::<Captures>(lab, Request::EndCapture { file }).map(Answer::from);
    }
    let request = Request::Capture {
        file: file.ok_or("give the file")?,
        link: verb.link.clone(),
    };
    client::get::<Done>(lab, request).map(Answer::from)
}

fn forward(lab: &str, verb: &Forward) -> Result<Answer, String> {
    match &verb.to {
        Some(to) => {
            let request = Request::Forward {
                listen: verb.listen,
                to: to.clone(),
            };
            client::get::<Forwarded>(lab, request).map(Answer::from)
        }
        None => {
            let request = Request::EndForward {
                listen: verb.listen,
            };
            client::get::<Done>(lab, request).map(Answer::from)
        }
    }
}

impl Faults {
    fn request(&self) -> Result<Request, String> {
        let change = Change {
            cut: self.cut,
            loss: self.loss,
            corrupt: self.corrupt,
            duplicate: self.duplicate,
            reorder: self.reorder,
            hold: self.hold,
            delay: self.delay,
            jitter: self.jitter,
            rate: self.rate,
        };
        if change == Change::default() {
            return Err("say what is to be wrong, such as --loss 20%; `hearth lab heal` makes it sound again".into());
        }
        Ok(Request::Faults {
            link: self.link.link.clone(),
            direction: self.link.direction(),
            change,
        })
    }
}

/// Replaces what stands for keys that are hard to type.
fn unescape(text: &str) -> Result<String, String> {
    let mut keys = String::new();
    let mut rest = text.chars();
    while let Some(letter) = rest.next() {
        if letter != '\\' {
            keys.push(letter);
            continue;
        }
        keys.push(match rest.next() {
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('\\') => '\\',
            Some('x') => {
                let digits: String = rest.by_ref().take(2).collect();
                let code = u8::from_str_radix(&digits, 16).ok();
                let code = code.filter(|code| {
                    code.is_ascii() && digits.len() == 2 && !digits.starts_with('+')
                });
                char::from(code.ok_or_else(|| format!("`\\x{digits}` is no key: \\x00 to \\x7f"))?)
            }
            other => {
                return Err(format!(
                    "`\\{}` is no key: \\n, \\r, \\t, \\\\ or \\xNN",
                    other.map_or(String::new(), String::from)
                ));
            }
        });
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_typed_as_in_c() {
        assert_eq!(unescape(r"ls\r\x1d2\\").unwrap(), "ls\r\x1d2\\");
        for wrong in [r"\", r"\q", r"\x8", r"\x80", r"\x+1"] {
            assert!(unescape(wrong).is_err(), "{wrong}");
        }
    }
}
