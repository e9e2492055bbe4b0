#!/usr/bin/env python
"""Django's command line for Hardmine."""

from __future__ import annotations

import os
import sys

from django.core.management import execute_from_command_line

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "reviewapp.settings")
    # torch's threads that wait give the CPU away; spinning, they made training on a busy
    # machine three times as slow. Read when torch is loaded; children inherit it.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    execute_from_command_line(sys.argv)
