"""The size of a part: as small as S3 allows, so that little is held and little is lost; decided before the start."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dtool_ecs_flows.transfer import part_size

MIB = 1024**2
TIB = 1024**4


@given(st.integers(0, 150 * TIB))
def test_any_item_fits_into_the_parts_that_s3_allows(size: int) -> None:
    """At most 10,000 parts, each a whole number of MiB and not smaller than 16 of them."""
    step = part_size(size)
    assert step * 10_000 >= size
    assert step >= 16 * MIB
    assert step % MIB == 0


@given(st.integers(0, 5 * TIB))
def test_a_part_is_never_larger_than_s3_takes(size: int) -> None:
    """5 GiB is the limit of a part, 5 TiB of an object; no part is larger than it has to be."""
    step = part_size(size)
    assert step <= 5 * 1024**3
    assert step == 16 * MIB or (step - MIB) * 10_000 < size
