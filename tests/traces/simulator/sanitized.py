"""Plays the litmus programs on a GPU under torch's stream sanitizer and prints its verdicts.

Run with ``TORCH_CUDA_SANITIZER=1``. The last line is JSON: whether each program was reported.
"""

import json

from torch.cuda._sanitizer import CUDASanitizerErrors

from assembler.device import get_device
from tests.traces.simulator.litmus import PROGRAMS, LitmusContext


def is_reported(litmus):
    device = get_device("cuda")
    try:
        litmus.play(LitmusContext(device, delays=()))
    except CUDASanitizerErrors:
        return True
    finally:
        device.synchronize()
    return False


if __name__ == "__main__":
    print(json.dumps({litmus.name: is_reported(litmus) for litmus in PROGRAMS}))
