// The page: one task at a time. Nothing counts as saved before the server has said so.

const $ = (id) => document.getElementById(id);
const QUESTIONS = {
  realism: {
    title: "Realism",
    text: "Which picture looks more real: more like something that a person drew or photographed with care? What it shows does not matter.",
    ask: "Which picture looks more real?",
  },
  caption: {
    title: "Words",
    text: "Above the pictures stand some words. Which picture shows better what they say? If neither does, say so.",
    ask: "Which picture shows this better?",
    neither: "Neither",
  },
  diversity: {
    title: "Variety",
    text: "Now two sets of pictures, each made from the same words. In which set are the pictures more different from one another? If you cannot tell, say so.",
    ask: "Which set is more varied?",
    neither: "Not sure",
  },
};
const KEYS = { ArrowLeft: "left", 1: "left", ArrowRight: "right", 2: "right", ArrowDown: "neither", 3: "neither" };
const SIDES = { left: "A", right: "B" };

const choices = [...document.querySelectorAll(".choice")];
const answers = [...choices, $("neither")];
let state = null;      // What the server said last.
let told = null;       // The question that was introduced last.
let ready = false;     // Whether an answer is waited for.
let since = 0;         // When the pictures were there.
let retry = null;      // What to do again where the server was not reached.

async function call(path, body) {
  const options = body === undefined ? {} :
    { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Error("The server is not reached.");
  }
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(answer.error ? `${answer.error[0].toUpperCase()}${answer.error.slice(1)}.` : `The server failed (${response.status}).`);
  return answer;
}

function show(id) {
  for (const section of document.querySelectorAll("main > section")) section.hidden = section.id !== id;
}

function trouble(message, again) {
  $("trouble").hidden = message === null;
  if (message === null) return;
  $("trouble").firstElementChild.textContent = message;
  retry = again;
  $("again").hidden = again === null;
}

async function attempt(doing, unsaved) {
  trouble(null, null);
  try {
    await doing();
  } catch (error) {
    trouble(unsaved ? `${error.message} ${unsaved}` : error.message, () => attempt(doing, unsaved));
  }
}

function take(found) {
  state = found;
  $("who").hidden = state.rater === null;
  $("name").textContent = state.rater ?? "";
  $("foot").hidden = state.rater === null;
  $("join").hidden = !state.open;
  $("closed").hidden = state.open;
  if (state.rater === null) {
    told = null;
    $("saved").textContent = "";
    show("welcome");
    return;
  }
  $("progress").max = Math.max(1, state.total);
  $("progress").value = state.done;
  $("progress-label").textContent = `${state.done} of ${state.total}`;
  $("end-back").hidden = !state.back;
  if (state.task === null) {
    show("end");
    $("end").querySelector("h1").focus();
  } else if (state.task.question !== told) {
    introduce();
  } else {
    ask();
  }
}

function introduce() {
  const words = QUESTIONS[state.task.question];
  ready = false;
  $("before-title").textContent = words.title;
  $("before-text").textContent = words.text;
  $("before-keys").textContent = `Keys: ← for A, → for B${words.neither ? `, ↓ for “${words.neither.toLowerCase()}”` : ""}, Backspace to go back; Enter starts.`;
  show("before");
  $("before-title").focus();
}

async function ask() {
  const task = state.task, words = QUESTIONS[task.question], grids = task.question === "diversity";
  ready = false;
  show("ask");
  $("choices").classList.add("waiting");
  $("question").textContent = words.ask;
  $("caption").hidden = task.caption === null;
  $("caption").textContent = task.caption ?? "";
  $("neither").hidden = !task.answers.includes("neither");
  $("neither").firstElementChild.textContent = words.neither ?? "";
  $("back").hidden = !state.back;
  for (const button of answers) { button.disabled = true; button.classList.remove("chosen"); }
  // A key must not be pressed again by the button that the last answer was given with.
  $("question").focus({ preventScroll: true });
  const pictures = choices.map((button, side) => {
    const image = button.querySelector("img");
    image.alt = grids ? `Set ${"AB"[side]}` : `Picture ${"AB"[side]}`;
    image.src = task.pictures[side];
    return image.decode();
  });
  try {
    await Promise.all(pictures);
  } catch {
    if (state.task === task) trouble("A picture did not come.", () => attempt(async () => take(await call("api/state"))));
    return;
  }
  if (state.task !== task) return;
  $("choices").classList.remove("waiting");
  for (const button of answers) button.disabled = false;
  since = performance.now();
  ready = true;
  for (const address of state.ahead) new Image().src = address;
}

function answer(given) {
  if (!ready || !state.task.answers.includes(given)) return;
  ready = false;
  const body = { task: state.task.id, answer: given, seconds: (performance.now() - since) / 1000 };
  const button = answers.find((one) => one.dataset.answer === given);
  for (const one of answers) one.disabled = true;
  button.classList.add("chosen");
  $("saved").textContent = "";
  attempt(async () => {
    const found = await call("api/vote", body);
    $("saved").textContent = `${SIDES[given] ?? QUESTIONS[state.task.question].neither}: saved`;
    take(found);
  }, "Your answer is not saved yet.");
}

function back() {
  const free = ready || !$("end").hidden || !$("before").hidden;
  if (!state?.back || !free) return;
  attempt(async () => {
    const found = await call("api/back", {});
    told = found.task.question;
    $("saved").textContent = "";
    take(found);
  });
}

function start() {
  told = state.task.question;
  ask();
}

for (const button of answers) button.addEventListener("click", () => answer(button.dataset.answer));
$("back").addEventListener("click", back);
$("end-back").addEventListener("click", back);
$("go").addEventListener("click", start);
$("again").addEventListener("click", () => retry?.());
$("leave").addEventListener("click", () => attempt(async () => take(await call("api/leave", {}))));
$("join").addEventListener("submit", (event) => {
  event.preventDefault();
  attempt(async () => take(await call("api/join", { name: $("said").value })));
});
document.addEventListener("keydown", (event) => {
  if (event.repeat || event.ctrlKey || event.altKey || event.metaKey || event.target.tagName === "INPUT") return;
  if (event.key === "Enter" && !$("before").hidden && event.target.tagName !== "BUTTON") {
    event.preventDefault();
    start();
  } else if (event.key === "Backspace") {
    event.preventDefault();
    back();
  } else if (KEYS[event.key] && !$("ask").hidden) {
    event.preventDefault();
    answer(KEYS[event.key]);
  }
});

await attempt(async () => take(await call("api/state")));
