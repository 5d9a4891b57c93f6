//! The lab with real boards: started, looked at, stalled, killed and ended.

use std::process::{Command, Output};
use std::time::{Duration, Instant};

use system::{Guest, Package, paths, saw, slots};

/// A board comes up within this, on a machine that has much else to do.
const UP: &str = "120s";

/// A lab of this test's name; dropping it ends it.
struct Lab {
    name: String,
    _slots: slots::Slots,
}

impl Lab {
    fn up(test: &str, package: &Package, boards: usize) -> Self {
        let slots = slots::take(usize::MAX);
        let package = package.pack(test);
        let lab = Self {
            name: format!("{}-{}", test.replace('_', "-"), std::process::id()),
            _slots: slots,
        };
        let folder = paths::results().join(test);
        let words = [
            "up".to_string(),
            format!("--boards={boards}"),
            format!("--image={}", paths::image().display()),
            format!("--package={}", package.display()),
            format!("--folder={}", folder.display()),
        ];
        lab.good(&words.iter().map(String::as_str).collect::<Vec<_>>());
        lab
    }

    fn run(&self, words: &[&str]) -> Output {
        Command::new(paths::tool())
            .args(["lab", "--name", &self.name])
            .args(words)
            .output()
            .expect("hearth started")
    }

    #[track_caller]
    fn good(&self, words: &[&str]) -> String {
        let output = self.run(words);
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words:?}: {complaint}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Waits until a board has said this; gives the line.
    #[track_caller]
    fn said(&self, board: &str, text: &str) -> String {
        self.good(&["wait", board, "--for", text, "--timeout", UP])
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // It may be down already.
        let _ = self.run(&["down"]);
    }
}

/// The processes whose command line holds this.
fn processes(text: &str) -> usize {
    let all = std::fs::read_dir("/proc").expect("/proc").flatten();
    all.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
        .filter(|line| String::from_utf8_lossy(line).contains(text))
        .count()
}

#[test]
fn three_boards_are_started_stalled_killed_and_ended() {
    let test = "lab_three_boards";
    let package = Package::of([Guest::bare_metal("spin", 1)]);
    let lab = Lab::up(test, &package, 3);
    let boards = ["board-1", "board-2", "board-3"];
    for board in boards {
        assert!(lab.said(board, "guest spin starts").contains("1 vCPU"));
    }
    let package = format!("{test}.cpio");
    assert_eq!(processes(&package), 3);

    lab.good(&["pause", "board-2"]);
    assert!(lab.good(&["list"]).contains("board-2      paused"));
    lab.good(&["type", "board-2", r"\x1ds"]);
    let silent = lab.run(&[
        "wait",
        "board-2",
        "--for",
        "hearth: status:",
        "--timeout",
        "300ms",
    ]);
    assert!(!silent.status.success(), "a paused board answers");
    lab.good(&["resume", "board-2"]);
    lab.said("board-2", "hearth: status:");

    lab.good(&["kill", "board-3"]);
    assert_eq!(processes(&package), 2);
    assert!(lab.good(&["list"]).contains("board-3      ended: killed"));
    let again = lab.good(&["log", "board-3"]).len().to_string();
    lab.good(&["restart", "board-3"]);
    lab.good(&[
        "wait",
        "board-3",
        "--for",
        "guest spin starts",
        "--after",
        &again,
        "--timeout",
        UP,
    ]);

    // A board that turns itself off has ended by itself.
    lab.good(&["type", "board-1", r"\x1dq"]);
    let start = Instant::now();
    while !lab
        .good(&["list"])
        .contains("board-1      ended: turned itself off")
    {
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "board-1 stays on"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    let begin = Instant::now();
    lab.good(&["down"]);
    assert_eq!(processes(&package), 0);
    saw!(
        test,
        "three boards, down in {} ms",
        begin.elapsed().as_millis()
    );
}
