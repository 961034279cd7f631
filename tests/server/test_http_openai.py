"""OpenAI's SDK, unmodified, against a server in its own process."""

from __future__ import annotations

import base64
import re
import typing
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import av
import httpx
import openai
import pytest
from openai.types import image_edit_params, image_generate_params, video_create_params
from PIL import Image

from server.schemas import IMAGE_FIELDS, UNUSED_IMAGE, VIDEO_FIELDS
from tests.support.servers import ROOT, Server, serving, wait_until

PROMPT = "a red circle on a blue background"
CLIP = "a green square moving right on a white background"
pytestmark = pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("openai")) as made:
        yield made


@pytest.fixture(scope="module")
def editing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("editing"), "--graph", "demo_edit") as made:
        yield made


@pytest.fixture
def client(server: Server) -> openai.OpenAI:
    return server.client()


def picture(data: bytes) -> Image.Image:
    return Image.open(BytesIO(data))


def decoded(image: openai.types.Image) -> bytes:
    assert image.b64_json
    return base64.b64decode(image.b64_json)


def png(size: tuple[int, int] = (50, 40), colour: str = "red") -> bytes:
    data = BytesIO()
    Image.new("RGB", size, colour).save(data, "PNG")
    return data.getvalue()


def frames(data: bytes) -> list[Image.Image]:
    with av.open(BytesIO(data)) as file:
        return [frame.to_image() for frame in file.decode(video=0)]


def test_a_picture_comes_as_base64_and_under_its_url(client: openai.OpenAI) -> None:
    made = client.images.generate(prompt=PROMPT)
    assert made.data
    data = decoded(made.data[0])
    assert picture(data).format == "PNG"
    assert picture(data).size == (64, 64)
    url = made.data[0].url
    assert url
    assert url.startswith(str(client.base_url).removesuffix("/v1/"))
    fetched = httpx.get(url)
    assert fetched.content == data
    assert fetched.headers["content-type"] == "image/png"
    assert httpx.get(url, headers={"Range": "bytes=1-3"}).content == b"PNG"
    assert (made.size, made.output_format, made.background) == ("64x64", "png", "opaque")


def test_usage_counts_words_and_patches(client: openai.OpenAI) -> None:
    usage = client.images.generate(prompt=PROMPT, n=2).usage
    assert usage
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (7, 32, 39)
    assert usage.input_tokens_details.image_tokens == 0


@pytest.mark.parametrize("form", ["url", "b64_json"])
def test_one_form_alone(client: openai.OpenAI, form: typing.Literal["url", "b64_json"]) -> None:
    made = client.images.generate(prompt=PROMPT, response_format=form)
    assert made.data
    assert (made.data[0].url is None, made.data[0].b64_json is None) == (
        form != "url",
        form != "b64_json",
    )


def test_seeds_are_reproducible_and_follow_one_another(client: openai.OpenAI) -> None:
    several = client.images.generate(prompt=PROMPT, n=3, extra_body={"seed": 7}).data
    listed = client.images.generate(prompt=PROMPT, extra_body={"seed": [9, 7]}).data
    assert several
    assert listed
    assert len({decoded(image) for image in several}) == 3
    assert [decoded(image) for image in listed] == [decoded(several[2]), decoded(several[0])]


@pytest.mark.parametrize(("name", "format"), [("jpeg", "JPEG"), ("webp", "WEBP"), ("png", "PNG")])
def test_formats(client: openai.OpenAI, name: typing.Any, format: str) -> None:
    made = client.images.generate(prompt=PROMPT, output_format=name, output_compression=80)
    assert made.data
    assert made.data[0].url
    assert picture(decoded(made.data[0])).format == format
    assert httpx.get(made.data[0].url).headers["content-type"] == f"image/{name}"


def test_size_words_and_fields_of_the_graph(client: openai.OpenAI) -> None:
    wide = client.images.generate(prompt=PROMPT, size=typing.cast(typing.Any, "96x64"))
    auto = client.images.generate(prompt=PROMPT, size="auto", quality="low")
    own = client.images.generate(
        prompt=PROMPT,
        extra_body={"height": 96, "guidance_scale": 1.0, "negative_prompt": "blur"},
    )
    assert (wide.size, auto.size, own.size) == ("96x64", "64x64", "64x96")
    assert auto.quality == "low"


def test_quality_takes_fewer_steps_or_encodes_better(client: openai.OpenAI) -> None:
    usual = client.images.generate(prompt=PROMPT, extra_body={"num_inference_steps": 4})
    told = client.images.generate(
        prompt=PROMPT, quality="low", extra_body={"num_inference_steps": 4}
    )
    assert usual.data
    assert told.data
    pixels = [picture(decoded(made[0])).tobytes() for made in (usual.data, told.data)]
    assert pixels[0] == pixels[1]
    sizes = [
        len(decoded(made.data[0]))
        for quality in ("low", "auto", "max")
        if (made := client.images.generate(
            prompt=PROMPT, quality=typing.cast(typing.Any, quality), output_format="jpeg"
        )).data
    ]  # fmt: skip
    assert sizes == sorted(set(sizes))


def test_everything_that_the_sdk_defines_is_accepted(client: openai.OpenAI) -> None:
    uploads = {"image", "mask", "input_reference"}
    images = {
        *typing.get_type_hints(image_generate_params.ImageGenerateParamsBase),
        *typing.get_type_hints(image_edit_params.ImageEditParamsBase),
    }
    assert images - uploads <= {*IMAGE_FIELDS, *UNUSED_IMAGE, "prompt"}
    videos = {*typing.get_type_hints(video_create_params.VideoCreateParams)}
    assert videos - uploads <= {*VIDEO_FIELDS, "prompt"}
    made = client.images.generate(
        prompt=PROMPT, model="demo", n=1, moderation="low", style="vivid", user="me",
        background="opaque", stream=False, partial_images=0, safety_identifier="x",
        complexity="low", frame_count=1, frame_duration_ms=10,
    )  # fmt: skip
    assert made.data


def test_a_client_that_goes_away_cancels_its_picture(server: Server) -> None:
    long = {"prompt": PROMPT, "size": "256x256", "num_inference_steps": 200}
    before = server.stats()["cancelled"]
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{server.url}/v1/images/generations", json=long, timeout=0.5)
    wait_until(lambda: server.stats()["cancelled"] == before + 1 and not server.stats()["running"])


def test_a_clip_from_the_first_call_to_the_last(server: Server, client: openai.OpenAI) -> None:
    asked = client.videos.with_raw_response.create(prompt=CLIP, seconds="4")
    assert asked.headers["openai-poll-after-ms"] == "500"
    assert asked.parse().status == "queued"
    clip = client.videos.poll(asked.parse().id, poll_interval_ms=50)
    assert (clip.status, clip.progress, clip.object, clip.error) == (
        "completed",
        100,
        "video",
        None,
    )
    assert (clip.prompt, clip.size, clip.model) == (CLIP, "64x64", "demo")
    data = client.videos.download_content(clip.id).read()
    assert len(frames(data)) == 17  # four seconds are more than this graph makes
    assert clip.seconds == "1.06"
    first = picture(client.videos.download_content(clip.id, variant="thumbnail").read())
    sheet = picture(client.videos.download_content(clip.id, variant="spritesheet").read())
    assert (first.format, first.size) == ("WEBP", (64, 64))
    assert (sheet.format, sheet.size) == ("JPEG", (256, 256))
    assert client.videos.retrieve(clip.id) == clip
    gone = client.videos.delete(clip.id)
    assert (gone.id, gone.deleted, gone.object) == (clip.id, True, "video.deleted")
    with pytest.raises(openai.NotFoundError):
        client.videos.retrieve(clip.id)
    assert not [*server.outputs.glob(f"{clip.id}*")]


def test_frames_follow_from_the_length_and_the_rate(client: openai.OpenAI) -> None:
    def clip(**fields: typing.Any) -> tuple[str, int]:
        made = client.videos.create_and_poll(prompt=CLIP, extra_body=fields, poll_interval_ms=50)
        return made.seconds, len(frames(client.videos.download_content(made.id).read()))

    assert clip(seconds="0.5") == ("0.5", 9)  # 16 a second: 8, and the graph makes 4 n + 1
    assert clip(seconds=1, fps=8) == ("1", 9)
    assert clip(num_frames=5) == ("0.31", 5)


def test_several_clips_of_one_request(client: openai.OpenAI) -> None:
    asked = {"n": 2, "num_frames": 5}
    made = client.videos.create_and_poll(prompt=CLIP, extra_body=asked, poll_interval_ms=50)
    urls = made.model_dump()["urls"]
    assert len({httpx.get(url).content for url in urls}) == 2
    assert [url.split("?")[1] for url in urls] == ["variant=0", "variant=1"]


def test_pages_of_clips(client: openai.OpenAI) -> None:
    small = {"num_frames": 1}
    made = [
        client.videos.create_and_poll(prompt=CLIP, extra_body=small, poll_interval_ms=20).id
        for _ in range(3)
    ]
    assert [clip.id for clip in client.videos.list(limit=1)][:3] == made[::-1]
    page = client.videos.list(limit=2, order="asc")
    assert page.has_more
    later = client.videos.list(order="asc", after=made[0])
    assert [clip.id for clip in later.data] == made[1:]
    with pytest.raises(openai.BadRequestError, match="after"):
        client.videos.list(after="nothing")


@pytest.mark.parametrize(
    "call",
    [
        lambda c: c.videos.remix("video_1", prompt="x"),
        lambda c: c.videos.edit(prompt="x", video=b"x"),
        lambda c: c.videos.extend(prompt="x", seconds="4", video=b"x"),
        lambda c: c.videos.create_character(name="x", video=b"x"),
        lambda c: c.videos.get_character("x"),
    ],
    ids=["remix", "edit", "extend", "create_character", "get_character"],
)
def test_what_is_absent_says_so(client: openai.OpenAI, call: typing.Any) -> None:
    with pytest.raises(openai.NotFoundError) as problem:
        call(client)
    assert problem.value.code == "not_found"


def test_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["demo"]
    assert client.models.retrieve("demo").object == "model"
    with pytest.raises(openai.NotFoundError) as problem:
        client.models.retrieve("gpt-image-1")
    assert problem.value.code == "model_not_found"


def test_a_graph_without_pictures_refuses_them(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="takes no picture"):
        client.images.edit(image=png(), prompt=PROMPT)
    with pytest.raises(openai.BadRequestError, match="takes no picture"):
        client.videos.create(prompt=CLIP, input_reference=png())


def test_edit_a_picture(editing: Server) -> None:
    client = editing.client()
    weak, strong = (
        client.images.edit(
            image=png(),
            prompt="a green square",
            extra_body={"strength": strength, "num_inference_steps": 12},
        )
        for strength in (0.1, 1.0)
    )
    assert weak.data
    assert strong.data
    reds = [picture(decoded(made.data[0])).getpixel((4, 4)) for made in (weak, strong) if made.data]
    assert isinstance(reds[0], tuple)
    assert reds[0][0] > 150  # hardly changed: still red
    assert reds[0] != reds[1]
    assert weak.usage
    assert weak.usage.input_tokens_details.image_tokens == 16
    assert [*(editing.outputs / "inputs").iterdir()]


def test_a_mask_that_the_graph_has_no_use_for_is_refused(editing: Server) -> None:
    with pytest.raises(openai.BadRequestError, match="takes no mask"):
        editing.client().images.edit(image=png(), mask=png(), prompt=PROMPT)


def test_a_mask_goes_where_the_graph_wants_it(tmp_path: Path) -> None:
    kept = {"strength": 0.1, "num_inference_steps": 12}
    with serving(tmp_path, "--graph", str(ROOT / "tests/data/graphs/demo_masked.yaml")) as masked:
        client, blue = masked.client(), png(colour="blue")
        made = client.images.edit(image=png(), mask=blue, prompt=PROMPT, extra_body=kept)
        assert made.data
        colour = picture(decoded(made.data[0])).getpixel((3, 3))
        assert isinstance(colour, tuple)
        assert colour[2] > 150 > colour[0]  # this graph redraws the mask
        with pytest.raises(openai.BadRequestError, match="needs a mask"):
            client.images.edit(image=png(), prompt=PROMPT)
        with pytest.raises(openai.BadRequestError, match="takes one picture"):
            client.images.edit(image=[png(), png()], mask=blue, prompt=PROMPT)


def test_a_clip_from_a_picture(editing: Server) -> None:
    client = editing.client()
    url = f"data:image/png;base64,{base64.b64encode(png()).decode()}"
    upload = client.videos.create_and_poll(
        prompt=CLIP, input_reference=png(), extra_body={"num_frames": 5}, poll_interval_ms=50
    )
    as_url = client.videos.create_and_poll(
        prompt=CLIP, poll_interval_ms=50,
        extra_body={"num_frames": 5, "input_reference": {"image_url": url}},
    )  # fmt: skip
    data = [client.videos.download_content(clip.id).read() for clip in (upload, as_url)]
    # The files differ in what they say of their input.
    first, second = ([frame.tobytes() for frame in frames(clip)] for clip in data)
    assert first == second
    names = {path.stem for path in (editing.outputs / "inputs").iterdir()}
    assert f"{upload.id}_0" in names
    client.videos.delete(upload.id)
    assert f"{upload.id}_0" not in {p.stem for p in (editing.outputs / "inputs").iterdir()}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"hello", "is a text"),
        (png()[:60], "damaged"),
    ],
    ids=["text", "truncated"],
)
def test_uploads_are_looked_at(editing: Server, data: bytes, said: str) -> None:
    before = [*(editing.outputs / "inputs").iterdir()]
    with pytest.raises(openai.BadRequestError, match=said):
        editing.client().images.edit(image=data, prompt=PROMPT)
    assert [*(editing.outputs / "inputs").iterdir()] == before


@pytest.mark.parametrize(
    "url",
    ["/etc/passwd", "file:///etc/passwd", "http://127.0.0.1/x.png", "http://169.254.169.254/"],
)
def test_only_public_urls_are_fetched(editing: Server, url: str) -> None:
    answer = editing.post("/v1/images/generations", {"prompt": PROMPT, "image_path": url})
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, "image_path")
    assert re.search("not an http|could not be fetched|is not fetched", error["message"])
