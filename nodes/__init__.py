"""Nodes: the mathematics. `type: vae.DecodeVideo` is class `DecodeVideo` of `nodes/vae.py`."""
