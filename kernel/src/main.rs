//! The image: it boots the board, owns EL2, wires the parts together and runs for ever.
//!
//! It decides nothing about guests or clusters. In reading order:
//! - [`boot`]: from the loader's jump to [`kernel_main`]. - [`memory`]: EL2's map, heap and frames.
//! - [`console`]: the board's line, shared with its guests. - [`fault`]: when EL2 itself fails.
//! - [`smp`]: the cores. - [`interrupts`], [`percore`], [`queue`]: what they share. - [`power`]: the switch. - [`random`]: random numbers.
//! - [`host`]: the board as its guests need it. - [`guests`], [`assemble`], [`place`]: guests from the boot package, with their devices, into memory.
//! - [`moving`]: guests move while they run. - [`alone`]: what becomes of guests when no cluster decides.
//! - [`devices`], [`net`], [`disk`]: the board's own card and disk, and what they are for.
//! - [`agent`]: the board's part in its cluster. - [`images`]: what guests are started from.
//! - [`operator`]: what is asked for at the console. - [`core_loop`]: what every core does for ever.
#![no_std]
#![no_main]

extern crate alloc;

mod agent;
mod alone;
mod assemble;
mod boot;
mod console;
mod core_loop;
mod devices;
mod disk;
mod fault;
mod guests;
mod host;
mod images;
mod interrupts;
mod memory;
mod moving;
mod net;
mod operator;
mod percore;
mod place;
mod power;
mod queue;
mod random;
mod smp;
mod work;

use alloc::boxed::Box;
use core::sync::atomic::{AtomicU64, Ordering};

use cluster_proto::package::Package;
use el2_hyp::addr::Pa;
use el2_hyp::arch::lists::Interface;
use el2_hyp::arch::{config, maintenance};
use el2_hyp::frame::Mac;
use el2_hyp::guest::Hardware;
use platform::tree::{Gic, Tree};
use spin::Once;

static STARTED_AT: AtomicU64 = AtomicU64::new(0);

/// The counter at the image's first instruction.
fn started_at() -> u64 {
    STARTED_AT.load(Ordering::Relaxed)
}

/// The boot core comes here from `start.S`, on the early tables, with its stack.
#[unsafe(no_mangle)]
extern "C" fn kernel_main(tree_address: usize, started_at: u64) -> ! {
    STARTED_AT.store(started_at, Ordering::Relaxed);
    memory::initialise_heap();
    // SAFETY: the vectors are the image's.
    unsafe { config::initialise_core() };
    // Without a tree there is no line to complain on.
    let Some(tree) = read_tree(tree_address) else {
        fault::halt()
    };
    memory::initialise(&tree);
    console::initialise(&tree);
    power::initialise(&tree);
    info!(
        "Hearth {} on {} ({} MiB)",
        env!("CARGO_PKG_VERSION"),
        tree.model,
        memory::frames().1 >> 8
    );
    if let Some((node, fault)) = &tree.left_out.first {
        info!(
            "device tree: {} nodes were left out, first {node}: {fault}",
            tree.left_out.count
        );
    }
    if let Err(error) = interrupts::initialise(&tree) {
        warn!("this board cannot run guests: {error}");
        fault::halt();
    }
    random::initialise(&tree);
    let interface = interface(&tree);
    let host = initialise_core(0, interface);
    let hardware = Hardware {
        interface,
        list_registers: interface.count(),
        virtual_timer: interrupts::virtual_timer(),
    };
    let package = match &tree.initrd {
        Some(r) => {
            // SAFETY: the loader put the boot package there; the memory is reserved and mapped, and nobody writes to it.
            let archive =
                unsafe { core::slice::from_raw_parts(r.base() as *const u8, r.size() as usize) };
            guests::read_package(archive)
        }
        None => {
            warn!("there is no boot package: give one as the initrd");
            None
        }
    };
    start_devices(&tree, package.as_ref());
    guests::initialise(hardware, virtual_cpu_interface(&tree));
    let member = package.as_ref().is_some_and(agent::is_for_member);
    if let Some(package) = package.as_ref().filter(|_| !member) {
        alone::start_package(package);
    }
    smp::start_others(&tree);
    info!("{} cores", smp::running());
    if let Some(package) = package.as_ref().filter(|_| member) {
        agent::initialise(package, hardware);
    }
    queue::initialise();
    BOOTED.call_once(|| interface);
    core_loop::run(&host)
}

/// Opens the board's own devices. What it needs of the stack is not to lie below the guests' making.
#[inline(never)]
fn start_devices(tree: &Tree, package: Option<&Package<'static>>) {
    let found = devices::open(tree);
    interrupts::take_devices(
        found.card.as_ref().map(|card| card.interrupt),
        found.disk.as_ref().map(|disk| disk.interrupt),
    );
    let board = package.map(Package::board);
    let addresses = net::Addresses {
        mac: board
            .and_then(|board| board.mac)
            .map(|mac| Mac(mac.octets())),
        ipv4: board
            .and_then(|board| board.address)
            .map(|place| (place.address().octets(), place.prefix())),
        member: package.is_some_and(agent::is_for_member),
    };
    net::initialise(found.card, addresses);
    disk::initialise(found.disk);
    // What they had to say before their interrupts were let through left a line up, and an edge that nobody saw: without this
    // look there would never be another.
    if let Some(network) = net::network() {
        network.interrupt();
    }
    if let Some(disk) = disk::disk() {
        disk.interrupt();
    }
}

/// Set when everything that secondary cores use is there.
static BOOTED: Once<Interface> = Once::new();

/// The other cores come here from `start.S`, on the final tables.
#[unsafe(no_mangle)]
extern "C" fn secondary_main(core: usize) -> ! {
    // SAFETY: the vectors are the image's.
    unsafe { config::initialise_core() };
    smp::arrived();
    let interface = loop {
        if let Some(interface) = BOOTED.get() {
            break *interface;
        }
        smp::relax();
    };
    let host = initialise_core(core, interface);
    core_loop::run(&host)
}

fn initialise_core(core: usize, interface: Interface) -> host::CoreHost {
    maintenance::invalidate_core();
    match host::CoreHost::new(core) {
        Ok(host) => {
            interface.initialise_core();
            host
        }
        Err(error) => {
            warn!("core {core} cannot run guests: {error}");
            fault::halt()
        }
    }
}

/// The device tree, if there is one at that address. It is too large to lie on the stack below all else.
#[inline(never)]
fn read_tree(address: usize) -> Option<Box<Tree>> {
    let size = boot::tree_size(address);
    if size == 0 {
        return None;
    }
    // SAFETY: the early tables map as much as the header claims.
    let bytes = unsafe { core::slice::from_raw_parts(address as *const u8, size) };
    Tree::read(bytes, address as u64).map(Box::new).ok()
}

/// How EL2 reaches the list registers.
fn interface(tree: &Tree) -> Interface {
    match &tree.gic {
        Some(Gic::V2(gic)) => {
            let gich = gic
                .hypervisor_interface
                .expect("the driver refuses a GICv2 without it");
            Interface::V2 {
                gich: gich.base() as usize,
            }
        }
        _ => Interface::V3,
    }
}

/// What stage 2 gives GICv2 guests as their CPU interface.
fn virtual_cpu_interface(tree: &Tree) -> Option<Pa> {
    match &tree.gic {
        Some(Gic::V2(gic)) => gic.virtual_cpu_interface.map(|region| Pa(region.base())),
        _ => None,
    }
}
