//! A board that stands alone: what becomes of its guests when no cluster decides.
//!
//! They are started at boot, are started again when they ask for a reset, stay stopped when they turn themselves off, and may speak for ever: they exist nowhere else.
//! The operator at the console can freeze one, and have one made anew. Core 0 does all of it.

use alloc::boxed::Box;

use cluster_proto::package::{GuestView, Package};
use el2_hyp::gate::{Authority, Ticks};
use el2_hyp::lock::Mutex;

use crate::guests::{self, MakeError, News, Slot};
use crate::host::CoreHost;
use crate::queue::MAX_BOARD_GUESTS;
use crate::{info, moving, warn};

/// What decides over this board's guests: nothing but itself.
static AUTHORITY: Authority = Authority::new();

/// What is to be made once the guest of a place is gone.
static NEXT: Mutex<[Option<Box<GuestView<'static>>>; MAX_BOARD_GUESTS]> =
    Mutex::new([const { None }; MAX_BOARD_GUESTS]);

/// Makes and starts every guest of the package that is for this board, sound and fits, and tells what is wrong with the others.
pub fn start_package(package: &Package<'static>) {
    for view in package.guests() {
        match view {
            Ok(view) if view.guest.first_board() == package.board_number() => {
                start(Box::new(view));
            }
            Ok(_) => {}
            Err(error) => warn!("{error}"),
        }
    }
}

fn start(view: Box<GuestView<'static>>) {
    let name = view.guest.name.clone();
    match guests::create(view, None) {
        Ok(id) => {
            permit(id);
            guests::start(id);
        }
        Err(why @ (MakeError::Devices(_) | MakeError::Controller(_))) => {
            warn!("guest {name} does not start: {why}");
        }
        Err(why) => warn!("guest {name} does not fit: {why}"),
    }
}

/// Does what follows from what became of guests. No lock is held.
pub fn serve() {
    while let Some((id, news)) = guests::take_news() {
        match news {
            News::Ended(stop) if stop.is_reset() => guests::start(id),
            News::Destroyed => {
                let next = NEXT.lock()[id].take();
                if let Some(view) = next {
                    start(view);
                }
            }
            News::Started | News::Failed | News::Ended(_) => {}
        }
    }
}

/// Freezes a guest, or lets a frozen one go on.
pub fn freeze_or_resume(slot: &Slot) {
    let (id, name) = (slot.guest.id, &slot.guest.name);
    if guests::is_frozen(id) {
        info!("guest {name} goes on");
        guests::resume(id);
    } else {
        guests::freeze(id);
        info!("guest {name} is frozen");
    }
}

/// Moves a guest to another place of this board, while it runs: what a move to another board costs, rehearsed without one.
pub fn move_within(slot: &Slot) {
    let name = &slot.guest.name;
    match moving::within::begin(slot) {
        Ok(()) => info!("guest {name} moves"),
        Err(why) => warn!("guest {name} does not move: {why}"),
    }
}

/// A guest that moved within the board may speak from its new place.
pub fn permit(id: usize) {
    guests::permit(&AUTHORITY, id, Ticks::NEVER, 0);
}

/// Destroys a guest, and makes and starts another like it.
pub fn make_anew(host: &CoreHost, slot: &Slot) {
    let id = slot.guest.id;
    info!("guest {} is destroyed and made anew", slot.guest.name);
    NEXT.lock()[id] = Some(Box::new(slot.view().clone()));
    guests::destroy(host, id);
}
