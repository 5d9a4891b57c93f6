//! How much of a record's pages packing saves: `cargo run --profile tool -p el2-hyp --example packing -- MEMORY...`, each file the memory of some guest (QEMU's
//! `pmemsave`, for one). Prints how many pages are zeros, stay as they are, and are packed, and the bytes with and without.

use std::process::ExitCode;

use el2_hyp::record::Encoder;
use el2_hyp::record::units::{Batch, Packer, Tally, UNIT_BYTES, Unit};

/// The units of `memory` as a record has them: what they were, and their bytes.
fn write(memory: &[Unit], mut packer: Option<&mut Packer>) -> (Tally, usize) {
    let (mut all, mut bytes) = (Tally::default(), 0);
    let mut buffer = vec![0; 64 << 10];
    let mut units = (0..).zip(memory).peekable();
    while units.peek().is_some() {
        let mut encoder = Encoder::new(&mut buffer);
        let mut batch = Batch::new(&mut encoder, packer.as_deref_mut());
        while batch.has_room()
            && let Some((number, unit)) = units.next()
        {
            batch.put(number, |to| *to = *unit);
        }
        let tally = batch.finish();
        all.zeros += tally.zeros;
        all.plain += tally.plain;
        all.packed += tally.packed;
        bytes += encoder.finish().expect("there was room");
    }
    (all, bytes)
}

fn main() -> ExitCode {
    let mut packer = Packer::new();
    for name in std::env::args().skip(1) {
        let memory = match std::fs::read(&name) {
            Ok(memory) => memory,
            Err(error) => {
                eprintln!("{name}: {error}");
                return ExitCode::FAILURE;
            }
        };
        let (units, _) = memory.as_chunks::<UNIT_BYTES>();
        let (_, without) = write(units, None);
        let start = std::time::Instant::now();
        let (tally, with) = write(units, Some(&mut packer));
        let each = start.elapsed().as_nanos() / units.len().max(1) as u128;
        println!(
            "{name}: {} pages of zeros, {} as they are, {} packed; {without} bytes without packing, {with} with ({:.1} % less); {each} ns a page here",
            tally.zeros,
            tally.plain,
            tally.packed,
            100.0 * (1.0 - with as f64 / without.max(1) as f64),
        );
    }
    ExitCode::SUCCESS
}
