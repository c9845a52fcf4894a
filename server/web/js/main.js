// The playground: prompts go to the server, answers come back as they are made, a reload goes on where it was.

import { Announcer } from "./announcer.js";
import { end, isRunning, newAnswer } from "./answer.js";
import { Answering } from "./answering.js";
import { model, RefusedError } from "./api.js";
import { CodeDialog } from "./code-dialog.js";
import { Composer } from "./composer.js";
import { requestBody } from "./conversation.js";
import { download, find, show } from "./dom.js";
import { goToTheEnd, stayAtTheEnd } from "./end.js";
import { conversationPage } from "./export.js";
import { Keeper } from "./keeping.js";
import { REFUSED } from "./key.js";
import { KeyDialog } from "./key-dialog.js";
import { Parameters } from "./parameters.js";
import { TurnView } from "./turn-view.js";

const ASK_AGAIN_MS = 2000;
const FREQUENT = new Set(["text.delta", "image.progress"]);

const announcer = new Announcer(find("#announcements"));
const parameters = new Parameters();
const code = new CodeDialog();
const key = new KeyDialog();
const composer = new Composer(ask, stop);

let keeper = null; // null where the browser keeps nothing
let turns = [];
let views = [];
let answering = null;
let ready = false;

find("#examples").addEventListener("click", ({ target }) => {
  if (target.matches("button")) ask({ text: target.textContent, pictures: [] });
});
find("#new").addEventListener("click", startOver);
find("#save").addEventListener("click", () => download("conversation.html", "text/html", conversationPage(turns)));
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !event.isComposing && !find("dialog:modal")) stop();
});

stayAtTheEnd(find("#turns"), find("#composer"));
await restore();
await Promise.all([resume(), connect()]);

/** Sends a prompt; false if that cannot be done now. */
function ask(prompt) {
  const obstacle = obstacleToAsking();
  if (obstacle) composer.note(obstacle);
  if (obstacle || !parameters.check()) return false;
  add({ prompt, parameters: parameters.value, frame: parameters.frame, answer: newAnswer() });
  answer(turns.length - 1);
  goToTheEnd();
  return true;
}

function obstacleToAsking() {
  if (answering) return "An answer is being made: wait for it, or stop it.";
  return ready ? null : "The server takes no prompts yet.";
}

async function stop() {
  await answering?.stop().catch((error) => composer.note(`This could not be stopped: ${error.message}`));
}

/** Makes the answer of a turn, or goes on with it. */
async function answer(index) {
  const turn = turns[index];
  const current = new Answering(turn, turns.slice(0, index), (event, trouble) => {
    if (turns[index] !== turn) return; // another conversation has begun
    keeper?.keep(index, turn);
    if (!FREQUENT.has(event?.type)) keeper?.flush();
    if (event) announcer.hear(event, turn.answer);
    views[index].show(turn, trouble);
  });
  answering = current;
  composer.running = true;
  update();
  if (focusIsLost()) views[index].focus();
  views[index].show(turn);
  keeper?.keep(index, turn);
  keeper?.flush();
  await current.run();
  if (answering !== current) return;
  answering = null;
  composer.running = false;
  update();
  if (turn.answer.error?.code === REFUSED) key.ask(turn.answer.error.message);
}

/** The button that was pressed may be gone. */
function focusIsLost() {
  return document.activeElement === document.body || !document.activeElement.checkVisibility();
}

function retry() {
  const index = turns.length - 1;
  const { prompt, parameters, frame } = turns[index];
  views.pop().element.remove();
  turns.pop();
  add({ prompt, parameters, frame, answer: newAnswer() });
  answer(index);
}

function add(turn) {
  const index = turns.length;
  const view = new TurnView(turn, {
    retry,
    code: () => code.open(requestBody(turns.slice(0, index), turn.prompt, turn.parameters)),
  });
  turns.push(turn);
  views.push(view);
  find("#turns").append(view.element);
  view.show(turn);
}

function startOver() {
  stop();
  keeper?.startOver();
  answering = null;
  turns = [];
  views = [];
  find("#turns").replaceChildren();
  composer.running = false;
  update();
  composer.focus();
}

/** Shows what there is to show, and the buttons for what can be done with it. */
function update() {
  show(find("#welcome"), turns.length === 0);
  show(find("#new"), turns.length > 0);
  show(find("#save"), turns.length > 0);
  views.forEach((view, index) => {
    const ended = !answering && index === turns.length - 1;
    view.offerRetry(ended && turns[index].answer.status !== "completed");
  });
}

/** Shows the conversation of this tab. */
async function restore() {
  try {
    keeper = await Keeper.open();
    (await keeper.turns()).forEach(add);
  } catch (error) {
    console.error(error);
    composer.note("This browser keeps nothing for this page: a reload loses the conversation.");
  }
  update();
  goToTheEnd();
}

/** Goes on with an answer that was being made when the page was left. */
async function resume() {
  const last = turns.at(-1)?.answer;
  if (!last || !isRunning(last)) return;
  if (last.id) {
    await answer(turns.length - 1);
  } else {
    end(last, "lost", { message: "The page was left before the server had begun this answer." });
    views.at(-1).show(turns.at(-1));
    update();
  }
}

/** Waits for the server, and shows what it serves. */
async function connect() {
  const status = find("#model");
  for (;;) {
    try {
      const card = await model();
      status.textContent = card.id;
      status.dataset.state = "ready";
      parameters.showDefaults(card);
      composer.ready = ready = true;
      return;
    } catch (error) {
      if (error.code === REFUSED) {
        status.textContent = "This server asks for an API key.";
        status.dataset.state = "away";
        await key.ask(error.message);
        continue;
      }
      const loading = error instanceof RefusedError && error.code === "server_loading";
      status.textContent = loading ? "The model is being loaded …" : error.message;
      status.dataset.state = loading ? "loading" : "away";
    }
    await new Promise((resume) => setTimeout(resume, ASK_AGAIN_MS));
  }
}
