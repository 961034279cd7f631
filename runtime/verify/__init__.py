"""A graph beside its vanilla diffusers pipeline: every value on every edge is compared.

`record` notes what goes in and out of networks and schedulers, `compare` finds the first
difference, `against_reference` runs both.
"""
