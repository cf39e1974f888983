//! Writing safetensors files from columns of bytes, without a second copy of them in memory.
//!
//! The `safetensors` crate reads them; what it offers for writing copies all data or does not sync it.

use safetensors::Dtype;
use serde::Serialize;
use std::collections::BTreeMap;

/// One tensor of a file.
pub(crate) struct Tensor<'a> {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    data: &'a [u8],
}

impl<'a> Tensor<'a> {
    pub(crate) fn new(
        name: impl Into<String>,
        dtype: Dtype,
        shape: Vec<usize>,
        data: &'a [u8],
    ) -> Self {
        Self {
            name: name.into(),
            dtype,
            shape,
            data,
        }
    }
}

/// A file in parts, one behind the other.
pub(crate) struct File<'a> {
    head: Vec<u8>,
    data: Vec<&'a [u8]>,
}

impl File<'_> {
    pub(crate) fn parts(&self) -> impl Iterator<Item = &[u8]> {
        std::iter::once(self.head.as_slice()).chain(self.data.iter().copied())
    }
}

#[derive(Serialize)]
struct Entry<'a> {
    dtype: Dtype,
    shape: &'a [usize],
    data_offsets: (usize, usize),
}

/// The file of these tensors: the length of a JSON header, the header, the data.
///
/// Wide numbers come first and the header is padded, so that every tensor lies at a multiple of the
/// size of its numbers, for readers that cast.
pub(crate) fn serialize<'a>(tensors: &[Tensor<'a>]) -> File<'a> {
    let mut sorted: Vec<&Tensor> = tensors.iter().collect();
    sorted.sort_by_key(|tensor| std::cmp::Reverse(tensor.dtype.bitsize()));
    let mut entries = BTreeMap::new();
    let mut offset = 0;
    for tensor in &sorted {
        let end = offset + tensor.data.len();
        let entry = Entry {
            dtype: tensor.dtype,
            shape: &tensor.shape,
            data_offsets: (offset, end),
        };
        entries.insert(tensor.name.as_str(), entry);
        offset = end;
    }
    let mut json = serde_json::to_vec(&entries).expect("names, numbers and lists have a text");
    json.resize(json.len().next_multiple_of(8), b' ');
    let mut head = (json.len() as u64).to_le_bytes().to_vec();
    head.append(&mut json);
    File {
        head,
        data: sorted.into_iter().map(|tensor| tensor.data).collect(),
    }
}
