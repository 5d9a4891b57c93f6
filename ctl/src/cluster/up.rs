//! `hearth up` and `down`: a whole cluster on this machine, boards under QEMU and witnesses beside them.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use super::interrupt::Interrupt;
use super::orders::{Done, Waited, wait_until};
use super::reach::Reach;
use super::session::Look;
use super::view::View;
use crate::lab;
use crate::report::{Answer, EXIT_CODES, Failure};

const ABOUT: &str = "\
Starts a lab (see `hearth lab --help`) with the boards of the cluster, a witness process for each [[witness]], and waits until there is a leader, all boards are let in and
every guest that is wanted runs. Ctrl-C ends the waiting only; `hearth down` ends the lab and its witnesses.";

/// Start a cluster on this machine, under QEMU, and wait until it is well.
#[derive(clap::Args)]
#[command(after_long_help = format!("{ABOUT}\n\n{EXIT_CODES}"))]
pub struct Up {
    /// What the lab is called.
    #[arg(env = "HEARTH_LAB", long, value_name = "LAB")]
    name: Option<String>,
    /// Wait no longer than so many seconds; then the exit code is 1, and the lab stays up.
    #[arg(long, value_name = "SECONDS", default_value_t = 180)]
    patience: u64,
    #[command(flatten)]
    lab: lab::UpArguments,
}

/// End the lab that `up` started, and its witnesses.
#[derive(clap::Args)]
#[command(after_long_help = EXIT_CODES)]
pub struct Down {
    #[command(flatten)]
    reach: Reach,
}

/// Starts a cluster and waits for it.
///
/// # Errors
/// What is wrong with its description, or why the lab does not run.
pub fn up(arguments: &Up) -> Result<Answer, Failure> {
    let default = std::env::var_os("HEARTH_CLUSTER").map(PathBuf::from);
    let default = default.unwrap_or_else(|| PathBuf::from("cluster.toml"));
    let given = arguments.lab.description.as_ref();
    let description = given.unwrap_or(&default).clone();
    let cluster = lab::cluster_of(&description)?.ok_or_else(|| {
        Failure::Trouble(format!(
            "{} describes no cluster; `hearth lab up` starts other labs",
            description.display()
        ))
    })?;
    let reach = |lab| Reach {
        cluster: cluster.clone(),
        key: None,
        lab,
        at: Vec::new(),
    };
    let started = lab::up(arguments.name.as_deref(), &arguments.lab, &description)?;
    let state: Value = serde_json::from_str(&started.json()).unwrap_or_default();
    let Some(name) = state["lab"].as_str().map(str::to_string) else {
        // It stayed in the terminal, and has ended.
        return Ok(Done::new("the lab is down").into());
    };
    let interrupt = Interrupt::catch()?;
    let reach = reach(Some(name.clone()));
    let known = reach.known()?;
    let addressed = known.addresses.iter().any(Option::is_some);
    if !addressed {
        return Ok(Done::new(format!(
            "lab {name} is up; its board has no address, so there is nobody to ask how it is"
        ))
        .into());
    }
    let mut session = reach.open()?;
    let patience = Some(Duration::from_secs(arguments.patience));
    let cluster = session.outline.cluster.to_string();
    let waited = wait_until(&mut session, &interrupt, patience, &mut |look| {
        still_to_come(&cluster, look)
    })?;
    match waited {
        Waited::Complete => Ok(Done {
            complete: Some(true),
            ..Done::new(format!(
                "cluster {cluster} is up in lab {name}: `hearth status` shows it, `hearth down` ends it"
            ))
        }
        .into()),
        Waited::Interrupted(left) | Waited::TooLong(left) => Err(Failure::Found(
            Done {
                complete: Some(false),
                waits_for: left,
                ..Done::new(format!("lab {name} is up, and the cluster is not yet:"))
            }
            .into(),
        )),
    }
}

/// What a cluster that is coming up still lacks.
pub fn still_to_come(cluster: &str, look: &Look) -> Vec<String> {
    let view = View::of(cluster, look);
    let quorum = &view.quorum;
    if !view.founded {
        return vec![format!(
            "waits for all voters: {} of {} are there",
            quorum.present, quorum.voters
        )];
    }
    if view.leader.is_none() {
        return vec!["waits for a leader".into()];
    }
    let boards = view.boards.iter().filter(|board| board.state == "out");
    let boards = boards.map(|board| format!("{} is not let in yet", board.name));
    let guests = view.guests.iter().filter(|guest| !guest.settled());
    let guests = guests.map(|guest| {
        let trouble = guest.trouble.as_deref().unwrap_or(guest.phase);
        format!("guest {}: {trouble}", guest.name)
    });
    boards.chain(guests).collect()
}

/// Ends a lab.
///
/// # Errors
/// There is none.
pub fn down(arguments: &Down) -> Result<Answer, Failure> {
    let named = arguments.reach.lab.clone();
    let named = match named {
        Some(name) => Some(name),
        None => {
            let known = arguments.reach.known()?;
            let found = arguments.reach.lab_of(&known.outline);
            found.map_err(Failure::Trouble)?
        }
    };
    let name = named.ok_or_else(|| {
        Failure::Trouble("no lab with these boards is up; `hearth lab list` shows all".into())
    })?;
    lab::down(&name).map_err(Failure::Trouble)?;
    Ok(Done::new(format!("lab {name} is down")).into())
}
