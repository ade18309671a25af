import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { type ChatMessage, ChatTemplate, type RenderOptions } from '../../lib/tokenizer/index.ts';
import { readText, shared } from './helpers.ts';

interface Golden {
  /** The day on which the goldens were rendered. */
  today: string;
  vars: Record<string, string>;
  cases: Record<string, { messages: ChatMessage[] } & RenderOptions>;
  rows: { template: string; case: string; text?: string; error?: string }[];
}
const golden = JSON.parse(
  readFileSync(new URL('golden/chat-templates.json', import.meta.url), 'utf8'),
) as Golden;

const hi: ChatMessage[] = [{ role: 'user', content: 'Hi' }];
const render = (template: string, options?: RenderOptions, messages = hi) =>
  new ChatTemplate(template, { eos_token: '</s>' }).render(messages, options);

describe('as transformers renders them', () => {
  test.for([...new Set(golden.rows.map((row) => row.template))])('%s', async (name, context) => {
    const chat = new ChatTemplate(readText(shared(context, `data/chat-templates/${name}`)), golden.vars);
    for (const row of golden.rows.filter((each) => each.template === name)) {
      const { messages, ...options } = golden.cases[row.case]!;
      if (row.error !== undefined) {
        await expect(chat.render(messages, options), row.case).rejects.toMatchObject({
          code: 'EYRIE_TEMPLATE',
        });
      } else {
        const before = withDate(row.text!);
        const text = await chat.render(messages, options);
        // Rendered at midnight, it may be of either day.
        if (text !== before) expect(text, row.case).toBe(withDate(row.text!));
      }
    }
  });

  /** The golden with today's date, in the two forms that templates use. */
  function withDate(text: string): string {
    const forms = (date: Date) => {
      const [year, month, day] = [date.getFullYear(), date.getMonth() + 1, date.getDate()].map((n) =>
        `${n}`.padStart(2, '0'),
      );
      const name = 'Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec'.split(' ')[date.getMonth()];
      return [`${year}-${month}-${day}`, `${day} ${name} ${year}`];
    };
    const then = forms(new Date(`${golden.today}T12:00:00`));
    const now = forms(new Date());
    return text.replaceAll(then[0]!, now[0]!).replaceAll(then[1]!, now[1]!);
  }
});

describe('variables', () => {
  test('of the tokenizer, of the caller, and those that are always there', async () => {
    expect(await render('{{ eos_token }}{{ x }}|{{ add_generation_prompt }}', { extra: { x: 3 } })).toBe(
      '</s>3|true',
    );
    expect(await render('{{ tools is none }}{{ documents is none }}')).toBe('truetrue');
    expect(await render('{{ tools is none }}', { tools: [] })).toBe('true');
    expect(await render('{{ tools | length }}', { tools: [{}] })).toBe('1');
    expect(await render('{{ missing is defined }}')).toBe('false');
    const taken = { add_generation_prompt: false, messages: 'x', range: 1 };
    expect(
      await render('{{ add_generation_prompt }}{{ messages | length }}{{ range(2) }}', { extra: taken }),
    ).toBe('true1[0, 1]');
  });

  test('one render does not see another', async () => {
    expect(await render('{% set x = 1 %}{{ x }}')).toBe('1');
    expect(await render('{{ x is defined }}')).toBe('false');
    const counter =
      '{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}';
    expect(await Promise.all([render(counter), render(counter), render(counter)])).toEqual(['1', '1', '1']);
  });

  test('filters of what is absent, and text of values, as in Python', async () => {
    expect(await render('[{{ gone | trim }}{{ gone | string }}{{ gone | length }}{{ gone | list }}]')).toBe(
      '[0[]]',
    );
    const extra = { none_: null, yes: true, map: { a: 1.5, b: [null, "it's", 'x\n'] } };
    expect(await render('{{ none_ | string }} {{ yes | string }} {{ none_ | trim }}', { extra })).toBe(
      'None True None',
    );
    expect(await render('{{ map | string }}', { extra })).toBe(`{'a': 1.5, 'b': [None, "it's", 'x\\n']}`);
  });

  test('range and strftime_now as in Python', async () => {
    expect(await render('{{ range(3) }}{{ range(1, 6, 2) }}{{ range(3, 0, -1) }}{{ range(0) }}')).toBe(
      '[0, 1, 2][1, 3, 5][3, 2, 1][]',
    );
    const format = '%Y-%m-%dT%H:%M:%S %A %a %B %b %j %y %I%p %-d %% %q';
    const text = await render(`{{ strftime_now('${format}') }}`);
    expect(text).toMatch(
      /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d \w+day \w{3} \w+ \w{3} \d{3} \d\d \d\d[AP]M [1-9]\d? % %q$/,
    );
    expect(Math.abs(Date.now() - new Date(text.slice(0, 19)).getTime())).toBeLessThan(10_000);
  });
});

describe('messages', () => {
  const show = '{% for m in messages %}{{ m.content is string }}:{{ m.content }};{% endfor %}';

  test('parts that are all text become text; others are left to the template', async () => {
    const part = (text: string) => ({ type: 'text', text });
    expect(await render(show, {}, [{ role: 'user', content: [part('a'), part('b')] }])).toBe('true:a\nb;');
    const image = [part('a'), { type: 'image_url', image_url: { url: 'x' } }];
    expect(await render(show, {}, [{ role: 'user', content: image }])).toMatch(/^false:\[/);
    expect(
      await render('{{ messages[0].content is none }}', {}, [{ role: 'assistant', content: null }]),
    ).toBe('true');
  });

  test('arguments of a call are an object, and still text for templates that join them', async () => {
    const call = (text: string): ChatMessage[] => [
      {
        role: 'assistant',
        content: '',
        tool_calls: [{ type: 'function', function: { name: 'f', arguments: text } }],
      },
    ];
    const path = 'messages[0].tool_calls[0].function.arguments';
    const text = '{"b":1,  "a":[true]}';
    expect(await render(`{{ ${path} | tojson }}`, {}, call(text))).toBe('{"b": 1, "a": [true]}');
    expect(
      await render(`{% for k, v in ${path} | items %}{{ k }}={{ v }};{% endfor %}`, {}, call(text)),
    ).toBe('b=1;a=[true];');
    expect(await render(`{{ 'x' + ${path} }}{{ ${path} ~ 'y' }}`, {}, call(text))).toBe(`x${text}${text}y`);
    expect(await render(`{{ ${path} }}`, {}, call('no json'))).toBe('no json');
    const object = call('');
    Object.assign((object[0]!.tool_calls as { function: object }[])[0]!.function, { arguments: { a: 1 } });
    expect(await render(`{{ ${path} | tojson }}`, {}, object)).toBe('{"a": 1}');
  });

  test('that are none', async () => {
    for (const bad of [null, 'x', { content: 'x' }]) {
      await expect(render('', {}, [bad as never])).rejects.toMatchObject({
        code: 'EYRIE_INVALID_ARGUMENT',
        message: expect.stringContaining('messages[0]'),
      });
    }
    await expect(render('', { extra: { f: () => 1 } })).rejects.toMatchObject({
      code: 'EYRIE_INVALID_ARGUMENT',
    });
    await expect(render('', {}, 'hi' as never)).rejects.toMatchObject({ code: 'EYRIE_INVALID_ARGUMENT' });
    expect(await render('{{ messages | length }}', {}, [])).toBe('0');
  });
});

describe('failures', () => {
  const failure = (code: string, pattern: RegExp) => ({ code, message: expect.stringMatching(pattern) });

  test('without a template, chat says what to do', async () => {
    await expect(new ChatTemplate(null).render(hi)).rejects.toMatchObject(
      failure('EYRIE_TEMPLATE', /complete\(\).*--raw/),
    );
  });

  test('raise_exception, syntax and other errors', async () => {
    await expect(render("{{ raise_exception('No ' + messages[0].role) }}")).rejects.toMatchObject(
      failure('EYRIE_TEMPLATE', /refuses these messages: No user$/),
    );
    await expect(render('{% if %}')).rejects.toMatchObject(failure('EYRIE_TEMPLATE', /malformed: /));
    await expect(render('{{ 1 | nothing }}')).rejects.toMatchObject(
      failure('EYRIE_TEMPLATE', /failed on these messages: /),
    );
    expect(await render('fine')).toBe('fine');
  });

  const ENDLESS = '{% for i in range(10**6) %}{% for j in range(10**6) %}{% endfor %}{% endfor %}';

  test('a template that does not end is stopped, and the event loop runs meanwhile', async () => {
    await render('warm');
    let longest = 0;
    let last = performance.now();
    const timer = setInterval(() => {
      longest = Math.max(longest, performance.now() - last);
      last = performance.now();
    }, 5);
    const start = performance.now();
    await expect(render(ENDLESS, { timeoutMs: 1000 })).rejects.toMatchObject(
      failure('EYRIE_TEMPLATE', /did not finish within 1000 ms/),
    );
    clearInterval(timer);
    expect(performance.now() - start).toBeLessThan(10_000);
    expect(longest).toBeLessThan(500);
  });

  test('the default deadline is two seconds', async () => {
    const start = performance.now();
    await expect(render(ENDLESS)).rejects.toMatchObject(failure('EYRIE_TEMPLATE', /within 2000 ms/));
    expect(performance.now() - start).toBeLessThan(10_000);
  });

  test('renders that wait behind it succeed', async () => {
    const results = await Promise.allSettled([render(ENDLESS, { timeoutMs: 200 }), render('a'), render('b')]);
    expect(results.map((result) => result.status)).toEqual(['rejected', 'fulfilled', 'fulfilled']);
  });

  test('a range beyond measure, and a template that eats memory', async () => {
    await expect(
      render('{% for i in range(10**9) %}{% for j in range(10**9) %}x{% endfor %}{% endfor %}'),
    ).rejects.toMatchObject(failure('EYRIE_TEMPLATE', /range\(\) of 1000000000 numbers/));
    const hungry =
      '{% set ns = namespace(a=[1]) %}{% for i in range(60) %}{% set ns.a = ns.a + ns.a %}{% endfor %}{{ ns.a | length }}';
    await expect(render(hungry, { timeoutMs: 20_000 })).rejects.toMatchObject({ code: 'EYRIE_TEMPLATE' });
    expect(await render('alive')).toBe('alive');
  });

  test('a template cannot reach the process', async () => {
    for (const path of [
      'process',
      'require',
      'globalThis',
      'messages.constructor',
      'messages.__proto__',
      "''.constructor",
    ]) {
      expect(await render(`{{ ${path} is defined }}`), path).toBe('false');
    }
  });
});
