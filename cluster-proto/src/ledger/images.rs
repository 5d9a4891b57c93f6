//! The table of images: as large as some tables of guests, since a capacity cannot be computed from another.

use heapless::Vec;

use super::types::Image;
use crate::limits::IMAGES_PER_GUEST;

/// Images, in some order that is the same on every board; all but the last part that is used are full.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Images<const G: usize> {
    parts: [Vec<Image, G>; IMAGES_PER_GUEST],
}

impl<const G: usize> Images<G> {
    /// None.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            parts: [const { Vec::new() }; IMAGES_PER_GUEST],
        }
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Image> {
        self.parts.iter().flatten()
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.parts.iter().map(|part| part.len()).sum()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parts[0].is_empty()
    }

    /// The image in place `at`.
    #[must_use]
    pub fn get(&self, at: usize) -> Option<&Image> {
        self.parts.get(at.checked_div(G)?)?.get(at % G)
    }

    /// The same, to change it.
    pub fn get_mut(&mut self, at: usize) -> Option<&mut Image> {
        self.parts.get_mut(at.checked_div(G)?)?.get_mut(at % G)
    }

    /// Adds one behind the last.
    ///
    /// # Errors
    /// The image, when there is no room.
    pub fn push(&mut self, image: Image) -> Result<(), Image> {
        match self.parts.iter_mut().find(|part| !part.is_full()) {
            Some(part) => part.push(image),
            None => Err(image),
        }
    }

    /// Removes the one in place `at`; the last takes its place.
    pub fn swap_remove(&mut self, at: usize) {
        let used = self.parts.iter_mut().rfind(|part| !part.is_empty());
        if let Some(last) = used.and_then(|part| part.pop())
            && let Some(slot) = self.get_mut(at)
        {
            *slot = last;
        }
    }

    /// Removes all.
    pub fn clear(&mut self) {
        self.parts.iter_mut().for_each(Vec::clear);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::BoardSet;

    fn image(number: u8) -> Image {
        Image {
            digest: [number; 32],
            size: 1,
            held: BoardSet(1),
        }
    }

    fn numbers(images: &Images<2>) -> std::vec::Vec<u8> {
        images.iter().map(|image| image.digest[0]).collect()
    }

    #[test]
    fn parts_are_one_table() {
        let mut images = Images::<2>::new();
        let room = (2 * IMAGES_PER_GUEST) as u8;
        for number in 0..room {
            assert!(images.push(image(number)).is_ok());
        }
        assert!(images.push(image(99)).is_err(), "it is full");
        assert_eq!(images.get(3), Some(&image(3)));
        assert_eq!(images.get(usize::from(room)), None);
        images.swap_remove(1);
        assert_eq!(numbers(&images)[..3], [0, room - 1, 2]);
        assert_eq!(images.len(), usize::from(room) - 1);
        images.swap_remove(usize::from(room) - 2);
        assert_eq!(
            images.get(usize::from(room) - 2),
            None,
            "the last can be removed"
        );
        assert!(images.push(image(7)).is_ok());
        assert_eq!(numbers(&images).last(), Some(&7), "a new one is the last");
        images.clear();
        assert!(images.is_empty());
    }
}
