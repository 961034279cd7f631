"""Tiny random checkpoints in diffusers' own format: real classes, real files, seconds on a CPU.

A module per family, each with `checkpoint(folder)`; what families share is in `parts`.
"""
