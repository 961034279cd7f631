"""What the author of a node imports: values on edges, calls to networks, denoisers, ports.

`values` has the types on edges, `calls` the calls of networks, `denoising` denoisers and solvers;
`declare` reads a node's signature, `outputs` has destinations and files.
Everything else in `runtime` may change at any time; this package changes with VERSION.
"""

VERSION = 1
