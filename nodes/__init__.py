"""Nodes: the mathematics. `type: vae.DecodeVideo` in a graph is class `DecodeVideo` of `nodes/vae.py`."""
