"""How a file was made: `record` writes it down, `read_back` reads it from a file and compares."""

from runtime.moved import old_names

__getattr__ = old_names("provenance")
