"""The OpenAPI description is what the server does: schemathesis asks for whatever it allows and forbids.

A few cases of every route here; `LIMNER_CASES=500` for as many as one has patience for.
"""

import os
import re

import hypothesis
import pytest
import schemathesis
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

# Unknown characters are told of by a warning, and here most are.
pytestmark = pytest.mark.filterwarnings("ignore")

CASES = int(os.environ.get("LIMNER_CASES", "8"))
# What a trace or a path of the machine would show itself by.
TOLD = re.compile(r"Traceback|File \\?\"|site-packages|\.py\b|/(?:home|root|tmp|usr|var)/")


def tells_nothing_of_the_machine(_, response, case):
    """Beyond what the request said itself, of which a message repeats a part."""
    if "json" in response.headers.get("content-type", [""])[0]:
        sent = f"{case.body} {case.path_parameters} {case.query} {case.headers}"
        told = {found for found in TOLD.findall(response.text) if found not in sent}
        assert not told, response.text


CHECKS = [
    tells_nothing_of_the_machine,
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
ROUTES = [
    *("POST /v1/images/generations", "POST /v1/images/edits", "POST /v1/images/variations"),
    *("POST /v1/embeddings", "GET /v1/models", "GET /v1/models/{model}", "GET /pictures/{name}"),
    *("GET /healthz", "GET /metrics"),
]


@pytest.fixture(scope="module")
def operations(address):
    described = schemathesis.openapi.from_url(f"{address}/openapi.json")
    found = [result.ok() for result in described.get_all_operations()]
    return {f"{one.method.upper()} {one.path}": one for one in found}


def test_every_route_is_described(operations):
    assert sorted(operations) == sorted(ROUTES)


@pytest.mark.parametrize(
    "mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["allows", "forbids"]
)
@pytest.mark.parametrize("route", ROUTES)
def test_the_server_does_what_its_description_says(operations, route, mode):
    @hypothesis.settings(
        max_examples=CASES,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(case=operations[route].as_strategy(generation_mode=mode))
    def ask(case):
        _hasten(case.body)
        case.validate_response(case.call(), checks=CHECKS)

    try:
        ask()
    except hypothesis.errors.Unsatisfiable:
        # Where nothing is asked for, nothing wrong can be.
        assert mode is GenerationMode.NEGATIVE
        assert route.startswith("GET")


def _hasten(body):
    """What would be painted is painted quickly."""
    if not isinstance(body, dict) or "input" in body:
        return
    if isinstance(body.get("n"), int) and body["n"] > 2:
        body["n"] = 1
    if body.get("size") in (None, "auto"):
        body["size"] = "64x64"
    if body.get("steps") is None or (isinstance(body["steps"], int) and body["steps"] > 2):
        body["steps"] = 2
