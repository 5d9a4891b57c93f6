//! A table of `cluster.toml`, read key by key so that every mistake in it is found at once.
//!
//! Deserialising into a struct would stop at the first; here each getter notes what is wrong with its key and goes on,
//! and [`Keys::finish`] notes the keys that nobody asked for.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::source::Problem;

/// How alike a wrong key and a known one must be to be taken for a slip (Jaro-Winkler, 0 to 1).
const ALIKE: f64 = 0.75;

/// A value and where it stands.
#[derive(Clone, Debug)]
pub struct Placed<T> {
    /// The value.
    pub value: T,
    /// Its bytes in the source.
    pub span: Range<usize>,
}

/// A table that is being read.
pub struct Keys<'p, 'a, 'i> {
    table: &'a DeTable<'i>,
    /// Where the table stands, for keys that are missing.
    pub span: Range<usize>,
    /// What the table is, with an article.
    what: &'static str,
    asked: Vec<&'static str>,
    problems: &'p mut Vec<Problem>,
}

impl<'p, 'a, 'i> Keys<'p, 'a, 'i> {
    /// Starts to read `table`, which is `what`.
    pub fn new(
        table: &'a DeTable<'i>,
        span: Range<usize>,
        what: &'static str,
        problems: &'p mut Vec<Problem>,
    ) -> Self {
        Self {
            table,
            span,
            what,
            asked: Vec::new(),
            problems,
        }
    }

    /// Notes a mistake.
    pub fn problem(
        &mut self,
        span: Range<usize>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.problems.push(Problem::at(span, message, help));
    }

    /// The value of `key`, if it is there.
    fn get(&mut self, key: &'static str) -> Option<&'a Spanned<DeValue<'i>>> {
        self.asked.push(key);
        self.table.get(key)
    }

    /// Notes that `key` has a value of the wrong type.
    fn wrong_type(&mut self, value: &Spanned<DeValue<'_>>, key: &str, wanted: &str, example: &str) {
        let found = value.get_ref().type_str();
        let article = if found.starts_with(['a', 'i']) {
            "an"
        } else {
            "a"
        };
        let message = format!("`{key}` is {wanted}, not {article} {found}");
        self.problem(
            value.span(),
            message,
            format!("write it like this: {example}"),
        );
    }

    /// The text of `key`.
    pub fn text(&mut self, key: &'static str, example: &str) -> Option<Placed<&'a str>> {
        let value = self.get(key)?;
        match value.get_ref().as_str() {
            Some(text) => Some(Placed {
                value: text,
                span: value.span(),
            }),
            None => {
                self.wrong_type(value, key, "a text in quotes", example);
                None
            }
        }
    }

    /// The texts of `key`, which is a list of them; none if it is not there.
    pub fn texts(&mut self, key: &'static str, example: &str) -> Option<Vec<Placed<&'a str>>> {
        let Some(value) = self.get(key) else {
            return Some(Vec::new());
        };
        let items = value.get_ref().as_array().map(|array| array.iter());
        let text = |item: &'a Spanned<DeValue<'i>>| {
            Some(Placed {
                value: item.get_ref().as_str()?,
                span: item.span(),
            })
        };
        let texts = items.and_then(|items| items.map(text).collect());
        if texts.is_none() {
            self.wrong_type(value, key, "a list of texts", example);
        }
        texts
    }

    /// The whole number of `key`, which must be in `range`.
    pub fn number(
        &mut self,
        key: &'static str,
        range: std::ops::RangeInclusive<u32>,
        example: &str,
    ) -> Option<Placed<u32>> {
        let value = self.get(key)?;
        let Some(integer) = value.get_ref().as_integer() else {
            self.wrong_type(value, key, "a whole number without quotes", example);
            return None;
        };
        let number = i128::from_str_radix(integer.as_str(), integer.radix()).ok();
        let inside = number
            .and_then(|number| u32::try_from(number).ok())
            .filter(|it| range.contains(it));
        if inside.is_none() {
            let (low, high) = range.into_inner();
            let message = format!("`{key}` is out of range");
            self.problem(
                value.span(),
                message,
                format!("give a number from {low} to {high}"),
            );
        }
        inside.map(|number| Placed {
            value: number,
            span: value.span(),
        })
    }

    /// The truth value of `key`; `otherwise` if it is not there.
    pub fn truth(&mut self, key: &'static str, otherwise: bool) -> Option<Placed<bool>> {
        let Some(value) = self.get(key) else {
            return Some(Placed {
                value: otherwise,
                span: self.span.clone(),
            });
        };
        let found = value.get_ref().as_bool();
        if found.is_none() {
            let example = format!("{key} = {}", !otherwise);
            self.wrong_type(value, key, "true or false", &example);
        }
        found.map(|truth| Placed {
            value: truth,
            span: value.span(),
        })
    }

    /// Whether `key` is there, if only with a wrong value.
    pub fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// The table of `key`.
    pub fn table(&mut self, key: &'static str, example: &str) -> Option<Placed<&'a DeTable<'i>>> {
        let value = self.get(key)?;
        match value.get_ref().as_table() {
            Some(table) => Some(Placed {
                value: table,
                span: value.span(),
            }),
            None => {
                self.wrong_type(value, key, "a table", example);
                None
            }
        }
    }

    /// The tables of `key`; none if it is not there.
    pub fn tables(&mut self, key: &'static str, example: &str) -> Vec<Placed<&'a DeTable<'i>>> {
        let Some(value) = self.get(key) else {
            return Vec::new();
        };
        let Some(array) = value.get_ref().as_array() else {
            self.wrong_type(value, key, "a list of tables", example);
            return Vec::new();
        };
        let mut tables = Vec::new();
        for item in array.iter() {
            match item.get_ref().as_table() {
                Some(table) => tables.push(Placed {
                    value: table,
                    span: item.span(),
                }),
                None => self.wrong_type(item, key, "a list of tables", example),
            }
        }
        tables
    }

    /// Notes that `key` is missing unless it is there, if only with a wrong value.
    pub fn require(&mut self, key: &'static str, example: &str) {
        if !self.table.contains_key(key) {
            let message = format!("{} has no `{key}`", self.what);
            self.problem(
                self.span.clone(),
                message,
                format!("add a line like this: {example}"),
            );
        }
    }

    /// Notes every key that was not asked for.
    pub fn finish(self) {
        for key in self.table.keys() {
            let name = key.get_ref().as_ref();
            if self.asked.contains(&name) {
                continue;
            }
            let alike = |known: &&&str| strsim::jaro_winkler(name, known);
            let nearest = self
                .asked
                .iter()
                .max_by(|a, b| alike(a).total_cmp(&alike(b)));
            let known = self.asked.join(", ");
            let help = match nearest.filter(|known| alike(known) >= ALIKE) {
                Some(nearest) => format!("did you mean `{nearest}`? The keys here are: {known}"),
                None => format!("remove it; the keys here are: {known}"),
            };
            let message = format!("{} has no key `{name}`", self.what);
            self.problems.push(Problem::at(key.span(), message, help));
        }
    }
}
