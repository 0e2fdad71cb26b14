// Live sessions on WebSockets.

const SUBPROTOCOL = "remotemedia";
const MOST_BUFFERED_BYTES = 64_000;
const BUFFER_CHECK_MS = 10;
const DEFAULT_AUDIO = { rate: 16_000, channels: 1, format: "s16le" };

/**
 * Opens sessions, one at a time, and passes their messages to a listener.
 *
 * `listener` has the methods `onState(text, kind)`, `onEvent(event)`, `onOutput(text)`, `onAudio(bytes, audio)` and
 * `onBytes(bytes)`.
 */
class Connection {
  constructor(service, listener) {
    this.service = service;
    this.listener = listener;
    this.socket = null;
    this.state = "closed";
    this.input = DEFAULT_AUDIO;
    this.opening = null;
  }

  get isOpen() {
    return this.state === "open";
  }

  /** Make sure that a session is open, for audio of this kind if given. An open one of another kind is ended. */
  async open(input = null) {
    if (this.opening) {
      await this.opening.catch(() => {});
    }
    const fits = !input || ["rate", "channels", "format"].every((key) => input[key] === this.input[key]);
    if (this.isOpen && fits) {
      return;
    }
    if (this.state !== "closed") {
      this.end();
      await this.closed;
    }
    this.opening = this.connect(input ?? DEFAULT_AUDIO);
    try {
      await this.opening;
    } finally {
      this.opening = null;
    }
  }

  connect(input) {
    const address = new URL("session", location.href);
    address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    const { rate, channels, format } = input;
    address.search = new URLSearchParams({ rate, channels, format });
    const { token } = this.service;
    const socket = new WebSocket(
      address,
      token ? [SUBPROTOCOL, `token.${escapeToken(token)}`] : [SUBPROTOCOL],
    );
    socket.binaryType = "arraybuffer";
    Object.assign(this, { socket, input, audio: null, isLeft: false });
    this.change("connecting", "Connecting", "warning");
    return new Promise((resolve, reject) => {
      this.closed = new Promise((done) => {
        socket.onmessage = ({ data }) => this.receive(data, resolve);
        socket.onclose = async ({ code, reason }) => {
          const problem = await this.explainClose(code, reason);
          const isLost = this.state === "connecting" || code === 1006;
          this.change(
            "closed",
            problem && isLost ? "Connection lost" : "Session closed",
            problem ? "error" : "plain",
          );
          if (problem) {
            this.listener.onEvent({ $event: "closed", message: problem });
          }
          reject(new Error(problem ?? "The session was closed."));
          done();
        };
      });
    });
  }

  receive(data, onReady) {
    if (typeof data !== "string") {
      const bytes = new Uint8Array(data);
      return this.audio ? this.listener.onAudio(bytes, this.audio) : this.listener.onBytes(bytes);
    }
    const event = readEvent(data);
    if (!event) {
      return this.listener.onOutput(data);
    }
    if (event.$event === "ready") {
      this.change("open", `Session open, ${formatFrequency(this.input.rate)}`, "good");
      onReady();
    } else if (event.$event === "audio") {
      this.audio = { rate: event.rate, channels: event.channels, format: event.format };
    } else if (event.$event === "interrupted" && this.state === "ending") {
      this.isLeft = true;
      this.socket.close(1000); // No more outputs can follow.
    }
    return this.listener.onEvent(event);
  }

  /** Return the reason why the socket was closed, or `null` if that was expected. */
  async explainClose(code, reason) {
    if (this.state === "connecting") {
      return this.explainRefusal();
    }
    return this.isLeft ? null : describeClose(code, reason, this.state === "ending");
  }

  /** Return the reason why no session was opened. Browsers hide the response, so the status is requested. */
  async explainRefusal() {
    const problem = await this.service.ask();
    if (problem) {
      this.service.poll();
      return problem.text;
    }
    const { state, sessions } = this.service.view.latest;
    if (state !== "ready") {
      return `The service accepts no new sessions: it is ${state}.`;
    }
    return sessions.open >= sessions.max
      ? `All ${sessions.max} sessions are in use. Try again when one has ended.`
      : "The service did not open a session.";
  }

  change(state, text, kind) {
    this.state = state;
    this.listener.onState(text, kind);
  }

  sendText(text) {
    this.socket.send(text);
  }

  sendAudio(bytes) {
    this.socket.send(bytes);
  }

  get hasRoom() {
    return this.socket.bufferedAmount < MOST_BUFFERED_BYTES;
  }

  /** Wait until the service has received most of what was sent. */
  async untilRoom() {
    while (this.isOpen && !this.hasRoom) {
      await new Promise((resolve) => setTimeout(resolve, BUFFER_CHECK_MS));
    }
  }

  interrupt() {
    this.socket.send(JSON.stringify({ $control: "interrupt" }));
  }

  /** End the input. The remaining outputs arrive before the service closes the session. */
  end() {
    if (this.isOpen) {
      this.socket.send(JSON.stringify({ $control: "end" }));
      this.change("ending", "Input ended, waiting for outputs", "warning");
    }
  }
}

/** Return the event in a text frame, or `null` if the frame is an output. */
function readEvent(text) {
  if (!text.startsWith("{") || !text.includes('"$event"')) {
    return null;
  }
  try {
    const value = JSON.parse(text);
    return typeof value.$event === "string" ? value : null;
  } catch {
    return null;
  }
}

function describeClose(code, reason, wasEnding) {
  if (code === 1000 || (wasEnding && code === 1005)) {
    return null;
  }
  const words = {
    1001: "The service is stopping; it has closed the session.",
    1006: "The connection to the service was lost. The next item opens a new session.",
    1008: "The service has refused the session.",
    1009: "A message was too long for the service.",
    1011: "The service has closed the session because of an error.",
  };
  return `${words[code] ?? `The service has closed the session (code ${code}).`}${reason ? ` ${reason}` : ""}`;
}

/** Percent-encode the characters that the name of a subprotocol must not contain. */
function escapeToken(token) {
  return token.replace(
    /[^A-Za-z0-9._~+-]/g,
    (character) => `%${character.charCodeAt(0).toString(16).padStart(2, "0").toUpperCase()}`,
  );
}
