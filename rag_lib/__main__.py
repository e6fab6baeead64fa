"""The command line as `python -m rag_lib`."""

import sys

from rag_lib.cli import main

if __name__ == "__main__":
    sys.exit(main())
