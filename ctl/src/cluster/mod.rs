//! The tool's side of a cluster's protocol: the verbs with which an operator looks after boards that run.
//!
//! [`wire`] carries datagrams, [`reach`] knows which cluster is meant and where its boards are, [`session`] asks questions until they are answered. On these
//! stand the verbs: [`status`] ([`view`] and [`links`] work it out, [`screen`] shows it), [`events`], [`why`], [`guest`] with [`console`], [`create`], [`save`] and [`restore`] ([`saved`] is the file between them,
//! [`fitting`] says whether it fits), [`migrate`] ([`moves`] tells how a move stands, [`going`] how it goes, [`passage`] is one from order to end), [`scale`], [`maintain`] (drain, disarm, reform) and [`up`]. [`orders`] gives an order and waits for what follows, [`words`] says in words what the protocol says in numbers.

pub mod console;
pub mod create;
pub mod events;
mod fitting;
mod going;
pub mod guest;
pub mod interrupt;
mod links;
pub mod maintain;
pub mod migrate;
mod moves;
pub mod orders;
mod passage;
mod progress;
pub mod reach;
mod restore;
mod save;
mod saved;
pub mod scale;
#[cfg(test)]
mod scene;
mod screen;
pub mod session;
pub mod status;
mod table;
pub mod up;
mod upload;
mod view;
pub mod why;
pub mod wire;
mod words;
