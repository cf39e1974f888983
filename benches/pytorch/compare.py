"""Runs the benchmarks of this crate and the same work in PyTorch, in turn, and prints the ratios.

    python benches/pytorch/compare.py                   # with a Python that has torch
    python benches/pytorch/compare.py --only dkd --rounds 3 --large

Each side runs under two settings of glibc's allocator, and is represented by the better one. The tables are
Markdown, as in docs/benchmarks.md; progress is on standard error.
"""

import argparse
import json
import os
import pathlib
import platform
import re
import resource
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
CASES = pathlib.Path(__file__).with_name("cases.py")

# By default glibc hands large blocks back to the system at once, and each large tensor is made of pages that
# the system has to clear first. `kept` keeps them in the process.
ALLOCATORS = {
    "default": {},
    "kept": {
        "MALLOC_MMAP_MAX_": "0",
        "MALLOC_TRIM_THRESHOLD_": str(32 << 30),
        "MALLOC_TOP_PAD_": str(256 << 20),
    },
}

# Where Linux says what its processors did.
STAT = pathlib.Path("/proc/stat")

# What PyTorch does too.
COMPARED = r"loss/(soft_target|soft_target_and_hard_label|dkd|logit_mse)/|step/|layer/"
SECTIONS = {"losses": r"^loss/", "step": r"^(step|layer)/"}


def say(*words):
    print(*words, file=sys.stderr, flush=True)


class Others:
    """How many cores other processes took meanwhile; a comparison is worth little if they took many."""

    def __init__(self):
        self.start = self.now()

    @staticmethod
    def now():
        """Seconds of wall clock, and of work by others since the machine started."""
        ticks = os.sysconf("SC_CLK_TCK")
        user, nice, system, _idle, _io, irq, soft, steal = map(int, STAT.read_text().split()[1:9])
        usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        own = sum(u.ru_utime + u.ru_stime for u in usage)
        return time.monotonic(), (user + nice + system + irq + soft + steal) / ticks - own

    def cores(self):
        (t0, work0), (t1, work1) = self.start, self.now()
        return max(0.0, (work1 - work0) / (t1 - t0))


def build(features):
    """The benchmarks' executables, by name."""
    command = ["cargo", "bench", "--no-run", "--message-format=json"]
    for bench in SECTIONS:
        command += ["--bench", bench]
    if features:
        command += ["--features", features]
    lines = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    messages = [json.loads(line) for line in lines.splitlines() if line.startswith("{")]
    return {m["target"]["name"]: m["executable"] for m in messages if m.get("executable")}


def environment(allocator, args):
    rest = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    threads = str(args.threads)
    return {**rest, **ALLOCATORS[allocator], "RAYON_NUM_THREADS": threads, "OMP_NUM_THREADS": threads}


def ours(executable, allocator, args):
    """Medians in seconds by case, without the device in its name."""
    env = environment(allocator, args)
    if args.large:
        env["BURN_DISTILL_BENCH_LARGE"] = "1"
    compared = rf"({COMPARED}).*{args.device}/"
    with tempfile.TemporaryDirectory() as home:
        # Criterion's filter is a regular expression, and one only; what else is asked for is left to the list.
        listing = subprocess.run(
            [executable, "--bench", "--list"], env=env, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
        ).stdout
        names = [line.removesuffix(": benchmark") for line in listing.splitlines()]
        wanted = [n for n in names if re.search(compared, n) and re.search(args.only, bare(n, args.device))]
        if not wanted:
            return {}
        env["CRITERION_HOME"] = home
        only = "^(" + "|".join(re.escape(name) for name in wanted) + ")$"
        subprocess.run(
            [executable, "--bench", "--quiet", only], env=env, cwd=ROOT, check=True, stdout=subprocess.DEVNULL
        )
        times = {}
        for about in pathlib.Path(home).glob("**/new/benchmark.json"):
            name = bare(json.loads(about.read_text())["full_id"], args.device)
            estimates = json.loads(about.with_name("estimates.json").read_text())
            times[name] = estimates["median"]["point_estimate"] * 1e-9
        return times


def bare(name, device):
    return name.replace(f"/{device}/", "/")


def pytorch(section, allocator, args):
    """Medians in seconds by case and mode, and the version."""
    # Both patterns have to match.
    only = rf"(?={SECTIONS[section]})(?=.*(?:{args.only}))"
    command = [sys.executable, str(CASES), "--only", only, "--threads", str(args.threads)]
    command += ["--large"] if args.large else []
    command += ["--no-compile"] if args.no_compile else []
    lines = subprocess.run(
        command, env=environment(allocator, args), check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    found = [json.loads(line) for line in lines.splitlines()]
    args.torch = found[0]["torch"] if found else args.torch
    return {(f["case"], f["mode"]): f["seconds"] for f in found}


def keep_best(best, times, side, allocator):
    """Of several rounds the least disturbed counts."""
    for case, seconds in times.items():
        case, mode = case if isinstance(case, tuple) else (case, side)
        key = (case, mode, allocator)
        best[key] = min(seconds, best.get(key, seconds))


def milliseconds(seconds):
    digits = 3 if seconds < 0.01 else 2 if seconds < 0.1 else 1
    return f"{seconds * 1e3:.{digits}f}"


def better(best, case, mode):
    """The better allocator's time, and which it is; None without any."""
    options = [(best[case, mode, a], a) for a in ALLOCATORS if (case, mode, a) in best]
    return min(options) if options else None


def cell(found):
    return f"{milliseconds(found[0])} ({found[1]})" if found else "-"


def ratio(one, other):
    return f"{one[0] / other[0]:.2f}" if one and other else "-"


def table(head, rows):
    print("| " + " | ".join(head) + " |")
    print("|---" + "|---:" * (len(head) - 1) + "|")
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print()


def report(best, args):
    cases = list(dict.fromkeys(case for case, _, _ in best))

    def times(case):
        found = [better(best, case, mode) for mode in ("ours", "eager", "compiled")]
        mine, eager, compiled = found
        return [f"`{case}`", *map(cell, found), ratio(mine, eager), ratio(mine, compiled)]

    head = ["case", "this crate, ms", "PyTorch eager, ms", "PyTorch compiled, ms", "of eager", "of compiled"]
    table(head, map(times, cases))

    def allocators(case):
        row = [f"`{case}`"]
        for mode in ("ours", "eager", "compiled"):
            for allocator in ALLOCATORS:
                seconds = best.get((case, mode, allocator))
                row.append(milliseconds(seconds) if seconds else "-")
        return row

    sides = ("this crate", "eager", "compiled")
    table(["case, ms"] + [f"{s}, {a}" for s in sides for a in ALLOCATORS], map(allocators, cases))

    about = [line.split(":", 1)[1].strip() for line in cpuinfo() if line.startswith("model name")]
    print(
        f"{(about or [platform.machine()])[0]}, {args.threads} threads, device `{args.device}`, features "
        f"`{args.features}`, torch {args.torch}, best of {args.rounds}, {args.others}."
    )


def cpuinfo():
    path = pathlib.Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="regular expression that names of cases match")
    parser.add_argument("--rounds", type=int, default=2, help="both sides run so often, the best counts")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--device", default="flex", help="of this crate")
    parser.add_argument("--features", default="x86-v4", help="that this crate is built with")
    parser.add_argument("--large", action="store_true", help="also 512 rows of 128,256 classes")
    parser.add_argument("--no-compile", action="store_true", help="PyTorch without torch.compile")
    args = parser.parse_args()
    args.torch = "?"

    executables = build(args.features)
    best = {}
    others = Others() if STAT.exists() else None
    for number in range(args.rounds):
        for section in SECTIONS:
            # In turn, so that both sides see the same machine.
            for allocator in ALLOCATORS:
                say(f"round {number + 1} of {args.rounds}, {section}, allocator {allocator}")
                keep_best(best, ours(executables[section], allocator, args), "ours", allocator)
                keep_best(best, pytorch(section, allocator, args), None, allocator)
    cores = others.cores() if others else None
    args.others = "other processes unknown" if cores is None else f"other processes took {cores:.1f} cores"
    report(best, args)
    if cores is not None and cores > 0.2:
        say("The machine was busy: these ratios are not to be relied on. PyTorch's threads wait for each other")
        say("at every operation, and suffer most from a core that is taken.")


if __name__ == "__main__":
    main()
