//! Boards in a lab that are a cluster, in the hands of an operator: the tool's verbs, in a folder with the cluster's description.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::lab::{Client, UP};
use crate::slots::{self, Slots};
use crate::stalls::Stalls;
use crate::{Package, paths};

/// What the boards are called, where it does not matter.
pub const BOARDS: [&str; 3] = ["alpha", "beta", "gamma"];

/// Lines of each board that are shown of a test that has failed.
const LAST_LINES: usize = 12;

/// A cluster; dropping it ends its lab.
#[derive(Debug)]
pub struct Cluster {
    folder: PathBuf,
    lab: String,
    stalls: Stalls,
    _slots: Slots,
}

impl Cluster {
    /// The folder of a cluster for the test of that name. Its lab is not up yet.
    ///
    /// # Panics
    /// If the description cannot be written.
    pub fn new(test: &str, package: &Package) -> Self {
        // Every core: boards that wait for another's lose their leases.
        let slots = slots::take(usize::MAX);
        let folder = paths::results().join(test);
        // Of a drill's traces only this run's.
        let _ = fs::remove_dir_all(folder.join("drill"));
        fs::create_dir_all(folder.join("drill")).expect("a folder");
        fs::write(folder.join("cluster.toml"), package.description()).expect("the description");
        Self {
            folder,
            lab: format!("{}-{}", test.replace('_', "-"), std::process::id()),
            stalls: Stalls::watch(),
            _slots: slots,
        }
    }

    /// One whose [`BOARDS`] are up, with these options of `hearth lab up`; `guest` runs.
    ///
    /// # Panics
    /// If it does not come up.
    #[track_caller]
    pub fn up(test: &str, package: Package, guest: &str, options: &[&str]) -> Self {
        let cluster = Self::new(test, &package.on(&BOARDS));
        let image = paths::image().display().to_string();
        let up = [
            "lab",
            "up",
            "cluster.toml",
            "--folder=lab",
            "--image",
            &image,
        ];
        cluster.good(&[&up, options].concat());
        cluster.settles(guest);
        cluster
    }

    /// Waits until all [`BOARDS`] are in, and `guest` runs on one of them.
    ///
    /// # Panics
    /// If that takes too long.
    #[track_caller]
    pub fn settles(&self, guest: &str) {
        let members = BOARDS.len().to_string();
        let until = ["drill", "until", guest, "--running", "--led", "--members"];
        self.good(&[&until[..], &[&members, "--timeout", "90s"]].concat());
    }

    /// Where its description is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A verb, to be run.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(paths::tool());
        command
            .args(words)
            .current_dir(&self.folder)
            .env("HEARTH_LAB", &self.lab)
            .env("HEARTH_DRILL", self.folder.join("drill"))
            .env_remove("HEARTH_CLUSTER");
        command
    }

    /// Runs a verb.
    ///
    /// # Panics
    /// If the tool does not start.
    pub fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().expect("hearth started")
    }

    /// What a verb says that is to succeed.
    ///
    /// # Panics
    /// If it does not.
    #[track_caller]
    pub fn good(&self, words: &[&str]) -> String {
        let output = self.run(words);
        let complaint = String::from_utf8_lossy(&output.stderr);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{words:?}: {said}{complaint}");
        said
    }

    /// Waits until a board has said this.
    ///
    /// # Panics
    /// If it does not come in time.
    #[track_caller]
    pub fn said(&self, board: &str, text: &str) {
        self.good(&["lab", "wait", board, "--for", text, "--timeout", UP]);
    }

    /// What a board has said since its first start.
    ///
    /// # Panics
    /// If there is no board of that name.
    #[track_caller]
    pub fn log(&self, board: &str) -> String {
        self.good(&["lab", "log", board])
    }

    /// Says how the boards stand, of a test that has failed.
    fn tell(&self) {
        eprintln!("{}", self.stalls.longest());
        for board in BOARDS {
            let log = self.run(&["lab", "log", board]).stdout;
            let log = String::from_utf8_lossy(&log);
            let own: Vec<&str> = log.lines().filter(|it| it.contains("hearth: ")).collect();
            let last = own.len().saturating_sub(LAST_LINES);
            eprintln!("{board} said last:\n{}", own[last..].join("\n"));
        }
    }

    /// The board that owns a guest.
    ///
    /// # Panics
    /// If none does.
    #[track_caller]
    pub fn owner(&self, guest: &str) -> &'static str {
        let said = self.good(&["drill", "owner", guest]);
        let owner = BOARDS.iter().find(|board| **board == said.trim());
        owner.unwrap_or_else(|| panic!("no board: {said}"))
    }

    /// A client of this machine for a guest's port, as `ADDRESS:PORT`.
    ///
    /// # Panics
    /// If the forward does not take it.
    #[track_caller]
    pub fn client(&self, guest: &str) -> Client {
        Client::of(&self.good(&["lab", "forward", "127.0.0.1:0", guest]))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.tell();
        }
        // It may be down already, or never have come up.
        let _ = self.run(&["lab", "down"]);
    }
}

/// The board behind this one of [`BOARDS`], behind the last the first.
///
/// # Panics
/// If it is none of them.
pub fn next(board: &str) -> &'static str {
    let at = BOARDS.iter().position(|it| *it == board);
    let at = at.expect("a board of the cluster");
    BOARDS[(at + 1) % BOARDS.len()]
}
