import sys

from levyjepa.cli.door import main

sys.exit(main())
