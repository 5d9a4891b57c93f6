//! `echo`: a small host on the network, by interrupts: it answers ARP, ping, UDP to any port, and frames of the guests' own kind.
//!
//! What it sends back is what came, with the addresses turned round, so that whoever asks can tell whether anything was lost or changed on the
//! way. It says nothing but at its end, which is a `q` on its console, or `count=` answers.
//!
//! Parameters: `ip=` (10.0.2.15), its IPv4 address; `count=` (never). Output: `ECHO ready`, and `PASS echo answered=N interrupts=N`.
#![no_std]
#![no_main]

use guest::host::{Done, Host};
use guest::{Machine, println, report};

guest::entry!(main);

fn main(machine: &'static Machine) {
    let Some(mut host) = Host::open(machine, None) else {
        return report::fail("echo", format_args!("no card"));
    };
    println!("ECHO ready {:?}", host.ip());
    let Done {
        answered,
        interrupts,
    } = host.serve(machine.number("count", u64::MAX));
    match report::failures() {
        0 => println!("PASS echo answered={answered} interrupts={interrupts}"),
        failures => println!("FAIL echo failures={failures}"),
    }
}
