"""A folder or hub id to a module: files, identity, classes, weights.

`checkpoint`, `hub` and `folder` find the files, `component_source` describes a component before it
is loaded, `identity` recognises equal content, `load` and `load_pipeline` build and fill the
modules, and a `handle` is what a node sees of them.
"""

from runtime.moved import old_names

__getattr__ = old_names("checkpoint")
