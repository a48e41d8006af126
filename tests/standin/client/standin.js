// A small client for the stand-in: log in, read one channel live, post, attach a file.
"use strict";

const $ = (id) => document.getElementById(id);
const state = { me: null, channel: null, socket: null, seq: 1, names: new Map(), retry: 0 };

function cookie(name) {
  const found = document.cookie.split("; ").find((c) => c.startsWith(name + "="));
  return found ? found.slice(name.length + 1) : "";
}

function trouble(text) {
  $("trouble").textContent = text || "";
  $("trouble").hidden = !text;
}

async function call(method, path, body) {
  const headers = { "X-Requested-With": "XMLHttpRequest", "X-CSRF-Token": cookie("MMCSRF") };
  let payload = body;
  if (body && !(body instanceof FormData)) {
    headers["Content-Type"] = "application/json";
    payload = JSON.stringify(body);
  }
  let answer;
  try {
    answer = await fetch("/api/v4" + path, { method, headers, body: payload });
  } catch {
    throw new Error("The server cannot be reached. Nothing was sent. Try again in a moment.");
  }
  if (answer.ok) return answer.json();
  const error = await answer.json().catch(() => ({}));
  const failure = new Error(error.message || "The server answered " + answer.status + ". Try again in a moment.");
  failure.status = answer.status;
  throw failure;
}

async function learnNames(posts) {
  const unknown = [...new Set(posts.map((p) => p.user_id))].filter((id) => id && !state.names.has(id));
  if (unknown.length === 0) return;
  for (const user of await call("POST", "/users/ids", unknown)) state.names.set(user.id, user.username);
}

function show(post) {
  const old = document.querySelector('#posts li[data-id="' + post.id + '"]');
  const item = document.createElement("li");
  item.dataset.id = post.id;
  if (post.type) item.className = "system";
  const by = document.createElement("div");
  by.className = "by";
  by.textContent = (state.names.get(post.user_id) || "somebody") + ", "
    + new Date(post.create_at).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
  const text = document.createElement("div");
  text.className = "text";
  text.textContent = post.message;
  item.append(by, text);
  for (const file of (post.metadata && post.metadata.files) || []) {
    const link = document.createElement("a");
    link.href = "/api/v4/files/" + file.id;
    link.download = file.name;
    link.textContent = file.name + " (" + Math.ceil(file.size / 1024) + " KiB)";
    item.append(link);
  }
  if (old) old.replaceWith(item);
  else $("posts").append(item);
}

async function open(channel) {
  state.channel = channel;
  const list = await call("GET", "/channels/" + channel + "/posts");
  const posts = list.order.map((id) => list.posts[id]).reverse();
  await learnNames(posts);
  $("posts").replaceChildren();
  posts.forEach(show);
}

function live(text, kind) {
  $("live").textContent = text;
  $("live").className = "state " + kind;
}

function listen() {
  const socket = new WebSocket(location.origin.replace(/^http/, "ws") + "/api/v4/websocket");
  state.socket = socket;
  socket.onmessage = async (message) => {
    const event = JSON.parse(message.data);
    if (event.event === "hello") {
      live("Live", "ok");
      if (state.retry > 0 && state.channel) await open(state.channel).catch(() => {});
      state.retry = 0;
    }
    if (event.event === "posted" && event.data) {
      const post = JSON.parse(event.data.post);
      if (post.channel_id !== state.channel) return;
      await learnNames([post]).catch(() => {});
      show(post);
    }
  };
  socket.onclose = () => {
    if (!state.me || state.socket !== socket) return;
    state.retry += 1;
    live("Not live: connecting again", "bad");
    setTimeout(listen, Math.min(1000 * state.retry, 10000));
  };
}

async function enter() {
  state.me = await call("GET", "/users/me");
  const teams = await call("GET", "/users/me/teams");
  $("channel").replaceChildren();
  for (const team of teams) {
    for (const channel of await call("GET", "/users/me/teams/" + team.id + "/channels")) {
      const main = channel.name === "town-square";
      $("channel").append(new Option(team.display_name + ": " + channel.display_name, channel.id, main, main));
    }
  }
  $("login").hidden = true;
  $("chat").hidden = false;
  $("logout").hidden = false;
  if ($("channel").value) await open($("channel").value);
  else trouble("This account is in no team yet. Ask the administrator to add it to one.");
  listen();
}

function leave() {
  state.me = null;
  if (state.socket) state.socket.close();
  $("login").hidden = false;
  $("chat").hidden = true;
  $("logout").hidden = true;
  $("password").value = "";
}

function guard(action) {
  return async (event) => {
    if (event) event.preventDefault();
    trouble("");
    try {
      await action();
    } catch (error) {
      if (error.status === 401 && state.me) leave();
      trouble(error.message);
    }
  };
}

$("login").addEventListener("submit", guard(async () => {
  await call("POST", "/users/login", { login_id: $("name").value, password: $("password").value });
  await enter();
}));

$("logout").addEventListener("click", guard(async () => {
  await call("POST", "/users/logout");
  leave();
}));

$("channel").addEventListener("change", guard(() => open($("channel").value)));

$("write").addEventListener("submit", guard(async () => {
  const message = $("message").value;
  const file = $("file").files[0];
  if (!message.trim() && !file) return;
  const post = { channel_id: state.channel, message, file_ids: [] };
  if (file) {
    const form = new FormData();
    form.append("channel_id", state.channel);
    form.append("files", file, file.name);
    post.file_ids = (await call("POST", "/files", form)).file_infos.map((f) => f.id);
  }
  const stored = await call("POST", "/posts", post);
  await learnNames([stored]);
  show(stored);
  $("write").reset();
  $("message").focus();
}));

$("message").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey) {
    event.preventDefault();
    $("write").requestSubmit();
  }
});

// A session that is over is no trouble: the log-in form is there already.
if (cookie("MMUSERID")) {
  enter().catch((error) => {
    if (error.status !== 401) trouble(error.message);
  });
}
