//! What a report of drills is made from, and what is said of it.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::judge::{self, Limits, Verdict};
use super::page::{self, Drill};
use super::{VERDICT, trace, watch};

/// What `scripts/drill` has to say of a drill, in its folder: what it does, and why its script failed.
const ABOUT: &str = "about.txt";
const TROUBLE: &str = "trouble.txt";

/// A report that was written.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The page.
    page: PathBuf,
    /// The drills that passed.
    passed: usize,
    /// All drills.
    drills: Vec<Judged>,
}

/// A drill as the report's JSON has it.
#[derive(Debug, Serialize)]
struct Judged {
    name: String,
    passed: bool,
    trouble: Option<String>,
    #[serde(flatten)]
    verdict: Verdict,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (page, all) = (self.page.display(), self.drills.len());
        write!(f, "{page}: {} of {all} drills passed", self.passed)
    }
}

/// Writes the page of the drills in these folders.
///
/// # Errors
/// What cannot be read or written.
pub fn write(folders: &[PathBuf], output: &Path) -> Result<Report, String> {
    let drills: Vec<_> = folders
        .iter()
        .map(|folder| read(folder))
        .collect::<Result<_, _>>()?;
    fs::write(output, page::page(&drills))
        .map_err(|error| format!("cannot write {}: {error}", output.display()))?;
    let judged = |drill: Drill| Judged {
        passed: drill.passed(),
        name: drill.name,
        trouble: drill.trouble,
        verdict: drill.verdict,
    };
    let drills: Vec<_> = drills.into_iter().map(judged).collect();
    Ok(Report {
        page: output.to_path_buf(),
        passed: drills.iter().filter(|drill| drill.passed).count(),
        drills,
    })
}

/// A drill from its folder. One that failed early has no trace, or no verdict.
fn read(folder: &Path) -> Result<Drill, String> {
    let text = |name: &str| fs::read_to_string(folder.join(name)).unwrap_or_default();
    let name = folder.file_name().unwrap_or_default();
    let trace = folder.join(watch::TRACE);
    let records = match trace.exists() {
        true => trace::read(&trace)?,
        false => Vec::new(),
    };
    let verdict = match fs::read_to_string(folder.join(VERDICT)) {
        Ok(text) => serde_json::from_str(&text)
            .map_err(|error| format!("{}: {error}", folder.join(VERDICT).display()))?,
        Err(_) => judge::judge(&records, &Limits::default()),
    };
    let trouble = text(TROUBLE).trim().to_string();
    Ok(Drill {
        name: name.to_string_lossy().into_owned(),
        about: text(ABOUT).trim().to_string(),
        trouble: (!trouble.is_empty()).then_some(trouble),
        records,
        verdict,
    })
}
