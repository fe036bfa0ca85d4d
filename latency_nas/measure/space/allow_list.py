"""The packages whose classes an op may name. A module is checked against the list before it is imported.

An op space or a session may come from a stranger. Importing a module runs its code, and so does a constructor. The
layers of `torch.nn` and `torchvision.ops` only make weights from plain arguments. The rest of torch does more:
`torch.jit` and `torch.package` load code, `torch.fx` compiles it, `torch.utils` builds extensions. The user can add
packages for one call; no file can.
"""

from __future__ import annotations

from collections.abc import Sequence

from latency_nas.errors import OpSpaceError, short_repr

__all__ = ["ALLOWED_PACKAGES", "allowed_packages", "is_allowed", "is_python_path"]

ALLOWED_PACKAGES = ("torch.nn", "torchvision.ops")


def is_python_path(text: object) -> bool:
    """Whether it is a text of Python names joined by dots.

    Example:
        >>> is_python_path("torch.nn"), is_python_path("torch..nn"), is_python_path(None)
        (True, False, False)
    """
    return isinstance(text, str) and all(part.isidentifier() for part in text.split("."))


def allowed_packages(allow: Sequence[str] = ()) -> tuple[str, ...]:
    """The packages that are always allowed, and those that the user adds.

    Raises:
        OpSpaceError: if `allow` is one text, or an entry is no package's name.
    """
    if isinstance(allow, str) or not all(map(is_python_path, allow)):
        raise OpSpaceError(
            f"Expected `allow` to be a list of packages such as ['my_package.blocks'], but got {short_repr(allow)}."
        )
    return (*ALLOWED_PACKAGES, *allow)


def is_allowed(module: str, packages: Sequence[str]) -> bool:
    """Whether a module is one of the packages, or inside one.

    Example:
        >>> is_allowed("torch.nn.modules.conv", ["torch.nn"]), is_allowed("torch.nn_more", ["torch.nn"])
        (True, False)
    """
    return any(module == package or module.startswith(f"{package}.") for package in packages)
