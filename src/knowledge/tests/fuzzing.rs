use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;
use crate::knowledge::testing::record;

/// A manifest and shards.
type Files = (Vec<u8>, Vec<Vec<u8>>);

/// A valid manifest and two shards of each form.
static VALID: LazyLock<Vec<Files>> = LazyLock::new(|| {
    let files = |header: &Header| {
        let directory = tempfile::tempdir().unwrap();
        record(directory.path(), header, 6);
        let read = |name: &str| std::fs::read(directory.path().join(name)).unwrap();
        let shards = ["shard-00000.safetensors", "shard-00001.safetensors"];
        (read("manifest.json"), shards.map(read).into())
    };
    headers().iter().map(files).collect()
});

/// A change of some bytes.
#[derive(Debug, Clone)]
enum Change {
    Flip(prop::sample::Index, u8),
    Set(prop::sample::Index, u8),
    Cut(prop::sample::Index),
    /// A part of the bytes written over another.
    Splice(prop::sample::Index, prop::sample::Index, usize),
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let index = any::<prop::sample::Index>;
    let change = prop_oneof![
        4 => (index(), 0u8..8).prop_map(|(at, bit)| Change::Flip(at, bit)),
        3 => (index(), any::<u8>()).prop_map(|(at, byte)| Change::Set(at, byte)),
        1 => index().prop_map(Change::Cut),
        2 => (index(), index(), 1usize..40).prop_map(|(from, to, n)| Change::Splice(from, to, n)),
    ];
    prop::collection::vec(change, 1..6)
}

fn changed(bytes: &[u8], changes: &[Change]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for change in changes {
        if bytes.is_empty() {
            break;
        }
        let length = bytes.len();
        match change {
            Change::Flip(at, bit) => bytes[at.index(length)] ^= 1 << bit,
            Change::Set(at, byte) => bytes[at.index(length)] = *byte,
            Change::Cut(at) => bytes.truncate(at.index(length)),
            Change::Splice(from, to, count) => {
                let (from, to) = (from.index(length), to.index(length));
                let count = (*count).min(length - from).min(length - to);
                bytes.copy_within(from..from + count, to);
            }
        }
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_bytes_are_read_to_an_end(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        manifest(&bytes);
        shard(&bytes);
        sparse_row(&bytes);
    }

    #[test]
    fn changed_manifests_are_read_to_an_end(which in 0usize..7, changes in changes()) {
        manifest(&changed(&VALID[which].0, &changes));
    }

    #[test]
    fn changed_shards_are_read_to_an_end(which in 0usize..7, second in 0usize..2, changes in changes()) {
        shard(&changed(&VALID[which].1[second], &changes));
    }

    /// Changes behind the list of tensors, which nearly every change of the whole breaks.
    #[test]
    fn changed_columns_are_read_to_an_end(which in 0usize..7, second in 0usize..2, changes in changes()) {
        let bytes = &VALID[which].1[second];
        let head = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let (head, data) = bytes.split_at(head);
        let mut columns = changed(data, &changes);
        columns.resize(data.len(), 0);
        shard(&[head, &columns].concat());
    }
}

#[test]
fn what_is_changed_was_valid_before() {
    for (header, (bytes, shards)) in headers().into_iter().zip(&*VALID) {
        assert_eq!(Manifest::parse(bytes).unwrap().header, header);
        let form = Form::new(header).unwrap();
        for bytes in shards {
            let layout = Layout::parse(bytes, &form).unwrap();
            let mut rows = Rows::new(&form.header);
            for sample in 0..layout.samples {
                layout
                    .read(
                        bytes,
                        sample,
                        &form,
                        None,
                        &mut Scratch::default(),
                        &mut rows,
                    )
                    .unwrap();
            }
        }
    }
}
