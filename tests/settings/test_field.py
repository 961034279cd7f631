"""How values are read: numbers as people write them, and nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from runtime import Raw, UserError
from runtime.settings.field import Field

INT, FLOAT, SEED = (Field(kind, kind) for kind in ("int", "float", "seed"))
FRAMES = Field("frames", "int", multiple=4, offset=1)


@pytest.mark.parametrize(
    ("field", "said", "value"),
    [
        (INT, Raw(" 5 "), 5),
        (INT, Raw("+5"), 5),
        (INT, 1e3, 1000),
        (INT, np.int64(7), 7),
        (FLOAT, Raw("1e-3"), 0.001),
        (FLOAT, Raw(".5"), 0.5),
        (FLOAT, Raw("5."), 5.0),
        (FLOAT, np.float32(0.5), 0.5),
        (FLOAT, 3, 3.0),
        (SEED, np.int64(3), 3),
    ],
)
def test_read(field: Field, said: Any, value: float) -> None:
    found = field.parse(said)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("field", [INT, FLOAT, SEED, FRAMES], ids=lambda f: f.name)
@pytest.mark.parametrize(
    "said",
    [
        *map(Raw, ("1_000", "\u0661", "\u00b2", "0x10", "inf", "nan", "", "true", "--1", "1e")),
        *(True, float("nan"), float("inf"), b"1", {}, [1]),
        pytest.param(10**400, id="huge"),
        pytest.param(Raw("9" * 5000), id="5000 digits"),
    ],
)
def test_refused(field: Field, said: Any) -> None:
    with pytest.raises(UserError, match=field.name):
        field.parse(said)
