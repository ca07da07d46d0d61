"""What goes over the wire: the fields of the images API, by its names and limits, and ours beside them.

A field that nobody knows is refused, as the API does: a mistyped seed would else paint something by chance.
"""

import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from limner.pipelines.settings import LARGEST_SEED, LONGEST_PROMPT, MOST_GUIDANCE, MOST_STEPS
from limner.server.errors import Refused

MOST_PICTURES = 10
MOST_SKETCHES = 3
MOST_INPUTS = 256

# Models that a client may have been written for: whoever asks for them gets the first that is served.
OPENAI_IMAGES = re.compile(r"dall-e-|gpt-image-|chatgpt-image-")
# Of these, those whose clients expect base64 where they do not say.
OPENAI_BASE64 = re.compile(r"(chat)?gpt-image-")
OPENAI_EMBEDDINGS = re.compile(r"text-embedding-")

Format: TypeAlias = Literal["url", "b64_json"]
# What painters have one kind of: taken as it comes, and without effect.
Quality: TypeAlias = Literal["auto", "low", "medium", "high", "xhigh", "max", "standard", "hd"]

# As OpenAPI describes text.
PLAIN = {"type": "string"}

M = TypeVar("M", bound=BaseModel)


class Wanted(BaseModel):
    """What generations, edits and variations have in common."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    model: str | None = Field(None, description="A served painter; by default the first that can do it.")
    n: Annotated[int, Field(ge=1, le=MOST_PICTURES)] | None = Field(
        None, description="Number of pictures; by default 1."
    )
    size: str | None = Field(
        None,
        description="256x256, 512x512 or 1024x1024, or a size of the painter's own such as 64x64; by default "
        "1024x1024, or the largest of a painter that does not reach it.",
    )
    response_format: Format | None = Field(
        None, description="By default url; b64_json for the names of models that never had another."
    )
    user: str | None = Field(None, description="Taken and not used.")
    seed: Annotated[int, Field(ge=0, le=LARGEST_SEED)] | None = Field(
        None, description="All chance comes from it; picture i has seed + i. By default drawn, and answered."
    )

    @property
    def count(self) -> int:
        """How many pictures."""
        return 1 if self.n is None else self.n

    @property
    def as_base64(self) -> bool:
        """Whether pictures are part of the answer, and not left to be fetched."""
        if self.response_format is None:
            return self.model is not None and OPENAI_BASE64.match(self.model) is not None
        return self.response_format == "b64_json"


class Worded(Wanted):
    """What generations and edits have in common: words, and what steers them."""

    prompt: str = Field(description=f"What to paint, in at most {LONGEST_PROMPT} characters.")
    steps: Annotated[int, Field(ge=1, le=MOST_STEPS)] | None = Field(
        None, description="Steps of the small picture, where the painter takes steps."
    )
    guidance: Annotated[float, Field(ge=0, le=MOST_GUIDANCE)] | None = Field(
        None, description="How strongly the words are heeded; 1 as trained."
    )
    negative_prompt: str | None = Field(
        None,
        description="What not to paint, where the painter is DALL-E 2 or GLIDE; guidance leads away from it.",
    )
    stream: bool | None = Field(None, description="Answer with server-sent events.")
    partial_images: Annotated[int, Field(ge=0, le=MOST_SKETCHES)] | None = Field(
        None, description="Of a stream: pictures on their way, of each picture."
    )
    quality: Quality | None = Field(None, description="Taken and not used.")
    background: Literal["auto", "opaque"] | None = Field(None, description="Pictures are opaque.")
    output_format: Literal["png"] | None = Field(None, description="Pictures are PNG.")
    output_compression: Annotated[int, Field(ge=0, le=100)] | None = Field(
        None, description="Taken and not used: PNG loses nothing."
    )
    moderation: Literal["auto", "low"] | None = Field(None, description="Taken and not used.")
    safety_identifier: str | None = Field(None, description="Taken and not used.")


class Generation(Worded):
    """The body of POST /v1/images/generations."""

    # What JSON says is meant: no number in quotes, and no yes for a number.
    model_config = ConfigDict(
        strict=True, json_schema_extra={"example": {"prompt": "a red apple", "size": "256x256", "seed": 7}}
    )

    style: Literal["vivid", "natural"] | None = Field(None, description="Taken and not used.")


class Edit(Worded):
    """The fields of POST /v1/images/edits, besides the files image and mask."""

    input_fidelity: Literal["high", "low"] | None = Field(None, description="Taken and not used.")


class Variation(Wanted):
    """The fields of POST /v1/images/variations, besides the file image."""


class Embedding(BaseModel):
    """The body of POST /v1/embeddings."""

    model_config = ConfigDict(
        extra="forbid", strict=True, json_schema_extra={"example": {"model": "clip", "input": "a red apple"}}
    )

    input: str | Annotated[list[str], Field(min_length=1, max_length=MOST_INPUTS)] = Field(
        description="Words, or pictures as data:image/… URLs; one or several."
    )
    model: str | None = Field(None, description="clip.")
    encoding_format: Literal["float", "base64"] | None = Field(None, description="By default float.")
    dimensions: int | None = Field(None, description="Numbers of an embedding: as many as CLIP has.")
    user: str | None = Field(None, description="Taken and not used.")


class Picture(BaseModel):
    """One picture of an answer: its address, or its PNG in base64; and the seed that paints it again."""

    url: str | None = None
    b64_json: str | None = None
    seed: int


class Pictures(BaseModel):
    """The answer of the three that paint."""

    created: int
    data: list[Picture]


class Embedded(BaseModel):
    """One unit vector, as numbers or as the base64 of little-endian float32."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class Usage(BaseModel):
    """How many tokens were read; a picture counts none."""

    prompt_tokens: int
    total_tokens: int


class Embeddings(BaseModel):
    """The answer of POST /v1/embeddings."""

    object: Literal["list"] = "list"
    data: list[Embedded]
    model: str
    usage: Usage


class Model(BaseModel):
    """A model that is served."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "limner"


class Models(BaseModel):
    """All that are."""

    object: Literal["list"] = "list"
    data: list[Model]


class Failure(BaseModel):
    """What is wrong: for people, and the field and a name for programs."""

    message: str
    type: str
    param: str | None
    code: str | None


class Failed(BaseModel):
    """The body of every answer that is an error."""

    error: Failure


def of_type(kind: str, schema: dict[str, Any]) -> dict[int | str, dict[str, Any]]:
    """What OpenAPI says of an answer that is no JSON."""
    return {200: {"content": {kind: {"schema": schema}}}}


def read(model: type[M], fields: dict[str, Any]) -> M:
    """The fields of a form as what they are meant for. Raises Refused for the first that is wrong."""
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        raise of_details(error.errors()) from error


def of_details(found: Sequence[Any]) -> Refused:
    """What pydantic says of wrong fields, in the API's shape: of one of them, a misspelt one first."""
    details: ErrorDetails = min(found, key=lambda one: one["type"] != "extra_forbidden")
    # FastAPI puts in front where the field was, "body"; what stands behind a name is which of several types.
    names = [str(part) for part in details["loc"] if part != "body"]
    name = names[0] if names else None
    if details["type"] == "json_invalid" or name is None:
        return Refused("the body is no JSON object: send one, with Content-Type: application/json")
    if details["type"] == "missing":
        return Refused(f"{name} is missing: give it", param=name, code="missing_required_parameter")
    if details["type"] == "extra_forbidden":
        return Refused(
            f"{name[:40]} is no field of this request: leave it out",
            param=name[:40],
            code="unknown_parameter",
        )
    said = details["msg"][:1].lower() + details["msg"][1:]
    return Refused(f"{name} is {repr(details['input'])[:60]}: {said}", param=name, code="invalid_value")
