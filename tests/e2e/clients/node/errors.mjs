// What is thrown for each mistake, how often it was sent, and what becomes of an aborted stream.
import OpenAI from 'openai';
import { open, asked } from './open.mjs';

const { request, mistakes } = asked;
let sent = 0;
const counting = open({
  maxRetries: 3,
  fetch: (url, init) => {
    sent += 1;
    return fetch(url, init);
  },
});

const caught = {};
for (const [name, fields] of Object.entries(mistakes)) {
  sent = 0;
  try {
    await counting.chat.completions.create({ ...request, ...fields });
  } catch (error) {
    const { status, code, param, type, requestID } = error;
    caught[name] = { class: error.constructor.name, status, code, param, type, requestID, sent };
  }
}

const stream = await open().chat.completions.create({ ...request, stream: true });
let chunks = 0;
for await (const _ of stream) {
  chunks += 1;
  stream.controller.abort();
}

const abort = new AbortController();
setTimeout(() => abort.abort(), 20);
const aborted = await open()
  .chat.completions.create(request, { signal: abort.signal })
  .then(
    () => 'answered',
    (error) => (error instanceof OpenAI.APIUserAbortError ? 'aborted' : String(error)),
  );
const after = await open().chat.completions.create(request);
console.log(JSON.stringify({ caught, chunks, aborted, after: after.choices[0].message.content }));
