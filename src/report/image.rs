//! Images of samples in a report.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use burn::tensor::{Tensor, TensorReadError};

/// Larger images are drawn from every second, third, ... pixel.
const SIDE: usize = 128;

/// Each image of `[N, C, H, W]` as a bitmap in a `data:` URL, from its smallest number, black, to its
/// largest, white. Gray with one channel, in colour with three, and nothing with others.
pub(crate) fn draw(images: Tensor<4>) -> Result<Vec<Option<String>>, TensorReadError> {
    let [count, channels, height, width] = images.dims();
    let size = channels * height * width;
    if ![1, 3].contains(&channels) || size == 0 {
        return Ok(vec![None; count]);
    }
    let every = height.max(width).div_ceil(SIDE);
    let numbers: Vec<f32> = images.try_into_data()?.iter::<f32>().collect();
    let drawn = |image: &[f32]| {
        let finite = image.iter().filter(|value| value.is_finite());
        let (low, high) = finite.fold((f32::MAX, f32::MIN), |(low, high), value| {
            (low.min(*value), high.max(*value))
        });
        let scale = if high > low {
            255.0 / (high - low)
        } else {
            0.0
        };
        let pixel = |channel: usize, y: usize, x: usize| {
            let value = image[(channel.min(channels - 1) * height + y) * width + x];
            ((value - low) * scale) as u8
        };
        let size = [height.div_ceil(every), width.div_ceil(every)];
        bitmap(size, |c, y, x| pixel(c, y * every, x * every))
    };
    Ok(numbers
        .chunks_exact(size)
        .map(|image| Some(drawn(image)))
        .collect())
}

/// The simplest format that browsers show: a header, then blue, green and red of each pixel, from the lowest
/// row up, each row filled up to a multiple of four bytes.
fn bitmap([height, width]: [usize; 2], pixel: impl Fn(usize, usize, usize) -> u8) -> String {
    const HEADER: usize = 54;
    let row = (3 * width).next_multiple_of(4);
    let size = HEADER + row * height;
    let mut file = b"BM".to_vec();
    let mut number = |value: usize| file.extend((value as u32).to_le_bytes());
    // Size, nothing, offset of the pixels; size of what follows, width, height, one plane of 24 bits, not packed,
    // size of the pixels; then four numbers that matter to printers and palettes.
    let planes = 1 | 24 << 16;
    let header = [size, 0, HEADER, 40, width, height, planes, 0, row * height];
    header.into_iter().chain([0; 4]).for_each(&mut number);
    for y in (0..height).rev() {
        for x in 0..width {
            file.extend([2, 1, 0].map(|channel| pixel(channel, y, x)));
        }
        file.resize(HEADER + (height - y) * row, 0);
    }
    format!("data:image/bmp;base64,{}", STANDARD.encode(file))
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;

    /// Width, height, and the bytes after the header.
    fn decoded(url: &str) -> (u32, u32, Vec<u8>) {
        let encoded = url.strip_prefix("data:image/bmp;base64,").unwrap();
        let file = STANDARD.decode(encoded).unwrap();
        let number = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap());
        assert_eq!(&file[..2], b"BM");
        assert_eq!(number(2) as usize, file.len());
        (number(18), number(22), file[number(10) as usize..].to_vec())
    }

    #[test]
    fn an_image_reaches_from_black_to_white() {
        let image = Tensor::<4>::from_floats([[[[-1.0, 0.0], [1.0, 3.0]]]], &Device::flex());
        let drawn = draw(image).unwrap();
        let (width, height, pixels) = decoded(drawn[0].as_ref().unwrap());
        assert_eq!((width, height), (2, 2));
        // The lowest row first, two pixels of three bytes and two bytes to fill it up.
        let expected = [
            127, 127, 127, 255, 255, 255, 0, 0, 0, 0, 0, 63, 63, 63, 0, 0,
        ];
        assert_eq!(pixels, expected);
    }

    #[test]
    fn colours_are_told_apart_and_large_images_shrink() {
        let (height, width) = (2, SIDE * 2);
        // Red on the left, green on the right, blue nowhere.
        let numbers: Vec<f32> = (0..3 * height * width)
            .map(|i| {
                let (channel, x) = (i / (height * width), i % width);
                f32::from(u8::from(
                    channel == 0 && x < SIDE || channel == 1 && x >= SIDE,
                ))
            })
            .collect();
        let data = TensorData::new(numbers, [1, 3, height, width]);
        let drawn = draw(Tensor::from_data(data, &Device::flex())).unwrap();
        let (width, height, pixels) = decoded(drawn[0].as_ref().unwrap());
        assert_eq!((width, height), (SIDE as u32, 1));
        assert_eq!(&pixels[..3], [0, 0, 255]);
        assert_eq!(&pixels[pixels.len() - 3..], [0, 255, 0]);
    }

    #[test]
    fn tensors_of_other_channels_are_not_drawn() {
        let other = Tensor::<4>::zeros([2, 5, 4, 4], &Device::flex());
        assert_eq!(draw(other).unwrap(), [None, None]);
        let flat = Tensor::<4>::zeros([1, 1, 2, 4], &Device::flex());
        let (.., pixels) = decoded(draw(flat).unwrap()[0].as_ref().unwrap());
        assert_eq!(pixels, [0; 24]);
    }
}
