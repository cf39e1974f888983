use proptest::prelude::*;

use super::*;

fn round_trip(values: &[u32], least_width: u32) -> (usize, Vec<u32>) {
    let mut bytes = Vec::new();
    let mut bits = BitWriter::new(&mut bytes);
    write(&mut bits, values, least_width);
    bits.finish();
    let mut back = vec![0; values.len()];
    let mut reader = BitReader::new(&bytes);
    read(&mut reader, &mut back, least_width).unwrap();
    assert_eq!(reader.bytes_read(), bytes.len());
    (bytes.len(), back)
}

proptest! {
    #[test]
    fn what_is_written_is_read(values in prop::collection::vec(0u32..1 << 20, 0..200), width in 0u32..2) {
        prop_assert_eq!(round_trip(&values, width).1, values);
    }

    #[test]
    fn numbers_of_any_size_are_read(values in prop::collection::vec(any::<u32>(), 0..4)) {
        prop_assert_eq!(round_trip(&values, 1).1, values);
    }
}

#[test]
fn each_code_is_used_where_it_is_the_shortest() {
    // All of one size: as wide as the largest, 3 bits.
    assert_eq!(Code::best(&[7, 6, 5, 7, 6, 4, 5, 7], 0), Code::Fixed(3));
    // Nothing but zeros needs no bits at all, or one where that is asked for.
    assert_eq!(Code::best(&[0; 9], 0), Code::Fixed(0));
    assert_eq!(Code::best(&[0; 9], 1).bits(&[0; 9]), 9);
    // Halving frequencies: the code of Rice with 2^0.
    let halving = [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 3, 4];
    assert_eq!(Code::best(&halving, 0), Code::Rice(0));
    // Growing thousandfold on the way.
    let growing: Vec<u32> = (0..60).map(|n| 1 << (n / 5)).collect();
    assert!(matches!(Code::best(&growing, 0), Code::Adaptive(_)));
}

#[test]
fn a_number_too_large_is_refused() {
    let mut bytes = Vec::new();
    let mut bits = BitWriter::new(&mut bytes);
    bits.write(Code::Rice(31).name(), NAME);
    bits.write_unary(2);
    bits.write(0, 31);
    bits.finish();
    let read = read(&mut BitReader::new(&bytes), &mut [0], 1);
    assert_eq!(read.unwrap_err(), "a number is too large");
}

#[test]
fn numbers_without_bits_are_refused_where_bits_bound_their_number() {
    let mut bytes = Vec::new();
    let mut bits = BitWriter::new(&mut bytes);
    bits.write(Code::Fixed(0).name(), NAME);
    bits.finish();
    assert_eq!(read(&mut BitReader::new(&bytes), &mut [1; 5], 0), Ok(()));
    let read = read(&mut BitReader::new(&bytes), &mut [1; 5], 1);
    assert_eq!(read.unwrap_err(), "a row has numbers without bits");
}

#[test]
fn what_ends_too_early_is_refused() {
    let mut bytes = Vec::new();
    let mut bits = BitWriter::new(&mut bytes);
    write(&mut bits, &[1000, 3, 70_000, 12], 1);
    bits.finish();
    for length in 0..bytes.len() {
        let read = read(&mut BitReader::new(&bytes[..length]), &mut [0; 4], 1);
        assert_eq!(read.unwrap_err(), "a row ends too early", "{length} bytes");
    }
}
