"""Scripts, and applications in the host, that end at random times: right exit code, nothing on stderr."""

from __future__ import annotations

import random
import time

import pytest
from exit_programs import ACTIVITIES, COMMAND_CODES, KINDS, PLACEMENTS, WAYS, command, leave


@pytest.mark.parametrize(
    ("ending", "activity"), [*zip(COMMAND_CODES, ACTIVITIES * 3, strict=False), ("SIGTERM", "loading")]
)
def test_an_application_in_the_host_ends_in_order(ending, activity, tmp_path):
    words = ["async streams", "thread", 0.02, ending, activity]

    assert command("host", "daemons open and close", words, tmp_path) == ""


def leave_at_random(seed, place):
    choose = random.Random(seed)
    program = choose.choice(["script", "script", "host", "host", "wheel"])
    way, kind, placement = choose.choice([*WAYS]), choose.choice(KINDS), choose.choice(PLACEMENTS)
    after_secs, activity = choose.random() ** 2 * 0.2, choose.choice(ACTIVITIES)
    ending = choose.choice([*COMMAND_CODES][: 3 if program == "script" else None])
    words = [kind, placement, after_secs, ending]
    started = time.monotonic()
    stderr = leave(way, *words) if program == "script" else command(program, way, [*words, activity], place)
    took = time.monotonic() - started
    assert (stderr, took < 6) == ("", True), (seed, program, way, words, activity, took, stderr)


def leave_at_random_many_times(count, place):
    first = random.SystemRandom().randrange(1 << 30)
    print("seeds from", first)  # noqa: T201 - To repeat what failed.
    for seed in range(first, first + count):
        leave_at_random(seed, place)


def test_programs_end_in_order_at_random_times(tmp_path):
    leave_at_random_many_times(8, tmp_path)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_five_hundred_programs_end_in_order_at_random_times(tmp_path):
    leave_at_random_many_times(500, tmp_path)
