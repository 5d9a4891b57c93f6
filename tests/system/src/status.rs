//! What a board tells about itself (Ctrl-] s).

/// A guest's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestStatus {
    /// Its name.
    pub name: String,
    /// Whether it runs.
    pub running: bool,
    /// How often it was started.
    pub starts: u32,
}

/// A core's count of instructions at EL2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CoreStatus {
    /// Instructions retired at EL2.
    pub instructions: u64,
    /// The board's time then, microseconds.
    pub at_us: u64,
}

/// A board's answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Cores that run.
    pub cores: usize,
    /// Page frames that are free.
    pub free_frames: u64,
    /// The guests, in the package's order.
    pub guests: Vec<GuestStatus>,
    /// What the cores count, by number, zeros where nothing counts; complete when there are as many as [`cores`](Self::cores).
    pub counts: Vec<CoreStatus>,
}

/// The unsigned number that follows `before` in a line.
fn number(line: &str, before: &str) -> Option<u64> {
    let rest = &line[line.find(before)? + before.len()..];
    let end = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    rest[..end].parse().ok()
}

impl Status {
    /// Takes one line; others than a status' are left alone. Says whether that was the last.
    pub fn take(&mut self, line: &str) -> bool {
        let Some(rest) = line.strip_prefix("hearth: status: ") else {
            return false;
        };
        if let Some(guest) = rest.strip_prefix("guest ") {
            self.guests.push(GuestStatus {
                name: guest.split(' ').next().unwrap_or_default().into(),
                running: guest.contains(" running"),
                starts: number(guest, "started ").unwrap_or(0) as u32,
            });
        } else if rest.starts_with("core ") {
            self.counts.push(CoreStatus {
                instructions: number(rest, "retired ").unwrap_or(0),
                at_us: number(rest, "by ").unwrap_or(0),
            });
        } else if let (Some(cores), Some(free)) = (number(rest, ""), number(rest, "cores, ")) {
            *self = Self {
                cores: cores as usize,
                free_frames: free,
                ..Self::default()
            };
        }
        self.cores != 0 && self.counts.len() == self.cores
    }

    /// A guest by its name.
    ///
    /// # Panics
    /// If the board has none of that name.
    pub fn guest(&self, name: &str) -> &GuestStatus {
        self.guests
            .iter()
            .find(|guest| guest.name == name)
            .unwrap_or_else(|| panic!("no guest {name} in {self:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::Status;

    #[test]
    fn reads_what_a_board_says() {
        let mut status = Status::default();
        let lines = [
            "hearth: status: 2 cores, 244361 of 262144 frames free, own memory 1208320 bytes (heap 94208 in use)",
            "hearth: status: guest web running, started 3 times",
            "[web] tick 7",
            "hearth: status: guest db stopped, started 1 times",
            "hearth: status: core 0 has retired 1234 instructions at EL2 by 5678 us",
        ];
        for line in lines {
            assert!(!status.take(line));
        }
        assert!(status.take("hearth: status: core 1 has retired 5 instructions at EL2 by 5679 us"));
        assert_eq!((status.cores, status.free_frames), (2, 244_361));
        assert!(status.guest("web").running && !status.guest("db").running);
        assert_eq!(status.guest("web").starts, 3);
        let count = status.counts[1];
        assert_eq!((count.instructions, count.at_us), (5, 5679));
    }

    #[test]
    fn a_board_may_have_nothing_that_counts() {
        let mut status = Status::default();
        assert!(!status.take("hearth: status: 1 cores, 5 of 6 frames free, own memory 7 bytes"));
        assert!(status.take("hearth: status: core 0 does not count instructions"));
        assert_eq!(status.counts[0].at_us, 0);
    }
}
