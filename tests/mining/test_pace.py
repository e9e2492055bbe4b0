from __future__ import annotations

import json
import threading
import time

import pytest

from mining import pace as pace_module
from mining.pace import Pace, bottleneck, combine, peak_memory_mb


def test_threads_add_up_in_one_meter():
    pace = Pace()

    def work():
        for _ in range(50):
            with pace.measure("decode_s"):
                pace.count(images=1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert pace.to_dict()["images"] == 200


def test_it_measures_parts_and_the_clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    pace = Pace()
    with pace.measure("model_s"):
        now[0] += 3

    def lost() -> None:
        with pace.measure("read_s"):
            now[0] += 2
            raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        lost()
    now[0] += 100  # nothing was done since
    pace.describe(device="cpu", precision="bfloat16", lanes=2)
    found = pace.to_dict()
    assert (found["model_s"], found["read_s"], found["seconds"]) == (3, 2, 5)
    assert (found["decode_s"], found["wait_s"]) == (0, 0)
    assert (found["device"], found["precision"], found["lanes"]) == (
        "cpu",
        "bfloat16",
        2,
    )
    assert found["gpu_memory_mb"] is None
    assert json.loads(json.dumps(found)) == found


def test_the_peak_of_memory_is_in_mebibytes(monkeypatch, tmp_path):
    (tmp_path / "status").write_text("VmPeak:\t 9999 kB\nVmHWM:\t  2048 kB\n")
    monkeypatch.setattr(pace_module, "_STATUS", tmp_path / "status")
    assert peak_memory_mb() == 2
    monkeypatch.setattr(pace_module, "_STATUS", tmp_path / "none")
    assert 10 < peak_memory_mb() < 100_000


def test_shards_are_summed():
    one = {"device": "cpu", "images": 10, "seconds": 2.0, "lanes": 2, "memory_mb": 700}
    two = {
        "device": "cuda: A",
        "images": 5,
        "seconds": 1.0,
        "lanes": 1,
        "memory_mb": 900,
    }
    found = combine([one, two, {}, {"gpu_memory_mb": None, "device": "cpu"}])
    assert found == {
        "device": "cpu, cuda: A",
        "images": 15,
        "seconds": 3.0,
        "lanes": 2,
        "memory_mb": 900,
    }
    assert combine([]) == {}


@pytest.mark.parametrize(
    ("pace", "sentence"),
    [
        ({}, ""),
        ({"device": "cuda: A"}, ""),
        (
            {"device": "cpu", "lanes": 1, "model_s": 1, "decode_s": 1, "wait_s": 6},
            "Waiting for files takes 75 % of the time of 1 thread, the model 12 %, decoding 12 %.",
        ),
        (
            {
                "device": "cuda: A",
                "seconds": 10,
                "lanes": 16,
                "decode_s": 80,
                "wait_s": 1,
            },
            "The GPU is busy 90 % of the time; decoding keeps 16 threads busy 50 % of it.",
        ),
        (
            {
                "device": "cuda: A",
                "seconds": 10,
                "lanes": 2,
                "decode_s": 19,
                "wait_s": 4,
            },
            "The GPU is idle 40 % of the time: decoding keeps 2 threads busy 95 % of it.",
        ),
        (
            {
                "device": "cuda: A",
                "seconds": 10,
                "lanes": 2,
                "decode_s": 2,
                "wait_s": 9,
            },
            "The GPU is idle 90 % of the time, waiting for files: decoding keeps 2 threads busy 10 % of it only.",
        ),
    ],
)
def test_it_says_what_limits_the_speed(pace, sentence):
    assert bottleneck(pace) == sentence


def test_it_says_where_the_fast_type_was_given_up():
    busy = {"lanes": 1, "model_s": 1.0}
    coarse = {"precision": "float32", "coarse": "bfloat16", "close_calls": 0.625}
    kept = {"precision": "bfloat16"}
    said = "bfloat16 was too coarse for this model"
    assert bottleneck(busy | coarse).endswith(
        f"files 0 %. {said} (62 % close calls): float32."
    )
    both = combine([busy | kept, busy | coarse, busy | coarse | {"close_calls": 0.75}])
    assert bottleneck(both).endswith(
        f"files 0 %. {said} in some parts (75 % close calls): float32."
    )
    assert "coarse" not in bottleneck(combine([busy | kept]))
