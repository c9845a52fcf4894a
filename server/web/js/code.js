// A request as a program that makes it.

import { address, DOCUMENTS } from "./api.js";

const PYTHON = `\
import base64
import json
from pathlib import Path

import httpx

request = REQUEST

with httpx.stream("POST", URL, json=request, timeout=None) as response:
    if response.is_error:
        raise SystemExit(response.read().decode())
    pictures = 0
    for line in response.iter_lines():
        if not line.startswith("data: "):
            continue
        event = json.loads(line.removeprefix("data: "))
        if event["type"] == "text.delta":
            print(event["text"], end="", flush=True)
        elif event["type"] == "image.completed":
            pictures += 1
            picture = Path(f"picture-{pictures}.{event['image']['format']}")
            picture.write_bytes(base64.b64decode(event["image"]["b64_json"]))
            print(f"\\n[{picture}]")
        elif event["type"].endswith(".failed"):
            print(f"\\n[{event['error']['message']}]")
    print()
`;

export function curl(body) {
  const json = JSON.stringify(body, null, 2);
  return `curl --no-buffer ${shellQuoted(address(DOCUMENTS))} \\\n  -H 'Content-Type: application/json' -d @- <<'JSON'\n${json}\nJSON\n`;
}

export function python(body) {
  return PYTHON.replace("URL", () => JSON.stringify(address(DOCUMENTS))).replace("REQUEST", () => pythonLiteral(body));
}

/** The code as it can be looked at: pictures take up thousands of lines. */
export const shortened = (code) =>
  code.replace(/(data:image\/\w+;base64,.{12})([^"]*)/g, (_, head, rest) => (rest ? `${head}… and ${rest.length} more` : head));

const shellQuoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

/** JSON's strings and numbers are Python's too. */
function pythonLiteral(value, indent = "") {
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (typeof value !== "object") return JSON.stringify(value);
  const deeper = `${indent}    `;
  const items = Array.isArray(value)
    ? value.map((item) => pythonLiteral(item, deeper))
    : Object.entries(value).map(([key, item]) => `${JSON.stringify(key)}: ${pythonLiteral(item, deeper)}`);
  const [open, close] = Array.isArray(value) ? "[]" : "{}";
  return items.length ? `${open}\n${items.map((item) => `${deeper}${item},\n`).join("")}${indent}${close}` : open + close;
}
