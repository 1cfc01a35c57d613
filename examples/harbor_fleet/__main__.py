"""`python -m examples.harbor_fleet`."""

import os
import signal
import sys

from .main import main


def _terminate(*_):
    raise SystemExit(143)  # unwinds, so that a half-written folder is removed


signal.signal(signal.SIGTERM, _terminate)
try:
    code = main()
except SystemExit as exit_:
    code = exit_.code
sys.stdout.flush()
sys.stderr.flush()
os._exit(code)  # at once: an interrupted compilation still runs in threads of XLA
