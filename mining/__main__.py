"""Run `python -m mining`."""

from __future__ import annotations

from mining.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
