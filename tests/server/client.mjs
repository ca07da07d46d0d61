// What the npm client makes of a server, as JSON for the test that runs this.
import OpenAI, { toFile } from "openai";

const [baseURL, image, mask] = process.argv.slice(2);
const fs = await import("node:fs");
const client = new OpenAI({ baseURL, apiKey: "none", maxRetries: 0 });
const quick = { prompt: "a pear", size: "64x64", steps: 2, seed: 5 };

const said = {};
said.generated = (await client.images.generate({ ...quick, n: 2, response_format: "b64_json" })).data;
said.fetched = (await fetch((await client.images.generate(quick)).data[0].url)).headers.get("content-type");
said.streamed = [];
for await (const event of await client.images.generate({ ...quick, stream: true, partial_images: 1 })) {
  said.streamed.push(event.type);
}
const file = (path) => toFile(fs.createReadStream(path), null, { type: "image/png" });
said.edited = (await client.images.edit({ ...quick, image: await file(image), mask: await file(mask) })).data;
said.varied = (await client.images.createVariation({ image: await file(image), size: "64x64", seed: 5 })).data;
said.models = (await client.models.list()).data.map((model) => model.id);
said.embedded = (await client.embeddings.create({ model: "clip", input: "a pear" })).data[0].embedding.length;
try {
  await client.images.generate({ ...quick, size: "1x1" });
} catch (error) {
  said.refused = { name: error.constructor.name, status: error.status, param: error.param };
}
console.log(JSON.stringify(said));
