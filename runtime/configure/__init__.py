"""Settings, a graph and a checkpoint to one `RunConfig`, and a request to complete values.

`select_graph` chooses the graph of a checkpoint, `resolve` types every setting, `unused` names what
nothing consumes, `checkpoint_defaults` reads defaults from the checkpoint, `requests` completes and
checks a request, `family_table` lists all graphs.
"""
