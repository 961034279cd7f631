"""YAML to a checked graph.

`catalog` finds graph files, `compose` merges them with Hydra (`compose_cache` keeps the result),
`parse` makes the dataclasses of `model`, `order` sorts the nodes, `check` reports every mistake,
and `source_positions` finds the line of each.
"""

from runtime.moved import old_names

__getattr__ = old_names("graph")
