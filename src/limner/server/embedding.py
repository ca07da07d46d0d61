"""The route that embeds words and pictures: CLIP's unit vectors, by the API's names."""

import asyncio
import base64
import math

import numpy as np
from fastapi import FastAPI, Request

from limner.pipelines.settings import checked_prompt
from limner.pipelines.words import checked_words
from limner.server.door import caller
from limner.server.errors import Refused, of_value
from limner.server.pictures import of_data_url, picture
from limner.server.service import CLIP, Sent, Service
from limner.server.waiting import result_of
from limner.server.wire import Embedded, Embedding, Embeddings, Usage

# How many times the pixels of the largest picture all those of one request may have.
MOST_TOGETHER = 4


def add_embedding(app: FastAPI, service: Service, unpacking: asyncio.Semaphore) -> None:
    """Add it to an application; `unpacking` is held while a picture is unpacked to be looked at."""

    @app.post("/v1/embeddings", response_model=Embeddings)
    async def embeddings(request: Request, asked: Embedding) -> Embeddings:
        """CLIP's unit vectors of words and pictures, whose products say how well they go together."""
        reader = service.checked_clip(asked.model)
        width = reader.clip.config.embedding
        if asked.dimensions not in (None, width):
            raise Refused(
                f"dimensions is {asked.dimensions}: this CLIP has {width}, so leave it out",
                param="dimensions",
                code="invalid_value",
            )
        inputs = [asked.input] if isinstance(asked.input, str) else asked.input
        # All are looked at before any is worked on.
        sent, tokens, pixels = [], 0, 0
        for text in inputs:
            image = of_data_url(text, "input")
            if image is None:
                try:
                    checked_prompt(text, "input")
                    checked_words(text, "input")
                except ValueError as error:
                    raise of_value(error) from error
                tokens += len(reader.tokenizer.encode(text))
            else:
                async with unpacking:
                    shown = await asyncio.to_thread(picture, image, "input", pixels=service.limits.pixels)
                pixels += math.prod(shown.size)
                if pixels > MOST_TOGETHER * service.limits.pixels:
                    raise Refused(
                        f"input has more than {MOST_TOGETHER * service.limits.pixels:,} pixels in all: send "
                        "smaller pictures, or fewer",
                        param="input",
                        code="image_too_large",
                    )
            sent.append(Sent(text if image is None else "", image))
        data = []
        job = service.read_next(tuple(sent), caller=caller(request))
        vectors = await result_of(request, service.reading, job)
        for index, vector in enumerate(vectors):
            packed = base64.b64encode(np.asarray(vector, "<f4").tobytes()).decode()
            data.append(
                Embedded(index=index, embedding=packed if asked.encoding_format == "base64" else vector)
            )
        return Embeddings(data=data, model=CLIP, usage=Usage(prompt_tokens=tokens, total_tokens=tokens))
