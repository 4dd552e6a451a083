"""`python -m overread` is `overread`."""

from overread.cli import main

main()
