"""``python -m svdbench``."""

from svdbench.cli import main

main()
