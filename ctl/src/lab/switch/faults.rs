//! What can be wrong with one direction of a link, as values that people write and scripts read.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Parts of a whole in which a probability counts.
const WHOLE: u32 = 1_000_000;
/// The longest delay or jitter that a link can have.
pub const MAX_DELAY: Duration = Duration::from_secs(60);
/// How long a reordered frame is held back unless told.
pub const HOLD: Duration = Duration::from_millis(1);

/// How likely something is, in parts per million, up to a million.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Probability(u32);

impl Probability {
    /// Whether a die that shows `face` of `2^64` says yes.
    pub fn says_yes(self, face: u64) -> bool {
        let scaled = (u128::from(face) * u128::from(WHOLE)) >> 64;
        scaled < u128::from(self.0)
    }

    /// Whether it never happens.
    pub fn is_never(self) -> bool {
        self.0 == 0
    }
}

impl TryFrom<u32> for Probability {
    type Error = String;

    fn try_from(parts: u32) -> Result<Self, String> {
        if parts > WHOLE {
            return Err(format!("{parts} parts per million are more than all"));
        }
        Ok(Self(parts))
    }
}

impl From<Probability> for u32 {
    fn from(probability: Probability) -> Self {
        probability.0
    }
}

impl FromStr for Probability {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let help = || format!("`{text}` is not a probability: write 20%, 0.5% or off");
        if text == "off" {
            return Ok(Self(0));
        }
        let number = text.strip_suffix('%').ok_or_else(help)?;
        let percent: f64 = number.trim().parse().map_err(|_| help())?;
        if !(0.0..=100.0).contains(&percent) {
            return Err(help());
        }
        // In range as checked above; a fraction of a millionth is rounded.
        Ok(Self((percent / 100.0 * f64::from(WHOLE)).round() as u32))
    }
}

impl fmt::Display for Probability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", f64::from(self.0) * 100.0 / f64::from(WHOLE))
    }
}

/// A span of time up to [`MAX_DELAY`], in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct Span(u64);

impl Span {
    /// In nanoseconds.
    pub fn nanos(self) -> u64 {
        self.0
    }
}

impl TryFrom<Duration> for Span {
    type Error = String;

    fn try_from(duration: Duration) -> Result<Self, String> {
        if duration > MAX_DELAY {
            return Err(format!(
                "{duration:?} is too long: at most {}s",
                MAX_DELAY.as_secs()
            ));
        }
        // 60 s of nanoseconds fit by far.
        Ok(Self(duration.as_nanos() as u64))
    }
}

impl TryFrom<u64> for Span {
    type Error = String;

    fn try_from(nanos: u64) -> Result<Self, String> {
        Self::try_from(Duration::from_nanos(nanos))
    }
}

impl From<Span> for u64 {
    fn from(span: Span) -> Self {
        span.0
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self(0));
        }
        Self::try_from(duration(text)?)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", Duration::from_nanos(self.0))
    }
}

/// A time as people write it: `250us`, `5ms`, `1.5s`, `2m`.
///
/// # Errors
/// What is wrong with it and how to write it.
pub fn duration(text: &str) -> Result<Duration, String> {
    let help = || format!("`{text}` is not a time: write 250us, 5ms, 1.5s or 2m");
    let unit_at = text
        .find(|letter: char| letter.is_ascii_alphabetic())
        .ok_or_else(help)?;
    let (number, unit) = text.split_at(unit_at);
    let seconds = match unit {
        "ns" => 1e-9,
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        _ => return Err(help()),
    };
    let number: f64 = number.trim().parse().map_err(|_| help())?;
    Duration::try_from_secs_f64(number * seconds).map_err(|_| help())
}

/// Bits a second; 0 is as fast as it goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Rate(u64);

impl Rate {
    /// Whether there is no limit.
    pub fn is_unlimited(self) -> bool {
        self.0 == 0
    }

    /// How long so many bytes take, nanoseconds.
    pub fn time_of(self, bytes: usize) -> u64 {
        match self.0 {
            0 => 0,
            rate => {
                let nanos = bytes as u128 * 8 * 1_000_000_000 / u128::from(rate);
                u64::try_from(nanos).unwrap_or(u64::MAX)
            }
        }
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let help = || format!("`{text}` is not a rate: write 56kbit, 100mbit, 1gbit or off");
        if text == "off" {
            return Ok(Self(0));
        }
        let unit_at = text
            .find(|letter: char| letter.is_ascii_alphabetic())
            .ok_or_else(help)?;
        let (number, unit) = text.split_at(unit_at);
        let factor = match unit {
            "bit" => 1,
            "kbit" => 1_000,
            "mbit" => 1_000_000,
            "gbit" => 1_000_000_000,
            _ => return Err(help()),
        };
        let number: u64 = number.trim().parse().map_err(|_| help())?;
        number
            .checked_mul(factor)
            .filter(|rate| *rate > 0)
            .map(Self)
            .ok_or_else(help)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("off"),
            rate if rate % 1_000_000_000 == 0 => write!(f, "{}gbit", rate / 1_000_000_000),
            rate if rate % 1_000_000 == 0 => write!(f, "{}mbit", rate / 1_000_000),
            rate if rate % 1_000 == 0 => write!(f, "{}kbit", rate / 1_000),
            rate => write!(f, "{rate}bit"),
        }
    }
}

/// What is wrong with one direction of a link; by default nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Faults {
    /// Nothing passes, and what was under way is lost.
    pub cut: bool,
    /// How many frames are lost.
    pub loss: Probability,
    /// How many have one bit flipped.
    pub corrupt: Probability,
    /// How many come twice.
    pub duplicate: Probability,
    /// How many are held back, so that those behind pass them.
    pub reorder: Probability,
    /// How long a reordered frame is held back; 0 is [`HOLD`].
    pub hold: Span,
    /// How long every frame takes.
    pub delay: Span,
    /// Up to how much longer a frame takes, uniformly. Order is kept.
    pub jitter: Span,
    /// How fast the line is.
    pub rate: Rate,
}

impl Faults {
    /// Whether nothing is wrong.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = Vec::new();
        if self.cut {
            words.push("cut".to_string());
        }
        for (name, probability) in [
            ("loss", self.loss),
            ("corrupt", self.corrupt),
            ("duplicate", self.duplicate),
            ("reorder", self.reorder),
        ] {
            if !probability.is_never() {
                words.push(format!("{name} {probability}"));
            }
        }
        for (name, span) in [
            ("hold", self.hold),
            ("delay", self.delay),
            ("jitter", self.jitter),
        ] {
            if span.nanos() != 0 {
                words.push(format!("{name} {span}"));
            }
        }
        if !self.rate.is_unlimited() {
            words.push(format!("rate {}", self.rate));
        }
        match words.is_empty() {
            true => f.write_str("sound"),
            false => f.write_str(&words.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_write_them() {
        let percent = |text: &str| text.parse::<Probability>().map(u32::from);
        assert_eq!(percent("20%"), Ok(200_000));
        assert_eq!(percent("0.01%"), Ok(100));
        assert_eq!(percent("off"), Ok(0));
        for wrong in ["20", "101%", "-1%", "NaN%", "%", ""] {
            assert!(percent(wrong).is_err(), "{wrong}");
        }
        assert_eq!("1.5ms".parse::<Span>().unwrap().nanos(), 1_500_000);
        for wrong in ["5", "ms", "-5ms", "61s", "5 parsecs", "infs", ""] {
            assert!(wrong.parse::<Span>().is_err(), "{wrong}");
        }
        assert_eq!("100mbit".parse::<Rate>().unwrap().time_of(125), 10_000);
        for wrong in ["0mbit", "fast", "1", "99999999999gbit"] {
            assert!(wrong.parse::<Rate>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn they_read_as_they_were_written() {
        let faults = Faults {
            cut: true,
            loss: "12.5%".parse().unwrap(),
            delay: "5ms".parse().unwrap(),
            rate: "100mbit".parse().unwrap(),
            ..Faults::default()
        };
        assert_eq!(
            faults.to_string(),
            "cut, loss 12.5%, delay 5ms, rate 100mbit"
        );
        assert_eq!(Faults::default().to_string(), "sound");
    }

    #[test]
    fn never_and_always_are_exact() {
        let at = |parts| Probability::try_from(parts).unwrap();
        for face in [0, 1, u64::MAX / 2, u64::MAX] {
            assert!(!at(0).says_yes(face));
            assert!(at(WHOLE).says_yes(face));
        }
        assert!(Probability::try_from(WHOLE + 1).is_err());
        assert!(serde_json::from_str::<Faults>(r#"{"loss":1000001}"#).is_err());
        assert!(serde_json::from_str::<Faults>(r#"{"delay":60000000001}"#).is_err());
    }
}
