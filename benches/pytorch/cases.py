"""Times the work of benches/losses.rs and benches/step in PyTorch on the CPU.

Prints one JSON object per line: the case by the name that the Rust benchmark has (without the device), the
mode, and the median of its times in seconds. compare.py runs it; by hand:

    python benches/pytorch/cases.py --only 'loss/soft_target/256x32000' --threads 2
"""

import argparse
import gc
import json
import re
import statistics
import time

import torch
import torch.nn.functional as F
from torch import nn

TEMPERATURE = 4.0
SHAPES = [(128, 10), (128, 1000), (256, 32000)]
LARGE = (512, 128256)
LEARNING_RATE = 1e-5


def soft_target(student, teacher, _labels):
    log_p = F.log_softmax(student / TEMPERATURE, dim=1)
    q = F.softmax(teacher / TEMPERATURE, dim=1)
    return F.kl_div(log_p, q, reduction="batchmean") * TEMPERATURE**2


def soft_target_and_hard_label(student, teacher, labels):
    soft = soft_target(student, teacher, labels)
    return 0.5 * soft + 0.5 * F.cross_entropy(student, labels)


def logit_mse(student, teacher, _labels):
    return F.mse_loss(student, teacher)


def dkd(student, teacher, labels, alpha=1.0, beta=8.0):
    """Decoupled distillation: true class against the rest, and the rest among themselves."""
    index = labels[:, None]

    def parts(logits):
        soft = logits / TEMPERATURE
        true = F.log_softmax(soft, dim=1).gather(1, index)
        rest = torch.log1p(-true.exp().clamp(max=1 - 1e-6))
        others = F.log_softmax(soft.scatter(1, index, -1e4), dim=1)
        return torch.cat([true, rest], dim=1), others

    (pair_s, others_s), (pair_t, others_t) = parts(student), parts(teacher)

    def kl(s, t):
        return F.kl_div(s, t, reduction="batchmean", log_target=True)

    return (alpha * kl(pair_s, pair_t) + beta * kl(others_s, others_t)) * TEMPERATURE**2


LOSSES = [soft_target, soft_target_and_hard_label, dkd, logit_mse]


def perceptron(widths):
    layers = []
    for inputs, outputs in zip(widths, widths[1:]):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def convolutions(channels, classes=10):
    layers = []
    for inputs, outputs in zip([1, *channels], channels):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs)]
        layers += [nn.ReLU(), nn.MaxPool2d(2)]
    side = 28 >> len(channels)
    head = nn.Linear(channels[-1] * side * side, classes)
    return nn.Sequential(*layers, nn.Flatten(), head)


class Transformer(nn.Module):
    def __init__(self, width, layers, heads, words=8192, places=64):
        super().__init__()
        self.words = nn.Embedding(words, width)
        self.places = nn.Parameter(torch.randn(1, places, width) * 0.02)
        layer = nn.TransformerEncoderLayer(
            width, heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.head = nn.Linear(width, words)

    def forward(self, words):
        return self.head(self.encoder(self.words(words) + self.places)).flatten(0, 1)


def models(name):
    """Teacher, student, input and labels of a training step."""
    torch.manual_seed(0)
    labels = torch.randint(0, 10, (128,))
    if name == "mlp":
        teacher, student = perceptron([784, 1200, 1200, 10]), perceptron([784, 800, 10])
        return teacher, student, torch.randn(128, 784), labels
    if name == "cnn":
        teacher, student = convolutions([32, 64, 128]), convolutions([16, 32])
        return teacher, student, torch.randn(128, 1, 28, 28), labels
    words = torch.randint(0, 8192, (16, 64))
    labels = torch.randint(0, 8192, (16 * 64,))
    return Transformer(512, 6, 8), Transformer(256, 3, 4), words, labels


def median(compute, seconds):
    """Median time of a call, after calls that do not count."""
    start = time.perf_counter()
    calls = 0
    while calls < 3 or time.perf_counter() - start < min(0.5, seconds):
        compute()
        calls += 1
    times = []
    start = time.perf_counter()
    while len(times) < 10 or time.perf_counter() - start < seconds:
        before = time.perf_counter()
        compute()
        times.append(time.perf_counter() - before)
    return statistics.median(times)


def loss_cases(large):
    for rows, classes in SHAPES + ([LARGE] if large else []):
        for loss in LOSSES:

            def prepare(compiled, loss=loss, shape=(rows, classes)):
                random = torch.Generator().manual_seed(0)
                student = torch.randn(*shape, generator=random).requires_grad_()
                teacher = torch.randn(*shape, generator=random) * 2
                labels = torch.randint(0, shape[1], shape[:1], generator=random)
                value = torch.compile(loss, dynamic=False) if compiled else loss

                def compute():
                    student.grad = None
                    value(student, teacher, labels).backward()

                return compute

            yield f"loss/{loss.__name__}/{rows}x{classes}", prepare


LAYERS = {
    "linear": (lambda: nn.Linear(512, 512), (1024, 512)),
    "convolution": (lambda: nn.Conv2d(16, 16, 3, padding=1), (128, 16, 28, 28)),
    "batch_norm": (lambda: nn.BatchNorm2d(16), (128, 16, 28, 28)),
    "max_pool": (lambda: nn.MaxPool2d(2), (128, 16, 28, 28)),
    "layer_norm": (lambda: nn.LayerNorm(512), (16, 64, 512)),
    "gelu": (lambda: nn.GELU(), (16, 64, 2048)),
    "attention": (lambda: SelfAttention(512, 8), (16, 64, 512)),
}


class SelfAttention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)

    def forward(self, x):
        return self.attention(x, x, x, need_weights=False)[0]


def layer_cases():
    for name, (make, shape) in LAYERS.items():

        def prepare(compiled, make=make, shape=shape):
            torch.manual_seed(0)
            layer = make()
            forward = torch.compile(layer, dynamic=False) if compiled else layer
            x = torch.randn(*shape).requires_grad_()

            def compute():
                x.grad = None
                layer.zero_grad(set_to_none=True)
                forward(x).sum().backward()

            return compute

        yield f"layer/{name}/{'x'.join(map(str, shape))}", prepare


def step_cases():
    for name in ["mlp", "cnn", "transformer"]:
        for optimizer in ["sgd", "adam"]:

            def prepare(compiled, name=name, optimizer=optimizer):
                teacher, student, inputs, labels = models(name)
                teacher.eval().requires_grad_(False)
                student.train()
                # Whoever compiles wants speed, and takes the optimizer that is one kernel.
                one_kernel = {"fused": True} if compiled else {}
                if optimizer == "sgd":
                    optimizer = torch.optim.SGD(
                        student.parameters(), LEARNING_RATE, momentum=0.9, **one_kernel
                    )
                else:
                    optimizer = torch.optim.Adam(student.parameters(), LEARNING_RATE, **one_kernel)

                def objective(inputs, labels):
                    with torch.no_grad():
                        taught = teacher(inputs)
                    return soft_target_and_hard_label(student(inputs), taught, labels)

                if compiled:
                    objective = torch.compile(objective, dynamic=False)

                def compute():
                    optimizer.zero_grad(set_to_none=True)
                    objective(inputs, labels).backward()
                    optimizer.step()

                return compute

            yield f"step/{name}/{optimizer}", prepare


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="regular expression that names of cases match")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seconds", type=float, default=2.0, help="for each case and mode")
    parser.add_argument("--large", action="store_true", help="also 512 rows of 128,256 classes")
    parser.add_argument("--no-compile", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    modes = ["eager"] if args.no_compile else ["eager", "compiled"]
    for name, prepare in [*loss_cases(args.large), *step_cases(), *layer_cases()]:
        if not re.search(args.only, name):
            continue
        for mode in modes:
            torch.compiler.reset()
            seconds = median(prepare(mode == "compiled"), args.seconds)
            gc.collect()
            line = {"case": name, "mode": mode, "seconds": seconds, "torch": torch.__version__}
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
