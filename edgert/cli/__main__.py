"""`python -m edgert.cli`, for where no `edgert` command is installed."""

from edgert.cli import main

main()
