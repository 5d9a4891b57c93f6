//! `hearth`, the operator's tool.
//!
//! One verb a module, each with its clap arguments and a `run`: [`pack`] makes a board's boot package,
//! [`show`] looks into one, [`symbolize`] puts names to a board's backtrace, [`volume`] makes the volumes on a board's disk, and
//! [`lab`] runs boards under QEMU, [`drill`] judges what a client of theirs saw; [`cluster`] has the verbs that speak with boards, and [`witness`] votes among them. What a verb finds wrong in the
//! operator's files is a list of [`source::Problem`]s; [`report`] prints those and every other outcome, for people or as
//! JSON, and chooses the exit code.

mod cluster;
mod drill;
mod lab;
mod pack;
mod report;
mod show;
mod source;
mod symbolize;
mod volume;
mod witness;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

/// Run virtual machines that survive the loss of a board.
#[derive(Parser)]
#[command(name = "hearth", version, max_term_width = 100, after_help = report::EXIT_CODES)]
struct Arguments {
    /// Print the outcome, good or bad, as one JSON object on standard output.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    verb: Verb,
}

/// What to do.
#[derive(Subcommand)]
enum Verb {
    /// Turn failover on, for a board or everywhere.
    Arm(cluster::maintain::Arming),
    /// Print what completes this tool's verbs and options in a shell.
    Completions(Completions),
    /// Turn failover off, for a board or everywhere.
    Disarm(cluster::maintain::Arming),
    Down(cluster::up::Down),
    Drain(cluster::maintain::Drain),
    Drill(drill::Arguments),
    Events(cluster::events::Arguments),
    Guest(cluster::guest::Arguments),
    Lab(lab::Arguments),
    Migrate(cluster::migrate::Arguments),
    Pack(pack::Arguments),
    Reform(cluster::maintain::Reform),
    Scale(cluster::scale::Arguments),
    Show(show::Arguments),
    Status(cluster::status::Arguments),
    Symbolize(symbolize::Arguments),
    Undrain(cluster::maintain::Undrain),
    Up(Box<cluster::up::Up>),
    Volume(volume::Arguments),
    Why(cluster::why::Arguments),
    Witness(witness::Arguments),
}

/// Which shell.
#[derive(clap::Args)]
struct Completions {
    /// The shell: put what is printed where it looks for completions.
    shell: clap_complete::Shell,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let json = arguments.json;
    let outcome = match &arguments.verb {
        Verb::Arm(verb) => cluster::maintain::arming(verb, false),
        Verb::Completions(verb) => {
            let mut command = Arguments::command();
            clap_complete::generate(verb.shell, &mut command, "hearth", &mut std::io::stdout());
            return ExitCode::SUCCESS;
        }
        Verb::Disarm(verb) => cluster::maintain::arming(verb, true),
        Verb::Down(verb) => cluster::up::down(verb),
        Verb::Drain(verb) => cluster::maintain::drain(verb),
        Verb::Events(verb) => cluster::events::run(verb, json),
        Verb::Guest(verb) => cluster::guest::run(verb, json),
        Verb::Migrate(verb) => cluster::migrate::run(verb),
        Verb::Scale(verb) => cluster::scale::run(verb),
        Verb::Reform(verb) => cluster::maintain::reform(verb),
        Verb::Status(verb) => cluster::status::run(verb, json),
        Verb::Undrain(verb) => cluster::maintain::undrain(verb),
        Verb::Up(verb) => cluster::up::up(verb),
        Verb::Why(verb) => cluster::why::run(verb),
        Verb::Witness(verb) => witness::run(verb, json),
        Verb::Drill(verb) => drill::run(verb),
        Verb::Lab(verb) => lab::run(verb),
        Verb::Pack(verb) => pack::run(verb).map(report::Answer::from),
        Verb::Show(verb) => show::run(verb).map(report::Answer::from),
        Verb::Symbolize(verb) => symbolize::run(verb).map(report::Answer::from),
        Verb::Volume(verb) => volume::run(verb).map(report::Answer::from),
    };
    report::print(outcome, json)
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    fn parses(line: &str) -> bool {
        super::Arguments::try_parse_from(line.split(' ')).is_ok()
    }

    #[test]
    fn a_move_is_ordered_followed_or_called_off() {
        assert!(parses("hearth migrate web"));
        assert!(parses("hearth migrate web --to beta --follow --patience 9"));
        assert!(parses("hearth migrate web --follow --timeout 9"));
        assert!(parses("hearth migrate web --cancel --json"));
        for wrong in [
            "hearth migrate",
            "hearth migrate web --patience 9",
            "hearth migrate web --cancel --to beta",
            "hearth migrate web --cancel --follow",
        ] {
            assert!(!parses(wrong), "{wrong}");
        }
    }

    #[test]
    fn a_drain_takes_its_limit_by_either_name() {
        assert!(parses("hearth drain alpha --wait --timeout 9"));
        assert!(parses("hearth drain alpha --wait --patience 9"));
        assert!(!parses("hearth drain alpha --timeout 9"));
    }

    #[test]
    fn the_command_line_is_consistent() {
        super::Arguments::command().debug_assert();
    }
}
