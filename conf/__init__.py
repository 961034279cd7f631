"""Policies as package data: `conf/GROUP/OPTION.yaml`, and the defaults in `default.yaml`."""
