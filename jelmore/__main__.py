"""`python -m jelmore` is the `jelmore` command."""

from jelmore.cli import main

main()
