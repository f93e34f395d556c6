"""Memory that is kept between the steps of training."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tzd.engines.torch.heap import kept_memory

# in a process of its own: how often the system gave out pages while an array was made anew twenty times
PROGRAM = """
import resource, sys, torch
from tzd.engines.torch.heap import kept_memory
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.zeros(2**24).add_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
with kept_memory(sys.argv[1]):
    faults()  # the heap grows to what it needs, in some places more than once
    print(faults())
print(faults())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's")
@pytest.mark.parametrize(("device_type", "kept"), [("cpu", True), ("cuda", False)])
def test_an_array_made_anew_takes_the_pages_of_the_one_before_on_a_cpu_alone(device_type: str, kept: bool) -> None:
    command = [sys.executable, "-c", PROGRAM, device_type]
    inside, after = map(int, subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
    pages = 20 * 2**26 // 2**12
    assert (inside < pages / 100) is kept
    assert after > pages / 100  # as it was before: given back, and asked for again


def test_an_error_within_is_passed_on() -> None:
    with pytest.raises(KeyError), kept_memory("cpu"):
        raise KeyError
