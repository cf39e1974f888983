#!/usr/bin/env python3
"""Writes the text that the example uses from what the program `bible` of Debian prints.

    bible gen1:1-ru4:22 </dev/null | python3 cut.py

Writes, beside this script, one verse per line without its number, an empty line after each chapter,
gzipped without a time stamp, so that the same input always gives the same bytes.
"""

import gzip
import pathlib
import re
import sys


def chapters(lines):
    """Lists of verses. The program prints a heading, an empty line and verses broken into lines."""
    chapter = []
    for line in lines:
        line = line.rstrip("\n")
        start = re.fullmatch(r" +\d+ (.*)", line)
        if start:
            chapter.append(start[1])
        elif re.fullmatch(r"[1-3]? ?[A-Z][A-Za-z ]* \d+", line) or not line:
            if chapter:
                yield chapter
            chapter = []
        else:
            chapter[-1] += " " + line
    if chapter:
        yield chapter


def main():
    found = [[" ".join(verse.split()) for verse in chapter] for chapter in chapters(sys.stdin)]
    text = "\n\n".join("\n".join(chapter) for chapter in found) + "\n"
    target = pathlib.Path(__file__).parent / "genesis-to-ruth.txt.gz"
    target.write_bytes(gzip.compress(text.encode("ascii"), 9, mtime=0))
    print(f"{len(found)} chapters, {sum(map(len, found))} verses, {len(text)} characters")


if __name__ == "__main__":
    main()
