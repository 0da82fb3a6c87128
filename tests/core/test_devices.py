from __future__ import annotations

import pytest
import torch

from napari_matseg.core.devices import autocast, choose_device, choose_dtype
from napari_matseg.errors import SettingsError


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """GPUs that torch is made to find."""
    there = {"cuda": 0, "mps": 0}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there["cuda"] > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: there["cuda"])
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: there["mps"] > 0)
    return there


@pytest.mark.parametrize(("cuda", "mps", "chosen"), [(0, 0, "cpu"), (0, 1, "mps"), (2, 0, "cuda"), (1, 1, "cuda")])
def test_auto_takes_a_gpu_if_there_is_one(machine: dict[str, int], cuda: int, mps: int, chosen: str) -> None:
    machine |= {"cuda": cuda, "mps": mps}
    assert choose_device() == torch.device(chosen)


def test_named_devices(machine: dict[str, int]) -> None:
    machine |= {"cuda": 2, "mps": 1}
    for name in ("cpu", "cuda", "cuda:0", "cuda:1", "mps"):
        assert choose_device(name) == torch.device(name)


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:3", "cuda:99999999999", "mps"])
def test_device_that_is_not_there(machine: dict[str, int], name: str) -> None:
    with pytest.raises(SettingsError, match=f"'{name}' is not on this machine; choose auto or cpu"):
        choose_device(name)


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "cuda:-1", "xpu", ""])
def test_device_that_does_not_exist(machine: dict[str, int], name: str) -> None:
    with pytest.raises(SettingsError, match=f"'{name}' is unknown; choose auto, cpu, cuda"):
        choose_device(name)


@pytest.mark.parametrize("device", ["cpu", "mps"])
def test_auto_precision_without_cuda_is_full(device: str) -> None:
    assert choose_dtype("auto", torch.device(device)) == torch.float32


@pytest.mark.parametrize(("has_bfloat16", "dtype"), [(True, torch.bfloat16), (False, torch.float16)])
def test_auto_precision_on_cuda_is_half(
    monkeypatch: pytest.MonkeyPatch, has_bfloat16: bool, dtype: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has_bfloat16)
    assert choose_dtype("auto", torch.device("cuda")) == dtype


def test_named_precision_is_taken() -> None:
    assert choose_dtype("bfloat16", torch.device("cpu")) == torch.bfloat16


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_networks_compute_in_the_precision(dtype: torch.dtype) -> None:
    layer = torch.nn.Conv2d(1, 1, 1)
    with autocast(torch.device("cpu"), dtype):
        assert layer(torch.zeros(1, 1, 2, 2)).dtype == dtype
