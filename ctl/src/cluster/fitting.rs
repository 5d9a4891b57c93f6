//! Whether a guest of the cluster is the one in a file, and which boards could have it go on.

use std::path::Path;

use cluster_proto::ids::{BoardId, GuestId};
use cluster_proto::ledger::types::{Denied, VolumeKind};
use cluster_proto::placement::{Verdict, class_of, held_by_volume, verdict};
use el2_hyp::record::header::Header;
use el2_hyp::vgic::Version;

use super::saved::Contents;
use super::session::Look;
use super::view::{board_name, guest_name};
use super::words;
use crate::report::Failure;

/// Digests before those of disks.
const BEFORE_DISKS: usize = 2;

/// The class of the board on which a guest was saved.
pub fn class(header: &Header) -> u32 {
    let gic = match header.gic {
        Version::V2 => 2,
        Version::V3 => 3,
    };
    class_of(header.identity.midr, gic, header.frequency.into())
}

/// Whether guest `id` is described as the one in the file at `path` was.
///
/// # Errors
/// What is not the same.
pub fn fits(look: &Look, id: GuestId, contents: &Contents, path: &Path) -> Result<(), Failure> {
    let Some(guest) = look.ledger.guest(id) else {
        return Err(Failure::Trouble("there is no such guest any more".into()));
    };
    let (spec, header) = (&guest.spec, &contents.header);
    let (name, path) = (&spec.name, path.display());
    if let Some(holder) = held_by_volume(&look.ledger, id) {
        return Err(Failure::Trouble(format!(
            "a local volume of {name} is on {}: what is on it is in no file, so {name} goes on from none",
            board_name(look, holder)
        )));
    }
    let volumes = look.ledger.volumes.iter().flatten();
    let disks = volumes.filter(|it| it.guest == id && it.kind == VolumeKind::Ephemeral);
    let mut disks: Vec<_> = disks.map(|disk| disk.image).collect();
    let own = contents.images.get(..BEFORE_DISKS).unwrap_or_default();
    let mut its = contents
        .images
        .get(BEFORE_DISKS..)
        .unwrap_or_default()
        .to_vec();
    // Which disk is in which slot is the board's to compare.
    disks.sort_unstable();
    its.sort_unstable();
    let ram_mib = header.ram >> 20;
    let what = if u16::from(header.vcpus) != spec.vcpus {
        format!("has {} vCPUs, and {name} has {}", header.vcpus, spec.vcpus)
    } else if ram_mib > spec.memory_mib.into() {
        format!(
            "has {ram_mib} MiB of memory, and {name} has {}",
            spec.memory_mib
        )
    } else if own != [spec.kernel, spec.initrd] {
        format!("was started from another kernel or initrd than {name} is")
    } else if disks != its {
        format!("has other disks, or of other images, than {name}")
    } else {
        return Ok(());
    };
    Err(Failure::Trouble(format!(
        "the guest in {path} {what}: it is not the same guest"
    )))
}

/// Why the cluster does not have guest `id` go on from a file, of that class and on that board if one was named, and what to do.
pub fn refusal(
    look: &Look,
    id: GuestId,
    (class, to): (u32, Option<BoardId>),
    why: Denied,
) -> String {
    let name = guest_name(look, id);
    match why {
        Denied::Running => format!(
            "{name} runs, or is to: `hearth guest stop {name} --wait` stops it, and what it has in memory is lost then"
        ),
        Denied::NoBoard => {
            let asked = look
                .ledger
                .boards()
                .filter(|(board, entry)| !entry.witness && to.is_none_or(|to| to == *board));
            let judged = asked.map(|(board, entry)| {
                let verdict = match verdict(&look.ledger, id, board) {
                    Verdict::Fits { .. } if entry.capacity.class != class => {
                        Verdict::Class(entry.capacity.class)
                    }
                    verdict => verdict,
                };
                let name = |board| board_name(look, board);
                let guest = |guest| guest_name(look, guest);
                format!(
                    "{} {}",
                    name(board),
                    words::verdict(&verdict, &name, &guest)
                )
            });
            let judged: Vec<_> = judged.collect();
            format!(
                "no board can take {name} as it was saved, on one of class {class:#x}: {}",
                judged.join("; ")
            )
        }
        other => words::denied(other).into(),
    }
}
