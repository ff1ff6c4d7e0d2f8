"""Names of the devices that the torch engine computes on."""

from __future__ import annotations

from typing import Any

from qwen3_integrations.errors import ConfigError

ALL = "all"


def device_names(torch: Any, wanted: str) -> tuple[str, ...]:
    """The devices that a setting means.

    Args:
        torch: PyTorch.
        wanted: `auto`; one device; several with commas; or `all`, every GPU that CUDA sees.

    Returns:
        At least one name. Several are of one kind, and each has its number.

    Raises:
        ConfigError: If a device does not exist or can't be used here, or if several devices are of different kinds or equal.
    """
    if not isinstance(wanted, str):
        raise _unknown(wanted)
    if wanted == ALL:
        check_device(torch, "cuda")
        return tuple(f"cuda:{number}" for number in range(torch.cuda.device_count()))
    names = tuple(name.strip() for name in wanted.split(","))
    if len(names) == 1:
        return (check_device(torch, wanted),)
    if any(name.partition(":")[2] == "" for name in names):
        raise ConfigError(f"names several devices, so each needs its number, as in 'cuda:0,cuda:1', not {wanted!r}", option="device")
    for name in names:
        check_device(torch, name)
    devices = [torch.device(name) for name in names]
    if len({(device.type, device.index) for device in devices}) < len(names):
        raise ConfigError(f"names a device twice: {wanted!r}", option="device", advice="Name each device once")
    if len({device.type for device in devices}) > 1:
        raise ConfigError(f"names devices of different kinds: {wanted!r}", option="device", advice="Name devices of one kind")
    return names


def check_device(torch: Any, wanted: str) -> str:
    """The name of one device, after the check that it can be used.

    Raises:
        ConfigError: If the device does not exist, or can't be used here.
    """
    if wanted != "cpu" and getattr(torch.cuda, "_is_in_bad_fork", lambda: False)():
        raise ConfigError(
            f"{wanted!r} can't be used, because this process was forked from one that used CUDA, which can't be started again here",
            option="device",
            advice="Start the process with spawn, open the engine after the fork only, pass device='cpu', or pass a server's base_url",
        )
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        kind = torch.device(wanted).type
    except RuntimeError:
        raise _unknown(wanted) from None
    available = {"cuda": torch.cuda.is_available, "mps": torch.backends.mps.is_available}.get(kind)
    if available and not available():
        reason = f"{wanted!r} is not available: PyTorch {torch.__version__} sees no {kind} device"
        raise ConfigError(reason, option="device", advice="Use another device, or auto")
    if kind == "cuda" and (torch.device(wanted).index or 0) >= (count := torch.cuda.device_count()):
        reason = f"{wanted!r} is not available: PyTorch sees {count} GPU{'s' * (count > 1)}, cuda:0 to cuda:{count - 1}"
        raise ConfigError(reason, option="device", advice="Use one of them, or auto")
    return wanted


def _unknown(wanted: object) -> ConfigError:
    return ConfigError(
        f"must be auto, cpu, cuda, cuda:0 or mps, not {wanted!r}", option="device", advice="For several GPUs: all, or cuda:0,cuda:1"
    )
