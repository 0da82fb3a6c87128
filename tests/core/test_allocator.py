import numpy as np
import pytest

from napari_matseg.core import allocator
from napari_matseg.core.allocator import kept_memory


def test_memory_is_usable_inside_and_after() -> None:
    with kept_memory():
        assert np.ones(1 << 22).sum() == 1 << 22
    assert np.ones(1 << 22).sum() == 1 << 22


def test_an_error_inside_passes_through() -> None:
    with pytest.raises(ZeroDivisionError), kept_memory():
        raise ZeroDivisionError


def test_the_users_own_settings_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_ARENA_MAX", "1")
    assert allocator._glibc() is None
    with kept_memory():
        pass
