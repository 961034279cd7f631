"""`/openapi.json` is valid, and the server keeps what it says: schemathesis, as its own process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
from openapi_spec_validator import validate

from tests.support.servers import Server, serving

LIMITS = ("--max-steps", "1", "--max-pixels", "4096", "--max-frames", "5")
CHEAP = ("request.guidance_scale=1",)  # one pass of the network per step
# Every seed is another fuzz; a test is the same in every run.
SEED = "20261121"
# What else may be wrong (a size that is no multiple, two that contradict) no schema says.
UNSAID = "positive_data_acceptance"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("schema"), *LIMITS, *CHEAP) as made:
        yield made


def test_the_document(server: Server) -> None:
    document = server.get("/openapi.json").json()
    validate(document)
    fields = document["paths"]["/v1/videos"]["post"]["requestBody"]["content"]
    frames = fields["application/json"]["schema"]["properties"]["num_frames"]["anyOf"][0]
    assert (frames["type"], frames["minimum"], frames["maximum"]) == ("integer", 1, 5)
    assert set(fields) == {"application/json", "multipart/form-data"}


@pytest.mark.parametrize(
    ("mode", "phases"),
    [("negative", "coverage,fuzzing"), ("positive", "fuzzing,stateful")],
)
def test_the_server_keeps_what_its_document_says(server: Server, mode: str, phases: str) -> None:
    done = subprocess.run(
        [
            sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}/openapi.json",
            "--checks", "all", "--exclude-checks", UNSAID, "--max-examples", "15",
            "--mode", mode, "--phases", phases, "--continue-on-failure", "--no-color",
            "--seed", SEED,
        ],
        cwd=server.outputs.parent, capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "Traceback" not in server.log.read_text("utf-8")
