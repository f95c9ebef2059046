"""A module per job or command: the text of its ``--help``, and what it declares."""
