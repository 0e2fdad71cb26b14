// The log: what was sent, what was received, and when.

const MOST_ENTRIES = 300;
const MOST_COPIED_CHARACTERS = 5_000_000;
const FLUSH_MS = 50;
const LINE_LENGTHS = { least: 30, most: 90 };
const CHARACTER_PX = 8.5;
const MARGIN_PX = 170;
const PREVIEW_BYTES = 16;

class Results {
  constructor(player) {
    this.player = player;
    this.log = byId("results");
    this.waiting = [];
    this.began = performance.now();
    this.lastSent = null;
    this.outputs = [];
    this.size = 0;
    this.count = 0;
    this.run = null;
    this.timer = 0;
    byId("clear-results").addEventListener("click", () => this.clear());
    byId("copy-results").addEventListener("click", (event) =>
      copyText(event.currentTarget, this.outputs.join("\n")),
    );
  }

  /** Restart the clock of the log. */
  begin() {
    this.began = performance.now();
  }

  addSent(...content) {
    this.lastSent = performance.now();
    this.add("sent", ...content);
  }

  addOutput(text) {
    this.outputs.push(text);
    this.size += text.length;
    while (this.size > MOST_COPIED_CHARACTERS && this.outputs.length > 1) {
      this.size -= this.outputs.shift().length;
    }
    this.add("output", this.createValue(text));
  }

  /** Create an element with formatted JSON that fits the width of the log. */
  createValue(text) {
    const room = Math.floor((this.log.clientWidth - MARGIN_PX) / CHARACTER_PX);
    const length = Math.min(LINE_LENGTHS.most, Math.max(LINE_LENGTHS.least, room));
    return create("pre", { class: "value" }, ...showJson(text, length));
  }

  addNote(text) {
    this.add("session", text);
  }

  addError({ type, message, node_id: node }) {
    this.add(
      "error",
      create("strong", {}, type ?? "Error"),
      ...(node ? [" in node ", create("code", {}, node)] : []),
      ": ",
      message ?? "",
    );
  }

  addBytes(bytes) {
    const preview = [...bytes.subarray(0, PREVIEW_BYTES)]
      .map((byte) => byte.toString(16).padStart(2, "0"))
      .join(" ");
    this.add(
      "output",
      `${formatSize(bytes.length)}: `,
      create("code", {}, preview + (bytes.length > PREVIEW_BYTES ? " …" : "")),
    );
  }

  /** Add audio to the previous entry if that is audio of the same kind, or to a new one. */
  addAudio(bytes, audio) {
    if (!this.run?.fits(audio)) {
      this.run = new AudioRun(audio, this.player);
      this.add("output", this.run.element);
    }
    this.run.add(bytes);
  }

  add(kind, ...content) {
    const now = performance.now();
    this.count += kind === "output" ? 1 : 0;
    if (kind !== "output" || content[0] !== this.run?.element) {
      this.run = null;
    }
    const time = create("span", { class: "time" }, `${((now - this.began) / 1000).toFixed(2)} s`);
    if (kind === "output" && this.lastSent !== null) {
      time.title = `${Math.round(now - this.lastSent)} ms after the last item was sent`;
    }
    this.waiting.push(
      create(
        "div",
        { class: `entry ${kind}` },
        time,
        create("span", { class: "kind" }, kind),
        create("div", { class: "content" }, ...content),
      ),
    );
    // Outputs may arrive faster than the browser can lay out the page.
    this.timer ||= setTimeout(() => this.flush(), FLUSH_MS);
  }

  flush() {
    this.timer = 0;
    byId("results-empty").hidden = true;
    const { log } = this;
    const isAtEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
    log.append(...this.waiting.splice(0).slice(-MOST_ENTRIES));
    const entries = log.querySelectorAll(".entry");
    [...entries].slice(0, Math.max(0, entries.length - MOST_ENTRIES)).forEach((entry) => entry.remove());
    if (isAtEnd) {
      log.scrollTop = log.scrollHeight;
    }
    this.summarize();
  }

  summarize() {
    setText(byId("results-summary"), this.count > 0 ? plural(this.count, "output") : "");
    byId("copy-results").disabled = this.outputs.length === 0;
    byId("clear-results").disabled = this.log.querySelector(".entry") === null;
  }

  clear() {
    Object.assign(this, { waiting: [], outputs: [], size: 0, count: 0, run: null });
    this.log.querySelectorAll(".entry").forEach((entry) => entry.remove());
    byId("results-empty").hidden = false;
    this.summarize();
    this.log.focus();
  }
}

/** One entry for consecutive chunks of audio. */
class AudioRun {
  constructor(audio, player) {
    this.audio = audio;
    this.chunks = [];
    this.peaks = [];
    this.seconds = 0;
    this.label = create("span", {});
    const again = create("button", { type: "button", class: "small" }, "Play again");
    again.addEventListener("click", () => {
      player.stop();
      this.chunks.forEach((chunk) => player.play(chunk, audio));
    });
    const canvas = create("canvas", { class: "wave short", "aria-hidden": "true" });
    this.wave = new Waveform(canvas);
    this.element = create("div", { class: "audio" }, this.label, canvas, again);
  }

  fits({ rate, channels, format }) {
    const { audio } = this;
    return (
      audio.rate === rate &&
      audio.channels === channels &&
      audio.format === format &&
      this.seconds < LONGEST_RUN_SECS
    );
  }

  add(bytes) {
    this.chunks.push(bytes);
    const seconds = durationOf({ bytes, ...this.audio });
    this.seconds += seconds;
    const pieces = Math.max(1, Math.round(seconds * FRAMES_PER_SECOND));
    this.peaks.push(...peaksOf({ bytes, ...this.audio }, pieces));
    setText(
      this.label,
      `Audio, ${this.seconds.toFixed(2)} s, ${formatFrequency(this.audio.rate)}, ${plural(this.audio.channels, "channel")}`,
    );
    this.wave.show(this.peaks);
  }
}
