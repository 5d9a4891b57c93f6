//! Lines that mean that a test has failed, whatever it waits for.

/// What no guest or board says when all is well. A board's own lines are told by their beginning, a guest's complaint by its words.
const BAD: [&str; 11] = [
    "FAIL",
    "hearth: FAULT",
    "hearth: PANIC",
    "hearth: warning:",
    "Kernel panic",
    "Oops",
    "BUG:",
    "WARNING:",
    "self-detected stall",
    "detected stalls",
    "Unable to handle",
];

/// Whether a line is bad, unless it holds one of the texts that this test expects.
pub fn is_bad(line: &str, expected: &[String]) -> bool {
    BAD.iter().any(|bad| line.contains(bad))
        && !expected.iter().any(|text| line.contains(text.as_str()))
}

#[cfg(test)]
mod tests {
    use super::is_bad;

    #[test]
    fn complaints_are_bad_unless_expected() {
        assert!(is_bad("[psci] FAIL standby woke early", &[]));
        assert!(is_bad("hearth: warning: guest web does not fit", &[]));
        assert!(is_bad("hearth: FAULT at EL2 on core 1", &[]));
        let expected = ["does not fit".to_owned()];
        assert!(!is_bad(
            "hearth: warning: guest web does not fit",
            &expected
        ));
        assert!(is_bad(
            "hearth: warning: the boot package is damaged",
            &expected
        ));
    }

    #[test]
    fn progress_is_not_bad() {
        assert!(!is_bad("[psci] PASS standby", &[]));
        assert!(!is_bad(
            "[web] Warning: unable to open an initial console.",
            &[]
        ));
        assert!(!is_bad("[web] hearth-guest: cpus ok", &[]));
    }
}
