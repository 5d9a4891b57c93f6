//! A drill's timeline as lanes with segments, without saying how they are drawn.

use super::trace::{Moment, Record, Seen, View};

/// A time without answers that is shown as a stall, microseconds.
const STALL: u64 = 100_000;
/// What happened within this of each other is one mark, microseconds.
const SAME: u64 = 20_000;
/// Of an identity, so much is shown.
const IDENTITY: usize = 8;

/// A stretch of a lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its begin, microseconds after the first record.
    pub from_us: u64,
    /// Its end.
    pub to_us: u64,
    /// What was so.
    pub text: String,
}

/// A lane.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lane {
    /// What it shows.
    pub name: &'static str,
    /// Its stretches, in order.
    pub segments: Vec<Segment>,
}

/// A moment with a word to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// When.
    pub at_us: u64,
    /// What happened.
    pub text: String,
}

pub use super::judge::Stall;

/// All of a drill.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lanes {
    /// From the first record to the last.
    pub length_us: u64,
    /// When answers came.
    pub answers: Vec<u64>,
    /// Times without answers.
    pub stalls: Vec<Stall>,
    /// Boots, links, owners, leaders.
    pub lanes: Vec<Lane>,
    /// What happened to the lab.
    pub marks: Vec<Mark>,
}

impl Lanes {
    /// All texts of segments, each once, in the order in which they are first seen.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        // Places first, so that a board has the same colour in all lanes that show boards.
        for segment in self.lanes.iter().rev().flat_map(|lane| &lane.segments) {
            if !names.contains(&segment.text.as_str()) {
                names.push(&segment.text);
            }
        }
        names
    }
}

/// A lane that grows: what is so goes on until something else is.
#[derive(Debug, Default)]
struct Growing {
    lane: Lane,
    now: Option<(u64, String)>,
}

impl Growing {
    fn new(name: &'static str) -> Self {
        let lane = Lane {
            name,
            segments: Vec::new(),
        };
        Self { lane, now: None }
    }

    fn is(&mut self, at: u64, text: Option<&str>) {
        if self.now.as_ref().map(|(_, text)| text.as_str()) == text {
            return;
        }
        self.end(at);
        self.now = text.map(|text| (at, text.to_string()));
    }

    fn end(&mut self, at: u64) {
        if let Some((from_us, text)) = self.now.take() {
            self.lane.segments.push(Segment {
                from_us,
                to_us: at,
                text,
            });
        }
    }
}

/// The lanes of what was seen; records are in the order of their moments.
pub fn lanes(records: &[Record]) -> Lanes {
    let (Some(first), Some(last)) = (records.first(), records.last()) else {
        return Lanes::default();
    };
    let since = |at: Moment| at - first.at;
    let mut boots = Growing::new("boot");
    let mut links = Growing::new("heard on");
    let mut owners = Growing::new("owner");
    let mut leaders = Growing::new("leader");
    let mut all = Lanes {
        length_us: since(last.at),
        ..Lanes::default()
    };
    let mut quiet: Option<u64> = None;
    for record in records {
        let at = since(record.at);
        match &record.what {
            Seen::Asked { .. } | Seen::Said { .. } => {}
            Seen::Answered { boot, .. } => {
                let shown = boot.char_indices().nth(IDENTITY);
                let shown = shown.map_or(boot.as_str(), |(end, _)| &boot[..end]);
                boots.is(at, Some(shown));
                all.stalls.extend(quiet.and_then(|quiet| stall(quiet, at)));
                quiet = Some(at);
                all.answers.push(at);
            }
            Seen::View(View { leader, owner, .. }) => {
                leaders.is(at, leader.as_deref());
                owners.is(at, owner.as_deref());
            }
            Seen::Frame { link, .. } => links.is(at, Some(link)),
            Seen::Lab { what } => mark(&mut all.marks, at, what),
        }
    }
    all.stalls
        .extend(quiet.and_then(|quiet| stall(quiet, all.length_us)));
    for mut growing in [boots, links, owners, leaders] {
        growing.end(all.length_us);
        all.lanes.push(growing.lane);
    }
    all
}

/// Adds a mark, or its text to the one before if that is of the same moment.
fn mark(marks: &mut Vec<Mark>, at_us: u64, text: &str) {
    match marks.last_mut() {
        Some(last) if at_us - last.at_us < SAME => {
            last.text.push_str("; ");
            last.text.push_str(text);
        }
        _ => marks.push(Mark {
            at_us,
            text: text.into(),
        }),
    }
}

fn stall(from_us: u64, to_us: u64) -> Option<Stall> {
    let length_us = to_us - from_us;
    (length_us >= STALL).then_some(Stall { from_us, length_us })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_so_goes_on_until_something_else_is() {
        let view = |leader: Option<&str>| {
            Seen::View(View {
                leader: leader.map(String::from),
                ..View::default()
            })
        };
        let seen = [
            view(Some("alpha")),
            view(Some("alpha")),
            view(None),
            view(Some("beta")),
            Seen::Lab {
                what: "all links: cut".into(),
            },
        ];
        let at = |(n, what)| Record {
            at: 500 + 10 * n as u64,
            what,
        };
        let records: Vec<_> = seen.into_iter().enumerate().map(at).collect();
        let lanes = lanes(&records);
        assert_eq!(lanes.length_us, 40);
        assert_eq!(lanes.marks[0].at_us, 40);
        let leaders = &lanes.lanes[3];
        let segment = |from_us, to_us, text: &str| Segment {
            from_us,
            to_us,
            text: text.into(),
        };
        assert_eq!(
            leaders.segments,
            [segment(0, 20, "alpha"), segment(30, 40, "beta")]
        );
        assert_eq!(lanes.names(), ["alpha", "beta"]);
    }

    #[test]
    fn a_stall_is_shown_from_answer_to_answer_and_to_the_end() {
        let answer = |at| Record {
            at,
            what: Seen::Answered {
                number: 1,
                boot: "0123456789".into(),
                counter: 1,
            },
        };
        let end = Record {
            at: 1_000_000,
            what: Seen::Asked { number: 2 },
        };
        let lanes = lanes(&[answer(0), answer(50_000), answer(200_000), end]);
        let stall = |from_us, length_us| Stall { from_us, length_us };
        assert_eq!(
            lanes.stalls,
            [stall(50_000, 150_000), stall(200_000, 800_000)]
        );
        assert_eq!(lanes.lanes[0].segments[0].text, "01234567");
    }
}
