//! Memory and what of it is taken.
//!
//! Source: Devicetree Specification 0.4, sections 3.4 (`/memory`), 3.5 (`/reserved-memory`), 5.3 (the reservation block).

use super::blob::Blob;
use super::node::Node;
use super::{Fault, Landmarks, Region, Reserved, ReservedKind, StartMethod, Tree, TreeError};

/// The least that is set aside around a spin table's release word: its page, which firmware's waiting loop shares.
const SPIN_TABLE_PAGE: u64 = 4096;

/// Sets aside the tree itself and what the reservation block lists.
pub(super) fn reserve_blocks(blob: &Blob<'_>, at: u64, tree: &mut Tree) -> Result<(), TreeError> {
    match Region::new(at, blob.total_bytes() as u64) {
        Some(region) => reserve(tree, region, ReservedKind::DeviceTree)?,
        None => tree
            .left_out
            .note("the device tree's own place", Fault::Wraps),
    }
    for entry in blob.reservations() {
        let (base, size) = entry?;
        match Region::new(base, size) {
            // QEMU and the Pi's firmware list the tree itself, too.
            Some(region) if is_covered(tree, region) => {}
            Some(region) => reserve(tree, region, ReservedKind::Firmware)?,
            None => tree.left_out.note("reservation block", Fault::Wraps),
        }
    }
    Ok(())
}

/// Whether `region` lies in one that is reserved already.
fn is_covered(tree: &Tree, region: Region) -> bool {
    tree.reserved
        .iter()
        .any(|known| known.region.base() <= region.base() && region.end() <= known.region.end())
}

/// Sets `region` aside; an empty one needs nothing.
pub(super) fn reserve(
    tree: &mut Tree,
    region: Region,
    kind: ReservedKind,
) -> Result<(), TreeError> {
    if region.size() == 0 {
        return Ok(());
    }
    tree.reserved
        .push(Reserved { region, kind })
        .map_err(|_| TreeError::TooManyReservations)
}

/// Sets aside the page of every core's release word.
pub(super) fn reserve_spin_tables(tree: &mut Tree) -> Result<(), TreeError> {
    for index in 0..tree.cores.len() {
        let StartMethod::SpinTable { release_address } = tree.cores[index].start else {
            continue;
        };
        let page = release_address & !(SPIN_TABLE_PAGE - 1);
        if let Some(region) = Region::new(page, SPIN_TABLE_PAGE)
            && !is_covered(tree, region)
        {
            reserve(tree, region, ReservedKind::Firmware)?;
        }
    }
    Ok(())
}

/// Reads a node that is memory or a reservation; others pass by.
pub(super) fn take(
    tree: &mut Tree,
    node: &Node<'_>,
    landmarks: &Landmarks<'_>,
) -> Result<(), TreeError> {
    let is_reservation = landmarks
        .reserved_memory
        .is_some_and(|parent| node.is_below(&parent) && node.level() == 2);
    // Old trees mark memory by its type alone, new ones by name; both may be disabled (secure memory is).
    let is_memory = node.level() == 1
        && (node.text("device_type") == Some("memory") || node.base_name() == "memory");
    if !(is_reservation || is_memory) || !node.is_usable() {
        return Ok(());
    }
    let no_map = node.property("no-map").is_some();
    for region in node.regions() {
        match region {
            Ok(region) if is_reservation => reserve(tree, region, ReservedKind::Static { no_map })?,
            // A loader that fills in the size later leaves zero.
            Ok(region) if region.size() == 0 => {}
            Ok(region) => {
                if tree.memory.push(region).is_err() {
                    tree.left_out.note(node.name(), Fault::Full);
                }
            }
            Err(fault) => tree.left_out.note(node.name(), fault),
        }
    }
    Ok(())
}
