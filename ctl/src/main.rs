//! `hearth`, the operator's tool.
//!
//! One verb a module, each with its clap arguments and a `run`: [`pack`] makes a board's boot package,
//! [`show`] looks into one, [`symbolize`] puts names to a board's backtrace, [`volume`] makes the volumes on a board's disk, and
//! [`lab`] runs boards under QEMU, [`drill`] judges what a client of theirs saw; [`cluster`] is how a tool speaks with boards. What a verb finds wrong in the
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

use std::process::ExitCode;

use clap::{Parser, Subcommand};

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
    Drill(drill::Arguments),
    Lab(lab::Arguments),
    Pack(pack::Arguments),
    Show(show::Arguments),
    Symbolize(symbolize::Arguments),
    Volume(volume::Arguments),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match &arguments.verb {
        Verb::Drill(verb) => drill::run(verb),
        Verb::Lab(verb) => lab::run(verb),
        Verb::Pack(verb) => pack::run(verb).map(report::Answer::from),
        Verb::Show(verb) => show::run(verb).map(report::Answer::from),
        Verb::Symbolize(verb) => symbolize::run(verb).map(report::Answer::from),
        Verb::Volume(verb) => volume::run(verb).map(report::Answer::from),
    };
    report::print(outcome, arguments.json)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        super::Arguments::command().debug_assert();
    }
}
