//! Single precision to the bytes of a file and back: as it is, in half, or in one byte with a scale.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

/// Numbers that are widened at a time: they stay in the first cache.
const BLOCK: usize = 1024;

/// Room for so many numbers of `W` bytes at the end of `out`.
fn room<const W: usize>(out: &mut Vec<u8>, count: usize) -> &mut [[u8; W]] {
    let from = out.len();
    out.resize(from + count * W, 0);
    out[from..].as_chunks_mut().0
}

/// Appends numbers as they are.
pub(crate) fn write_f32(values: &[f32], out: &mut Vec<u8>) {
    for (bytes, value) in room(out, values.len()).iter_mut().zip(values) {
        *bytes = value.to_le_bytes();
    }
}

/// Appends numbers in half precision, and tells whether all of them fit.
pub(crate) fn write_f16(values: &[f32], out: &mut Vec<u8>) -> bool {
    let mut fits = true;
    let mut halves = [f16::ZERO; BLOCK];
    for block in values.chunks(BLOCK) {
        let halves = &mut halves[..block.len()];
        halves.convert_from_f32_slice(block);
        let room = room(out, block.len()).iter_mut();
        for ((bytes, half), value) in room.zip(halves).zip(block) {
            fits &= half.is_finite() || !value.is_finite();
            *bytes = half.to_le_bytes();
        }
    }
    fits
}

/// Appends the upper halves of numbers, rounded, and tells whether all of them fit.
pub(crate) fn write_bf16(values: &[f32], out: &mut Vec<u8>) -> bool {
    let mut fits = true;
    for (bytes, value) in room(out, values.len()).iter_mut().zip(values) {
        let half = bf16::from_f32(*value);
        fits &= half.is_finite() || !value.is_finite();
        *bytes = half.to_le_bytes();
    }
    fits
}

/// Appends a vector in one byte a number, and its scale.
pub(crate) fn write_i8(vector: &[f32], out: &mut Vec<u8>, scales: &mut Vec<u8>) {
    let largest = vector.iter().fold(0f32, |most, v| most.max(v.abs()));
    // A vector of zeros, or of what is so small that its scale is zero, is kept as zeros.
    let scale = largest / 127.0;
    let inverse = if scale > 0.0 {
        1.0 / f64::from(scale)
    } else {
        0.0
    };
    scales.extend(scale.to_le_bytes());
    let byte = |v: &f32| (f64::from(*v) * inverse).round().clamp(-127.0, 127.0) as i8 as u8;
    out.extend(vector.iter().map(byte));
}

/// Appends the numbers of these bytes.
pub(crate) fn read_f32(bytes: &[u8], out: &mut Vec<f32>) {
    let (numbers, _) = bytes.as_chunks();
    out.extend(numbers.iter().map(|b| f32::from_le_bytes(*b)));
}

/// Appends the half-precision numbers of these bytes, widened.
pub(crate) fn read_f16(bytes: &[u8], out: &mut Vec<f32>) {
    let (numbers, _) = bytes.as_chunks();
    let mut halves = [f16::ZERO; BLOCK];
    let mut wide = [0f32; BLOCK];
    for block in numbers.chunks(BLOCK) {
        let (halves, wide) = (&mut halves[..block.len()], &mut wide[..block.len()]);
        for (half, bytes) in halves.iter_mut().zip(block) {
            *half = f16::from_le_bytes(*bytes);
        }
        // With the processor's instruction where it has one.
        halves.convert_to_f32_slice(wide);
        out.extend_from_slice(wide);
    }
}

/// Appends the numbers whose upper halves these bytes are.
pub(crate) fn read_bf16(bytes: &[u8], out: &mut Vec<f32>) {
    let (numbers, _) = bytes.as_chunks();
    out.extend(
        numbers
            .iter()
            .map(|b| f32::from_bits(u32::from(u16::from_le_bytes(*b)) << 16)),
    );
}

/// Appends vectors kept in one byte a number, each with its scale.
pub(crate) fn read_i8(bytes: &[u8], scales: &[u8], vector: usize, out: &mut Vec<f32>) {
    let (scales, _) = scales.as_chunks();
    for (bytes, scale) in bytes.chunks_exact(vector).zip(scales) {
        let scale = f32::from_le_bytes(*scale);
        out.extend(bytes.iter().map(|b| f32::from(*b as i8) * scale));
    }
}

#[cfg(test)]
#[path = "../tests/numbers.rs"]
mod tests;
