"""Specs from TOML files and back, and what is wrong with one, in a sentence with the key, the value and the remedy."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, TypeVar, get_args

import tomli_w
from pydantic import (
    BaseModel,
    ValidationError,
)

from fl_core.errors import SpecError
from fl_core.program.toml_file import read_toml
from fl_core.spec.section import Section
from fl_core.spec.sections import CampaignSpec

_SectionT = TypeVar("_SectionT", bound=Section)


def load_spec(path: Path, overrides: dict[str, Any] | None = None) -> CampaignSpec:
    """Read and validate a TOML spec.

    Args:
        path: the file.
        overrides: values by dotted key (``{"stop.seconds": 5.0}``) that replace those in the file.

    Raises:
        SpecError: the file cannot be read, is not TOML, or a key is wrong.
    """
    document = read_toml(path)
    for key, value in (overrides or {}).items():
        *tables, name = key.split(".")
        keys: Any = document
        for table in tables:
            keys = keys.setdefault(table, {}) if isinstance(keys, dict) else None
        if isinstance(keys, dict):  # else the file is wrong there, which is reported below
            keys[name] = value
    return parse_spec(document, source=str(path))


def parse_spec(document: dict[str, Any], source: str = "spec") -> CampaignSpec:
    """Validate a dictionary as a spec.

    Raises:
        SpecError: with one sentence for the first key that is wrong, and the count of the others.
    """
    try:
        return CampaignSpec.model_validate(document)
    except ValidationError as error:
        raise SpecError(f"{source}: {explain(error, CampaignSpec)}") from None


def parse_section(model: type[_SectionT], document: dict[str, Any], source: str) -> _SectionT:
    """Validate one section on its own (a device does this with the training settings of a task).

    Raises:
        SpecError: a key is wrong.
    """
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise SpecError(f"{source}: {explain(error, model)}") from None


def read_args(spec: CampaignSpec, model: type[_SectionT]) -> _SectionT:
    """A strategy's own settings, ``[aggregation.args]``, validated as any other section.

    Raises:
        SpecError: a key is unknown or its value is not accepted.
    """
    return parse_section(model, dict(spec.aggregation.args), "aggregation.args")


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """A validation error as one sentence: the key, the value, the remedy."""
    problems = error.errors(include_url=False)
    first = problems[0]
    sentence = _explain_one(dict(first), model)
    others = len(problems) - 1
    return sentence + (f" ({others} more {'problem' if others == 1 else 'problems'} after this one.)" if others else "")


def _explain_one(problem: dict[str, Any], model: type[BaseModel]) -> str:
    key = ".".join(str(part) for part in problem["loc"]) or "the spec"
    kind = problem["type"]
    if kind == "extra_forbidden":
        known = _known_keys(problem["loc"][:-1], model)
        nearest = difflib.get_close_matches(str(problem["loc"][-1]), known, n=1)
        remedy = f"did you mean {nearest[0]!r}?" if nearest else f"known keys: {', '.join(known) or 'none'}."
        return f"unknown key {key!r}; {remedy}"
    if kind == "missing":
        return f"{key} is missing; add it."
    reason = problem["msg"].removeprefix("Value error, ").replace(" tuple", " list").replace(" after validation", "")
    if kind in ("model_type", "dict_type"):
        reason = f"write it as a table, [{key}]"
    elif kind == "too_short":
        reason = "name at least one"
    if (kind == "string_pattern_mismatch" and "factory" in key) or (
        "data" in key and kind == "string_pattern_mismatch"
    ):
        reason = "write an import path, 'package.module:callable'"
    elif kind == "string_pattern_mismatch":
        reason = "use lower-case letters, digits, '.', '_' and '-', at most 64"
    end = "" if reason.endswith("?") else "."
    if problem["loc"] and not isinstance(problem.get("input"), dict):
        return f"{key} = {problem['input']!r:.200} is not accepted; {_lower_first(reason)}{end}"
    if kind == "value_error":
        return f"{key}: {reason}{end}"
    return f"{key} is not accepted; {_lower_first(reason)}{end}"


def _known_keys(location: tuple[str | int, ...], model: type[BaseModel]) -> list[str]:
    for part in location:
        if isinstance(part, int):
            continue  # the entry of a list of tables: its model was found with the list
        field = model.model_fields.get(part)
        candidates = (field.annotation, *get_args(field.annotation)) if field is not None else ()
        inner = next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)
        if inner is None:
            return []
        model = inner
    return list(model.model_fields)


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]


def to_toml(spec: CampaignSpec) -> str:
    """The resolved spec as TOML text, defaults included; keys without a value are left out."""
    return tomli_w.dumps(spec.model_dump(mode="json", exclude_none=True))
