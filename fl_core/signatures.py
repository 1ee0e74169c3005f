"""Classes that people write: their methods are compared with the base class's when the class is made.

A method that is missing, that cannot be called as it will be, or whose return annotation says something else is refused
in one sentence, at the class statement in a notebook and at the launch of a campaign.
"""

from __future__ import annotations

import contextlib
import inspect
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Union, get_args, get_origin

from fl_core.errors import SpecError


def verify_class(cls: type, base: type, methods: Iterable[str]) -> None:
    """Refuse a class of whose methods one has another form than the base class's.

    Args:
        cls: the class; what it does not define itself is not looked at, so that classes in between may be abstract.
        base: what it has to be.
        methods: the names of the base's methods that are called from outside.

    Raises:
        SpecError: it names the class, the method and what is expected.
    """
    for name in methods:
        if name not in vars(cls):
            continue
        own, expected = getattr(cls, name), getattr(base, name)
        shown = f"{name}{_without_self(inspect.signature(expected))}"
        see = f"it is {shown}; see fedtide.{base.__name__}"
        if not callable(own):
            raise SpecError(f"{cls.__name__}.{name} is {own!r:.80} and no method; {see}.")
        if inspect.isfunction(inspect.getattr_static(cls, name)):
            _verify_call(cls.__name__, name, own, inspect.signature(expected), see)
        else:  # a static or class method, or an object that can be called: no self to leave out
            _verify_call(cls.__name__, name, own, inspect.signature(expected), see, bound=True)
        _verify_return(cls.__name__, name, own, expected, see)


def verify_inherits(key: str, path: str, cls: type, base: type) -> None:
    """Refuse a class that is none of ours, or that lacks a method which has no default.

    Args:
        key, path: where the spec names it.
        cls: the class.
        base: what it has to inherit from.

    Raises:
        SpecError: it names the class, and the first method that it lacks.
    """
    if not issubclass(cls, base):
        raise SpecError(
            f"{key} = {path!r} does not inherit from fedtide.{base.__name__}; write class "
            f"{cls.__name__}(fedtide.{base.__name__})."
        )
    for name in sorted(getattr(cls, "__abstractmethods__", ())):
        member = getattr(cls, name)
        shown = name if isinstance(member, property) else f"{name}{_without_self(inspect.signature(member))}"
        see = f"see fedtide.{base.__name__}"
        raise SpecError(f"{key} = {path!r}: {cls.__name__} lacks the method {shown}; {see}.")


def verified(
    key: str, path: str, factory: Callable[..., Any], places: tuple[str, ...], args: Mapping[str, Any]
) -> Mapping[str, Any]:
    """The settings of a spec, if the factory can be called with them by name, after its arguments by place.

    Raises:
        SpecError: it cannot.
    """
    with contextlib.suppress(ValueError):  # of C code, which does not say
        signature = inspect.signature(factory)
        try:
            signature.bind(*places, **args)
        except TypeError as error:
            call = ", ".join((*places, *(f"{name}={value!r}" for name, value in args.items())))
            name = getattr(factory, "__name__", str(factory))
            raise SpecError(
                f"{key} = {path!r}: {name}{signature} cannot be called as {name}({call}): {error}."
            ) from None
    return args


def _verify_call(
    kind: str, name: str, own: Callable[..., Any], expected: inspect.Signature, see: str, *, bound: bool = False
) -> None:
    """Callable with all arguments by their places, and with those alone that have no default."""
    try:
        signature = inspect.signature(own)
    except (TypeError, ValueError):
        return  # of C code, which does not say
    places = list(expected.parameters.values())[1:]
    required = [each for each in places if each.default is inspect.Parameter.empty]
    before = () if bound else (None,)
    for arguments in (places, required):
        try:
            signature.bind(*before, *arguments)
        except TypeError as error:
            call = ", ".join(each.name for each in arguments)
            raise SpecError(f"{kind}.{name}{signature} cannot be called as {name}({call}): {error}; {see}.") from None


def _verify_return(kind: str, name: str, own: Any, expected: Any, see: str) -> None:
    """An annotation that says nothing, or that cannot be read here, says nothing wrong."""
    try:
        promised = typing.get_type_hints(own).get("return", Any)
        wanted = typing.get_type_hints(expected).get("return", Any)
    except Exception:
        return
    if not all(any(_fits(one, other) for other in _members(wanted)) for one in _members(promised)):
        text = getattr(promised, "__name__", str(promised))
        raise SpecError(f"{kind}.{name} says that it returns {text}; {see}.")


def _members(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)


def _fits(promised: Any, wanted: Any) -> bool:
    one, other = get_origin(promised) or promised, get_origin(wanted) or wanted
    if Any in (one, other):  # which is a class
        return True
    if isinstance(one, type) and isinstance(other, type) and not getattr(other, "_is_protocol", False):
        return issubclass(one, other)
    return True  # a type variable, Self, a protocol: nothing that could be compared


def _without_self(signature: inspect.Signature) -> str:
    return str(signature.replace(parameters=list(signature.parameters.values())[1:])).replace("'", "")
