"""The engine proper: a session runs the plans of one configuration.

`session` plans and starts runs, `executor` interprets a plan and answers the calls of nodes,
`residency` holds the loaded components of the process, `memo` the cached results; `previews` shows
a run in progress.
"""
