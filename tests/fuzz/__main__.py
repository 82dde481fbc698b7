"""`python -m tests.fuzz [--minutes N] [--seed N] [TARGET...]`: feed each target random inputs, for as long as you say.

It goes round the targets until the time is over. The first input that breaks a promise is made as small as possible and
shown, and the exit status is 1. A summary says how many inputs each target has had.
"""

from __future__ import annotations

import argparse
import itertools
import random
import sys
import time
import traceback
from collections import Counter

from hypothesis import HealthCheck, Phase, given, seed, settings
from tests.fuzz.targets import RESOURCES, TARGETS, Target

_ROUND = 2000  # inputs of a cheap target before it is the next one's turn


def attack(target: Target, inputs: int, *, seed: int | None) -> int:
    """Feed a target. Returns how many inputs it has had; raises what breaks."""
    count = 0

    @settings(
        max_examples=inputs,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    @given(target.inputs)
    def one(value: object) -> None:
        nonlocal count
        count += 1
        target.check(value)

    call = one if seed is None else _seeded(seed)(one)
    call()
    return count


def _seeded(number: int) -> object:
    return seed(number)


def main() -> int:
    """Fuzz until the time is over."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzz newswire.")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(target.name for target in TARGETS))
    parser.add_argument("--minutes", type=float, default=1.0, help="how long [1]")
    parser.add_argument("--seed", type=int, default=random.randrange(2**31), help="to repeat a run")
    options = parser.parse_args()
    chosen = [target for target in TARGETS if not options.targets or target.name in options.targets]
    if unknown := set(options.targets) - {target.name for target in TARGETS}:
        parser.error(f"there is no target {min(unknown)!r}")
    print(f"seed {options.seed}, {options.minutes:g} minutes", flush=True)
    counts: Counter[str] = Counter()
    until = time.monotonic() + 60 * options.minutes
    try:
        for number, target in enumerate(itertools.cycle(chosen)):
            if time.monotonic() >= until:
                break
            try:
                counts[target.name] += attack(target, max(10, _ROUND // target.cost), seed=options.seed + number)
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt):
                    break
                traceback.print_exc()
                print(f"{target.name} breaks, after {counts.total():,} inputs that don't; --seed {options.seed}")
                return 1
    finally:
        RESOURCES.close()
    for target in chosen:
        print(f"{target.name:12} {counts[target.name]:>10,} inputs")
    return 0


if __name__ == "__main__":
    sys.exit(main())
