"""One subcommand of ``vla`` a file; what needs two sibling folders is composed here."""
