//! Who hears whom, and which links work one way only.

use std::collections::BTreeMap;
use std::fmt;

use cluster_proto::ids::BoardId;
use serde::Serialize;

use super::session::Look;
use super::table;
use super::view::board_name;

/// Who hears whom.
#[derive(Debug, Default, Serialize)]
pub struct Links {
    /// What is wrong with them, in words.
    pub faults: Vec<String>,
    /// For each board that answered: whom of the others it hears.
    pub hears: BTreeMap<String, BTreeMap<String, bool>>,
    /// Their order.
    #[serde(skip)]
    names: Vec<String>,
}

impl Links {
    /// Of what boards said.
    pub fn of(look: &Look) -> Self {
        let boards: Vec<_> = look.ledger.boards().map(|(id, _)| id).collect();
        let name = |board: &BoardId| board_name(look, *board);
        let mut links = Self {
            names: boards.iter().map(name).collect(),
            ..Self::default()
        };
        for &from in &boards {
            let told = boards.iter().filter(|other| **other != from);
            let told = told.filter_map(|other| Some((name(other), hears(look, from, *other)?)));
            let told: BTreeMap<_, _> = told.collect();
            if !told.is_empty() {
                links.hears.insert(name(&from), told);
            }
        }
        for (at, &one) in boards.iter().enumerate() {
            for &other in &boards[at + 1..] {
                let fault = fault(look, one, other);
                links.faults.extend(fault);
            }
        }
        links
    }

    /// A row for each board that answered, a column for each that may be heard.
    pub fn write_matrix(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.names.len() < 2 {
            return Ok(());
        }
        let mut head = vec!["HEARS".to_string()];
        head.extend(self.names.iter().cloned());
        let mut rows = vec![head];
        for (name, heard) in self.in_order() {
            let cell = |other: &String| match heard.get(other) {
                Some(true) => "yes",
                Some(false) => "NO",
                None => ".",
            };
            let mut row = vec![name.clone()];
            row.extend(self.names.iter().map(cell).map(str::to_string));
            rows.push(row);
        }
        writeln!(f)?;
        table::write(f, &rows)
    }

    fn in_order(&self) -> impl Iterator<Item = (&String, &BTreeMap<String, bool>)> {
        let known = self.names.iter();
        known.filter_map(|name| Some((name, self.hears.get(name)?)))
    }
}

/// Whether `from` hears `other`; nothing if it did not answer.
fn hears(look: &Look, from: BoardId, other: BoardId) -> Option<bool> {
    let report = look.reports.get(from.at())?.as_ref()?;
    let echoes = &report.echoes;
    Some(echoes.iter().any(|echo| echo.board == other && echo.heard))
}

/// What is wrong between two boards that are both there; somebody who is off is no fault of the link.
fn fault(look: &Look, one: BoardId, other: BoardId) -> Option<String> {
    let (a, b) = (board_name(look, one), board_name(look, other));
    match (hears(look, one, other), hears(look, other, one)) {
        (Some(true), Some(false)) => Some(format!(
            "one way only: {a} hears {b}, and {b} does not hear {a}"
        )),
        (Some(false), Some(true)) => Some(format!(
            "one way only: {b} hears {a}, and {a} does not hear {b}"
        )),
        (Some(false), Some(false)) => Some(format!("{a} and {b} do not hear each other")),
        _ => None,
    }
}
