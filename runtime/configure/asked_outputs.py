"""The outputs of a graph that a call asks for when it names none. Imports no torch."""

from __future__ import annotations

from runtime.errors import UserError
from runtime.files.object_store import check_store
from runtime.graph.model import Graph
from runtime.settings.policies import Policies


def asked_outputs(graph: Graph, policies: Policies) -> tuple[str, ...]:
    """A file (or its URL, where files are uploaded) and raw frames, as the policies say."""
    output = policies.output
    save = output.save if output.save is not None else not output.return_frames
    if not save and not output.return_frames:
        raise UserError(
            "there would be no output: saving is off, and no frames are requested",
            help="leave out `output.save=false`, or add `output.return_frames=true`",
            field="output.save",
        )  # fmt: skip
    store = policies.storage.store()
    if not save or store.type == "none":
        return ("file",) * save + ("frames",) * output.return_frames
    check_store(store)
    if "url" not in graph.outputs:
        raise UserError(
            f"files are to be uploaded, and graph `{graph.name}` has no output `url`",
            help="add a node {type: upload.Upload, inputs: {file: save.file, to: request.store}} "
            "and outputs: {url: upload.url}; or unset SGLANG_CLOUD_STORAGE_TYPE",
            field="storage.type",
        )
    return ("url",) + ("frames",) * output.return_frames
