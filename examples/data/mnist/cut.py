#!/usr/bin/env python3
"""Cuts the subset that the examples use from the four original MNIST files.

    python3 cut.py DIRECTORY

DIRECTORY holds train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and
t10k-labels-idx1-ubyte, gzipped (.gz) or not. Writes, beside this script, the first 10,000
training digits and every fifth of the 10,000 test digits in the same format, gzipped without a time
stamp, so that the same input always gives the same bytes. The test digits are taken from all over
their file because its two halves are by different writers and not equally hard.
"""

import gzip
import pathlib
import struct
import sys

# The digits to keep of each file.
KEPT = {"train": slice(0, 10_000), "t10k": slice(0, 10_000, 5)}


def read(directory, name):
    packed = directory / f"{name}.gz"
    if packed.exists():
        return gzip.decompress(packed.read_bytes())
    return (directory / name).read_bytes()


def cut(data, header, item, kept):
    magic, total, *shape = struct.unpack(f">{header // 4}i", data[:header])
    if len(data) != header + total * item:
        raise SystemExit(f"expected {header + total * item} bytes, found {len(data)}")
    items = [data[header + i * item : header + (i + 1) * item] for i in range(total)[kept]]
    return struct.pack(f">{header // 4}i", magic, len(items), *shape) + b"".join(items)


def main():
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    source, target = pathlib.Path(sys.argv[1]), pathlib.Path(__file__).parent
    for split, kept in KEPT.items():
        for kind, header, item in (("images-idx3", 16, 28 * 28), ("labels-idx1", 8, 1)):
            name = f"{split}-{kind}-ubyte"
            data = cut(read(source, name), header, item, kept)
            (target / f"{name}.gz").write_bytes(gzip.compress(data, 9, mtime=0))


if __name__ == "__main__":
    main()
