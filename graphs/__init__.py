"""Graphs as package data: one YAML per pipeline."""
