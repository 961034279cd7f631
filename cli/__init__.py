"""The command line: flags, config files, progress and exit codes. Imports no torch."""
