//! Draws how moves went over time: one HTML page that needs nothing else.

use std::fmt::Write as _;

use crate::measure::number;

/// A panel's plane, in the drawing's units, and the room beside and below it for words.
const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 240.0;
const SIDE: f64 = 80.0;
const BELOW: f64 = 44.0;
/// Lines across a panel.
const TICKS: u32 = 4;

const STYLE: &str = "\
body{font:15px/1.45 system-ui,sans-serif;margin:2em auto;max-width:1120px;padding:0 1em;color:#222;background:#fff}
svg{width:100%;height:auto;display:block}svg text{font:12px system-ui,sans-serif;fill:#555}
.grid{stroke:#8884;fill:none}.sent{stroke:#4878a8;stroke-width:2;fill:none}.pages{stroke:#d08a3c;stroke-width:2;fill:none}
text.sent{stroke:none;fill:#4878a8}text.pages{stroke:none;fill:#d08a3c}.still{fill:#b3261e22}
@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}svg text{fill:#aaa}}";

/// A moment of a move.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Sample {
    us: f64,
    bytes: f64,
    pages: f64,
}

/// A move over time, as a board told it.
#[derive(Clone, Debug, PartialEq)]
pub struct Course {
    samples: Vec<Sample>,
    /// When the guest was ordered to stop.
    still_us: f64,
}

impl Course {
    /// What a board's console has of it.
    ///
    /// # Panics
    /// If there is none.
    pub fn read(console: &str) -> Self {
        let samples = console.lines().filter(|line| line.contains("course: at "));
        let samples = samples.map(|line| Sample {
            us: number(line, "course: at "),
            bytes: number(line, " us: "),
            pages: number(line, " bytes, "),
        });
        Self {
            samples: samples.collect(),
            still_us: number(console, "still from "),
        }
    }

    /// Microseconds, bytes and pages of each moment, and when the guest stopped.
    pub fn json(&self) -> String {
        let samples = self.samples.iter();
        let samples = samples.map(|it| format!("[{}, {}, {}]", it.us, it.bytes, it.pages));
        let samples: Vec<_> = samples.collect();
        format!(
            "{{\"still_us\": {}, \"us_bytes_pages\": [{}]}}",
            self.still_us,
            samples.join(", ")
        )
    }

    fn most(&self, of: impl Fn(&Sample) -> f64) -> f64 {
        self.samples.iter().map(of).fold(1.0, f64::max)
    }

    /// A line through all moments, of what is `most` at the top.
    fn line(&self, class: &str, most: f64, of: impl Fn(&Sample) -> f64) -> String {
        let last = self.most(|it| it.us);
        let points = self.samples.iter().map(|it| {
            let (x, y) = (it.us / last * WIDTH, HEIGHT - of(it) / most * HEIGHT);
            format!("{:.1},{:.1}", SIDE + x, y)
        });
        let points: Vec<_> = points.collect();
        format!(
            "<polyline class=\"{class}\" points=\"{}\"/>",
            points.join(" ")
        )
    }

    /// All of a panel.
    fn panel(&self) -> String {
        let (last, bytes, pages) = (
            self.most(|it| it.us),
            self.most(|it| it.bytes),
            self.most(|it| it.pages),
        );
        let mut svg = format!(
            "<svg viewBox=\"0 -14 {} {}\">\n",
            WIDTH + 2.0 * SIDE,
            HEIGHT + BELOW
        );
        let still = self.still_us / last * WIDTH;
        // Writing to a text never fails.
        let _ = writeln!(
            svg,
            "<rect class=\"still\" x=\"{:.1}\" y=\"0\" width=\"{:.1}\" height=\"{HEIGHT}\"/>",
            SIDE + still,
            (WIDTH - still).max(1.0)
        );
        for tick in 0..=TICKS {
            let part = f64::from(tick) / f64::from(TICKS);
            let (x, y) = (SIDE + part * WIDTH, HEIGHT * (1.0 - part));
            let _ = writeln!(
                svg,
                "<path class=\"grid\" d=\"M{SIDE} {y:.1}h{WIDTH}\"/>\
                 <text class=\"sent\" x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{:.1} MB</text>\
                 <text class=\"pages\" x=\"{}\" y=\"{:.1}\">{:.0}</text>\
                 <text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{:.1} ms</text>",
                SIDE - 8.0,
                y + 4.0,
                part * bytes / 1e6,
                SIDE + WIDTH + 8.0,
                y + 4.0,
                part * pages,
                HEIGHT + 18.0,
                part * last / 1e3
            );
        }
        svg += &self.line("sent", bytes, |it| it.bytes);
        svg += &self.line("pages", pages, |it| it.pages);
        svg + "\n</svg>\n"
    }
}

/// The page of these moves, each with its name.
pub fn page(courses: &[(&str, &Course)]) -> String {
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Hearth: moves over time</title>\n\
         <style>{STYLE}</style></head><body>\n<h1>A guest moves</h1>\n\
         <p>Blue: bytes that have gone. Orange: pages that were written and have not. Red: the guest is still.</p>\n"
    );
    for (name, course) in courses {
        let _ = writeln!(html, "<h2>{name}</h2>\n{}", course.panel());
    }
    html + "</body></html>\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONSOLE: &str = "\
hearth: course: at 10 us: 100 bytes, 40 pages
DIRTY pages=3
hearth: course: at 20 us: 300 bytes, 10 pages
hearth: course: that is all; still from 15 us on
";

    #[test]
    fn a_course_is_read_from_a_console_and_drawn() {
        let course = Course::read(CONSOLE);
        assert_eq!(
            course.json(),
            "{\"still_us\": 15, \"us_bytes_pages\": [[10, 100, 40], [20, 300, 10]]}"
        );
        let page = page(&[("busy", &course)]);
        // Both lines end at the right edge: all bytes have gone, and a quarter of the pages is left.
        assert!(page.contains("530.0,160.0 980.0,0.0"), "{page}");
        assert!(page.contains("530.0,0.0 980.0,180.0"), "{page}");
        assert!(!page.contains("http"), "it needs nothing else");
    }
}
