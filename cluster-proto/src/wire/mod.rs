//! What goes over the network, in three layers: bytes that were checked for their origin ([`frame`], [`auth`]), values in a
//! fixed encoding ([`codec`]), and messages in which an illegal one cannot be written ([`message`]).

pub mod auth;
pub mod codec;
pub mod frame;
pub mod message;
