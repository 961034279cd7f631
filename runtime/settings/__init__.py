"""What a user may set, and its types: settings, fields, policies.

A `setting` is a dotted path with a value as it was typed, a `field` parses and checks the value of
one option, `policies` are the typed options of `conf/`, `rounding` makes sizes fit a model.
"""

from runtime.moved import old_names

__getattr__ = old_names("settings")
