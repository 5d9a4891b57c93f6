//! A file that the operator wrote, and what is wrong in it: where, what, and what to do.

use std::ops::Range;
use std::path::{Path, PathBuf};

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use serde::Serialize;

/// A text file.
#[derive(Debug)]
pub struct Source {
    /// As the operator named it.
    pub path: PathBuf,
    /// What stands in it.
    pub text: String,
}

/// A mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The bytes of the source that are to blame; none for a mistake on the command line.
    pub span: Option<Range<usize>>,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: String,
}

impl Problem {
    /// A mistake at `span`.
    pub fn at(span: Range<usize>, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            span: Some(span),
            message: message.into(),
            help: help.into(),
        }
    }

    /// A mistake on the command line.
    pub fn in_arguments(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            span: None,
            message: message.into(),
            help: help.into(),
        }
    }
}

/// A mistake as JSON.
#[derive(Serialize)]
pub struct Located<'a> {
    file: Option<&'a Path>,
    line: Option<usize>,
    column: Option<usize>,
    quoted: Option<&'a str>,
    message: &'a str,
    help: &'a str,
}

impl Located<'_> {
    /// The line, from 1.
    pub fn line(&self) -> Option<usize> {
        self.line
    }
}

impl Source {
    /// The line and column of a byte, both from 1, columns in characters.
    fn position(&self, offset: usize) -> (usize, usize) {
        let before = &self.text[..self.text.floor_char_boundary(offset)];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = before.bytes().filter(|&byte| byte == b'\n').count() + 1;
        (line, before[line_start..].chars().count() + 1)
    }

    /// `problem` with its place.
    pub fn locate<'a>(&'a self, problem: &'a Problem) -> Located<'a> {
        let start = problem.span.as_ref().map(|span| span.start);
        let place = start.map(|start| self.position(start));
        Located {
            file: start.map(|_| self.path.as_path()),
            line: place.map(|(line, _)| line),
            column: place.map(|(_, column)| column),
            quoted: place.and_then(|(line, _)| self.text.lines().nth(line - 1)),
            message: &problem.message,
            help: &problem.help,
        }
    }

    /// `problem` for people: message, place, the line itself, and what to do.
    pub fn render(&self, problem: &Problem, renderer: &Renderer) -> String {
        let title = Level::ERROR.primary_title(problem.message.as_str());
        let help = Level::HELP.message(problem.help.as_str());
        let Some(span) = &problem.span else {
            return renderer.render(&[title.element(help)]);
        };
        let mark = AnnotationKind::Primary.span(span.clone());
        let path = self.path.display().to_string();
        let quoted = Snippet::source(&self.text).path(path).annotation(mark);
        renderer.render(&[title.element(quoted).element(help)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_quoted_with_its_place() {
        let source = Source {
            path: "a.toml".into(),
            text: "x = 1\n  é = \"ü\"\n".into(),
        };
        let start = source.text.find("\"ü").unwrap();
        let problem = Problem::at(start..start + 4, "not so", "do this");
        let text = source.render(&problem, &Renderer::plain());
        assert!(
            text.starts_with("error: not so\n --> a.toml:2:7\n"),
            "{text}"
        );
        assert!(text.contains("2 |   é = \"ü\"\n  |       ^^^\n"), "{text}");
        assert!(text.ends_with("= help: do this"), "{text}");
        let json = serde_json::to_value(source.locate(&problem)).unwrap();
        assert_eq!((&json["line"], &json["column"]), (&2.into(), &7.into()));
        assert_eq!(json["quoted"], "  é = \"ü\"");
    }

    #[test]
    fn a_problem_without_a_place_is_just_said() {
        let source = Source {
            path: "a.toml".into(),
            text: String::new(),
        };
        let problem = Problem::in_arguments("no", "yes");
        let text = source.render(&problem, &Renderer::plain());
        assert!(
            text.starts_with("error: no\n") && text.ends_with("help: yes"),
            "{text}"
        );
        assert!(serde_json::to_value(source.locate(&problem)).unwrap()["line"].is_null());
    }
}
