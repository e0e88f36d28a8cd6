"""The {{name}} check: connects to a service that greets with a line, and judges the line.

What a check is stands here: its options, what fetches the facts (`run`), and what judges them (`judge`), which needs no network.
"""

import picket
from picket import Check, Option, Outcome
from wit_world.imports import tcp
from wit_world.imports.types import Endpoint, Family

CHECK = Check(
    name="{{name}}",
    version="0.1.0",
    summary="A service greets as expected.",
    # Each text becomes the option's page, so it says default and bounds. The mark makes the grant: a run reaches this and nothing else.
    options={
        "host": Option({"type": "string", "minLength": 1, "x-picket-target": "host"}, "The name or address to connect to."),
        "port": Option({"type": "integer", "minimum": 1, "maximum": 65535}, "The port to connect to, 1 to 65535."),
        "greeting": Option(
            {"type": "string", "minLength": 1, "default": "220"},
            'What the greeting must begin with. "220" unless set: a mail server that is ready says so.',
        ),
    },
    # Name, unit (UCUM) and meaning of every number that `run` may emit.
    metrics=[("greeting.length", "By", "Bytes of the greeting.")],
    # Configurations that make sense; the conformance suite runs each of them.
    examples=[{"host": "mail.example.com", "port": 25}],
)


def run(config: dict) -> Outcome:
    """Everything blocks: the host lets others run meanwhile. A target that cannot be reached is `down` by itself, and what the host
    refuses an error."""
    heard = b""
    with tcp.connect(Endpoint(config["host"], config["port"]), Family.ANY) as connection:
        while not heard.endswith(b"\n") and len(heard) < 512:
            more = connection.read(512)
            if not more:
                break
            heard += more
    return judge(config, heard)


def judge(config: dict, heard: bytes) -> Outcome:
    line = heard.decode("utf-8", "replace").partition("\n")[0].strip()
    outcome = picket.up("it greets")
    picket.must(
        outcome,
        line.startswith(config["greeting"]),
        option="greeting",
        expected=config["greeting"],
        actual=line,
        code="{{name}}.greeting",
        summary=f"expected a greeting that begins with {config['greeting']!r}, heard {line!r}",
    )
    picket.metric(outcome, "greeting.length", len(heard), "By")
    return outcome


# What the host calls.
Checker = picket.checker(CHECK, run)
