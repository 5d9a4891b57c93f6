//! The dice of a link's direction.
//!
//! A frame's decisions depend on the seed, the link, the direction, and how many frames have come that way since its faults were
//! set, and on nothing else. So what happens on one link does not change what happens on another, and a run whose traffic is the
//! same is the same. The generator is part of that promise, which is why it is here and not a dependency whose next version may
//! differ: SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, OOPSLA 2014, figure 17).

/// What is added for each number: 2^64 divided by the golden ratio, made odd.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// Where a direction's dice begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seed(pub u64);

impl Seed {
    /// The seed of one thing among several with the same origin, told apart by `name`.
    pub fn of(self, name: &str) -> Self {
        let mixed = name.bytes().fold(mix(self.0), |hash, byte| {
            mix(hash.wrapping_add(STEP) ^ u64::from(byte))
        });
        Self(mixed)
    }

    /// The dice for the thing with this number.
    pub fn dice(self, number: u64) -> Dice {
        Dice(mix(self.0 ^ mix(number.wrapping_add(STEP))))
    }
}

/// Random numbers.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        mix(self.0)
    }

    /// A number below `bound`; 0 if that is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        // The high half of the product is uniform but for bound / 2^64.
        let product = u128::from(self.next()) * u128::from(bound);
        (product >> 64) as u64
    }
}

fn mix(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_stays_what_it_is() {
        // The reference's first outputs for the state 0.
        let mut dice = Dice(0);
        assert_eq!(
            [dice.next(), dice.next()],
            [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4]
        );
    }

    #[test]
    fn numbers_spread_over_their_range() {
        let mut counts = [0_u32; 10];
        for number in 0..10_000 {
            let face = Seed(1).of("alpha").dice(number).below(10);
            counts[usize::try_from(face).unwrap()] += 1;
        }
        // Ten standard deviations of a binomial distribution of 10,000 and 1/10.
        assert!(
            counts.iter().all(|count| (700..1300).contains(count)),
            "{counts:?}"
        );
    }

    #[test]
    fn names_and_numbers_tell_dice_apart() {
        let first = |name: &str, number| Seed(1).of(name).dice(number).next();
        assert_ne!(first("alpha", 0), first("beta", 0));
        assert_ne!(first("alpha", 0), first("alpha", 1));
        assert_eq!(first("alpha", 7), first("alpha", 7));
    }
}
