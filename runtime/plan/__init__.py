"""The plan of a run: loads, runs, recalls and frees, in order. Pure: no device, no weight.

`passes` prune and fold the graph, `planner` orders `items` into a `plan`, `content_keys` recognise
equal results.
"""

from runtime.moved import old_names

__getattr__ = old_names("plan")
