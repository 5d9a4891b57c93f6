//! How a verb ends: its answer, or what was wrong, for people or as JSON, and the exit code.

use std::fmt;
use std::io::{IsTerminal, Write as _, stderr, stdout};
use std::path::Path;
use std::process::ExitCode;

use annotate_snippets::Renderer;
use serde::Serialize;
use serde_json::{Value, json};

use crate::source::{Problem, Source};

/// For every verb's help.
pub const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  a mistake in your files: every one is printed with its place and what to do; or what was checked or waited for is not so
  2  a mistake on the command line
  3  trouble: a file cannot be read or written, or is damaged; the cluster does not answer, or refuses";

const MISTAKES: u8 = 1;
const TROUBLE: u8 = 3;

/// What a verb says when it has done its work.
#[derive(Debug)]
pub struct Answer {
    text: String,
    json: Result<Value, serde_json::Error>,
}

impl<T: fmt::Display + Serialize> From<T> for Answer {
    fn from(answer: T) -> Self {
        Self {
            text: answer.to_string(),
            json: serde_json::to_value(&answer),
        }
    }
}

impl Answer {
    /// The answer as one JSON object, for verbs that print several.
    pub fn json(self) -> String {
        with_ok(self.json, true)
    }
}

/// Why a verb has not done its work.
#[derive(Debug)]
pub enum Failure {
    /// Mistakes in the operator's file, at least one.
    Mistakes(Source, Vec<Problem>),
    /// A file cannot be read or written, or is damaged.
    Trouble(String),
    /// The verb has done its work, and found what may not be.
    Found(Answer),
}

impl Failure {
    /// Trouble with a file: what was tried, and what the system said.
    pub fn file(doing: &str, path: &Path, error: impl fmt::Display) -> Self {
        Self::Trouble(format!("cannot {doing} {}: {error}", path.display()))
    }
}

/// Prints how a verb ended, and gives the exit code.
pub fn print(outcome: Result<Answer, Failure>, as_json: bool) -> ExitCode {
    let code = match &outcome {
        Ok(_) => 0,
        Err(Failure::Mistakes(..) | Failure::Found(_)) => MISTAKES,
        Err(Failure::Trouble(_)) => TROUBLE,
    };
    let (text, to_stdout) = match outcome {
        Ok(answer) | Err(Failure::Found(answer)) if !as_json => (answer.text, true),
        Ok(answer) => (with_ok(answer.json, true), true),
        Err(Failure::Found(answer)) => (with_ok(answer.json, false), true),
        Err(failure) if as_json => (with_ok(Ok(to_json(&failure)), false), true),
        Err(failure) => (to_text(&failure), false),
    };
    // A reader that went away, such as `head`, is no trouble of ours.
    let _ = if to_stdout {
        writeln!(stdout(), "{}", text.trim_end())
    } else {
        writeln!(stderr(), "{}", text.trim_end())
    };
    ExitCode::from(code)
}

/// The object with `"ok"` in front; an answer that JSON cannot hold becomes a failure that says so.
fn with_ok(json: Result<Value, serde_json::Error>, ok: bool) -> String {
    let mut object = json!({ "ok": ok });
    match (json, object.as_object_mut()) {
        (Ok(Value::Object(fields)), Some(object)) => object.extend(fields),
        (Ok(other), Some(object)) => drop(object.insert("answer".into(), other)),
        (Err(error), _) => object = json!({ "ok": false, "trouble": error.to_string() }),
        (_, None) => {}
    }
    object.to_string()
}

fn to_json(failure: &Failure) -> Value {
    match failure {
        Failure::Mistakes(source, problems) => {
            let located: Vec<_> = problems
                .iter()
                .map(|problem| source.locate(problem))
                .collect();
            json!({ "problems": located })
        }
        Failure::Trouble(trouble) => json!({ "trouble": trouble }),
        // It is printed as an answer.
        Failure::Found(answer) => json!({ "found": answer.text }),
    }
}

fn to_text(failure: &Failure) -> String {
    match failure {
        Failure::Mistakes(source, problems) => {
            let renderer = if stderr().is_terminal() {
                Renderer::styled()
            } else {
                Renderer::plain()
            };
            let texts = problems
                .iter()
                .map(|problem| source.render(problem, &renderer));
            let count = match problems.len() {
                1 => "1 mistake".to_string(),
                count => format!("{count} mistakes"),
            };
            let closing = format!("{count} in {}; nothing was written", source.path.display());
            texts.chain([closing]).collect::<Vec<_>>().join("\n\n")
        }
        Failure::Trouble(trouble) => format!("error: {trouble}"),
        Failure::Found(answer) => answer.text.clone(),
    }
}
