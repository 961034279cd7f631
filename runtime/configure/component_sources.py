"""The components of a checked graph as they are found, before anything is loaded."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

from runtime.checkpoint.component_source import ComponentSource
from runtime.checkpoint.vae_tiling import has_vae_settings
from runtime.checkpoint.vanilla_pipeline import PipelineSource, find_pipeline
from runtime.configure.run_config import RunConfig, component
from runtime.errors import UserError
from runtime.graph.check import Checked
from runtime.graph.parse import WHOLE_PIPELINE
from runtime.graph.roles import of_role
from runtime.plan.planner import bound
from runtime.settings.policies import left_out


def component_sources(
    config: RunConfig,
    checked: Checked,
    roles: Mapping[str, str],
    dtype_of_part: Callable[[str], str],
) -> dict[str, ComponentSource | PipelineSource]:
    """Every component that a node binds; optional ones that are absent are left out.

    roles          component, or part of a vanilla pipeline, to its role
    dtype_of_part  of a vanilla pipeline's part; empty: as the others

    Raises UserError for a needed component that is null or that the checkpoint lacks.
    """
    found: dict[str, ComponentSource | PipelineSource] = {}
    graph, policies, checkpoint = config.graph, config.policies, config.checkpoint
    for name, node in checked.graph.nodes.items():
        known = checked.declarations[name]
        for field, key in bound(node, known).items():
            absent, needed = key in graph.absent, known.components[field]
            if key in found or (absent and not needed):
                continue
            if absent:
                raise UserError(
                    f"components.{key} is null, and `{name}` ({node.type}) needs it",
                    help="leave it out, or remove the node too", field=f"components.{key}",
                )  # fmt: skip
            spec = component(graph, key)
            if key == WHOLE_PIPELINE:
                found[key] = find_pipeline(
                    checkpoint, graph.components, policies.model, policies.vae, dtype_of_part,
                    of_role(roles, "vae"),
                )  # fmt: skip
            elif needed or spec.path or checkpoint.lookup(key):
                role = roles.get(key, "")
                is_set = role == "vae" and has_vae_settings(policies.vae)
                found[key] = dataclasses.replace(
                    checkpoint.component(spec), left_out=left_out(policies.vae, role),
                    vae_settings=policies.vae if is_set else None,
                )  # fmt: skip
    return found
