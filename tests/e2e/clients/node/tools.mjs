// Tool calls: unary, streamed, and `runTools`, which calls the tool and asks again with its result.
import { zodFunction } from 'openai/helpers/zod';
import { z } from 'zod';
import { open, asked } from './open.mjs';

const { request, forced, regexAfterTheResult, noSpaces } = asked;
const answer = await open().chat.completions.create({ ...request, ...forced });
const stream = open().chat.completions.stream({ ...request, ...forced });
const ended = [];
stream.on('tool_calls.function.arguments.done', ({ name, arguments: text }) => ended.push({ name, arguments: text }));
const streamed = await stream.finalChatCompletion();

// The tool must be called first, and not again after its result. A model that knows tools needs no telling; this one
// would be forced to call for ever.
const oneCallThenAnAnswer = async (url, init) => {
  const body = JSON.parse(init.body);
  const hasResult = body.messages.some((message) => message.role === 'tool');
  const extra = hasResult
    ? { tool_choice: 'none', structured_outputs: { regex: regexAfterTheResult } }
    : { tool_choice: 'required', logit_bias: noSpaces };
  return fetch(url, { ...init, body: JSON.stringify({ ...body, ...extra }) });
};

async function run(streaming) {
  const calls = [];
  const weather = zodFunction({
    name: 'weather',
    description: 'The weather of a city.',
    parameters: z.object({ city: z.enum(['Oslo', 'Rome']) }),
    function: (parsed) => {
      calls.push(parsed);
      return 'It is warm.';
    },
  });
  const runner = open({ fetch: oneCallThenAnAnswer }).chat.completions.runTools({
    ...request,
    stream: streaming,
    tools: [weather],
  });
  return { calls, content: await runner.finalContent(), roles: runner.messages.map((message) => message.role) };
}

console.log(JSON.stringify({ answer, streamed, ended, run: await run(false), runStreamed: await run(true) }));
