//! Whether the cluster's ledger can hold what is packed: boards begin with it, and it is their first state.

use std::ops::Range;

use cluster_proto::first::{FirstError, first_ledger};
use cluster_proto::ledger::Ledger;
use cluster_proto::limits::{BOARDS, GUESTS, VOLUMES};
use cluster_proto::manifest::{Guest, Image, MAX_MANIFEST_BYTES, ManifestView, encode};

use super::plan::Plan;
use crate::source::Problem;

/// The ledger of a cluster of default capacity.
pub type FullLedger = Ledger<BOARDS, GUESTS, VOLUMES>;

impl Plan {
    /// The manifest of the package, the key's checksum in it.
    ///
    /// # Errors
    /// There is too much in it.
    pub fn manifest(&self, key: Option<u32>) -> Result<Vec<u8>, String> {
        let guests: Vec<Guest> = self.guests.iter().map(|it| it.guest.clone()).collect();
        let images: Vec<Image> = self.images.iter().map(|found| found.image).collect();
        let mut summary = self.summary.clone();
        summary.key = key;
        let mut buffer = vec![0; MAX_MANIFEST_BYTES];
        let bytes = encode(summary, &self.boards, &images, &guests, &mut buffer);
        Ok(bytes.map_err(|error| error.to_string())?.to_vec())
    }
}

/// What the ledger does not hold of `plan`, whose guests stand at `guests`.
pub fn check_ledger(plan: &Plan, guests: &[Range<usize>]) -> Option<Problem> {
    let manifest = match plan.manifest(None) {
        Ok(manifest) => manifest,
        Err(error) => return Some(Problem::in_arguments(error, "describe a smaller cluster")),
    };
    let view = ManifestView::parse(&manifest);
    let made = match &view {
        Ok(view) => first_ledger(view, &mut Box::new(FullLedger::new())),
        Err(error) => {
            let help = "this is a mistake of hearth's own; please report it with cluster.toml";
            return Some(Problem::in_arguments(format!("the manifest {error}"), help));
        }
    };
    let error = made.err()?;
    let (guest, help) = match error {
        FirstError::Disk(guest, _) => (
            Some(guest),
            format!(
                "a cluster has at most {VOLUMES} disks in all; give this guest or those before it fewer"
            ),
        ),
        FirstError::Guest(guest, _) | FirstError::NoImage(guest) => {
            (Some(guest), "describe it otherwise".to_string())
        }
        FirstError::Boards | FirstError::Image(_) => (None, "describe a smaller cluster".into()),
    };
    let message = format!("the cluster's ledger cannot hold this: {error}");
    let span = guest.and_then(|guest| guests.get(usize::from(guest)));
    Some(match span {
        Some(span) => Problem::at(span.clone(), message, help),
        None => Problem::in_arguments(message, help),
    })
}
