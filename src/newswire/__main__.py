"""`python -m newswire` is the `newswire` command."""

from newswire.cli.main import main

main()
