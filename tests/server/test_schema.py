"""The OpenAPI description is what the server does: schemathesis asks for whatever it allows and forbids.

A few cases of every route here; `LIMNER_CASES=500` for as many as one has patience for.
"""

import os

import hypothesis
import pytest
import schemathesis
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

# Unknown characters are told of by a warning, and here most are.
pytestmark = pytest.mark.filterwarnings("ignore")

CASES = int(os.environ.get("LIMNER_CASES", "6"))


@pytest.fixture(scope="module")
def described(address):
    return schemathesis.openapi.from_url(f"{address}/openapi.json")


schema = schemathesis.pytest.from_fixture("described")


@schema.parametrize()
@hypothesis.settings(
    max_examples=CASES, deadline=None, suppress_health_check=list(hypothesis.HealthCheck), derandomize=True
)
def test_the_server_does_what_its_description_says(case):
    body = case.body
    if isinstance(body, dict) and "input" not in body:
        # What would be painted is painted quickly.
        if isinstance(body.get("n"), int) and body["n"] > 2:
            body["n"] = 1
        if body.get("size") in (None, "auto"):
            body["size"] = "64x64"
        if body.get("steps") is None or (isinstance(body["steps"], int) and body["steps"] > 2):
            body["steps"] = 2
    answer = case.call()
    case.validate_response(
        answer,
        checks=[
            not_a_server_error,
            status_code_conformance,
            content_type_conformance,
            response_schema_conformance,
        ],
    )
