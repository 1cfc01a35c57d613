"""`python -m examples.harbor_fleet`."""

import signal
import sys

from .main import main


def _terminate(*_):
    raise SystemExit(143)  # unwinds, so that a half-written folder is removed


signal.signal(signal.SIGTERM, _terminate)
sys.exit(main())
