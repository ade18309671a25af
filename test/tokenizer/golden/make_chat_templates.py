"""Renders chat templates with transformers, as goldens for test/tokenizer/chat-template.test.ts.

    python test/tokenizer/golden/make_chat_templates.py <folder with *.jinja>

Writes chat-templates.json beside this file. Needs transformers (made with 5.18) and jinja2. The date is fixed to TODAY;
the test puts the real one in its place.
"""

import copy
import datetime
import json
import pathlib
import re
import sys

from transformers.utils import chat_template_utils

TODAY = datetime.datetime(2001, 2, 3, 4, 5, 6)
VARS = {"bos_token": "<s>", "eos_token": "</s>"}

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city, \u2018now\u2019",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "description": "Its name"}, "days": {"type": "integer"}},
            "required": ["city"],
        },
    },
}

SYSTEM = {"role": "system", "content": "You are terse."}
HI = {"role": "user", "content": "Hi, w\u00f6rld \U0001f980!\n  Second line & <b>."}
CALL = {
    "role": "assistant",
    "content": "",
    "tool_calls": [
        {
            "id": "call12345",
            "type": "function",
            "function": {"name": "get_weather", "arguments": '{"city": "Z\u00fcrich", "days": 2}'},
        }
    ],
}
RESULT = {"role": "tool", "name": "get_weather", "tool_call_id": "call12345", "content": '{"celsius": 21}'}

CASES = {
    "user": {"messages": [HI]},
    "system": {"messages": [SYSTEM, HI]},
    "turns": {
        "messages": [SYSTEM, HI, {"role": "assistant", "content": "Hello."}, {"role": "user", "content": "More?"}]
    },
    "closed": {"messages": [HI, {"role": "assistant", "content": "Hello."}], "addGenerationPrompt": False},
    "thinking": {
        "messages": [
            HI,
            {"role": "assistant", "content": "<think>\nA greeting.\n</think>\n\nHello."},
            {"role": "user", "content": "And?"},
        ]
    },
    "no-thinking": {"messages": [HI], "extra": {"enable_thinking": False}},
    "parts": {
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "One"}, {"type": "text", "text": "Two"}]}
        ]
    },
    "tools": {"messages": [SYSTEM, HI], "tools": [WEATHER]},
    "tool-call": {"messages": [HI, CALL, RESULT], "tools": [WEATHER]},
    "bad-order": {"messages": [HI, HI]},
}


class FixedDatetime(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return TODAY


def flatten(messages):
    for message in messages:
        if isinstance(message["content"], list):
            message["content"] = "\n".join(part["text"] for part in message["content"])
    return messages


def with_objects(messages):
    for message in messages:
        for call in message.get("tool_calls", []):
            call["function"]["arguments"] = json.loads(call["function"]["arguments"])
    return messages


def render(template, case):
    """Arguments of calls are objects, but for templates that only take text."""
    program = chat_template_utils._compile_jinja_template(template)
    for prepare in (with_objects, lambda messages: messages):
        try:
            return {
                "text": program.render(
                    messages=prepare(flatten(copy.deepcopy(case["messages"]))),
                    tools=case.get("tools"),
                    documents=None,
                    add_generation_prompt=case.get("addGenerationPrompt", True),
                    **VARS,
                    **case.get("extra", {}),
                )
            }
        except TypeError as error:
            failed = {"error": str(error)}
        except Exception as error:  # raise_exception
            return {"error": str(error)}
    return failed


def main(folder):
    chat_template_utils.datetime = FixedDatetime
    rows = []
    for path in sorted(pathlib.Path(folder).glob("*.jinja")):
        template = path.read_text(encoding="utf-8")
        for name, case in CASES.items():
            rows.append({"template": path.name, "case": name, **render(template, case)})
    out = {"today": TODAY.strftime("%Y-%m-%d"), "vars": VARS, "cases": CASES, "rows": rows}
    target = pathlib.Path(__file__).with_name("chat-templates.json")
    text = json.dumps(out, ensure_ascii=False, indent=2)
    text = re.sub(r'\[\n\s+("[^"]*")\n\s+\]', r"[\1]", text)  # as the formatter has it
    target.write_text(text + "\n", encoding="utf-8")
    print(len(rows), "renders,", sum("error" in row for row in rows), "refused")


main(sys.argv[1])
