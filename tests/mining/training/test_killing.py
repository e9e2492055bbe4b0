"""A process that trains is killed for good, and another one goes on."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from dataclasses import replace

import torch

from tests.mining.training.farm import QUICK, make_farm

SETTINGS = replace(QUICK, epochs=4, batch_size=4)
STEPS = 4 * 6
CHILD = """
import os, signal, sys
from pathlib import Path
import torch
from mining.training import loop
from tests.mining.training.farm import Farm
from tests.mining.training.test_killing import SETTINGS

torch.set_num_threads(int(sys.argv[3]))
loop._SAVE_EVERY_S = 0.0
done = 0

def on_step(*_):
    global done
    done += 1
    if done == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)

Farm(Path(sys.argv[1])).retrain(SETTINGS, on_step=on_step)
"""


def test_a_killed_run_ends_in_the_weights_of_an_undisturbed_one(tmp_path):
    farm = make_farm(tmp_path)
    farm.retrain(SETTINGS)
    undisturbed = farm.out.read_bytes()
    farm.state.forget()
    farm.out.unlink()
    step = random.randint(1, STEPS)
    command = [sys.executable, "-c", CHILD, str(tmp_path), str(step)]
    command.append(str(torch.get_num_threads()))
    env = os.environ | {"PYTHONWARNINGS": "ignore"}
    done = subprocess.run(command, check=False, env=env)
    assert done.returncode == -signal.SIGKILL
    assert not farm.out.exists()
    assert farm.state.load() is not None
    steps = []
    farm.retrain(SETTINGS, on_step=lambda *step: steps.append(step))
    assert len(steps) == STEPS - step, f"killed at step {step}"
    assert farm.out.read_bytes() == undisturbed, f"killed at step {step}"
