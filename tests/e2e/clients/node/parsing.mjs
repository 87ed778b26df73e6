// A zod schema as response_format: parsed, and parsed at the end of a stream.
import { zodResponseFormat } from 'openai/helpers/zod';
import { z } from 'zod';
import { open, asked } from './open.mjs';

const person = z.object({ name: z.enum(['Ann', 'Bob']), age: z.int().min(1).max(99) });
const request = { ...asked.request, response_format: zodResponseFormat(person, 'person') };
const whole = await open().chat.completions.parse(request);
const final = await open().chat.completions.stream(request).finalChatCompletion();
console.log(
  JSON.stringify({
    parsed: whole.choices[0].message.parsed,
    streamed: final.choices[0].message.parsed,
  }),
);
