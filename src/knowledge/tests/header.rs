use super::*;
use crate::knowledge::fuzzing::headers;

fn top(k: usize, temperature: f64, precision: ValuePrecision) -> Header {
    Header {
        logits: LogitsFormat::TopK {
            k,
            temperature,
            precision,
        },
        ..headers().swap_remove(0)
    }
}

fn refused(header: Header) -> String {
    header.check().unwrap_err().to_string()
}

#[test]
fn the_ends_of_every_range_are_valid_and_what_is_beyond_is_not() {
    let step = ValuePrecision::Step;
    for header in headers() {
        header.check().unwrap();
    }
    for (good, bad, text) in [
        (
            top(8, 1.0, step(0.001)),
            top(8, 1.0, step(0.0009)),
            "knowledge.step is 0.0009, expected from 0.001 to 5 nats",
        ),
        (
            top(1, 1.0, step(5.0)),
            top(1, 1.0, step(f64::NAN)),
            "knowledge.step is NaN, expected from 0.001 to 5 nats",
        ),
        (
            top(8, 1e-3, ValuePrecision::F32),
            top(8, 0.0, ValuePrecision::F32),
            "knowledge.temperature is 0, expected a positive number",
        ),
        (
            top(1, 1.0, ValuePrecision::F16),
            top(9, 1.0, ValuePrecision::F16),
            "knowledge.k is 9, expected from 1 to the number of classes",
        ),
    ] {
        good.check().unwrap();
        assert_eq!(refused(bad), text);
    }
    let draws = |draws| Header {
        logits: LogitsFormat::Sampled {
            draws,
            temperature: 1.0,
        },
        ..headers().swap_remove(0)
    };
    draws(4096).check().unwrap();
    assert_eq!(
        refused(draws(4097)),
        "knowledge.draws is 4097, expected from 1 to 4096"
    );
    let mut header = top(1, 1.0, ValuePrecision::F16);
    header.classes = 1;
    assert_eq!(
        refused(header.clone()),
        "knowledge.classes is 1, expected at least two where some of them are kept"
    );
    header.classes = (1 << 31) + 1;
    assert_eq!(
        refused(header.clone()),
        "knowledge.classes is 2147483649, expected from 1 to 2^31"
    );
    header.classes = 1 << 31;
    header.check().unwrap();
    header.views = 0;
    assert_eq!(
        refused(header),
        "knowledge.views is 0, expected at least one"
    );
}

#[test]
fn features_have_different_names_and_some_numbers() {
    let mut header = headers().swap_remove(0);
    header.features[1].shape = vec![2, 0];
    assert_eq!(
        refused(header.clone()),
        "knowledge.features is \"tokens\" with shape [2, 0], expected no empty axis, and at most 2^31 \
         numbers"
    );
    header.features[1].shape = vec![usize::MAX, 2];
    assert!(header.check().is_err());
    header.features[1] = header.features[0].clone();
    assert_eq!(
        refused(header),
        "knowledge.features is \"pooled\", expected different names of features"
    );
}

#[test]
fn a_header_equals_itself_after_text_and_names_what_differs() {
    for mut header in headers() {
        if let LogitsFormat::TopK { temperature, .. } = &mut header.logits {
            // Seventeen digits.
            *temperature = 0.1 + 0.2;
        }
        let recorded: Header = serde_json::from_str(&text(&header)).unwrap();
        assert_eq!(recorded.difference(&header), None);
    }
    let all = headers();
    let (what, recorded, given) = all[0].difference(&all[3]).unwrap();
    assert_eq!(what, "logits as");
    assert_eq!(recorded, r#"{"form":"dense","precision":"f32"}"#);
    assert_eq!(
        given,
        r#"{"form":"top_k","k":5,"temperature":2.0,"precision":"f32"}"#
    );
    let changed = |change: fn(&mut Header)| {
        let mut header = all[0].clone();
        change(&mut header);
        all[0].difference(&header).unwrap().0
    };
    assert_eq!(
        changed(|h| h.teacher.push('2')),
        "the teacher's fingerprint"
    );
    assert_eq!(changed(|h| h.classes += 1), "the number of classes");
    assert_eq!(changed(|h| drop(h.features.pop())), "features");
    assert_eq!(changed(|h| h.views += 1), "the number of views");
}
