//! The report of drills: one HTML page that needs nothing else, with a timeline for each.

use std::fmt::Write as _;

use super::judge::Verdict;
use super::lane::{Lanes, lanes};
use super::trace::Record;

/// A timeline's width without its names, and where it begins.
const WIDTH: f64 = 1000.0;
const LEFT: f64 = 90.0;
/// A lane's height, and from one to the next.
const LANE: f64 = 18.0;
const STEP: f64 = 26.0;
/// Room for marks above the lanes, and their lines of text.
const MARKS: f64 = 52.0;
const MARK_LINES: usize = 4;
/// Segments that are narrower than a letter have no text.
const LETTER: f64 = 6.2;
/// Boards' colours, in the order in which they appear.
const COLOURS: [&str; 8] = [
    "#4878a8", "#d08a3c", "#5b9a68", "#a86a9c", "#8a7a5c", "#c25d5d", "#4f9ba0", "#7d7d8c",
];

const STYLE: &str = "\
body{font:15px/1.45 system-ui,sans-serif;margin:2em auto;max-width:1120px;padding:0 1em;color:#222;background:#fff}
h1{font-size:1.5em}h2{font-size:1.15em;margin:2em 0 .2em}p{margin:.3em 0}
table{border-collapse:collapse;margin:.5em 0}td,th{padding:.15em .9em .15em 0;text-align:left;font-weight:normal;vertical-align:top}
th{color:#777}td.n{text-align:right;font-variant-numeric:tabular-nums}
.ok{color:#2c7a3f}.bad{color:#b3261e}svg{width:100%;height:auto;display:block}svg text{font:11px system-ui,sans-serif;fill:#333}
svg .in{fill:#fff}svg .axis{fill:#888}svg .mark{stroke:#b3261e;stroke-dasharray:3 2;stroke-width:1}svg .label{fill:#b3261e}
svg .lane{fill:#f1f1ee}svg .stall{fill:#e8a39d}svg .answers{fill:#5b9a68}
@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}svg text{fill:#ccc}svg .lane{fill:#2a2a28}svg .in{fill:#fff}svg .label{fill:#e8877f}svg .mark{stroke:#e8877f}.ok{color:#6cc081}.bad{color:#e8877f}}";

/// A drill that was run.
#[derive(Clone, Debug)]
pub struct Drill {
    /// What it is called.
    pub name: String,
    /// What it does, in a sentence or two.
    pub about: String,
    /// Why its script failed, if it did.
    pub trouble: Option<String>,
    /// What was seen.
    pub records: Vec<Record>,
    /// What was found.
    pub verdict: Verdict,
}

impl Drill {
    /// Whether all is well.
    pub fn passed(&self) -> bool {
        self.trouble.is_none() && self.verdict.violations.is_empty()
    }
}

/// The page.
pub fn page(drills: &[Drill]) -> String {
    let mut html = String::new();
    // Writing to a text never fails.
    let _ = write_page(&mut html, drills);
    html
}

fn write_page(html: &mut String, drills: &[Drill]) -> std::fmt::Result {
    let passed = drills.iter().filter(|drill| drill.passed()).count();
    write!(
        html,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Hearth: drills</title>\n\
         <meta name=\"viewport\" content=\"width=device-width\"><style>{STYLE}</style></head><body>\n\
         <h1>Drills: {passed} of {} passed</h1>\n\
         <table><tr><th>drill<th><th>longest stall<th>answers<th>boots<th>owners<th>leaders</tr>\n",
        drills.len()
    )?;
    for drill in drills {
        let it = &drill.verdict;
        writeln!(
            html,
            "<tr><td><a href=\"#{0}\">{0}</a><td>{1}<td class=\"n\">{2} ms<td class=\"n\">{3} of {4}<td class=\"n\">{5}<td>{6}<td>{7}</tr>",
            escape(&drill.name),
            badge(drill.passed()),
            it.stall.length_us / 1000,
            it.answered,
            it.asked,
            it.boots.len(),
            escape(&it.owners.join(" → ")),
            escape(&it.leaders.join(" → ")),
        )?;
    }
    html.push_str("</table>\n");
    for drill in drills {
        write_drill(html, drill)?;
    }
    html.push_str("</body></html>\n");
    Ok(())
}

fn badge(good: bool) -> &'static str {
    match good {
        true => "<span class=\"ok\">passed</span>",
        false => "<span class=\"bad\">failed</span>",
    }
}

fn write_drill(html: &mut String, drill: &Drill) -> std::fmt::Result {
    let name = escape(&drill.name);
    writeln!(
        html,
        "<h2 id=\"{name}\">{name} {}</h2>\n<p>{}</p>",
        badge(drill.passed()),
        escape(&drill.about)
    )?;
    let bad = drill.verdict.violations.iter().chain(&drill.trouble);
    for what in bad {
        writeln!(html, "<p class=\"bad\">{}</p>", escape(what))?;
    }
    write_timeline(html, &lanes(&drill.records))
}

fn write_timeline(svg: &mut String, lanes: &Lanes) -> std::fmt::Result {
    let scale = WIDTH / (lanes.length_us.max(1) as f64);
    let x = |us: u64| LEFT + us as f64 * scale;
    let names: Vec<_> = lanes.names();
    let bottom = MARKS + (lanes.lanes.len() + 1) as f64 * STEP;
    writeln!(
        svg,
        "<svg viewBox=\"0 0 {} {}\" role=\"img\">",
        LEFT + WIDTH + 10.0,
        bottom + 22.0
    )?;
    write_client(svg, lanes, scale)?;
    for (row, lane) in lanes.lanes.iter().enumerate() {
        let y = MARKS + (row + 1) as f64 * STEP;
        write_lane_head(svg, y, lane.name)?;
        for segment in &lane.segments {
            let width = (segment.to_us - segment.from_us) as f64 * scale;
            let place = names.iter().position(|name| *name == segment.text);
            let colour = COLOURS[place.unwrap_or_default() % COLOURS.len()];
            let text = escape(&segment.text);
            let left = x(segment.from_us);
            writeln!(
                svg,
                "<rect x=\"{left:.1}\" y=\"{y}\" width=\"{:.1}\" height=\"{LANE}\" fill=\"{colour}\"><title>{text}</title></rect>",
                width.max(0.8)
            )?;
            if width > LETTER * segment.text.chars().count() as f64 + 8.0 {
                writeln!(
                    svg,
                    "<text class=\"in\" x=\"{:.1}\" y=\"{}\">{text}</text>",
                    left + 4.0,
                    y + 13.0
                )?;
            }
        }
    }
    for (number, mark) in lanes.marks.iter().enumerate() {
        let left = x(mark.at_us);
        let line = 11.0 + (number % MARK_LINES) as f64 * 12.0;
        // One that is near the right edge is written to the left.
        let (anchor, shift) = match left > LEFT + WIDTH * 0.75 {
            true => ("end", -3.0),
            false => ("start", 3.0),
        };
        writeln!(
            svg,
            "<line class=\"mark\" x1=\"{left:.1}\" x2=\"{left:.1}\" y1=\"{}\" y2=\"{bottom}\"/>\
             <text class=\"label\" x=\"{:.1}\" y=\"{line}\" text-anchor=\"{anchor}\">{}</text>",
            line - 9.0,
            left + shift,
            escape(&mark.text)
        )?;
    }
    write_axis(svg, lanes.length_us, bottom, x)?;
    svg.push_str("</svg>\n");
    Ok(())
}

fn write_lane_head(svg: &mut String, y: f64, name: &str) -> std::fmt::Result {
    writeln!(
        svg,
        "<text x=\"0\" y=\"{}\">{name}</text><rect class=\"lane\" x=\"{LEFT}\" y=\"{y}\" width=\"{WIDTH}\" height=\"{LANE}\"/>",
        y + 13.0
    )
}

/// The client's lane: stalls, and how many answers came in each fraction of the time.
fn write_client(svg: &mut String, lanes: &Lanes, scale: f64) -> std::fmt::Result {
    const BINS: usize = 500;
    write_lane_head(svg, MARKS, "answers")?;
    for stall in &lanes.stalls {
        let (left, width) = (
            LEFT + stall.from_us as f64 * scale,
            stall.length_us as f64 * scale,
        );
        let millis = stall.length_us / 1000;
        writeln!(
            svg,
            "<rect class=\"stall\" x=\"{left:.1}\" y=\"{MARKS}\" width=\"{width:.1}\" height=\"{LANE}\"><title>no answer for {millis} ms</title></rect>"
        )?;
        let text = format!("{millis} ms");
        if width > LETTER * text.len() as f64 {
            writeln!(
                svg,
                "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{text}</text>",
                left + width / 2.0,
                MARKS + 13.0
            )?;
        }
    }
    let mut bins = [0_u32; BINS];
    for came in &lanes.answers {
        let bin = came * BINS as u64 / lanes.length_us.max(1);
        bins[(bin as usize).min(BINS - 1)] += 1;
    }
    // The usual count is the lane's full height: those that come all at once after a pause would make all others too small to see.
    let mut counts: Vec<_> = bins.iter().copied().filter(|count| *count > 0).collect();
    counts.sort_unstable();
    let usual = counts.get(counts.len() / 2).copied().unwrap_or(1);
    let width = WIDTH / BINS as f64;
    svg.push_str("<path class=\"answers\" d=\"");
    for (bin, count) in bins.iter().enumerate().filter(|(_, count)| **count > 0) {
        let height = LANE * (f64::from(*count) / f64::from(usual)).min(1.0);
        let left = LEFT + bin as f64 * width;
        write!(
            svg,
            "M{left:.1} {:.1}h{width:.1}v{height:.1}h-{width:.1}z",
            MARKS + LANE - height
        )?;
    }
    svg.push_str("\"/>\n");
    Ok(())
}

/// Seconds under the lanes, about ten of them.
fn write_axis(
    svg: &mut String,
    length_us: u64,
    y: f64,
    x: impl Fn(u64) -> f64,
) -> std::fmt::Result {
    const STEPS: [u64; 9] = [1, 2, 5, 10, 20, 60, 120, 300, 600];
    let seconds = length_us / 1_000_000;
    let step = STEPS.into_iter().find(|step| seconds / step <= 12);
    let step = step.unwrap_or(3600);
    for second in (0..=seconds).step_by(step as usize) {
        writeln!(
            svg,
            "<text class=\"axis\" x=\"{:.1}\" y=\"{}\">{second} s</text>",
            x(second * 1_000_000),
            y + 12.0
        )?;
    }
    Ok(())
}

/// Text that means nothing to HTML.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            _ => escaped.push(letter),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::super::judge::{Limits, judge};
    use super::super::trace::{Seen, View};
    use super::*;

    fn drill(what: &str) -> Drill {
        let seen = [
            Seen::View(View {
                leader: Some("alpha".into()),
                owner: Some("alpha".into()),
                ..View::default()
            }),
            Seen::Asked { number: 1 },
            Seen::Answered {
                number: 1,
                boot: "one".into(),
                counter: 1,
            },
            Seen::Lab { what: what.into() },
            Seen::Frame {
                link: "beta".into(),
                answers: None,
            },
            Seen::Asked { number: 2 },
        ];
        let at = |(n, what)| Record {
            at: 1_000_000 * (n as u64 + 1),
            what,
        };
        let records: Vec<_> = seen.into_iter().enumerate().map(at).collect();
        Drill {
            name: "kill-owner".into(),
            about: "pulls the plug".into(),
            trouble: None,
            verdict: judge(&records, &Limits::default()),
            records,
        }
    }

    #[test]
    fn the_page_is_whole_and_asks_for_nothing() {
        let html = page(&[drill("board alpha is killed"), drill("<script>")]);
        assert!(html.contains("2 of 2 passed"));
        assert!(html.contains("board alpha is killed"));
        assert!(html.contains("3000 ms"));
        assert!(html.contains("&lt;script&gt;") && !html.contains("<script"));
        for outside in ["http", "src=", "@import", "url("] {
            assert!(!html.contains(outside), "{outside}");
        }
        assert_eq!(html.matches("<svg").count(), html.matches("</svg>").count());
        assert!(!html.contains("NaN") && !html.contains("inf"));
    }

    #[test]
    fn a_drill_without_anything_seen_has_a_page() {
        let mut empty = drill("nothing");
        empty.records.clear();
        empty.trouble = Some("it did not come up".into());
        let html = page(&[empty]);
        assert!(html.contains("0 of 1 passed") && html.contains("it did not come up"));
    }
}
