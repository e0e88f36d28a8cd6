"""The way between Picket's contract and plain Python: the description with its schema, reading the configuration, building an
outcome, and what becomes of a failed exchange. Yours to keep and to change; knows of no check.
"""

import json
import math
import re
from dataclasses import dataclass, field

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.checker import Context, Description
from wit_world.imports import types
from wit_world.imports.types import Phase
from wit_world.imports.verdict import (
    Failure_Denied,
    Failure_Internal,
    Failure_InvalidConfig,
    Finding,
    Metric,
    Mistake,
    Outcome,
    State,
)


@dataclass
class Option:
    """One option: a flat JSON Schema of it, and what it is. Without a default it must be set; one that is optional is None then."""

    schema: dict
    text: str
    optional: bool = False


@dataclass
class Check:
    """What a check says of itself."""

    name: str
    version: str
    summary: str
    options: dict[str, Option]
    metrics: list[tuple[str, str, str]] = field(default_factory=list)
    examples: list[dict] = field(default_factory=list)
    # The first part of the code of a failed exchange, where its cause alone does not tell it: "http", "dns", or one of its own.
    layer: str = "tcp"


def secret(text: str, optional: bool = False) -> Option:
    """An option that is a secret by its name. `secrets.get(config["password"]["$secret"])` is the handle with which the host uses it;
    its bytes never come here."""
    named = {"type": "object", "required": ["$secret"], "additionalProperties": False, "x-picket-secret": True}
    named["properties"] = {"$secret": {"type": "string", "description": "The secret's name on the agent."}}
    return Option(named, text, optional)


def checker(check: Check, run):
    """The class that the host calls, named `Checker` in the module that is made a component."""

    class Checker(exports.Checker):
        def describe(self) -> Description:
            return describe(check)

        def run(self, context: Context) -> Outcome:
            config = read(check, context.config)
            try:
                return run(config)
            except Err as error:
                if isinstance(error.value, types.Error):
                    return stop(error.value, check.layer)
                raise

    return Checker


def describe(check: Check) -> Description:
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "additionalProperties": False,
        "properties": {name: {"description": option.text, **option.schema} for name, option in check.options.items()},
        "required": [name for name, option in check.options.items() if not option.optional and "default" not in option.schema],
        "examples": check.examples,
    }
    metrics = [{"name": name, "unit": unit, "description": text} for name, unit, text in check.metrics]
    return Description(check.name, check.version, check.summary, json.dumps(schema), json.dumps(metrics))


def read(check: Check, text: str) -> dict:
    """The configuration. The host has looked at it by the schema before, so a mistake here is what a host that did not would see."""
    if depth(text) > DEEPEST:
        raise mistake("", f"more than {DEEPEST} lists and objects in each other")
    try:
        config = json.loads(text)
    except ValueError as error:
        raise mistake("", f"not JSON: {error}") from None
    if not isinstance(config, dict):
        raise mistake("", "expected an object")
    for key in config:
        if key not in check.options:
            known = ", ".join(check.options)
            raise mistake(f"/{printable(key)[:200]}", f"unknown option; known are {known}")
    for name, option in check.options.items():
        if name in config:
            wrong = misfit(option.schema, config[name])
            if wrong:
                raise mistake(f"/{name}", wrong)
        elif "default" in option.schema:
            config[name] = option.schema["default"]
        elif option.optional:
            config[name] = None
        else:
            raise mistake(f"/{name}", "is missing")
    return config


def depth(text: str) -> int:
    """How deep lists and objects lie in each other. The interpreter's own reader would use up its stack."""
    now = deepest = 0
    for token in re.finditer(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', text):
        now += {"[": 1, "{": 1, "]": -1, "}": -1}.get(token[0], 0)
        deepest = max(deepest, now)
    return deepest


def misfit(schema: dict, value) -> str | None:
    """Why a value does not fit the schema of an option; none when it does."""
    kinds = {"string": str, "boolean": bool, "integer": int, "number": (int, float), "array": list, "object": dict}
    kind = schema.get("type")
    if kind and (not isinstance(value, kinds[kind]) or (isinstance(value, bool) and kind != "boolean")):
        return f"expected {kind}, found {printable(json.dumps(value))[:80]}"
    if "enum" in schema and value not in schema["enum"]:
        return f"expected one of {schema['enum']}"
    if isinstance(value, str):
        if len(value) < schema.get("minLength", 0) or len(value) > schema.get("maxLength", math.inf):
            return f"expected {schema.get('minLength', 0)} to {schema.get('maxLength', 'any number of')} characters"
        if "pattern" in schema and not re.search(schema["pattern"], value):
            return f"expected a text that matches {schema['pattern']}"
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if not schema.get("minimum", -math.inf) <= value <= schema.get("maximum", math.inf):
            return f"expected {schema.get('minimum', 'any')} to {schema.get('maximum', 'any')}, found {value}"
    if isinstance(value, dict):
        for key in value:
            if key not in schema.get("properties", value):
                return f"unknown key {printable(key)[:80]}"
        for key in schema.get("required", []):
            if key not in value:
                return f"{key} is missing"
        for key, inner in schema.get("properties", {}).items():
            if key in value and misfit(inner, value[key]):
                return f"{key}: {misfit(inner, value[key])}"
    if isinstance(value, list) and "items" in schema:
        return next((wrong for wrong in (misfit(schema["items"], item) for item in value) if wrong), None)
    return None


def mistake(at: str, message: str) -> Err:
    """A mistake in the configuration, to raise; `at` is a JSON pointer (RFC 6901)."""
    return Err(Failure_InvalidConfig([Mistake(at, message)]))


def printable(text: str) -> str:
    """Half of a surrogate pair is a text to Python and to nobody else."""
    return text.encode("utf-8", "replace").decode()


def up(summary: str) -> Outcome:
    """Every expectation holds."""
    return Outcome(State.UP, "ok", summary, [], [], [], None)


def must(outcome: Outcome, passed: bool, *, option: str, expected: str, actual: str, code: str, summary: str) -> None:
    """Records an expectation without which the target is down. `code` is "layer.reason" and stays the same for ever."""
    judged(outcome, passed, State.DOWN, option, expected, actual, code, summary)


def should(outcome: Outcome, passed: bool, *, option: str, expected: str, actual: str, code: str, summary: str) -> None:
    """Records an expectation without which the target is degraded, unless it is down already."""
    judged(outcome, passed, State.DEGRADED, option, expected, actual, code, summary)


def judged(outcome, passed, otherwise, option, expected, actual, code, summary) -> None:
    outcome.findings.append(Finding(option, passed, expected, actual))
    if not passed and outcome.state.value < otherwise.value:
        outcome.state, outcome.code, outcome.summary = otherwise, code, summary


def metric(outcome: Outcome, name: str, value: float, unit: str) -> None:
    """Adds a number that the check describes, in its UCUM unit."""
    if math.isfinite(value):
        outcome.metrics.append(Metric(name, float(value), unit))


def stop(error: types.Error, layer: str) -> Outcome:
    """What becomes of a failed exchange: what went wrong on this side says nothing of the target, everything else is down."""
    cause = error.cause
    if isinstance(cause, (types.Cause_Denied, types.Cause_Proxy)):
        raise Err(Failure_Denied(error.message))
    if isinstance(cause, types.Cause_Invalid):
        raise mistake("", error.message)
    if isinstance(cause, (types.Cause_Exhausted, types.Cause_Other)):
        raise Err(Failure_Internal(error.message))
    return Outcome(State.DOWN, code(cause, error.phase, layer), error.message, [], [], [], None)


def code(cause: types.Cause, phase: Phase | None, layer: str) -> str:
    """The stable code: the layer that the cause belongs to, and the reason."""
    packets = "dns" if layer == "dns" else "tcp"
    # Whoever asks a name server itself wants to hear of the name server, however it is reached.
    if layer != "dns":
        layer = {Phase.RESOLVE: "dns", Phase.CONNECT: "tcp", Phase.HANDSHAKE: "tls"}.get(phase, layer)
    match cause:
        case types.Cause_Refused() if layer == "dns":
            return "dns.unreachable"
        case types.Cause_Refused() | types.Cause_Reset() | types.Cause_Unreachable():
            return f"{packets}.{type(cause).__name__.removeprefix('Cause_').lower()}"
        case types.Cause_Dns(rcode):
            names = {0: "no_addresses", 1: "formerr", 2: "servfail", 3: "nxdomain", 4: "notimp", 5: "refused"}
            return f"dns.{names.get(rcode, f'rcode_{rcode}')}"
        case types.Cause_Tls(reason):
            return f"tls.{reason.replace('-', '_')}"
        case _:
            return f"{layer}.{type(cause).__name__.removeprefix('Cause_').lower()}"


# What nobody writes by hand.
DEEPEST = 100
