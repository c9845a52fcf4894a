// What a probe is asked, and how it tells what its client has of the answers: as answers.py.

export const question = JSON.parse(process.argv[2]);

export function user(text) {
  return { role: "user", content: text };
}

export function tell(name, parts, usage) {
  console.log(JSON.stringify({ case: name, parts: joined(parts), usage }));
}

// Texts that follow each other as one.
function joined(parts) {
  const whole = [];
  for (const part of parts.filter(Boolean)) {
    if (whole.length && !isPicture(part) && !isPicture(whole.at(-1))) whole[whole.length - 1] += part;
    else whole.push(part);
  }
  return whole;
}

function isPicture(part) {
  return part.startsWith("data:image/");
}

// Parts of a message with its pictures beside the text. Their places count code points.
export function placed(text, images) {
  const characters = [...text];
  const parts = [];
  let begin = 0;
  for (const image of images) {
    parts.push(characters.slice(begin, image.text_offset).join(""), image.image_url.url);
    begin = image.text_offset;
  }
  return [...parts, characters.slice(begin).join("")];
}

// Parts of a message with its pictures in its text.
export function written(markdown) {
  return markdown.split(/!\[[^\]]*\]\(([^)]*)\)/);
}

// Parts of a response, from its output items.
export function items(output) {
  return output.map((item) =>
    item.type === "image_generation_call"
      ? `data:image/${item.output_format};base64,${item.result}`
      : item.content.map((part) => part.text).join(""),
  );
}
