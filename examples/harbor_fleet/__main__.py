"""`python -m examples.harbor_fleet`."""

import sys

from .main import main

sys.exit(main())
