"""`python -m dreamer`: the command `dreamer`."""

import sys

from dreamer_cli import main

sys.exit(main())
