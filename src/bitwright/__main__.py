"""`python -m bitwright` is the command line."""

from bitwright.cli.main import main

main()
