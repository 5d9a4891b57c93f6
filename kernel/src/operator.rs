//! What the operator asks for at the board's own console.

use core::sync::atomic::Ordering;

use el2_hyp::guest::Stop;

use crate::console::{self, Command};
use crate::host::CoreHost;
use crate::{agent, alone, guests, info, memory, moving, net, percore, power, warn};

/// Sees to everything that has come in on the line.
pub fn serve(host: &CoreHost) {
    console::interrupt(|command| match command {
        Command::Input { guest, byte } => {
            if let Some(slot) = guests::find(guest) {
                // A guest that does not read loses what its FIFO cannot hold, as on a real line.
                let _ = slot.guest.receive(host, byte);
            }
        }
        Command::Freeze { .. } | Command::Restart { .. } | Command::Move { .. }
            if agent::is_member() =>
        {
            info!("the cluster decides over this board's guests: see 'hearth guest --help'");
        }
        Command::Freeze { guest } => {
            if let Some(slot) = guests::find(guest) {
                alone::freeze_or_resume(slot);
            }
        }
        Command::Restart { guest } => {
            if let Some(slot) = guests::find(guest) {
                alone::make_anew(host, slot);
            }
        }
        Command::Move { guest } => {
            if let Some(slot) = guests::find(guest) {
                alone::move_within(slot);
            }
        }
        Command::Watch { guest } => {
            if let Some(slot) = guests::find(guest)
                && let Err(why) = moving::watch::begin(slot)
            {
                warn!("guest {} is not measured: {why}", slot.guest.name);
            }
        }
        Command::Pack { guest } => {
            if let Some(slot) = guests::find(guest)
                && let Err(why) = moving::packing::begin(slot)
            {
                warn!("guest {} is not measured: {why}", slot.guest.name);
            }
        }
        Command::Hold { step } => moving::hold::order(step),
        Command::Course => moving::course::tell(),
        Command::Status => tell_status(),
        Command::PowerOff => {
            guests::all().for_each(|slot| slot.guest.end(host, Stop::Ended));
            power::off();
        }
    });
    guests::all().for_each(|slot| slot.guest.resume_consoles(host));
}

/// Tells the operator how the board is.
fn tell_status() {
    let (free, frames) = memory::frames();
    let own = crate::boot::image::end() - crate::boot::image::start();
    info!(
        "status: {} cores, {free} of {frames} frames free, own memory {own} bytes (heap {} in use)",
        crate::smp::running(),
        memory::heap_used(),
    );
    for slot in guests::all() {
        let id = slot.guest.id;
        let state = match (guests::is_running(id), guests::is_frozen(id)) {
            (true, false) => "running",
            (true, true) => "frozen",
            _ => "stopped",
        };
        let starts = slot.starts.load(Ordering::Relaxed);
        info!(
            "status: guest {} {state}, started {starts} times",
            slot.guest.name
        );
    }
    agent::tell_status();
    if let Some(network) = net::network() {
        network.tell_status();
    }
    for (core, instructions) in percore::instructions().enumerate() {
        let now = el2_hyp::arch::timer::now() * 1000 / (el2_hyp::arch::timer::frequency() / 1000);
        match instructions {
            0 => info!("status: core {core} does not count instructions"),
            _ => info!(
                "status: core {core} has retired {instructions} instructions at EL2 by {now} us"
            ),
        }
    }
}
