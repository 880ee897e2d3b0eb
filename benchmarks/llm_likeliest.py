"""`python -m benchmarks.llm_likeliest ARTIFACT...`: decoding by all logits, and by the program that tells the likeliest
tokens only, in turns, with the same tokens required. One thread counts the processor's time."""

from __future__ import annotations

import sys
import time
from statistics import median

from edgert.llm.engine import open_engine
from edgert.llm.text_model import LIKELIEST

TOKENS, PROMPT = 128, range(300, 364)


def decoded(path: str, threads: int) -> tuple[float, float]:
    """Tokens a second of either way, by their median. Raises AssertionError where their tokens differ."""
    clock = time.process_time if threads == 1 else time.perf_counter
    with open_engine(path, threads, 512) as whole, open_engine(path, threads, 512, LIKELIEST) as told:
        seconds: tuple[list[float], list[float]] = [], []
        token = int(whole.prefill(list(PROMPT)).argmax())
        assert int(told.prefill(list(PROMPT))) == token
        for _ in range(TOKENS):
            times = [clock()]
            following = int(whole.decode(token).argmax())
            times.append(clock())
            same = int(told.decode(token))
            times.append(clock())
            assert same == following, f"{path}: {same} instead of {following}"
            token = following
            for i, kept in enumerate(seconds):
                kept.append(times[i + 1] - times[i])
    return 1 / median(seconds[0]), 1 / median(seconds[1])


def main(paths: list[str]) -> None:
    """Print a table."""
    print("| artifact | threads | all logits | likeliest only | ratio |\n| --- | ---: | ---: | ---: | ---: |")
    for path in paths:
        for threads in (1, 2):
            whole, told = decoded(path, threads)
            print(f"| {path} | {threads} | {whole:.0f} | {told:.0f} | {told / whole:.2f} |")


if __name__ == "__main__":
    main(sys.argv[1:])
