"""What the author of a node imports: values on edges, calls to networks, denoisers, ports.

`values` are what travels on edges, `calls` what a node may ask of a network, `denoising` what a
denoiser and a solver are, `declare` how a node's signature is read, `outputs` where results go.
Everything else in `runtime` may change at any time; this package changes with VERSION.
"""

VERSION = 1
