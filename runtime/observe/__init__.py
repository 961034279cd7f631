"""Observers of runs: they see calls, results and steps, and change nothing.

`observer` is the Protocol, `finite_check` the one that stops at the first NaN or infinity; the
recorder of `runtime/verify` is another.
"""
