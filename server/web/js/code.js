// A request as a program that makes it.

import { address, DOCUMENTS } from "./api.js";
import { apiKey } from "./key.js";

const WIDTH = 96;
const JSON_STYLE = { indent: "  ", null: "null", true: "true", false: "false" };
const PYTHON_STYLE = { indent: "    ", null: "None", true: "True", false: "False" };

/** Where programs find the key, which never stands in them. */
export const KEY_VARIABLE = "DREAMSERVE_API_KEY";

const PYTHON = `\
import base64
import jsonIMPORTS
from pathlib import Path

import httpx

request = REQUEST

with httpx.stream("POST", URL, json=requestHEADERS, timeout=None) as response:
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
  const [url, json] = [shellQuoted(address(DOCUMENTS)), literal(body, JSON_STYLE)];
  const key = apiKey() === null ? "" : `-H "Authorization: Bearer $${KEY_VARIABLE}" `;
  return `curl --no-buffer ${url} \\\n  ${key}-H 'Content-Type: application/json' -d @- <<'JSON'\n${json}\nJSON\n`;
}

export function python(body) {
  const url = JSON.stringify(address(DOCUMENTS));
  const key = `headers={"Authorization": f"Bearer {os.environ['${KEY_VARIABLE}']}"}`;
  const [imports, headers] = apiKey() === null ? ["", ""] : ["\nimport os", `, ${key}`];
  const program = PYTHON.replace("IMPORTS", imports).replace("HEADERS", headers);
  return program.replace("URL", () => url).replace("REQUEST", () => literal(body, PYTHON_STYLE));
}

/** The code as it can be looked at: pictures take up thousands of lines. */
export const shortened = (code) =>
  code.replace(/(data:image\/\w+;base64,.{8})[^"]*(.{8}")/g, (_, head, tail) => `${head} … ${tail}`);

const shellQuoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

/** A value of JSON, on one line where that is short. JSON's strings and numbers are Python's too. */
function literal(value, style, indent = "") {
  if (value === null || typeof value === "boolean") return style[value];
  if (typeof value !== "object") return JSON.stringify(value);
  const deeper = indent + style.indent;
  const items = Array.isArray(value)
    ? value.map((item) => literal(item, style, deeper))
    : Object.entries(value).map(([key, item]) => `${JSON.stringify(key)}: ${literal(item, style, deeper)}`);
  const [open, close] = Array.isArray(value) ? "[]" : "{}";
  const line = open + items.join(", ") + close;
  if (!line.includes("\n") && indent.length + shortened(line).length <= WIDTH) return line;
  return `${open}\n${items.map((item) => deeper + item).join(",\n")}\n${indent}${close}`;
}
