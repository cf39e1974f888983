#!/usr/bin/env python3
"""Trains the PyTorch teacher that the examples and tests import.

    python3 train.py

Needs PyTorch and the packages safetensors, onnx and onnxscript. Trains a small convolutional
network on the 10,000 digits in ../mnist for some seconds and writes beside this script
digits_cnn.pt (a plain state_dict), digits_cnn.safetensors (the same tensors), digits_cnn.onnx (the
network with them) and digits_cnn_logits.json: its logits for the first 16 test digits, in
evaluation mode, which every exact import has to give.
"""

import gzip
import json
import pathlib

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

HERE = pathlib.Path(__file__).parent
EPOCHS = 10
CHECKED = 16


class Cnn(nn.Module):
    """Two convolutions with batch norm, ReLU and pooling, and a linear layer."""

    def __init__(self, first=8, second=16):
        super().__init__()
        self.conv1 = nn.Conv2d(1, first, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(first)
        self.conv2 = nn.Conv2d(first, second, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(second)
        self.fc = nn.Linear(second * 7 * 7, 10)

    def forward(self, images):
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(images))), 2)
        x = F.max_pool2d(F.relu(self.bn2(self.conv2(x))), 2)
        return self.fc(x.flatten(1))


def digits(split):
    def read(kind, header):
        packed = HERE.parent / "mnist" / f"{split}-{kind}-ubyte.gz"
        return np.frombuffer(gzip.decompress(packed.read_bytes()), np.uint8, offset=header)

    images = torch.from_numpy(read("images-idx3", 16).astype(np.float32) / 255)
    labels = torch.from_numpy(read("labels-idx1", 8).astype(np.int64))
    return images.reshape(-1, 1, 28, 28), labels


def main():
    torch.manual_seed(0)
    (images, labels), (test_images, test_labels) = digits("train"), digits("t10k")
    model = Cnn()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    steps = EPOCHS * -(-len(images) // 128)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(images)).split(128):
            optimizer.zero_grad()
            F.cross_entropy(model(images[batch]), labels[batch]).backward()
            optimizer.step()
            schedule.step()

    model.eval()
    with torch.no_grad():
        accuracy = (model(test_images).argmax(1) == test_labels).float().mean().item()
        logits = model(test_images[:CHECKED]).tolist()
    print(f"{accuracy:.2%} of {len(test_labels)} test digits")

    torch.save(model.state_dict(), HERE / "digits_cnn.pt")
    save_file(model.state_dict(), HERE / "digits_cnn.safetensors")
    torch.onnx.export(
        model,
        (test_images[:2],),
        HERE / "digits_cnn.onnx",
        input_names=["images"],
        output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        external_data=False,
        dynamo=True,
        verbose=False,
    )
    with open(HERE / "digits_cnn_logits.json", "w") as file:
        rows = ",\n    ".join(json.dumps([round(x, 6) for x in row]) for row in logits)
        file.write(f'{{\n  "test_accuracy": {accuracy:.4f},\n  "logits": [\n    {rows}\n  ]\n}}\n')


if __name__ == "__main__":
    main()
