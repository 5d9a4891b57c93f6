//! What an agent asks of whoever drives it.

use super::book::Destination;
use crate::ids::{BoardId, Epoch, GuestId, Micros, MoveId};
use crate::ledger::Ledger;
use crate::ledger::types::{Digest, Reason};
use crate::node::Journal;
use crate::service::Unsaved;
use crate::service::fetch::Store;
use crate::service::progress::Progress;
#[cfg(doc)]
use crate::{agent::Agent, node::Local};

/// What an agent does to the world.
pub trait Hands<const B: usize, const G: usize, const D: usize>: Store {
    /// Sends a frame. One that cannot be sent is lost, as frames are.
    fn send(&mut self, to: Destination, frame: &[u8]);

    /// Makes a journal's record durable; it is when this returns. Only a node with a journal asks for it.
    fn persist(&mut self, place: Journal, record: &[u8]);

    /// Begins to start a guest, as `ledger` describes it: from its images, which are all here, or from the copy that move `arrived` brought in the epoch before.
    /// [`Agent::local`] tells how that ends. If it is refused, there is no copy, and what arrived is dropped.
    ///
    /// # Errors
    /// Why it cannot.
    fn start(
        &mut self,
        guest: GuestId,
        epoch: Epoch,
        arrived: Option<MoveId>,
        ledger: &Ledger<B, G, D>,
    ) -> Result<(), Reason>;

    /// Begins to copy a running guest to board `to`, which is reached at `at`; it is to be still for `downtime` milliseconds at most, if that is given. [`Agent::local`] tells how that ends: [`Local::Ready`] or [`Local::Stays`]. A copy
    /// that is destroyed ends it too.
    fn send_guest(
        &mut self,
        guest: GuestId,
        epoch: Epoch,
        id: MoveId,
        to: BoardId,
        at: Destination,
        downtime: Option<u16>,
    );

    /// How the newest move of a guest goes of which this board is an end, if there was one.
    fn progress(&self, _: GuestId) -> Option<Progress> {
        None
    }

    /// Ends a move, if it has not ended; a copy that was stopped for it goes on, unless it is frozen.
    fn abandon_move(&mut self, guest: GuestId, epoch: Epoch, id: MoveId);

    /// A copy that was stopped for its hand-over is in epoch `to` from here on, and is frozen. Its move is over. If it has ended meanwhile,
    /// [`Agent::local`] says so in the new epoch.
    fn renew(&mut self, guest: GuestId, from: Epoch, to: Epoch);

    /// How much of a guest is here that is to go on from a file, and is brought under the name `id`.
    fn brought(&self, guest: GuestId, epoch: Epoch, id: MoveId) -> Brought;

    /// Begins to save a running guest to the file of a tool that is reached at `at`, if it can; or says again how that ended. What is to be said to the tool, if anything.
    fn save(
        &mut self,
        guest: GuestId,
        epoch: Epoch,
        id: MoveId,
        at: Destination,
    ) -> Option<Unsaved>;

    /// Stops a copy's processors at once, also one that is still starting.
    fn freeze(&mut self, guest: GuestId, epoch: Epoch);

    /// Lets a frozen copy go on; one that is stopped for its hand-over only when its move is over.
    fn resume(&mut self, guest: GuestId, epoch: Epoch);

    /// Destroys a copy; [`Agent::local`] says when it is gone.
    fn destroy(&mut self, guest: GuestId, epoch: Epoch);

    /// From now on this copy's output may leave until `until`, exclusive; zero: not at all.
    fn permit(&mut self, guest: GuestId, epoch: Epoch, until: Micros);

    /// Whether an image is here whole.
    fn has_image(&self, digest: &Digest) -> bool;

    /// An image's length in bytes, if it is here whole.
    fn image_length(&self, digest: &Digest) -> Option<u32>;

    /// Makes room for an image that is to be fetched; whether there is some.
    fn begin_image(&mut self, digest: &Digest, length: u32) -> bool;

    /// The image that was begun is whole, or given up.
    fn end_image(&mut self, digest: &Digest, whole: bool);

    /// Gives back the room of fetched images that nobody `needs`.
    fn drop_images(&mut self, needs: &dyn Fn(&Digest) -> bool);

    /// What a guest's console said from byte `from` on, into `to`: the position of the first byte, and how many there are. None if the guest is not here.
    fn listen(&mut self, guest: GuestId, from: u64, to: &mut [u8]) -> Option<(u64, usize)>;

    /// Types at a guest's console; whether the guest is here.
    fn type_in(&mut self, guest: GuestId, bytes: &[u8]) -> bool;
}

/// Whether a board waits for a guest that somebody wants to send it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awaiting {
    /// It does not know of it yet, or lacks an image: ask again.
    NotYet,
    /// It does, and has all that the guest needs beside its copy.
    Here,
    /// It does not, and will not.
    Over,
}

/// How much is here of a guest that a tool brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Brought {
    /// Nothing, as far as is known.
    Nothing,
    /// Some of it, and more is on its way.
    Some,
    /// All of it.
    All,
    /// It was not taken, or nothing more came.
    Refused,
}
