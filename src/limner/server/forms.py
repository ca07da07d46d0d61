"""Forms with pictures: how they are described, and how they are read."""

from typing import Any

from fastapi import Request
from starlette.datastructures import UploadFile

from limner.server.errors import Refused
from limner.server.wire import M

# Fields of a form that are files; clients of several pictures write brackets.
FILES = {"image": "image", "image[]": "image", "mask": "mask"}
MOST_FIELDS = 64


def form_schema(model: type[M], required: list[str], files: list[str]) -> dict[str, Any]:
    """What OpenAPI says of a form that is read here."""
    schema = model.model_json_schema()
    schema["properties"] |= {name: {"type": "string", "format": "binary"} for name in files}
    schema["required"] = required
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


async def read_form(request: Request) -> tuple[dict[str, str], dict[str, bytes]]:
    """The fields and the files of a form. Raises Refused for what is none, or has a field twice."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "multipart/form-data":
        raise Refused(
            f"the body is {kind[:40] or 'of no type'}: send multipart/form-data",
            status=415,
            code="invalid_body",
        )
    fields: dict[str, str] = {}
    files: dict[str, bytes] = {}
    async with request.form(max_files=len(FILES), max_fields=MOST_FIELDS) as form:
        for key, value in form.multi_items():
            name = FILES.get(key, key)
            if name in fields or name in files:
                raise Refused(f"{name[:40]} is there more than once: send one", param=name[:40])
            if isinstance(value, UploadFile):
                if name not in FILES.values():
                    raise Refused(f"{name[:40]} is a file: send it as a field", param=name[:40])
                files[name] = await value.read()
            elif name in FILES.values():
                raise Refused(f"{name} is no file: send one, such as -F {name}=@apple.png", param=name)
            else:
                fields[name] = value
    return fields, files


def needed_file(files: dict[str, bytes], name: str) -> bytes:
    """A file that has to be there. Raises Refused where it is not."""
    if name not in files:
        raise Refused(f"{name} is missing: send a picture", param=name, code="missing_required_parameter")
    return files[name]
