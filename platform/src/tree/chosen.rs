//! The loader's words: command line, initrd, and which device it wants as the console.
//!
//! Source: Devicetree Specification 0.4, sections 3.3 (`/aliases`) and 3.6 (`/chosen`); Linux' binding
//! chosen.yaml for `linux,initrd-start` and `-end`, and `rng-seed`.

use super::blob::Blob;
use super::error::cut;
use super::node::{Node, Nodes};
use super::{Fault, Region, RngSeed, Tree};

/// Reads `/chosen`. An initrd whose end lies before its start is left out.
pub(super) fn take(tree: &mut Tree, node: &Node<'_>) -> Result<(), Fault> {
    let (bootargs, whole) = cut(node.text("bootargs").unwrap_or_default());
    tree.bootargs = bootargs;
    tree.rng_seed = node.property("rng-seed").and_then(RngSeed::new);
    let limits = node
        .number("linux,initrd-start")
        .zip(node.number("linux,initrd-end"));
    if let Some((start, end)) = limits {
        let size = end.checked_sub(start).ok_or(Fault::Wraps)?;
        tree.initrd = Region::new(start, size).filter(|region| region.size() > 0);
    }
    if whole { Ok(()) } else { Err(Fault::Cut) }
}

/// The node that `chosen`'s `stdout-path` names, and the speed behind its colon.
pub(super) fn stdout<'a>(blob: Blob<'a>, chosen: &Node<'a>) -> Option<(Node<'a>, Option<u32>)> {
    let text = chosen
        .text("stdout-path")
        .or_else(|| chosen.text("linux,stdout-path"))?;
    let (path, options) = text.split_once(':').unwrap_or((text, ""));
    let path = match path.strip_prefix('/') {
        Some(_) => path,
        None => {
            let aliases =
                Nodes::new(blob).find(|node| node.level() == 1 && node.name() == "aliases")?;
            aliases.text(path)?
        }
    };
    Some((follow(blob, path)?, baud(options)))
}

/// The speed of options such as `115200n8`.
fn baud(options: &str) -> Option<u32> {
    let digits = options.bytes().take_while(u8::is_ascii_digit).count();
    options.get(..digits)?.parse().ok()
}

/// The node at `path`, whose steps may leave out the unit address (section 2.2.3).
fn follow<'a>(blob: Blob<'a>, path: &str) -> Option<Node<'a>> {
    let mut here = Nodes::new(blob).next()?;
    for step in path.split('/').filter(|step| !step.is_empty()) {
        here = Nodes::new(blob).find(|node| {
            node.level() == here.level() + 1
                && node.is_below(&here)
                && (node.name() == step || (!step.contains('@') && node.base_name() == step))
        })?;
    }
    Some(here)
}
