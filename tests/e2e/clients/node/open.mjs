// The client as an application opens it (address and key from the environment), and what the test asks for.
import OpenAI from 'openai';

export const asked = JSON.parse(process.argv[2]);
export const open = (options = {}) => new OpenAI({ maxRetries: 0, ...options });
