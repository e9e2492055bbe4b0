"""Peaks of memory, each measured in a process of its own."""

from __future__ import annotations

import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from mining.exceptions import UnreadableImage
from mining.thumbnails import make_thumbnails
from tests.mining.pictures import encode, write

# `ru_maxrss` would begin with what the parent used; the kernel's own mark does not.
_MEASURE = """
import re, sys
from pathlib import Path
from mining.images import decode_image
from mining.thumbnails import make_thumbnails

def peak():
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\\s+(\\d+)", status)[1]) * 1024

data = Path(sys.argv[1]).read_bytes()
before = peak()
{call}
print(peak() - before)
"""

pytestmark = pytest.mark.skipif(
    not re.search("VmHWM", Path("/proc/self/status").read_text()),
    reason="this kernel keeps no mark of the peak",
)


def bytes_per_pixel(path: Path, image: Image.Image, call: str, kind: str) -> float:
    write(path, encode(image, kind))
    command = [sys.executable, "-c", _MEASURE.format(call=call), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout) / (image.width * image.height)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "kind", "call", "most"),
    [
        # A pixel takes 1 byte in grey and 4 in colour; whole copies took 5, 8 and 20.
        ("L", "PNG", "make_thumbnails(data, longest_sides=[1280])", 3),
        ("RGB", "JPEG", "make_thumbnails(data, longest_sides=[1280])", 3),
        ("RGB", "PNG", "decode_image(data)", 6.5),
        ("RGBA", "PNG", "decode_image(data)", 12),
    ],
)
def test_decoding_takes_few_bytes_per_pixel(tmp_path, mode, kind, call, most):
    image = Image.new(mode, (7000, 5000))
    assert bytes_per_pixel(tmp_path / "large", image, call, kind) < most


def test_a_tiny_file_of_200_million_pixels_is_refused():
    tags = (
        (256, 199_999_999), (257, 1), (258, 1), (259, 1), (262, 1), (273, 8), (277, 1),
        (278, 1), (279, 4),
    )  # fmt: skip
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    data = struct.pack("<4sI4xH", b"II*\0", 12, len(tags)) + entries + bytes(4)
    assert len(data) == 126
    with pytest.raises(UnreadableImage, match="more than 100,000,000 pixels"):
        make_thumbnails(data, longest_sides=[256])
