from __future__ import annotations

import threading
import time
from contextlib import closing

from mining.pace import Pace
from mining.reading import Reader
from mining.types import SampleRef


def readers_of(urls, read=lambda url: b"bytes"):
    """Return the name of the thread that read each file, one file a batch."""
    names = {}

    def noting(url):
        names[url] = threading.current_thread().name
        return read(url)

    reader = Reader(n_classes=1, read=noting, pace=Pace())
    refs = [SampleRef(n, str(n), url, 0) for n, url in enumerate(urls)]
    with closing(reader.batches(refs, size=1, threads=1, keep_ahead=1)) as batches:
        for batch in batches:
            assert [read().data for read in batch.files] == [b"bytes"]
    return [names[url] for url in urls]


def test_who_asks_for_a_local_file_reads_it():
    here = threading.current_thread().name
    assert readers_of(["/data/1", "file:///data/2", "/data/3"]) == [here] * 3


def test_what_lies_elsewhere_is_read_ahead_by_threads():
    assert readers_of(["s3://bucket/1", "s3://bucket/2"]) == ["read_0"] * 2


def test_slow_files_are_read_ahead_by_threads():
    def slow(url):
        time.sleep(0.05)  # of a mean over 64 files, so one is enough
        return b"bytes"

    here = threading.current_thread().name
    # Two batches were begun before anybody knew.
    assert readers_of(["/data/1", "/data/2", "/data/3", "/data/4"], slow) == [
        here,
        here,
        "read_0",
        "read_0",
    ]
