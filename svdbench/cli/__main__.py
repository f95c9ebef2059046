"""``python -m svdbench.cli``."""

from svdbench.cli import main

main()
