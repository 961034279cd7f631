"""Arguments of a vanilla pipeline's `__call__`, checked against its signature."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import Parameter, Signature
from typing import Any

from PIL.Image import fromarray

from runtime.checkpoint.vanilla_pipeline import RATE_ARGUMENTS
from runtime.errors import UserError, did_you_mean

PICTURE_ARGUMENTS = ("image", "images", "input_image", "input_images")  # what pipelines call them
GIVEN_AS = {"prompt": "`request.prompt=TEXT`", "image": "`request.image_path=FILE|URL`"}
# Arguments that the backend sets itself, each with the option that a user gives instead.
MANAGED_ARGUMENTS: Mapping[str, str] = {
    **GIVEN_AS, "generator": "`request.seed`",
    **dict.fromkeys(("num_images_per_prompt", "num_videos_per_prompt"), "`output.num_outputs`"),
    **dict.fromkeys(("output_type", "return_dict"), ""),
    **dict.fromkeys(("callback", "callback_steps", "callback_on_step_end"), ""),
}  # fmt: skip
# With one of these a pipeline can do without the other.
INSTEAD = {"image": ("video", "conditions", "image_embeds"), "prompt": ("prompt_embeds",)}


def arguments(name: str, call: Signature, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments by the pipeline's own names; a UserError where one is unknown or missing.

    name  of the pipeline's class, for messages
    inputs  the values of the node's ports; None is not given
    """
    takes = taken(call)
    own = {"more", "fps", "images"}
    given = {n: v for n, v in inputs.items() if v is not None and n not in own}
    if given.get("num_frames") == 1 and "num_frames" not in takes:
        del given["num_frames"]  # a picture is one frame
    if inputs.get("images"):
        pictures = [fromarray(image.pixels.numpy()) for image in inputs["images"]]
        found = next((n for n in PICTURE_ARGUMENTS if n in takes), PICTURE_ARGUMENTS[0])
        given[found] = pictures if len(pictures) > 1 else pictures[0]
    if inputs.get("fps") is not None:
        given |= {n: inputs["fps"] for n in RATE_ARGUMENTS if n in takes}
    more = inputs.get("more") or {}
    for argument in more:
        if argument in MANAGED_ARGUMENTS or argument in given:
            instead = MANAGED_ARGUMENTS.get(argument)
            raise UserError(
                f"`request.diffusers_kwargs` has `{argument}`, which the request itself sets",
                help=f"give {instead}" if instead else "leave it out",
                field="request.diffusers_kwargs",
            )  # fmt: skip
    for argument in (*given, *more):
        if argument not in takes:
            raise _not_taken(name, argument, takes, inside=argument in more)
    for argument in takes.values():
        if argument.name not in {**given, **more} and _is_needed(argument, takes, more):
            raise _lacking(name, argument.name)
    return {**given, **more}


def taken(call: Signature) -> dict[str, Parameter]:
    """The named parameters; older pipelines also accept any others through **kwargs."""
    kinds = {Parameter.KEYWORD_ONLY, Parameter.POSITIONAL_OR_KEYWORD}
    return {n: p for n, p in call.parameters.items() if p.kind in kinds and n != "self"}


def _is_needed(
    argument: Parameter, takes: Mapping[str, Parameter], more: Mapping[str, Any]
) -> bool:
    """Whether there is no default, or a None that the annotation does not admit."""
    if argument.default is not None or argument.name not in INSTEAD:
        return argument.default is Parameter.empty
    others = set(INSTEAD[argument.name])
    spared = others & set(takes) if argument.name == "image" else others & set(more)
    return "None" not in str(argument.annotation) and not spared


def _lacking(name: str, argument: str) -> UserError:
    option = GIVEN_AS.get(argument, f"`request.diffusers_kwargs.{argument}=VALUE`")
    return UserError(
        f"{name} needs `{argument}`, and none is given",
        help=f"add {option}", field=_field(argument),
    )  # fmt: skip


def _not_taken(
    name: str, argument: str, takes: Mapping[str, Parameter], *, inside: bool
) -> UserError:
    """The error for an argument that is not taken. inside: of `diffusers_kwargs`."""
    open_to_all = [n for n in takes if n not in MANAGED_ARGUMENTS or n in GIVEN_AS]
    listed = f"it takes: {', '.join(open_to_all)}"
    return UserError(
        f"{'`request.diffusers_kwargs`: ' if inside else ''}{name} takes no `{argument}`",
        help=f"{did_you_mean(argument, open_to_all)} {listed}".strip(),
        field=_field("diffusers_kwargs" if inside else argument),
    )


def _field(argument: str) -> str:
    """The request field that gives an argument."""
    return f"request.{'image_path' if argument == 'image' else argument}"
