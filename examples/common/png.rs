//! PNG images as most of them are: eight bits per value, grey or in colour, not interlaced.
//!
//! Such a file is a list of chunks. Those named `IDAT` are, one after the other, a zlib stream of rows;
//! each row begins with a number that says from which neighbours its bytes are predicted.

use std::io::Read;

use flate2::read::ZlibDecoder;

const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";

/// Channels, height and width of an image, and its pixels, one plane per channel. Transparency is left
/// out.
pub fn decode(file: &[u8]) -> Result<([usize; 3], Vec<u8>), String> {
    let mut rest = file
        .strip_prefix(SIGNATURE)
        .ok_or("does not begin like a PNG file")?;
    let (mut header, mut packed) = (None, Vec::new());
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let length = u32::from_be_bytes(*length) as usize;
        let chunk = after.get(..4 + length).ok_or("ends within a chunk")?;
        match chunk.split_at(4) {
            (b"IHDR", data) => header = Some(Header::read(data)?),
            (b"IDAT", data) => packed.extend_from_slice(data),
            _ => {}
        }
        // Behind each chunk are four bytes of its checksum; zlib has one of its own.
        rest = after.get(4 + length + 4..).unwrap_or_default();
    }
    let header = header.ok_or("has no header")?;
    let pixels = header.pixels(&packed)?;
    let plane = |channel: usize| pixels.iter().skip(channel).step_by(header.stride).copied();
    let shape = [header.channels, header.height, header.width];
    Ok((shape, (0..header.channels).flat_map(plane).collect()))
}

struct Header {
    width: usize,
    height: usize,
    channels: usize,
    /// Bytes per pixel: the channels, and transparency where there is any.
    stride: usize,
}

impl Header {
    fn read(data: &[u8]) -> Result<Self, String> {
        let &[
            w0,
            w1,
            w2,
            w3,
            h0,
            h1,
            h2,
            h3,
            depth,
            kind,
            _,
            _,
            interlaced,
        ] = data
        else {
            return Err("has a header of the wrong size".into());
        };
        let (channels, stride) = match kind {
            0 => (1, 1),
            2 => (3, 3),
            4 => (1, 2),
            6 => (3, 4),
            _ => return Err("has a palette; save it as grey or RGB".into()),
        };
        if depth != 8 || interlaced != 0 {
            return Err(format!("has {depth} bits per value, or is interlaced"));
        }
        Ok(Self {
            width: u32::from_be_bytes([w0, w1, w2, w3]) as usize,
            height: u32::from_be_bytes([h0, h1, h2, h3]) as usize,
            channels,
            stride,
        })
    }

    /// The bytes of all pixels, row after row.
    fn pixels(&self, packed: &[u8]) -> Result<Vec<u8>, String> {
        let width = self.width * self.stride;
        let expected = (width + 1) * self.height;
        let mut rows = Vec::new();
        // One byte more than there should be shows that there are too many.
        let mut stream = ZlibDecoder::new(packed).take(expected as u64 + 1);
        stream
            .read_to_end(&mut rows)
            .map_err(|error| error.to_string())?;
        if rows.len() != expected {
            let found = rows.len();
            return Err(format!("has {found} bytes of rows in place of {expected}"));
        }
        let mut pixels = Vec::with_capacity(width * self.height);
        let mut above = vec![0; width];
        for row in rows.chunks_exact(width + 1) {
            let mut current = row[1..].to_vec();
            for i in 0..width {
                let before = |row: &[u8]| {
                    if i < self.stride {
                        0
                    } else {
                        row[i - self.stride]
                    }
                };
                let (left, up, corner) = (before(&current), above[i], before(&above));
                let predicted = match row[0] {
                    0 => 0,
                    1 => left,
                    2 => up,
                    3 => ((u16::from(left) + u16::from(up)) / 2) as u8,
                    4 => nearest(left, up, corner),
                    filter => return Err(format!("has a row with the unknown filter {filter}")),
                };
                current[i] = current[i].wrapping_add(predicted);
            }
            pixels.extend_from_slice(&current);
            above = current;
        }
        Ok(pixels)
    }
}

/// Whichever of the three is nearest to `left + up - corner`: Paeth's predictor.
fn nearest(left: u8, up: u8, corner: u8) -> u8 {
    let target = i16::from(left) + i16::from(up) - i16::from(corner);
    let distance = |value: u8| (target - i16::from(value)).abs();
    if distance(left) <= distance(up) && distance(left) <= distance(corner) {
        left
    } else if distance(up) <= distance(corner) {
        up
    } else {
        corner
    }
}
