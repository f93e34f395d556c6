"""`python -m tzd`: the command line."""

import sys

from tzd.cli import main

sys.exit(main())
