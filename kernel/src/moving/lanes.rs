//! What comes for the ends of moves between boards, and how they wait for it.
//!
//! A guest that moves between boards has a place on each, and by that a lane: its stream's secret, what has come and was not looked at, and, while no core has it in
//! hand, the end itself. Frames are left here by whatever core forwards them, and looked at by the core that takes the end up. What asks for a lane that is not there is left for the agent.
//!
//! **Locks.** A lane's is the last of all.

use alloc::boxed::Box;
use core::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicU64, Ordering};

use cluster_proto::agent::Brought;
use cluster_proto::agent::book::Endpoint;
use cluster_proto::bulk::frame::{Key, MAX_FRAME, Name, claim};
use cluster_proto::node::Local;
use el2_hyp::arch::timer;
use el2_hyp::host::Host as _;
use el2_hyp::lock::Mutex;
use el2_hyp::record::intake::Parts;
use heapless::Deque;

use super::{Arrival, Departure};
use crate::host::CoreHost;
use crate::percore;
use crate::queue::MAX_BOARD_GUESTS;

/// Frames that wait for a guest that comes, at most: a window of them.
const WAITING: usize = cluster_proto::bulk::MAX_RING;
/// Words of the other board that wait for one that leaves; what is lost of them is said again.
const WAITING_WORDS: usize = 16;
/// Frames that ask for an end, at most; who asks asks again.
const KNOCKS: usize = 4;
/// Guests that leave at the same time, and that come, at most; each has some 300 KiB of the heap for its stream.
pub const MAX_DEPARTURES: usize = 2;
pub const MAX_ARRIVALS: usize = 2;

/// An end of a move.
pub enum End {
    /// Of a guest that leaves.
    Departure(Box<Departure>),
    /// Of one that comes.
    Arrival(Box<Arrival>),
}

/// What an end's work has come to for now.
pub enum Pause {
    /// There is more to do at once.
    Busy,
    /// It waits until something comes, or until then, by the counter.
    Until(u64),
    /// It is over.
    Over,
}

/// Frames in their order.
struct Inbox {
    bytes: Box<[[u8; MAX_FRAME]]>,
    lengths: [u16; WAITING],
    first: usize,
    count: usize,
}

impl Inbox {
    fn new(room: usize) -> Self {
        Self {
            // Made where it stays: a stack has no room for it.
            bytes: alloc::vec![[0; MAX_FRAME]; room].into_boxed_slice(),
            lengths: [0; WAITING],
            first: 0,
            count: 0,
        }
    }

    /// One that finds no room is lost, as frames are.
    fn put(&mut self, frame: &[u8]) {
        if self.count < self.bytes.len() && frame.len() <= MAX_FRAME {
            let place = (self.first + self.count) % self.bytes.len();
            self.bytes[place][..frame.len()].copy_from_slice(frame);
            self.lengths[place] = frame.len() as u16;
            self.count += 1;
        }
    }

    fn take(&mut self, room: &mut [u8; MAX_FRAME]) -> Option<usize> {
        self.count = self.count.checked_sub(1)?;
        let length = usize::from(self.lengths[self.first]);
        room[..length].copy_from_slice(&self.bytes[self.first][..length]);
        self.first = (self.first + 1) % self.bytes.len();
        Some(length)
    }
}

struct Lane {
    key: Key,
    departs: bool,
    inbox: Inbox,
    /// The end, while no core has it in hand, and when it has something to do, by the counter.
    parked: Option<End>,
    due: u64,
    /// The agent has called the move off, or ended it.
    is_abandoned: bool,
    /// The guest, when all of it has come.
    whole: Option<Box<Parts>>,
    /// What comes is not taken.
    is_refused: bool,
}

static LANES: [Mutex<Option<Box<Lane>>>; MAX_BOARD_GUESTS] =
    [const { Mutex::new(None) }; MAX_BOARD_GUESTS];
/// Whose each is: a guest's number plus one; zero for nobody's.
static GUESTS: [AtomicU32; MAX_BOARD_GUESTS] = [const { AtomicU32::new(0) }; MAX_BOARD_GUESTS];
/// Lanes in which something has come, a bit each.
static CALLED: AtomicU16 = AtomicU16::new(0);
/// When the first of the ends has something to do, by the counter.
static DUE: AtomicU64 = AtomicU64::new(u64::MAX);

struct Knocks {
    frames: [[u8; MAX_FRAME]; KNOCKS],
    from: Deque<(Endpoint, usize), KNOCKS>,
    next: usize,
}

static KNOCKING: Mutex<Knocks> = Mutex::new(Knocks {
    frames: [[0; MAX_FRAME]; KNOCKS],
    from: Deque::new(),
    next: 0,
});
static HAS_KNOCK: AtomicBool = AtomicBool::new(false);

/// What the agent has not heard yet.
static NEWS: Mutex<Deque<Local, { 4 * MAX_BOARD_GUESTS }>> = Mutex::new(Deque::new());
static HAS_NEWS: AtomicBool = AtomicBool::new(false);

/// A frame of a stream has come from `from`.
pub fn receive(from: Endpoint, frame: &[u8]) {
    let Some((name, is_first)) = claim(frame) else {
        return;
    };
    match find(name) {
        Some(place) => {
            if let Some(lane) = LANES[place].lock().as_mut() {
                lane.inbox.put(frame);
            }
            call(place);
        }
        None if is_first => {
            let knocks = &mut *KNOCKING.lock();
            let at = knocks.next;
            if frame.len() <= MAX_FRAME && knocks.from.push_back((from, frame.len())).is_ok() {
                knocks.frames[at][..frame.len()].copy_from_slice(frame);
                knocks.next = (at + 1) % KNOCKS;
                HAS_KNOCK.store(true, Ordering::Release);
                percore::reschedule(0);
            }
        }
        None => {}
    }
}

/// Where the end of this move is.
pub fn find(name: Name) -> Option<usize> {
    let number = u32::from(name.guest.0) + 1;
    let mut places = 0..MAX_BOARD_GUESTS;
    places.find(|&place| GUESTS[place].load(Ordering::Acquire) == number && is_open(place, name))
}

/// Whether the lane of a place is this move's.
pub fn is_open(place: usize, name: Name) -> bool {
    let lane = LANES[place].lock();
    lane.as_ref().is_some_and(|lane| lane.key.name() == name)
}

/// How many guests leave, and how many come.
pub fn count() -> (usize, usize) {
    let departs = |place: &Mutex<Option<Box<Lane>>>| place.lock().as_ref().map(|lane| lane.departs);
    let all = LANES.iter().filter_map(departs);
    all.fold((0, 0), |(leave, come), departs| match departs {
        true => (leave + 1, come),
        false => (leave, come + 1),
    })
}

/// The next frame that asks for an end which is not there, into `room`.
pub fn next_knock(room: &mut [u8; MAX_FRAME]) -> Option<(Endpoint, usize)> {
    if !HAS_KNOCK.load(Ordering::Acquire) {
        return None;
    }
    let knocks = &mut *KNOCKING.lock();
    let waiting = knocks.from.len();
    let Some((from, length)) = knocks.from.pop_front() else {
        HAS_KNOCK.store(false, Ordering::Release);
        return None;
    };
    let at = (knocks.next + KNOCKS - waiting) % KNOCKS;
    room[..length].copy_from_slice(&knocks.frames[at][..length]);
    Some((from, length))
}

/// Whether there is something for the agent: a knock, or [news](take_news).
pub fn has_news() -> bool {
    HAS_KNOCK.load(Ordering::Acquire) || HAS_NEWS.load(Ordering::Acquire)
}

/// Tells the agent how a move goes.
pub fn tell(news: Local) {
    let told = NEWS.lock().push_back(news);
    assert!(told.is_ok(), "a move has few ends");
    HAS_NEWS.store(true, Ordering::Release);
    percore::reschedule(0);
}

/// The next of what the agent has not heard.
pub fn take_news() -> Option<Local> {
    if !HAS_NEWS.load(Ordering::Acquire) {
        return None;
    }
    let news = &mut *NEWS.lock();
    let next = news.pop_front();
    HAS_NEWS.store(!news.is_empty(), Ordering::Release);
    next
}

/// Opens the lane of a guest's place, with its end, which has something to do at once.
pub fn open(place: usize, key: Key, end: End) {
    let number = u32::from(key.name().guest.0) + 1;
    let departs = matches!(end, End::Departure(_));
    let lane = Box::new(Lane {
        key,
        departs,
        inbox: Inbox::new(if departs { WAITING_WORDS } else { WAITING }),
        parked: Some(end),
        due: u64::MAX,
        is_abandoned: false,
        whole: None,
        is_refused: false,
    });
    *LANES[place].lock() = Some(lane);
    GUESTS[place].store(number, Ordering::Release);
    call(place);
}

/// Closes the lane of a move. An end that is parked is dropped; one that a core has in hand finds out.
pub fn close(place: usize, name: Name) {
    let mut lane = LANES[place].lock();
    if lane.as_ref().is_some_and(|lane| lane.key.name() == name) {
        GUESTS[place].store(0, Ordering::Release);
        let closed = lane.take();
        // What it has goes back to the heap without the lock.
        core::mem::drop(lane);
        core::mem::drop(closed);
    }
}

/// The next frame for an end, into `room`; its length.
pub fn next_frame(place: usize, room: &mut [u8; MAX_FRAME]) -> Option<usize> {
    LANES[place].lock().as_mut()?.inbox.take(room)
}

/// All of a guest has come.
pub fn put_whole(place: usize, name: Name, parts: Parts) {
    let parts = Box::new(parts);
    let mut lane = LANES[place].lock();
    if let Some(lane) = lane.as_mut().filter(|lane| lane.key.name() == name) {
        lane.whole = Some(parts);
    }
}

/// What comes is not taken.
pub fn put_refused(place: usize, name: Name) {
    let mut lane = LANES[place].lock();
    if let Some(lane) = lane.as_mut().filter(|lane| lane.key.name() == name) {
        lane.is_refused = true;
    }
}

/// How much of a guest has come.
pub fn brought(name: Name) -> Brought {
    let Some(place) = find(name) else {
        return Brought::Nothing;
    };
    let lane = LANES[place].lock();
    match lane.as_ref().filter(|lane| lane.key.name() == name) {
        None => Brought::Nothing,
        Some(lane) if lane.is_refused => Brought::Refused,
        Some(lane) if lane.whole.is_some() => Brought::All,
        Some(_) => Brought::Some,
    }
}

/// The guest that has come, if all of it has. Its lane is closed.
pub fn take_whole(place: usize, name: Name) -> Option<Box<Parts>> {
    let mut lane = LANES[place].lock();
    let lane_of_it = lane.as_mut().filter(|lane| lane.key.name() == name);
    let parts = lane_of_it?.whole.take()?;
    core::mem::drop(lane);
    close(place, name);
    Some(parts)
}

/// A guest's move is over, however it ended: its departure is told.
pub fn abandon(place: usize, name: Name) {
    let mut lane = LANES[place].lock();
    if let Some(lane) = lane.as_mut().filter(|lane| lane.key.name() == name) {
        lane.is_abandoned = true;
    }
    core::mem::drop(lane);
    call(place);
}

/// As [`abandon`], whatever move it is.
pub fn abandon_all(place: usize) {
    if let Some(lane) = LANES[place].lock().as_mut() {
        lane.is_abandoned = true;
    }
    call(place);
}

/// Whether the guest of a place leaves for another board.
pub fn departs(place: usize) -> bool {
    let lane = LANES[place].lock();
    lane.as_ref()
        .is_some_and(|lane| lane.departs && !lane.key.name().id.is_of_file())
}

/// The name under which the guest of a place is saved, if it is.
pub fn saves(place: usize) -> Option<Name> {
    let lane = LANES[place].lock();
    let name = lane.as_ref().filter(|lane| lane.departs)?.key.name();
    name.id.is_of_file().then_some(name)
}

/// Whether a move was abandoned.
pub fn is_abandoned(place: usize) -> bool {
    let lane = LANES[place].lock();
    lane.as_ref().is_none_or(|lane| lane.is_abandoned)
}

/// The arrivals, by place.
pub fn arrivals() -> impl Iterator<Item = (usize, Name)> {
    LANES.iter().enumerate().filter_map(|(place, lane)| {
        if GUESTS[place].load(Ordering::Acquire) == 0 {
            return None;
        }
        let lane = lane.lock();
        let lane = lane.as_ref().filter(|lane| !lane.departs)?;
        Some((place, lane.key.name()))
    })
}

/// Some core is to take up the end in a lane.
pub fn call(place: usize) {
    if CALLED.fetch_or(1 << place, Ordering::SeqCst) & 1 << place == 0 {
        percore::reschedule_all();
    }
}

/// Whether an end waits for a core.
pub fn is_waiting() -> bool {
    CALLED.load(Ordering::Relaxed) != 0 || next_due() <= timer::now()
}

/// When some core is to take up an end, by the counter.
pub fn next_due() -> u64 {
    DUE.load(Ordering::Relaxed)
}

/// An end that has something to do, for this core.
pub fn next() -> Option<End> {
    let now = timer::now();
    if next_due() <= now {
        DUE.store(u64::MAX, Ordering::SeqCst);
        for (place, lane) in LANES.iter().enumerate() {
            if let Some(lane) = lane.lock().as_ref() {
                if lane.due <= now {
                    CALLED.fetch_or(1 << place, Ordering::SeqCst);
                } else {
                    DUE.fetch_min(lane.due, Ordering::SeqCst);
                }
            }
        }
    }
    let mut left = CALLED.load(Ordering::SeqCst);
    while left != 0 {
        let place = left.trailing_zeros() as usize;
        left &= left - 1;
        if CALLED.fetch_and(!(1 << place), Ordering::SeqCst) & 1 << place == 0 {
            continue;
        }
        // One that another core has in hand is told when that core parks it.
        if let Some(lane) = LANES[place].lock().as_mut()
            && let Some(end) = lane.parked.take()
        {
            lane.due = u64::MAX;
            return Some(end);
        }
    }
    None
}

/// Parks an end until something comes or `due`; drops it if its lane is not there any more.
fn park(place: usize, name: Name, end: End, due: u64) {
    let mut room = LANES[place].lock();
    let Some(lane) = room.as_mut().filter(|lane| lane.key.name() == name) else {
        core::mem::drop(room);
        core::mem::drop(end);
        return;
    };
    lane.parked = Some(end);
    lane.due = due;
    let has_more = lane.inbox.count > 0 || lane.is_abandoned;
    core::mem::drop(room);
    if has_more {
        call(place);
    } else if DUE.fetch_min(due, Ordering::SeqCst) > due {
        // Core 0 keeps the timer.
        percore::reschedule(0);
    }
}

impl End {
    /// Goes on until `end`, by the counter, or until the core is asked to look at something. None when there is no more to do for now.
    pub fn go_on(mut self, host: &CoreHost, end: u64) -> Option<Self> {
        loop {
            let (place, name, pause) = match &mut self {
                Self::Departure(it) => (it.place(), it.name(), it.turn(host)),
                Self::Arrival(it) => (it.place(), it.name(), it.turn(host)),
            };
            host.look_up();
            match pause {
                Pause::Busy if host.is_asked() || timer::now() >= end => return Some(self),
                Pause::Busy => {}
                Pause::Until(due) => {
                    park(place, name, self, due);
                    return None;
                }
                Pause::Over => {
                    close(place, name);
                    return None;
                }
            }
        }
    }
}
