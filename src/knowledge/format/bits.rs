//! Single bits in bytes, the first in the lowest place.

use std::borrow::Cow;

/// What a decoder makes of bytes: a value, or what is wrong with them. The caller knows the file.
pub(crate) type Sound<T> = Result<T, Cow<'static, str>>;

/// Appends bits to bytes.
pub(crate) struct BitWriter<'a> {
    out: &'a mut Vec<u8>,
    held: u64,
    count: u32,
}

impl<'a> BitWriter<'a> {
    pub(crate) fn new(out: &'a mut Vec<u8>) -> Self {
        Self {
            out,
            held: 0,
            count: 0,
        }
    }

    /// The lowest `width` bits of `value`, at most 32.
    pub(crate) fn write(&mut self, value: u32, width: u32) {
        debug_assert!(width <= 32 && u64::from(value) >> width == 0);
        self.held |= u64::from(value) << self.count;
        self.count += width;
        while self.count >= 8 {
            self.out.push(self.held as u8);
            self.held >>= 8;
            self.count -= 8;
        }
    }

    /// `value` zeros and a one.
    pub(crate) fn write_unary(&mut self, mut value: u32) {
        while value >= 32 {
            self.write(0, 32);
            value -= 32;
        }
        self.write(0, value);
        self.write(1, 1);
    }

    /// Fills the last byte with zeros.
    pub(crate) fn finish(self) {
        if self.count > 0 {
            self.out.push(self.held as u8);
        }
    }
}

/// Reads bits from bytes, and never past their end.
pub(crate) struct BitReader<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// How many bits [`BitReader::peek`] shows at least, while there are so many.
pub(crate) const PEEKED: u32 = 57;

impl<'a> BitReader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The next 57 bits or more, zeros behind the end.
    #[inline]
    pub(crate) fn peek(&self) -> u64 {
        let rest = self.bytes.get(self.at / 8..).unwrap_or_default();
        let word = match rest.first_chunk() {
            Some(eight) => u64::from_le_bytes(*eight),
            None => rest
                .iter()
                .rev()
                .fold(0, |word, byte| word << 8 | u64::from(*byte)),
        };
        word >> (self.at % 8)
    }

    /// Goes on by `width` bits.
    #[inline]
    pub(crate) fn skip(&mut self, width: u32) -> Sound<()> {
        self.at += width as usize;
        if self.at <= self.bytes.len() * 8 {
            Ok(())
        } else {
            Err("a row ends too early".into())
        }
    }

    /// A number of `width` bits, at most 32.
    #[inline]
    pub(crate) fn read(&mut self, width: u32) -> Sound<u32> {
        let value = self.peek() & ((1 << width) - 1);
        self.skip(width)?;
        Ok(value as u32)
    }

    /// The number of zeros before the next one.
    pub(crate) fn read_unary(&mut self) -> Sound<u32> {
        let mut zeros = 0u32;
        loop {
            let word = self.peek();
            if word != 0 {
                let more = word.trailing_zeros();
                self.skip(more + 1)?;
                return zeros
                    .checked_add(more)
                    .ok_or_else(|| "a number is too large".into());
            }
            self.skip(PEEKED)?;
            zeros = zeros.checked_add(PEEKED).ok_or("a number is too large")?;
        }
    }

    /// The whole bytes that hold what was read.
    pub(crate) fn bytes_read(&self) -> usize {
        self.at.div_ceil(8)
    }
}
