"""The command line: one function a command, which says what it does and nothing of how.

A command's own objects are few, and most are modules, which stay: to look for garbage among them as often as Python does by
default, and once more at the end, takes an eighth of the time that a command needs to begin.
"""

import atexit
import gc

gc.set_threshold(200_000)
atexit.register(gc.disable)
