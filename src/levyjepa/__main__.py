"""`python -m levyjepa`."""

import sys

from levyjepa.cli import main

sys.exit(main())
