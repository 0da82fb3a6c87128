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


def test_memory_is_given_back_after_the_last_holder(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    class Libc:
        def mallopt(self, parameter: int, value: int) -> None:
            calls.append("keep" if allocator.KEEPING[parameter] == value else "give back")

        def malloc_trim(self, pad: int) -> None:
            calls.append("trim")

    monkeypatch.setattr(allocator, "_glibc", Libc)
    first, second = kept_memory(), kept_memory()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert set(calls) == {"keep"}
    assert len(calls) == len(allocator.KEEPING)
    with kept_memory():
        pass
    assert len(calls) == len(allocator.KEEPING)
    second.__exit__(None, None, None)
    assert calls[len(allocator.KEEPING) :] == ["give back"] * len(allocator.DEFAULTS) + ["trim"]


def test_nothing_is_changed_where_it_is_not_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocator, "_glibc", lambda: pytest.fail("the C library was asked"))
    with kept_memory(wanted=False):
        pass
