// Answers and streams: what an application reads of each.
import { open, asked } from './open.mjs';

const client = open();
const { request, chatWith } = asked;
const { data: answer, response, request_id: requestId } = await client.chat.completions.create(request).withResponse();

let streamed = '';
const kinds = new Set();
for await (const chunk of await client.chat.completions.create({ ...request, stream: true })) {
  kinds.add(chunk.object);
  streamed += chunk.choices[0]?.delta?.content ?? '';
}

const helper = client.chat.completions.stream({ ...request, stream_options: { include_usage: true } });
let snapshot = '';
helper.on('content', (delta, all) => {
  snapshot = all;
});
const final = await helper.finalChatCompletion();

const models = [];
for await (const model of client.models.list()) models.push(model.id);
const withGuidance = await client.chat.completions.create({ ...request, ...chatWith });

console.log(
  JSON.stringify({
    answer,
    requestId,
    headers: Object.fromEntries(response.headers),
    streamed,
    kinds: [...kinds],
    snapshot,
    final,
    models,
    retrieved: await client.models.retrieve(request.model),
    guidance: withGuidance.guidance,
  }),
);
