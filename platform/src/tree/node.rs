//! Nodes with their ancestors: properties, cells, addresses through `ranges`, interrupts.
//!
//! Source: Devicetree Specification 0.4, sections 2.3 (standard properties) and 2.4 (interrupts).

use super::blob::{Blob, MAX_DEPTH, Token, double_word, until_nul, word};
use super::{Fault, IntId, Interrupt, Region, Trigger};

/// Cells of an address where no parent says otherwise (section 2.3.5).
const DEFAULT_ADDRESS_CELLS: u32 = 2;
/// Cells of a size where no parent says otherwise (section 2.3.5).
const DEFAULT_SIZE_CELLS: u32 = 1;
/// Cells of an interrupt of an Arm GIC: kind, number, flags.
const GIC_CELLS: usize = 3;

/// A place in a checked tree. Copying one is cheap: it holds offsets only.
#[derive(Clone, Copy)]
pub(super) struct Node<'a> {
    blob: Blob<'a>,
    name: &'a str,
    /// Where the properties of each node from the root to this one start.
    path: [u32; MAX_DEPTH],
    depth: usize,
}

/// All nodes of a tree, parents before children, in the order of the tree.
pub(super) struct Nodes<'a> {
    blob: Blob<'a>,
    offset: usize,
    path: [u32; MAX_DEPTH],
    depth: usize,
}

impl<'a> Nodes<'a> {
    /// A walk over `blob` from its root.
    pub(super) fn new(blob: Blob<'a>) -> Self {
        Self {
            blob,
            offset: 0,
            path: [0; MAX_DEPTH],
            depth: 0,
        }
    }
}

impl<'a> Iterator for Nodes<'a> {
    type Item = Node<'a>;

    fn next(&mut self) -> Option<Node<'a>> {
        loop {
            let (token, next) = self.blob.token(self.offset).ok()?;
            self.offset = next;
            match token {
                Token::Begin { name } => {
                    *self.path.get_mut(self.depth)? = u32::try_from(next).ok()?;
                    self.depth += 1;
                    return Some(Node {
                        blob: self.blob,
                        name,
                        path: self.path,
                        depth: self.depth,
                    });
                }
                Token::End => self.depth = self.depth.checked_sub(1)?,
                Token::Property { .. } => {}
                Token::Last => return None,
            }
        }
    }
}

impl<'a> Node<'a> {
    /// The node's name with its unit address, `serial@fe201000`.
    pub(super) fn name(&self) -> &'a str {
        self.name
    }

    /// The name without its unit address.
    pub(super) fn base_name(&self) -> &'a str {
        self.name.split('@').next().unwrap_or(self.name)
    }

    /// How many nodes stand above: the root has none.
    pub(super) fn level(&self) -> usize {
        self.depth - 1
    }

    /// Whether `self` is a child of `other` or of a node below it.
    pub(super) fn is_below(&self, other: &Node<'_>) -> bool {
        self.depth > other.depth && self.path[other.depth - 1] == other.path[other.depth - 1]
    }

    /// Whether both are the same place in the same tree.
    pub(super) fn is_same(&self, other: &Node<'_>) -> bool {
        self.depth == other.depth && self.path[self.depth - 1] == other.path[other.depth - 1]
    }

    /// The node above, nameless; `None` for the root.
    fn parent(&self) -> Option<Self> {
        (self.depth > 1).then(|| Self {
            name: "",
            depth: self.depth - 1,
            ..*self
        })
    }

    /// This node's own properties.
    pub(super) fn properties(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let blob = self.blob;
        let mut offset = self.path[self.depth - 1] as usize;
        core::iter::from_fn(move || match blob.token(offset) {
            Ok((Token::Property { name, value }, next)) => {
                offset = next;
                Some((name, value))
            }
            _ => None,
        })
    }

    /// The value of the property `name`.
    pub(super) fn property(&self, name: &str) -> Option<&'a [u8]> {
        self.properties()
            .find(|(found, _)| *found == name.as_bytes())
            .map(|(_, value)| value)
    }

    /// A property of one cell.
    pub(super) fn cell(&self, name: &str) -> Option<u32> {
        word(self.property(name)?, 0)
    }

    /// A property of one or two cells; some loaders write 32 bits where others write 64.
    pub(super) fn number(&self, name: &str) -> Option<u64> {
        let value = self.property(name)?;
        match value.len() {
            4 => word(value, 0).map(u64::from),
            8 => double_word(value, 0),
            _ => None,
        }
    }

    /// A property that is one string.
    pub(super) fn text(&self, name: &str) -> Option<&'a str> {
        strings(self.property(name)?).next()
    }

    /// Whether one of the strings of `compatible` is among `wanted`.
    pub(super) fn is_compatible(&self, wanted: &[&str]) -> bool {
        self.property("compatible")
            .is_some_and(|value| strings(value).any(|found| wanted.contains(&found)))
    }

    /// Whether the device may be used: no `status`, or one of the two spellings of "okay" (section 2.3.4).
    /// A node below a disabled one is not usable either.
    pub(super) fn is_usable(&self) -> bool {
        let mut node = Some(*self);
        while let Some(here) = node {
            if !matches!(here.text("status"), None | Some("okay" | "ok")) {
                return false;
            }
            node = here.parent();
        }
        true
    }

    /// Whether the device's memory accesses are coherent with the cores' caches: it or a bus above it says so
    /// (Devicetree Specification 0.4, section 2.3.10, and Linux' `of_dma_is_coherent`).
    pub(super) fn is_coherent(&self) -> bool {
        let mut node = Some(*self);
        while let Some(here) = node {
            if here.property("dma-noncoherent").is_some() {
                return false;
            }
            if here.property("dma-coherent").is_some() {
                return true;
            }
            node = here.parent();
        }
        false
    }

    /// How many cells addresses and sizes of this node's children have.
    fn child_cells(&self) -> (usize, usize) {
        let cells = |name, default| self.cell(name).unwrap_or(default) as usize;
        (
            cells("#address-cells", DEFAULT_ADDRESS_CELLS),
            cells("#size-cells", DEFAULT_SIZE_CELLS),
        )
    }

    /// The first cells of `reg` as a number of the parent's address size: a core's affinity.
    pub(super) fn unit(&self) -> Result<u64, Fault> {
        let (address_cells, _) = self.parent().ok_or(Fault::NoParent)?.child_cells();
        let reg = self.property("reg").ok_or(Fault::NoReg)?;
        Cells(reg).take(address_cells)
    }

    /// The regions of `reg` as the processor addresses them. An item is an error where an entry cannot
    /// be translated; a property of uneven length ends with an error.
    pub(super) fn regions(&self) -> impl Iterator<Item = Result<Region, Fault>> {
        let parent = self.parent();
        let mut cells = Cells(self.property("reg").unwrap_or_default());
        core::iter::from_fn(move || {
            let parent = parent?;
            if cells.0.is_empty() {
                return None;
            }
            let (address_cells, size_cells) = parent.child_cells();
            let entry = cells
                .take(address_cells)
                .and_then(|base| Ok((base, cells.take(size_cells)?)));
            if entry.is_err() || (address_cells == 0 && size_cells == 0) {
                cells = Cells(&[]);
            }
            Some(entry.and_then(|(base, size)| translate(parent, base, size)))
        })
    }

    /// The first region of `reg`.
    pub(super) fn region(&self) -> Result<Region, Fault> {
        self.regions().next().unwrap_or(Err(Fault::NoReg))
    }

    /// The handle of the controller that this node's interrupts go to (section 2.4.1): its own
    /// `interrupt-parent`, or that of the nearest node above which has one.
    fn interrupt_parent(&self) -> Option<u32> {
        let mut node = Some(*self);
        while let Some(here) = node {
            if let Some(handle) = here.cell("interrupt-parent") {
                return Some(handle);
            }
            node = here.parent();
        }
        None
    }

    /// The node's interrupt number `index` at the board's GIC, whose handle is `gic`. `None` where there
    /// is no such interrupt or it goes to another controller.
    pub(super) fn interrupt(&self, gic: Option<u32>, index: usize) -> Option<Interrupt> {
        let (list, stride, skip) = match self.property("interrupts-extended") {
            // The list may mix controllers of different cell counts; read it only while all are the GIC.
            Some(list) => (list, GIC_CELLS + 1, 1),
            None if gic.is_some() && self.interrupt_parent() != gic => return None,
            None => (self.property("interrupts")?, GIC_CELLS, 0),
        };
        let start = index.checked_mul(stride * 4)?;
        if skip == 1 && !(0..=index).all(|earlier| word(list, earlier * stride * 4) == gic) {
            return None;
        }
        let at = |cell: usize| word(list, start + (skip + cell) * 4);
        decode_interrupt(at(0)?, at(1)?, at(2)?)
    }
}

/// A GIC interrupt of three cells (Linux' binding arm,gic-v3.yaml and arm,gic.yaml): kind 0 is shared, kind 1 private
/// to a core; flags 1 and 2 are edges, 4 and 8 levels.
fn decode_interrupt(kind: u32, number: u32, flags: u32) -> Option<Interrupt> {
    const FIRST_PRIVATE: u32 = 16;
    const FIRST_SHARED: u32 = 32;
    const EDGES: u32 = 3;
    let intid = match kind {
        0 => number.checked_add(FIRST_SHARED)?,
        1 if number < FIRST_PRIVATE => number + FIRST_PRIVATE,
        _ => return None,
    };
    let trigger = if flags & EDGES != 0 {
        Trigger::Edge
    } else {
        Trigger::Level
    };
    Some(Interrupt {
        id: IntId::new(intid)?,
        trigger,
    })
}

/// The strings of a string list; ends at the first that is not UTF-8 or not closed.
pub(super) fn strings(mut value: &[u8]) -> impl Iterator<Item = &str> {
    core::iter::from_fn(move || {
        let text = until_nul(value)?;
        value = value.get(text.len() + 1..)?;
        core::str::from_utf8(text).ok()
    })
}

/// A list of cells that is read from its front.
struct Cells<'a>(&'a [u8]);

impl Cells<'_> {
    /// A number of `count` cells, up to two.
    fn take(&mut self, count: usize) -> Result<u64, Fault> {
        let value = match count {
            0 => Some(0),
            1 => word(self.0, 0).map(u64::from),
            2 => double_word(self.0, 0),
            _ => return Err(Fault::Cells { count }),
        };
        self.0 = self.0.get(count * 4..).unwrap_or_default();
        value.ok_or(Fault::ShortReg)
    }
}

/// Carries a region of `bus`'s children up to the root, through each bus' `ranges` (section 2.3.8).
fn translate(mut bus: Node<'_>, mut base: u64, size: u64) -> Result<Region, Fault> {
    while let Some(above) = bus.parent() {
        let ranges = bus.property("ranges").ok_or(Fault::NoRanges)?;
        if !ranges.is_empty() {
            base = map_through(ranges, bus.child_cells(), above.child_cells().0, base, size)?;
        }
        bus = above;
    }
    Region::new(base, size).ok_or(Fault::Wraps)
}

/// Finds the window of `ranges` that holds the whole region and moves it there.
fn map_through(
    ranges: &[u8],
    (address_cells, size_cells): (usize, usize),
    above_cells: usize,
    base: u64,
    size: u64,
) -> Result<u64, Fault> {
    if address_cells + above_cells + size_cells == 0 {
        return Err(Fault::NoRanges); // Entries of no length at all: the loop below would not end.
    }
    let mut cells = Cells(ranges);
    while !cells.0.is_empty() {
        let child = cells.take(address_cells)?;
        let above = cells.take(above_cells)?;
        let length = cells.take(size_cells)?;
        let Some(inside) = base.checked_sub(child) else {
            continue;
        };
        if inside.checked_add(size).is_some_and(|end| end <= length) {
            return above.checked_add(inside).ok_or(Fault::Wraps);
        }
    }
    Err(Fault::OutsideRanges)
}
