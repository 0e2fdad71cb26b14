// Requests the status every second, and shows it in the header, the graph, the table and the list of errors.

const POLL_MS = 1000;
const LONGEST_WAIT_MS = 8000;
const REQUEST_TIMEOUT_MS = 10_000;
const RATE_WINDOW_MS = 3500;
const HISTORY_POINTS = 60;
const TOKEN_KEY = "remotemedia-token";

/** Computes rates from the totals of the last seconds. */
class Flow {
  constructor() {
    this.samples = [];
    this.history = [];
  }

  add(status) {
    const now = performance.now();
    const last = this.samples.at(-1);
    if (last && status.uptime_s < last.uptime) {
      this.samples = []; // The service was restarted: its totals began at 0.
    }
    const totals = new Map(status.nodes.map((node) => [node.id, node]));
    this.samples.push({ now, uptime: status.uptime_s, totals });
    while (this.samples.length > 2 && now - this.samples[0].now > RATE_WINDOW_MS) {
      this.samples.shift();
    }
    this.targets = status.edges.map(([, to]) => to);
    this.firsts = status.nodes.map(({ id }) => id).filter((id) => !this.targets.includes(id));
    if (this.samples.length > 1) {
      this.history = [...this.history, this.ofInput()].slice(-HISTORY_POINTS);
    }
  }

  /** Return the rate of a node's `items_in` or `items_out`, per second. */
  of(id, key) {
    const [first, last] = [this.samples[0], this.samples.at(-1)];
    const seconds = (last.now - first.now) / 1000;
    const count = (last.totals.get(id)?.[key] ?? 0) - (first.totals.get(id)?.[key] ?? 0);
    return seconds > 0 ? Math.max(0, count / seconds) : 0;
  }

  ofInput() {
    return this.firsts.reduce((sum, id) => sum + this.of(id, "items_in"), 0);
  }

  ofEdge(from, to) {
    const isOnlyWay = this.targets.filter((target) => target === to).length < 2;
    return from === INPUT || (to !== OUTPUT && isOnlyWay)
      ? this.of(to, "items_in")
      : this.of(from, "items_out");
  }
}

class StatusView {
  constructor() {
    this.flow = new Flow();
    this.graph = new GraphView(byId("graph"));
    this.latest = null;
  }

  show(status) {
    this.latest = status;
    this.flow.add(status);
    document.body.classList.remove("stale");
    document.title = `${status.pipeline} · RemoteMedia`;
    setText(byId("pipeline-name"), status.pipeline);
    setPill(byId("service-state"), status.state, status.state === "ready" ? "good" : "warning");
    setText(byId("fact-rate"), formatRate(this.flow.ofInput()));
    const { sessions, calls } = status;
    setText(byId("fact-sessions"), `${formatCount(sessions.open)} of ${formatCount(sessions.max)}`);
    setText(
      byId("fact-calls"),
      `${formatCount(calls.total)}${calls.failed ? `, ${formatCount(calls.failed)} failed` : ""}`,
    );
    setText(byId("fact-uptime"), formatSpan(status.uptime_s));
    setText(byId("fact-version"), status.version);
    drawHistory(byId("history"), this.flow.history);
    this.graph.show(status, this.flow);
    showFigures(byId("figures"), status.nodes, this.flow);
    showErrors(status.errors);
  }
}

function drawHistory(svg, history) {
  const top = Math.max(1, ...history);
  const left = (index) => 96 - ((history.length - 1 - index) * 96) / (HISTORY_POINTS - 1);
  const points = history.map((rate, index) => `${left(index)} ${19 - (18 * rate) / top}`);
  svg.querySelector(".line").setAttribute("d", points.length > 0 ? `M${points.join("L")}` : "");
  svg
    .querySelector(".area")
    .setAttribute("d", points.length > 0 ? `M${left(0)} 20L${points.join("L")}L96 20Z` : "");
}

function showFigures(body, nodes, flow) {
  nodes.forEach((node, index) => {
    const row = body.rows[index] ?? body.insertRow();
    const texts = [
      node.id,
      node.type,
      node.placement,
      formatCount(node.items_in),
      formatCount(node.items_out),
      formatRate(flow.of(node.id, "items_in")),
      formatDuration(node.p50_us),
      formatDuration(node.p99_us),
      node.queue_capacity ? `${node.queue_len}/${node.queue_capacity}` : "–",
      ...[node.errors, node.retries, node.dropped, node.restarts].map(formatCount),
    ];
    texts.forEach((text, column) => {
      const cell =
        row.cells[column] ??
        row.appendChild(
          create(...(column === 0 ? ["th", { scope: "row" }] : ["td", { class: column > 2 && "number" }])),
        );
      setText(cell, text);
    });
  });
  while (body.rows.length > nodes.length) {
    body.deleteRow(-1);
  }
}

/** Show errors, the newest first. Those that are shown already keep their elements, and stay open. */
function showErrors(errors) {
  const list = byId("errors");
  const shown = new Map([...list.children].map((element) => [element.dataset.key, element]));
  const seen = new Map();
  const elements = errors.map((error) => {
    const base = JSON.stringify([error.time, error.request_id, error.node_id, error.message]);
    seen.set(base, (seen.get(base) ?? 0) + 1);
    const key = `${base}${seen.get(base)}`;
    const element = shown.get(key) ?? createError(error, key);
    const age = Math.max(0, (Date.now() - Date.parse(error.time)) / 1000);
    setText(element.querySelector("time"), `${formatSpan(age)} ago`);
    return element;
  });
  if (elements.length === 0) {
    elements.push(shown.get("none") ?? create("p", { class: "empty", "data-key": "none" }, "No errors."));
  }
  if (
    elements.length !== list.children.length ||
    elements.some((element, index) => element !== list.children[index])
  ) {
    list.replaceChildren(...elements);
  }
  setPill(byId("errors-count"), String(errors.length), "error");
  byId("errors-count").hidden = errors.length === 0;
}

function createError(error, key) {
  const time = new Date(error.time);
  const head = create("p", { class: "failure-head" }, create("strong", {}, error.type));
  if (error.node_id) {
    head.append(" in node ", create("code", {}, error.node_id));
  }
  head.append(
    create(
      "span",
      { class: "hint" },
      create("time", { datetime: error.time, title: time.toLocaleString() }),
      ...(error.request_id ? [" · request ", create("code", {}, error.request_id)] : []),
    ),
  );
  const item = create(
    "article",
    { class: "failure", "data-key": key },
    head,
    create("p", { class: "failure-message" }, error.message),
  );
  if (error.traceback) {
    item.append(
      create(
        "details",
        {},
        create("summary", {}, "Traceback"),
        create("pre", { tabindex: 0, "aria-label": "Traceback" }, error.traceback),
      ),
    );
  }
  return item;
}

/** Requests the status, and asks the user for the token if the service needs one. */
class Service {
  constructor(view) {
    this.view = view;
    this.token = sessionStorage.getItem(TOKEN_KEY);
    this.failures = 0;
    this.timer = 0;
    this.isAsking = false;
    document.addEventListener("visibilitychange", () => !document.hidden && this.poll());
    byId("banner-action").addEventListener("click", () => this.askForToken());
    byId("token-cancel").addEventListener("click", () => byId("token-dialog").close());
    byId("token-form").addEventListener("submit", (event) => this.takeToken(event));
  }

  /** Request the status and show it. Repeat after a second, or later if that failed. */
  async poll() {
    if (this.isAsking || document.hidden) {
      return;
    }
    clearTimeout(this.timer);
    this.isAsking = true;
    const problem = await this.ask();
    this.isAsking = false;
    this.failures = problem ? this.failures + 1 : 0;
    if (problem) {
      this.showProblem(problem);
    } else {
      byId("banner").hidden = true;
    }
    if (!problem?.needsToken) {
      const wait = problem ? Math.min(LONGEST_WAIT_MS, POLL_MS * 2 ** (this.failures - 1)) : POLL_MS;
      this.timer = setTimeout(() => this.poll(), wait);
    }
  }

  async ask() {
    try {
      const headers = this.token ? { Authorization: `Bearer ${this.token}` } : {};
      const response = await fetch("status", {
        headers,
        cache: "no-store",
        signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS),
      });
      if (response.ok) {
        this.view.show(await response.json());
        return null;
      }
      const { message } = await response.json().catch(() => ({}));
      return {
        needsToken: response.status === 401,
        text: `The service responds with an error (${response.status}): ${message ?? response.statusText}.`,
      };
    } catch (error) {
      if (error instanceof TypeError || error.name === "TimeoutError" || error.name === "AbortError") {
        return { text: "The service does not respond. The page retries until it does." };
      }
      return { text: `The response of the service cannot be shown: ${error.message}` };
    }
  }

  showProblem({ needsToken, text }) {
    document.body.classList.add("stale");
    const state = needsToken ? ["token needed", "warning"] : ["not reachable", "error"];
    setPill(byId("service-state"), ...state);
    setText(byId("banner-text"), needsToken ? "The service needs a token." : text);
    byId("banner-action").hidden = !needsToken;
    byId("banner").hidden = false;
    if (needsToken) {
      this.askForToken();
    }
  }

  askForToken() {
    const dialog = byId("token-dialog");
    showText(byId("token-problem"), this.token ? "The service does not accept this token." : null);
    if (!dialog.open) {
      dialog.showModal();
      byId("token").select();
    }
  }

  takeToken(event) {
    event.preventDefault();
    const token = byId("token").value.trim();
    if (!/^[\x21-\x7e]+$/.test(token)) {
      showText(
        byId("token-problem"),
        token ? "A token has only visible ASCII characters." : "Enter the token first.",
      );
      return;
    }
    this.token = token;
    sessionStorage.setItem(TOKEN_KEY, token);
    byId("token-dialog").close();
    this.poll();
  }
}
