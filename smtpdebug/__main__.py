"""``python -m smtpdebug``."""

from smtpdebug.cli import main

main(prog_name="smtpdebug")
