"""Inputs that people brought, by kind: see `cases/`."""
