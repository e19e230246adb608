"""The command line: one function per command, a few lines over the pipeline.

A command creates few objects, and most are modules, which stay: at Python's default thresholds, garbage collection takes an
eighth of a command's start-up time.
"""

import atexit
import gc

gc.set_threshold(200_000)
atexit.register(gc.disable)
