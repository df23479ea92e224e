"""``python -m dovetail``."""

from dovetail.main import main

main()
