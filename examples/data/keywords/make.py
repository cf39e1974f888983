#!/usr/bin/env python3
"""Has two speech synthesisers say the words that the keyword example learns.

    python3 make.py

Needs espeak-ng 1.51 and flite 2.2 in the path, and numpy. Writes, beside this script,
clips.tsv, one line for each clip, and clips.adpcm.gz, their sounds one after the other: 8 kHz,
four bits a sample in the code of `encode` below. Running it again gives the same bytes.
"""

import gzip
import pathlib
import random
import struct
import subprocess
import tempfile

import numpy as np

RATE = 8000
DIGITS = "zero one two three four five six seven eight nine".split()
# What stands for everything that is not a keyword. Those of the test are not those of the training.
OTHER = {
    "train": "bed bird cat dog happy house left marvin no off on right sheila stop tree up yes".split(),
    "valid": "backward follow learn wow".split(),
    "test": "down forward go visual music table water".split(),
}
# Voices of espeak-ng are formant filters, those of flite were cut from recordings of a speaker.
VOICES = {
    "train": "Alex Andrea Andy Annie Denis Diogo Gene Henrique Hugo Jacky Lee Marco Michael Mr Nguyen "
    "adam anika antonio aunty belinda benjamin boris caleb david ed edward f1 f3 f5 grandma iven "
    "john kaukovalta klatt klatt3 linda m1 m3 m5 m7 max miguel norbert pedro "
    "flite:kal16 flite:rms".split(),
    "valid": "Alicia Gene2 announcer edward2 f2 iven3 m2 paul robert steph".split(),
    "test": "Mario Mike Storm croak f4 grandpa gustave iven2 klatt2 m4 m6 m8 marcelo michel pablo "
    "quincy rob sandro shelby travis victor zac flite:awb flite:slt".split(),
}
ACCENTS = "en-us en-gb en-gb-scotland en-gb-x-rp en-gb-x-gbclan en-gb-x-gbcwmd en-029 en-us-nyc".split()


def espeak(voice, word, rng):
    accent, speed, pitch = rng.choice(ACCENTS), rng.randrange(130, 211), rng.randrange(25, 76)
    command = ["espeak-ng", "-v", f"{accent}+{voice}", "-s", str(speed), "-p", str(pitch)]
    sound = subprocess.run([*command, "--stdout", word], capture_output=True, check=True).stdout
    # The lengths in its header are those of a stream.
    rate = struct.unpack_from("<I", sound, 24)[0]
    return rate, np.frombuffer(sound[44:], "<i2"), f"{accent} speed {speed} pitch {pitch}"


def flite(voice, word, rng):
    stretch, pitch = rng.choice((0.85, 1.0, 1.15, 1.3)), rng.choice((0.9, 1.0, 1.1, 1.2))
    base = 175 if voice == "slt" else 105
    settings = ["--setf", f"duration_stretch={stretch}", "--setf", f"int_f0_target_mean={base * pitch:.0f}"]
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        command = ["flite", "-voice", voice, *settings, "-t", word, "-o", file.name]
        subprocess.run(command, check=True, capture_output=True)
        sound = pathlib.Path(file.name).read_bytes()
    rate = struct.unpack_from("<I", sound, 24)[0]
    return rate, np.frombuffer(sound[44:], "<i2"), f"stretch {stretch} pitch {pitch}"


def prepare(rate, sound):
    """At 8 kHz, without the silence around it, the loudest sample at 0.9."""
    length = len(sound) * RATE // rate
    sound = np.fft.irfft(np.fft.rfft(sound)[: length // 2 + 1], length)
    frames = sound[: len(sound) // 80 * 80].reshape(-1, 80)
    loud = np.flatnonzero(np.sqrt((frames**2).mean(1)) > 0.02 * np.abs(sound).max())
    sound = sound[max(loud[0] - 2, 0) * 80 : (loud[-1] + 3) * 80]
    sound = sound[: len(sound) // 2 * 2]
    return sound * (0.9 / np.abs(sound).max())


# How the step changes after a code of this magnitude.
GROW = (0.9, 0.9, 0.9, 0.9, 1.2, 1.6, 2.0, 2.4)


def encode(sound):
    """Four bits a sample: a sign and how many steps away from the sample before.

    The decoder's sample after a code with magnitude m is the one before plus or minus
    (m + 0.5) * step; the step then grows by GROW[m], between 0.0005 and 0.25. Both start at
    0.0 and 0.002. The first of two samples is in the lower half of the byte."""
    value, step, codes = 0.0, 0.002, []
    for sample in sound:
        difference = sample - value
        magnitude = min(int(abs(difference) / step), 7)
        codes.append(magnitude | (8 if difference < 0 else 0))
        change = (magnitude + 0.5) * step
        value = value - change if difference < 0 else value + change
        step = min(max(step * GROW[magnitude], 0.0005), 0.25)
    return bytes(a | b << 4 for a, b in zip(codes[::2], codes[1::2]))


def main():
    rng = random.Random(0)
    here = pathlib.Path(__file__).parent
    table, sounds = ["split\tvoice\tmanner\tword\tsamples"], []
    for split, voices in VOICES.items():
        for voice in voices:
            for word in [*DIGITS, rng.choice(OTHER[split])]:
                synthesiser, _, name = voice.rpartition(":")
                speak = flite if synthesiser else espeak
                rate, sound, manner = speak(name, word, rng)
                sound = prepare(rate, sound)
                table.append(f"{split}\t{voice}\t{manner}\t{word}\t{len(sound)}")
                sounds.append(encode(sound))
    (here / "clips.tsv").write_text("\n".join(table) + "\n")
    (here / "clips.adpcm.gz").write_bytes(gzip.compress(b"".join(sounds), 9, mtime=0))


if __name__ == "__main__":
    main()
