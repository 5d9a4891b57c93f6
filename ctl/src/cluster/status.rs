//! `hearth status`: one screen of how a cluster is.

use std::io::{IsTerminal as _, Write as _, stdout};
use std::time::Duration;

use super::interrupt::Interrupt;
use super::reach::Reach;
use super::session::Session;
use super::view::View;
use crate::report::{Answer, EXIT_CODES, Failure};

/// Between two looks of `--watch`.
const AGAIN: Duration = Duration::from_secs(1);
/// To the terminal's top left corner, all below cleared (ECMA-48, CUP and ED).
const FROM_THE_TOP: &str = "\x1b[H\x1b[J";

/// Show how the cluster is: boards, links, who leads and votes, guests, and why anything is not well.
#[derive(clap::Args)]
#[command(after_long_help = EXIT_CODES)]
pub struct Arguments {
    /// Show it again every second, until Ctrl-C.
    #[arg(long)]
    watch: bool,
    /// End with exit code 1 if anything is not well.
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    reach: Reach,
}

/// Shows how the cluster is.
///
/// # Errors
/// Nobody answers, or with `--check` that something is not well.
pub fn run(arguments: &Arguments, json: bool) -> Result<Answer, Failure> {
    let mut session = arguments.reach.open()?;
    if arguments.watch {
        watch(&mut session, json)?;
    }
    let view = view(&mut session)?;
    let well = view.well;
    let answer = Answer::from(view);
    if arguments.check && !well {
        return Err(Failure::Found(answer));
    }
    Ok(answer)
}

/// How the cluster is now.
///
/// # Errors
/// Nobody answers.
pub fn view(session: &mut Session) -> Result<View, Failure> {
    let look = session.look()?;
    Ok(View::of(session.outline.cluster.as_str(), &look))
}

/// Shows it again and again until Ctrl-C: on a terminal in place, in JSON an object a line.
fn watch(session: &mut Session, json: bool) -> Result<(), Failure> {
    let interrupt = Interrupt::catch()?;
    loop {
        let text = match view(session) {
            Ok(view) if json => Answer::from(view).json(),
            Ok(view) => view.to_string(),
            Err(Failure::Trouble(trouble)) => trouble,
            Err(other) => return Err(other),
        };
        let top = if stdout().is_terminal() && !json {
            FROM_THE_TOP
        } else {
            ""
        };
        let shown = writeln!(stdout(), "{top}{}", text.trim_end());
        if shown.is_err() || interrupt.wait(AGAIN) {
            return Ok(());
        }
    }
}
