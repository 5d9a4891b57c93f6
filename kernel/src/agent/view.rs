//! What a guest of the ledger is on this board: the package's guest of that name where the ledger still describes the same, else what the ledger says alone.

use alloc::vec::Vec;

use cluster_proto::described::{NO_IMAGE, describe};
use cluster_proto::ids::GuestId;
use cluster_proto::ledger::types::{Digest, GuestSpec};
use cluster_proto::package::{GuestView, ImageView, Package};

use super::BoardLedger;
use crate::images::{Images, Keep};

/// A guest with its images, and what keeps those that were fetched where they are.
pub struct Found {
    /// The guest.
    pub view: GuestView<'static>,
    /// To be held for as long as the guest.
    pub keeps: Vec<Keep>,
}

/// The guest `id` of the ledger; none if no board could run it, or an image of it is not here.
pub fn find(
    package: &Package<'static>,
    images: &Images,
    ledger: &BoardLedger,
    id: GuestId,
) -> Option<Found> {
    let spec = &ledger.guest(id)?.spec;
    let packed = package.guests().filter_map(Result::ok);
    let mut same = packed.filter(|view| is_same(view, spec));
    if let Some(view) = same.next() {
        let keeps = Vec::new();
        return Some(Found { view, keeps });
    }
    let described = describe(ledger, id).ok()?;
    let mut keeps = Vec::new();
    let mut image = |digest: &Digest| -> Option<ImageView<'static>> {
        let (view, keep) = images.find(digest)?;
        keeps.extend(keep);
        Some(view)
    };
    let kernel = image(&described.kernel)?;
    let initrd = match &described.initrd {
        Some(digest) => Some(image(digest)?),
        None => None,
    };
    let mut disks = heapless::Vec::new();
    for disk in &described.disks {
        let view = match disk {
            // A disk that starts empty has no image.
            Some(digest) if *digest != NO_IMAGE => Some(image(digest)?),
            _ => None,
        };
        disks.push(view).ok()?;
    }
    let view = GuestView {
        guest: described.guest,
        kernel,
        initrd,
        disks,
    };
    Some(Found { view, keeps })
}

/// Whether the package's guest is the one that the ledger describes, and not another that took its name.
fn is_same(view: &GuestView<'_>, spec: &GuestSpec) -> bool {
    let initrd = view
        .initrd
        .as_ref()
        .map_or(NO_IMAGE, |initrd| initrd.image.digest.0);
    view.guest.name.as_str() == spec.name
        && view.kernel.image.digest.0 == spec.kernel
        && initrd == spec.initrd
        && view.guest.command_line.as_str() == spec.command_line
        && u16::from(view.guest.vcpus.get()) == spec.vcpus
}
