"""The HTTP server: OpenAI's images and videos over engine processes. Imports no torch."""
