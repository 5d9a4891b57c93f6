//! `hearth symbolize`: a board's backtrace with functions, files and lines.
//!
//! The image is position independent and prints places as distances from its first byte, `image+0x1a2b4`. Its ELF file,
//! which the build leaves beside the flat one, has the names.

use std::fmt;
use std::io::Read as _;
use std::path::PathBuf;

use addr2line::{Context, gimli};
use object::{Object, ObjectSection, ObjectSegment};
use serde::Serialize;

use crate::report::{EXIT_CODES, Failure};

/// What stands before a place in the image.
const MARK: &str = "image+0x";

/// Put function names, files and lines to the backtrace of a board's console.
#[derive(clap::Args)]
#[command(after_long_help = concat!(
    "Every place in the console's text that looks like image+0x1a2b4 is looked up in the ELF file of the very image that the
board runs. Text without such places passes through.\n\n",
    "Example:\n  hearth symbolize target/aarch64-unknown-none-softfloat/release/hearth-kernel console.log"
), after_help = EXIT_CODES)]
pub struct Arguments {
    /// The image's ELF file, with debug information.
    image: PathBuf,
    /// The console's text; standard input if not given.
    console: Option<PathBuf>,
}

/// A console's text with names.
#[derive(Debug, Serialize)]
pub struct Symbolized {
    lines: Vec<Line>,
}

/// A line and the functions at its place, innermost first.
#[derive(Debug, Serialize)]
struct Line {
    text: String,
    frames: Vec<Frame>,
}

/// A function at a place; inlined functions stand before the one that holds them.
#[derive(Debug, Serialize)]
struct Frame {
    function: String,
    file: Option<String>,
    line: Option<u32>,
}

impl fmt::Display for Symbolized {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.lines {
            writeln!(f, "{}", line.text)?;
            for Frame {
                function,
                file,
                line,
            } in &line.frames
            {
                write!(f, "        {function}")?;
                match (file, line) {
                    (Some(file), Some(line)) => writeln!(f, " at {file}:{line}")?,
                    (Some(file), None) => writeln!(f, " at {file}")?,
                    (None, _) => writeln!(f)?,
                }
            }
        }
        Ok(())
    }
}

/// Reads the image and the console's text and looks every place up.
pub fn run(arguments: &Arguments) -> Result<Symbolized, Failure> {
    let path = &arguments.image;
    let bytes = std::fs::read(path).map_err(|error| Failure::file("read", path, error))?;
    let image = Image::new(&bytes).map_err(|error| Failure::file("understand", path, error))?;
    let mut text = Vec::new();
    match &arguments.console {
        Some(path) => {
            text = std::fs::read(path).map_err(|error| Failure::file("read", path, error))?
        }
        None => {
            let read = std::io::stdin().read_to_end(&mut text);
            read.map_err(|error| Failure::Trouble(format!("cannot read standard input: {error}")))?;
        }
    }
    // A console may carry any bytes; what is no text is shown as such.
    let lines = String::from_utf8_lossy(&text)
        .lines()
        .map(|line| image.line(line))
        .collect();
    Ok(Symbolized { lines })
}

/// Debug sections are little-endian, like the image itself.
type Slice<'a> = gimli::EndianSlice<'a, gimli::LittleEndian>;

/// The image's names.
struct Image<'a> {
    debug: Context<Slice<'a>>,
    symbols: object::SymbolMap<object::SymbolMapName<'a>>,
    /// The address that the first byte of the image was linked at.
    base: u64,
}

impl<'a> Image<'a> {
    fn new(bytes: &'a [u8]) -> Result<Self, String> {
        let file = object::File::parse(bytes).map_err(|error| error.to_string())?;
        let section = |id: gimli::SectionId| -> Result<Slice<'a>, gimli::Error> {
            let data = file
                .section_by_name(id.name())
                .and_then(|section| section.data().ok());
            Ok(Slice::new(data.unwrap_or_default(), gimli::LittleEndian))
        };
        let dwarf = gimli::Dwarf::load(section).map_err(|error| error.to_string())?;
        let debug = Context::from_dwarf(dwarf).map_err(|error| error.to_string())?;
        let base = file.segments().map(|segment| segment.address()).min();
        let base = base.ok_or("it has nothing to load")?;
        Ok(Self {
            debug,
            symbols: file.symbol_map(),
            base,
        })
    }

    /// A line of the console and what is at its place.
    fn line(&self, text: &str) -> Line {
        let frames = place(text).map(|place| self.frames(self.base.wrapping_add(place)));
        Line {
            text: text.to_string(),
            frames: frames.unwrap_or_default(),
        }
    }

    /// The functions at `address`, inlined ones first.
    fn frames(&self, address: u64) -> Vec<Frame> {
        let mut frames = self.debug_frames(address).unwrap_or_default();
        if frames.is_empty() {
            // Arm's mapping symbols, `$x` and `$d`, name no function.
            let symbol = self
                .symbols
                .before(address)
                .filter(|symbol| !symbol.name().starts_with('$'));
            frames.extend(symbol.map(|symbol| Frame {
                function: addr2line::demangle_auto(symbol.name().into(), None).into_owned(),
                file: None,
                line: None,
            }));
        }
        frames
    }

    /// The functions at `address` that the debug information knows.
    fn debug_frames(&self, address: u64) -> Result<Vec<Frame>, gimli::Error> {
        let mut found = self.debug.find_frames(address).skip_all_loads()?;
        let mut frames = Vec::new();
        while let Some(frame) = found.next()? {
            let name = frame
                .function
                .as_ref()
                .and_then(|function| function.demangle().ok());
            let location = frame.location.as_ref();
            frames.push(Frame {
                function: name.map_or_else(|| "?".to_string(), |name| name.into_owned()),
                file: location.and_then(|at| at.file).map(ToString::to_string),
                line: location.and_then(|at| at.line),
            });
        }
        // An entry without a name says less than the symbol does.
        frames.retain(|frame| frame.function != "?" || frame.file.is_some());
        Ok(frames)
    }
}

/// The place that a line names. It is looked up as it is: for callers the image prints where the call stands, not where
/// it returns to.
fn place(line: &str) -> Option<u64> {
    let (_, rest) = line.split_once(MARK)?;
    let digits = rest
        .find(|character: char| !character.is_ascii_hexdigit())
        .unwrap_or(rest.len());
    u64::from_str_radix(&rest[..digits], 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_found_in_lines() {
        assert_eq!(place("  #0 image+0x1a2b4"), Some(0x1a2b4));
        assert_eq!(
            place("[core 1]  #3 image+0x1a2b4 (stack 0x80)"),
            Some(0x1a2b4)
        );
        assert_eq!(place("pc image+0x10, lr 0x20"), Some(0x10));
        assert_eq!(place("#1 image+0x"), None);
        assert_eq!(place("#1 image+0x11112222333344445"), None);
        assert_eq!(place("an image"), None);
    }

    /// This test's own executable has names and debug information, whatever machine it runs on.
    #[test]
    fn a_function_is_found_by_its_place() {
        let path = std::env::current_exe().unwrap();
        let bytes = std::fs::read(path).unwrap();
        let image = Image::new(&bytes).unwrap();
        let symbols = image.symbols.symbols();
        let own = symbols
            .iter()
            .find(|symbol| symbol.name().contains("marked_for_symbolize"));
        let address = own.expect("the function below").address();
        let line = image.line(&format!("  #0 image+0x{:x} and more", address - image.base));
        let frame = line.frames.last().expect("a frame");
        assert!(
            frame.function.ends_with("marked_for_symbolize"),
            "{frame:?}"
        );
        assert!(
            frame.file.as_ref().unwrap().ends_with("symbolize.rs"),
            "{frame:?}"
        );
        let text = Symbolized { lines: vec![line] }.to_string();
        assert!(text.contains("and more\n        "), "{text}");
        assert_eq!(marked_for_symbolize(std::hint::black_box(1)), 2);
    }

    /// What the test above looks for.
    #[inline(never)]
    fn marked_for_symbolize(number: u32) -> u32 {
        std::hint::black_box(number) + 1
    }

    #[test]
    fn what_is_no_image_is_refused() {
        assert!(Image::new(b"nothing").is_err());
    }
}
