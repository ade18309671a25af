/**
 * The program of the worker thread that renders chat templates. It is kept as text because a worker needs JavaScript,
 * and this package also runs from its TypeScript sources. `workerData.jinja` is the path of `@huggingface/jinja`.
 *
 * In: `{template, context}`. Out: `'ready'` once, then for each job `{text}` or `{stage, message}`, where stage is
 * `syntax` (the template does not parse), `raise` (it called raise_exception) or `render`.
 */
export const TEMPLATE_WORKER = String.raw`
'use strict';
const { parentPort, workerData } = require('node:worker_threads');
const { Environment, Interpreter, tokenize, parse } = require(workerData.jinja);

const MAX_RANGE = 1e6;
const MAX_TEXT = 1 << 26;
const DAYS = ['Sunday', 'Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday'];
const MONTHS = ['January', 'February', 'March', 'April', 'May', 'June', 'July', 'August', 'September', 'October',
  'November', 'December'];

class Raised extends Error {}

function range(start, stop, step = 1) {
  if (stop === undefined || stop === null) [start, stop] = [0, start];
  if (step === 0) throw new Error('range() step must not be zero');
  const length = Math.max(0, Math.ceil((stop - start) / step));
  if (length > MAX_RANGE) throw new Error('range() of ' + length + ' numbers, more than ' + MAX_RANGE);
  return Array.from({ length }, (_, i) => start + i * step);
}

// In English whatever the locale, as Python does it for a model that has seen nothing else.
function strftime(format) {
  const now = new Date();
  const pad = (n, width = 2) => String(n).padStart(width, '0');
  const hour12 = now.getHours() % 12 || 12;
  const month = MONTHS[now.getMonth()];
  const day = DAYS[now.getDay()];
  const newYear = new Date(now.getFullYear(), 0, 1);
  const values = {
    Y: now.getFullYear(), y: pad(now.getFullYear() % 100), m: pad(now.getMonth() + 1), d: pad(now.getDate()),
    e: String(now.getDate()).padStart(2, ' '), B: month, b: month.slice(0, 3), A: day, a: day.slice(0, 3),
    H: pad(now.getHours()), I: pad(hour12), M: pad(now.getMinutes()), S: pad(now.getSeconds()),
    p: now.getHours() < 12 ? 'AM' : 'PM', j: pad(Math.round((now - newYear) / 864e5) + 1, 3), '%': '%',
  };
  return format.replace(/%(-?)([YymdeBbAaHIMSpj%])/g, (_, bare, key) =>
    bare ? String(values[key]).replace(/^[0 ]+(?=.)/, '') : String(values[key]));
}

function raise(message) {
  throw new Raised(String(message));
}

/**
 * Arguments of a tool call are JSON text in the OpenAI format, but most templates iterate them or write them with
 * tojson. They become objects that still turn into the original text where a template joins them to a string.
 */
function openArguments(env) {
  for (const message of env.lookupVariable('messages').value) {
    const calls = message.value instanceof Map ? message.value.get('tool_calls') : undefined;
    if (!calls || !Array.isArray(calls.value)) continue;
    for (const call of calls.value) {
      const target = call.value instanceof Map ? call.value.get('function') ?? call : call;
      const text = target.value instanceof Map ? target.value.get('arguments')?.value : undefined;
      if (typeof text !== 'string') continue;
      let object;
      try {
        object = JSON.parse(text);
      } catch {
        continue;
      }
      if (object === null || typeof object !== 'object' || Array.isArray(object)) continue;
      const value = runtimeValue(object);
      Object.defineProperty(value.value, 'toString', { value: () => text });
      target.value.set('arguments', value);
    }
  }
}

const runtimeValue = (value) => new Environment().set('value', value);

/** Python's str() of what Jinja prints: None, True, {'a': 1}. */
function python(value, inside = false) {
  if (value.type === 'NullValue') return 'None';
  if (value.type === 'UndefinedValue') return '';
  if (value.type === 'BooleanValue') return value.value ? 'True' : 'False';
  if (Array.isArray(value.value)) return '[' + value.value.map((item) => python(item, true)).join(', ') + ']';
  if (value.value instanceof Map) {
    const entries = [...value.value].map(([key, item]) => python(runtimeValue(key), true) + ': ' + python(item, true));
    return '{' + entries.join(', ') + '}';
  }
  if (value.type !== 'StringValue' || !inside) return value.toString();
  const quote = value.value.includes("'") && !value.value.includes('"') ? '"' : "'";
  const escaped = value.value.replace(/[\\\n\r\t]/g, (c) => JSON.stringify(c).slice(1, -1));
  return quote + (quote === "'" ? escaped.replaceAll("'", "\\'") : escaped) + quote;
}

/** The library has no filters for undefined and null, and its "string" speaks JSON where Jinja speaks Python. */
class PythonInterpreter extends Interpreter {
  applyFilter(operand, filter, environment) {
    const name = filter.type === 'Identifier' ? filter.value : undefined;
    if (name === 'string') return runtimeValue(python(operand));
    if (operand.type === 'UndefinedValue' && name === 'length') return runtimeValue(0);
    if (operand.type === 'UndefinedValue' && name === 'list') return runtimeValue([]);
    const absent = operand.type === 'UndefinedValue' || operand.type === 'NullValue';
    const textual = ['trim', 'lower', 'upper', 'title', 'capitalize'].includes(name);
    return super.applyFilter(absent && textual ? runtimeValue(python(operand)) : operand, filter, environment);
  }
}

const programs = new Map();

function program(template) {
  let parsed = programs.get(template);
  if (parsed === undefined) {
    parsed = parse(tokenize(template, { lstrip_blocks: true, trim_blocks: true }));
    if (programs.size >= 8) programs.clear();
    programs.set(template, parsed);
  }
  return parsed;
}

function render({ template, context }) {
  let stage = 'syntax';
  try {
    const parsed = program(template);
    stage = 'render';
    const env = new Environment();
    const globals = {
      true: true, false: false, none: null, True: true, False: false, None: null,
      range, strftime_now: strftime, raise_exception: raise,
    };
    for (const [name, value] of Object.entries({ ...context, ...globals })) env.set(name, value);
    openArguments(env);
    const text = new PythonInterpreter(env).run(parsed).value;
    if (text.length > MAX_TEXT) throw new Error('its text has ' + text.length + ' characters, more than ' + MAX_TEXT);
    return { text };
  } catch (error) {
    return { stage: error instanceof Raised ? 'raise' : stage, message: String(error?.message ?? error) };
  }
}

parentPort.on('message', (job) => parentPort.postMessage(render(job)));
parentPort.postMessage('ready');
`;
