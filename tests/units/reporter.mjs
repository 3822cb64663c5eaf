/** What `node --test` tells, as a line of JSON for each test: tests/test_units.py makes its results of them. */
import { inspect } from 'node:util';

/** @param {AsyncIterable<{ type: string, data: any }>} events */
export default async function* report(events) {
  for await (const { type, data } of events) {
    if (type === 'test:stderr') process.stderr.write(data.message); // why a file could not be loaded
    if (type !== 'test:pass' && type !== 'test:fail') continue;
    const { name, file = '', details } = data;
    const { error } = details;
    const fault = type === 'test:fail' ? inspect(error?.cause ?? error) : '';
    yield `${JSON.stringify({ name, file: file.split(/[\\/]/).at(-1), fault })}\n`;
  }
}
