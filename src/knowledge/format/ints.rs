//! Small numbers in few bits: the code that fits a list best, named in front of it.

use crate::knowledge::format::bits::{BitReader, BitWriter, PEEKED, Sound};

/// How the numbers of one list are written.
///
/// Rice(b) is a quotient by 2^b in unary and b bits of remainder, right for numbers of which each next
/// is less likely by the same factor: the gaps of classes drawn evenly, the logarithms of what a power
/// law gives. Adaptive is Rice whose b follows the numbers before, for gaps that grow along a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Code {
    Rice(u32),
    Fixed(u32),
    Adaptive(u32),
}

/// A kind in two bits, a parameter in five.
const NAME: u32 = 7;
/// A power larger than this saves nothing: numbers have 32 bits.
const LARGEST: u32 = 31;

/// The running mean behind an adaptive code, in eighths.
struct Mean(u64);

impl Mean {
    fn new(power: u32) -> Self {
        Self(8 << power)
    }

    /// The power of two below 11/16 of the mean, near ln 2 of it, which is the best for Rice.
    fn power(&self) -> u32 {
        (self.0 * 11 / 128).max(1).ilog2().min(LARGEST)
    }

    fn update(&mut self, value: u32) {
        self.0 = self.0 - self.0 / 8 + u64::from(value);
    }
}

fn rice_bits(value: u32, power: u32) -> u64 {
    u64::from(value >> power) + 1 + u64::from(power)
}

impl Code {
    fn bits(self, values: &[u32]) -> u64 {
        match self {
            Code::Rice(power) => values.iter().map(|v| rice_bits(*v, power)).sum(),
            Code::Fixed(width) => u64::from(width) * values.len() as u64,
            Code::Adaptive(power) => {
                let mut mean = Mean::new(power);
                let cost = |value: &u32| {
                    let bits = rice_bits(*value, mean.power());
                    mean.update(*value);
                    bits
                };
                values.iter().map(cost).sum()
            }
        }
    }

    /// The code with the fewest bits.
    fn best(values: &[u32], least_width: u32) -> Self {
        let largest = values.iter().max().copied().unwrap_or(0);
        let width = (32 - largest.leading_zeros()).max(least_width);
        let fixed = (width <= 31).then_some(Code::Fixed(width));
        let powers = 0..=width.min(LARGEST);
        fixed
            .into_iter()
            .chain(powers.clone().map(Code::Rice))
            .chain(powers.map(Code::Adaptive))
            .min_by_key(|code| code.bits(values))
            .unwrap_or(Code::Rice(LARGEST))
    }

    fn name(self) -> u32 {
        match self {
            Code::Rice(power) => power,
            Code::Fixed(width) => 32 + width,
            Code::Adaptive(power) => 64 + power,
        }
    }

    fn named(name: u32) -> Sound<Self> {
        let parameter = name % 32;
        match name / 32 {
            0 => Ok(Code::Rice(parameter)),
            1 => Ok(Code::Fixed(parameter)),
            2 => Ok(Code::Adaptive(parameter)),
            _ => Err("a row is written in a code that does not exist".into()),
        }
    }
}

fn write_rice(bits: &mut BitWriter, value: u32, power: u32) {
    bits.write_unary(value >> power);
    bits.write(value & ((1 << power) - 1), power);
}

#[inline]
fn read_rice(bits: &mut BitReader, power: u32) -> Sound<u32> {
    let word = bits.peek();
    let zeros = word.trailing_zeros();
    // Nearly always both parts are in sight.
    if zeros + 1 + power <= PEEKED && zeros <= LARGEST - power {
        bits.skip(zeros + 1 + power)?;
        let rest = (word >> (zeros + 1)) & ((1 << power) - 1);
        return Ok(zeros << power | rest as u32);
    }
    let high = bits.read_unary()?;
    if u64::from(high) << power > u64::from(u32::MAX) {
        return Err("a number is too large".into());
    }
    Ok(high << power | bits.read(power)?)
}

/// Writes numbers. Each takes `least_width` bits at least, 0 or 1: with 1, how many there are is bounded
/// by the bytes that hold them.
pub(crate) fn write(bits: &mut BitWriter, values: &[u32], least_width: u32) {
    let code = Code::best(values, least_width);
    bits.write(code.name(), NAME);
    match code {
        Code::Rice(power) => values.iter().for_each(|v| write_rice(bits, *v, power)),
        Code::Fixed(width) => values.iter().for_each(|v| bits.write(*v, width)),
        Code::Adaptive(power) => {
            let mut mean = Mean::new(power);
            for value in values {
                write_rice(bits, *value, mean.power());
                mean.update(*value);
            }
        }
    }
}

/// Reads as many numbers as `values` has places.
pub(crate) fn read(bits: &mut BitReader, values: &mut [u32], least_width: u32) -> Sound<()> {
    match Code::named(bits.read(NAME)?)? {
        Code::Rice(power) => {
            for value in values {
                *value = read_rice(bits, power)?;
            }
        }
        Code::Fixed(width) if width < least_width => {
            return Err("a row has numbers without bits".into());
        }
        Code::Fixed(width) => {
            for value in values {
                *value = bits.read(width)?;
            }
        }
        Code::Adaptive(power) => {
            let mut mean = Mean::new(power);
            for value in values {
                *value = read_rice(bits, mean.power())?;
                mean.update(*value);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "../tests/ints.rs"]
mod tests;
