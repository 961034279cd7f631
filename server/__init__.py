"""The place of the HTTP server, which is not in this version: `sglang serve` says so."""
