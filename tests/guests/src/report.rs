//! Verdicts, as lines that a test on the outside reads.

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

/// Failures told so far.
static FAILURES: AtomicU64 = AtomicU64::new(0);

/// Failures printed in full; more are only counted.
const MAX_PRINTED: u64 = 64;

/// `PASS name`.
pub fn pass(name: &str) {
    crate::println!("PASS {name}");
}

/// `SKIP name why`.
pub fn skip(name: &str, why: &str) {
    crate::println!("SKIP {name} {why}");
}

/// `FAIL name why`, for the first failures; all of them count.
pub fn fail(name: &str, why: fmt::Arguments<'_>) {
    if FAILURES.fetch_add(1, Ordering::Relaxed) < MAX_PRINTED {
        // On a line of its own, whatever somebody wrote to the console before.
        crate::println!("\nFAIL {name} {why}");
    }
}

/// Failures so far.
pub fn failures() -> u64 {
    FAILURES.load(Ordering::Relaxed)
}

/// Fails with what was found and what should have been, when they differ; says whether they agreed.
pub fn expect_eq<T: PartialEq + fmt::LowerHex>(
    name: &str,
    what: &str,
    found: T,
    wanted: T,
) -> bool {
    let good = found == wanted;
    if !good {
        fail(
            name,
            format_args!("{what}: {found:#x}, should be {wanted:#x}"),
        );
    }
    good
}

/// Fails when `good` is false; says whether it was true.
pub fn expect(name: &str, what: &str, good: bool) -> bool {
    if !good {
        fail(name, format_args!("{what}"));
    }
    good
}

/// Runs one named case: `PASS` when nothing failed in it.
pub fn case(name: &str, run: impl FnOnce(&str)) {
    let before = failures();
    run(name);
    if failures() == before {
        pass(name);
    }
}

/// The last line of a program of many cases: `PASS name` or `FAIL name` with the count.
pub fn conclude(name: &str) {
    match failures() {
        0 => pass(name),
        count => crate::println!("FAIL {name} failures={count}"),
    }
}
