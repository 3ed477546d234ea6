"""``python -m smtpdebug.cli``."""

from smtpdebug.cli import main

main(prog_name="smtpdebug")
