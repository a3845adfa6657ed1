"""`python -m reasoning_fix`: the same as the console command."""

import sys

from reasoning_fix.cli import main

sys.exit(main())
