"""Rehearsal: a graph's own nodes run on shapes, so that bytes and FLOPs are known beforehand."""
