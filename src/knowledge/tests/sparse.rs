use super::*;
use crate::knowledge::format::form::Form;
use crate::knowledge::format::ranks::Ranks;
use crate::knowledge::testing::Numbers;

fn format(classes: usize, logits: LogitsFormat) -> Form {
    let header = Header {
        teacher: String::new(),
        heads: Vec::new(),
        classes,
        logits,
        features: Vec::new(),
        views: 1,
    };
    Form::new(header).unwrap()
}

fn top(classes: usize, k: usize, precision: ValuePrecision) -> Form {
    let logits = LogitsFormat::TopK {
        k,
        temperature: 1.0,
        precision,
    };
    format(classes, logits)
}

fn size(form: &Form, row: &Row) -> usize {
    let (mut bytes, mut back) = (Vec::new(), Row::default());
    let rows = form.packed.as_ref().unwrap().rows;
    rows.encode(row, &mut bytes);
    assert_eq!(rows.decode(&bytes, &mut back), Ok(bytes.len()));
    assert_eq!(back, *row);
    assert!(bytes.len() >= rows.least_bytes());
    bytes.len()
}

/// The largest `k` of a teacher whose probabilities fall with the rank: −a ln(rank), noise around it.
fn power_law(numbers: &mut Numbers, k: usize, classes: usize) -> (Vec<f32>, f32) {
    let logits: Vec<f64> = (1..=classes)
        .map(|rank| numbers.normal() - (rank as f64).ln())
        .collect();
    let sum: f64 = logits.iter().map(|z| z.exp()).sum();
    let mut log_probs: Vec<f64> = logits.iter().map(|z| z - sum.ln()).collect();
    log_probs.sort_by(|a, b| b.total_cmp(a));
    let rest: f64 = log_probs[k..].iter().map(|l| l.exp()).sum();
    let kept = log_probs[..k].iter().map(|l| *l as f32).collect();
    (kept, rest.ln() as f32)
}

#[test]
fn a_token_of_a_large_vocabulary_takes_no_more_than_240_bytes() {
    // 128 of 65,536 classes in any order of values: the set alone is log2 C(65536, 128) bits = 167 bytes,
    // and 20 rows of a power law are enough for a mean within a byte.
    let form = top(65_536, 128, ValuePrecision::Step(0.2));
    let mut numbers = Numbers(1);
    let rows = 20;
    let (mut bytes, mut set_bytes) = (0, 0);
    for _ in 0..rows {
        let (log_probs, log_rest) = power_law(&mut numbers, 128, 65_536);
        let mut row = Row {
            classes: numbers.classes(128, 65_536),
            values: Vec::new(),
            log_rest,
        };
        let values = &form.packed.as_ref().unwrap().values;
        row.log_rest = values
            .quantise(&log_probs, log_rest, &mut row.values)
            .unwrap();
        bytes += size(&form, &row);
        row.values.fill(0);
        set_bytes += size(&form, &row);
    }
    // Four more in a shard say where the sample ends.
    assert!(bytes + 4 * rows <= 240 * rows, "{bytes} bytes");
    // 4 of rest, 2 of names of codes, and the set within 4 %.
    assert!(
        set_bytes <= (167 * 104 / 100 + 6) * rows,
        "{set_bytes} bytes"
    );
}

#[test]
fn classes_that_come_often_take_less_with_small_numbers() {
    // Tokens drawn by Zipf's law, of which each row has 128, in a fixed order that has nothing to do with it.
    let classes = 65_536;
    let mut numbers = Numbers(2);
    let mut order: Vec<u32> = (0..classes as u32).collect();
    for at in (1..classes).rev() {
        order.swap(at, numbers.below(at + 1));
    }
    let zipf = |numbers: &mut Numbers| {
        let mut drawn = std::collections::BTreeSet::new();
        while drawn.len() < 128 {
            // ln(rank) is even between 0 and ln(classes).
            let rank = (numbers.unit() * (classes as f64).ln()).exp() as usize - 1;
            drawn.insert(order[rank]);
        }
        drawn
    };
    let rows: Vec<_> = (0..200).map(|_| zipf(&mut numbers)).collect();
    let mut counts = vec![0; classes];
    rows.iter().flatten().for_each(|c| counts[*c as usize] += 1);
    let ranks = Ranks::by_count(&counts);

    let form = top(classes, 128, ValuePrecision::Step(0.2));
    let row = |classes: Vec<u32>| Row {
        values: vec![0; classes.len()],
        classes,
        log_rest: -1.0,
    };
    // Rows that were not counted.
    let (mut own, mut ranked) = (0, 0);
    for _ in 0..100 {
        let drawn = zipf(&mut numbers);
        let mut renumbered: Vec<u32> = drawn.iter().map(|c| ranks.rank(*c)).collect();
        renumbered.sort_unstable();
        own += size(&form, &row(drawn.into_iter().collect()));
        ranked += size(&form, &row(renumbered));
    }
    // A place in ln(rank) to within 1/128 of ln(65536) = 11.1 costs about log2(e · 11.1/128 · rank) bits,
    // 6 on the average where evenly drawn classes cost 10.4.
    assert!(ranked * 10 < own * 8, "{ranked} bytes of {own}");
}

#[test]
fn all_classes_take_a_bit_each() {
    let form = top(1000, 1000, ValuePrecision::Step(0.1));
    let row = Row {
        classes: (0..1000).collect(),
        values: vec![0; 1000],
        log_rest: f32::NEG_INFINITY,
    };
    // 32 bits of rest, two names of 7.
    assert_eq!(size(&form, &row), (32 + 7 + 1000 + 7_usize).div_ceil(8));
}

#[test]
fn the_ends_of_the_range_come_back() {
    for (k, precision) in [
        (1, ValuePrecision::F32),
        (2, ValuePrecision::F16),
        (2, ValuePrecision::Step(0.5)),
    ] {
        let form = top(1 << 31, k, precision);
        let last = (1u32 << 31) - 1;
        let row = Row {
            classes: [0, last][2 - k..].to_vec(),
            values: vec![0xffff; k],
            log_rest: -0.25,
        };
        size(&form, &row);
    }
}

#[test]
fn drawn_rows_say_how_many_classes_they_have() {
    let form = format(
        100,
        LogitsFormat::Sampled {
            draws: 12,
            temperature: 1.0,
        },
    );
    for (classes, values) in [
        (vec![42], vec![11]),
        ((0..12).map(|c| c * 8).collect(), vec![0; 12]),
    ] {
        let row = Row {
            classes,
            values,
            log_rest: f32::NEG_INFINITY,
        };
        size(&form, &row);
    }
}

#[test]
fn what_cannot_be_a_row_is_refused() {
    let form = top(8, 2, ValuePrecision::Step(0.1));
    let rows = form.packed.unwrap().rows;
    let mut bytes = Vec::new();
    let row = |classes: Vec<u32>, log_rest: f32| Row {
        values: vec![0; classes.len()],
        classes,
        log_rest,
    };
    let mut refused = |row: &Row| {
        bytes.clear();
        rows.encode(row, &mut bytes);
        rows.decode(&bytes, &mut Row::default()).unwrap_err()
    };
    assert_eq!(
        refused(&row(vec![1, 8], -1.0)),
        "a row has a class out of range"
    );
    for rest in [0.1, f32::NAN] {
        assert_eq!(
            refused(&row(vec![1, 2], rest)),
            "the mass left out of a row is no probability"
        );
    }
    let wide = top(1000, 900, ValuePrecision::F16).packed.unwrap().rows;
    assert_eq!(
        wide.decode(&[0; 40], &mut Row::default()).unwrap_err(),
        "a row has more classes than it can"
    );
}
