"""The page at /docs: the OpenAPI description as plain HTML, which asks nothing of anybody else's server."""

import json
from collections.abc import Mapping
from html import escape
from typing import Any

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto; padding: 0 1rem }
body { color: #222 }
h2 { margin-top: 2.5rem; border-bottom: 1px solid #ddd } code, pre { font: 14px ui-monospace, monospace }
pre { background: #f5f5f2; padding: .8rem; overflow-x: auto }
td { vertical-align: top; padding: .2rem 1rem .2rem 0 }
@media (prefers-color-scheme: dark) { body { background: #191919; color: #ddd } pre { background: #262626 } }
"""
CLIENT = """from openai import OpenAI

client = OpenAI(base_url="http://127.0.0.1:8000/v1", api_key="none")
print(client.images.generate(prompt="a red apple", size="256x256").data[0].url)"""


def page(described: Mapping[str, Any]) -> str:
    """HTML of an OpenAPI document: every route with its fields, their defaults and what they are for."""
    routes = [
        _route(path, method, operation, described)
        for path, methods in described["paths"].items()
        for method, operation in methods.items()
    ]
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>limner</title><style>{STYLE}</style>"
        f"<h1>limner {escape(described['info']['version'])}</h1>"
        "<p>The images API that DALL-E clients speak. "
        "For programs: <a href=/openapi.json>openapi.json</a>.</p>"
        f"<pre>{escape(CLIENT)}</pre>{''.join(routes)}</html>"
    )


def _route(path: str, method: str, operation: Mapping[str, Any], described: Mapping[str, Any]) -> str:
    content = operation.get("requestBody", {}).get("content", {})
    parts = []
    for kind, body in content.items():
        schema = _resolved(body["schema"], described)
        rows = "".join(
            _field(name, field, name in schema.get("required", ()))
            for name, field in schema["properties"].items()
        )
        parts.append(f"<p><code>{escape(kind)}</code></p><table>{rows}</table>")
        if (example := schema.get("example")) is not None:
            parts.append(
                f"<pre>curl http://127.0.0.1:8000{escape(path)} -H 'Content-Type: {escape(kind)}' \\\n"
                f"  -d '{escape(json.dumps(example))}'</pre>"
            )
    told = escape(operation.get("description", ""))
    return f"<h2><code>{method.upper()} {escape(path)}</code></h2><p>{told}</p>{''.join(parts)}"


def _field(name: str, field: Mapping[str, Any], required: bool) -> str:
    needed = " (needed)" if required else ""
    told = escape(field.get("description", ""))
    return f"<tr><td><code>{escape(name)}</code>{needed}<td>{escape(_kind(field))}<td>{told}"


def _kind(field: Mapping[str, Any]) -> str:
    """What may stand in a field, in a few words."""
    if "anyOf" in field:
        return " or ".join(dict.fromkeys(_kind(one) for one in field["anyOf"] if one.get("type") != "null"))
    if "enum" in field:
        return ", ".join(map(str, field["enum"]))
    if "const" in field:
        return str(field["const"])
    if field.get("format") == "binary":
        return "file"
    span = f" {field['minimum']} to {field['maximum']}" if "maximum" in field else ""
    return f"{field.get('type', '')}{span}"


def _resolved(schema: Mapping[str, Any], described: Mapping[str, Any]) -> Mapping[str, Any]:
    """A schema, where it only says where it stands the one that stands there."""
    if "$ref" not in schema:
        return schema
    found: Mapping[str, Any] = described["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return found
