// The panel that sends items: text, a recording, or the microphone.

const LAGGING_CHUNKS = 50;

class TryPanel {
  constructor(service) {
    this.player = new Player();
    this.results = new Results(this.player);
    this.connection = new Connection(service, this);
    this.service = service;
    this.recording = null;
    this.sending = null;
    this.microphone = null;
    this.fileWave = new Waveform(byId("file-wave"));
    this.microphoneWave = new Waveform(byId("microphone-wave"));
    addTabs(["tab-text", "tab-file", "tab-microphone"]);
    this.listenToText();
    this.listenToFile();
    byId("microphone").addEventListener("click", () =>
      this.microphone ? this.stopMicrophone() : this.startMicrophone(),
    );
    byId("interrupt").addEventListener("click", () => this.interrupt());
    byId("end").addEventListener("click", () => this.end());
    byId("play").addEventListener("change", () => this.player.stop());
  }

  onState(text, kind) {
    setPill(byId("session-state"), text, kind);
    // After the end of the input, outputs may still be in progress.
    byId("interrupt").disabled = !this.connection.isOpen && this.connection.state !== "ending";
    byId("end").disabled = !this.connection.isOpen;
    if (this.connection.state === "closed") {
      this.sending = null;
      this.stopMicrophone();
    }
  }

  onEvent(event) {
    const { input } = this.connection;
    const notes = {
      ready: () =>
        `Session ${event.session} is open: audio of ${formatFrequency(input.rate)}, ${plural(input.channels, "channel")}`,
      interrupted: () => `Interrupted: ${plural(event.dropped ?? 0, "item")} dropped`,
      end: () => "All outputs have arrived",
      closed: () => event.message,
      audio: () => null,
    };
    if (event.$event === "error") {
      this.results.addError(event);
      this.service.poll();
      return;
    }
    if (event.$event === "ready") {
      this.results.begin();
    } else if (event.$event === "interrupted") {
      this.player.stop();
    }
    const note = notes[event.$event] ? notes[event.$event]() : JSON.stringify(event);
    if (note) {
      this.results.addNote(note);
    }
  }

  onOutput(text) {
    this.results.addOutput(text);
  }

  onBytes(bytes) {
    this.results.addBytes(bytes);
  }

  onAudio(bytes, audio) {
    this.results.addAudio(bytes, audio);
    if (!byId("play").checked) {
      return;
    }
    try {
      this.player.play(bytes, audio);
    } catch (error) {
      byId("play").checked = false;
      this.results.addNote(`The browser cannot play this sound: ${error.message}`);
    }
  }

  interrupt() {
    this.player.stop();
    this.connection.interrupt();
  }

  end() {
    this.sending = null;
    this.stopMicrophone(false);
    this.connection.end();
  }

  /** End the input after a recording or the microphone, if the user has chosen that. */
  endAfterAudio() {
    if (byId("end-after-audio").checked) {
      this.connection.end();
    }
  }

  listenToText() {
    const item = byId("item");
    item.addEventListener("input", () => this.checkItem());
    item.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
        event.preventDefault();
        byId("text-form").requestSubmit();
      }
    });
    byId("text-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.submitItem(item.value);
    });
    byId("send-as-text").addEventListener("click", () => this.sendItem(JSON.stringify(item.value)));
    byId("copy-curl").addEventListener("click", (event) =>
      copyText(event.currentTarget, byId("curl").textContent),
    );
    this.checkItem();
  }

  /** Show what would be sent, on each change of the text. */
  checkItem() {
    const text = byId("item").value;
    const { kind, problem } = judgeItem(text);
    showText(byId("item-problem"), null);
    byId("item").removeAttribute("aria-invalid");
    byId("send-as-text").hidden = !problem;
    const hint = problem ? "Not JSON so far; it can be sent as a string." : `Sends ${kind}.`;
    setText(byId("item-hint"), text.trim() ? hint : "A number, a string in quotes, a list or an object.");
    setText(
      byId("curl"),
      curlCommand(
        problem ? JSON.stringify(text) : text.trim() || '{"text": "hello"}',
        Boolean(this.service.token),
      ),
    );
  }

  submitItem(text) {
    const { problem } = judgeItem(text);
    if (!text.trim() || problem) {
      showText(byId("item-problem"), text.trim() ? `This is not JSON: ${problem}` : "Write an item first.");
      byId("item").setAttribute("aria-invalid", "true");
      (text.trim() ? byId("send-as-text") : byId("item")).focus();
      return;
    }
    this.sendItem(text);
  }

  async sendItem(text) {
    showText(byId("item-problem"), null);
    try {
      await this.connection.open();
      this.results.addSent(this.results.createValue(text));
      this.connection.sendText(text);
    } catch (error) {
      showText(byId("item-problem"), `Not sent. ${error.message}`);
    }
  }

  listenToFile() {
    const drop = byId("drop");
    const input = byId("file");
    input.addEventListener("change", () => input.files[0] && this.readFile(input.files[0]));
    const carriesFile = ({ dataTransfer }) => dataTransfer?.types.includes("Files");
    for (const [name, isOver] of [
      ["dragenter", true],
      ["dragover", true],
      ["dragleave", false],
      ["drop", false],
    ]) {
      drop.addEventListener(name, (event) => {
        if (carriesFile(event)) {
          event.preventDefault();
          drop.classList.toggle("over", isOver);
        }
      });
    }
    drop.addEventListener(
      "drop",
      (event) => event.dataTransfer.files[0] && this.readFile(event.dataTransfer.files[0]),
    );
    // Otherwise a file that is dropped beside the field would replace the page.
    for (const name of ["dragover", "drop"]) {
      window.addEventListener(name, (event) => carriesFile(event) && event.preventDefault());
    }
    byId("send-file").addEventListener("click", () =>
      this.sending ? (this.sending = null) : this.sendFile(),
    );
  }

  async readFile(file) {
    showText(byId("file-problem"), null);
    this.recording = null;
    try {
      const recording = await readRecording(file);
      this.recording = { name: file.name, ...recording };
      const { rate, channels } = recording;
      setText(
        byId("file-name"),
        `${file.name}: ${durationOf(recording).toFixed(1)} s, ${formatFrequency(rate)}, ${plural(channels, "channel")}`,
      );
      byId("file-wave").hidden = false;
      this.fileWave.show(peaksOf(recording, this.fileWave.room));
    } catch (error) {
      byId("file-wave").hidden = true;
      setText(byId("file-name"), file.name);
      showText(byId("file-problem"), error.message);
    }
    byId("send-file").disabled = !this.recording;
  }

  async sendFile() {
    const { recording } = this;
    const sending = { stopped: false };
    this.sending = sending;
    setText(byId("send-file"), "Stop sending");
    showText(byId("file-problem"), null);
    try {
      await this.connection.open(recording);
      this.sending = sending;
      this.results.addSent(`${recording.name}, ${durationOf(recording).toFixed(1)} s of audio`);
      await this.sendChunks(recording, () => this.sending === sending && this.connection.isOpen);
      if (this.sending === sending) {
        this.endAfterAudio();
      }
    } catch (error) {
      showText(byId("file-problem"), `Not sent. ${error.message}`);
    }
    this.sending = null;
    byId("file-progress").hidden = true;
    setText(byId("send-file"), "Send the recording");
    this.fileWave.show(this.fileWave.peaks);
  }

  /** Send chunks of 20 ms: as fast as the service receives them, or in real time. */
  async sendChunks(recording, goesOn) {
    const { bytes } = recording;
    const size = chunkSize(recording);
    const progress = byId("file-progress");
    const began = performance.now();
    progress.hidden = false;
    for (let at = 0; at < bytes.length && goesOn(); at += size) {
      this.connection.sendAudio(bytes.subarray(at, at + size));
      this.results.lastSent = performance.now();
      await this.connection.untilRoom();
      const early = began + ((at / size) * 1000) / FRAMES_PER_SECOND - performance.now();
      if (byId("real-time").checked && early > 0) {
        await new Promise((resolve) => setTimeout(resolve, early));
      }
      progress.value = Math.min(1, (at + size) / bytes.length);
      this.fileWave.show(this.fileWave.peaks, progress.value);
    }
  }

  async startMicrophone() {
    const button = byId("microphone");
    showText(byId("microphone-problem"), null);
    button.disabled = true;
    try {
      const microphone = await Microphone.open(Number(byId("microphone-rate").value));
      try {
        await this.connection.open({ rate: microphone.rate, channels: 1, format: "s16le" });
      } catch (error) {
        microphone.close();
        throw error;
      }
      this.microphone = microphone;
      this.results.addSent(`Microphone, ${formatFrequency(microphone.rate)}`);
      this.listenToMicrophone(microphone);
      setText(button, "Stop the microphone");
    } catch (error) {
      showText(byId("microphone-problem"), error.message);
    }
    button.disabled = false;
  }

  listenToMicrophone(microphone) {
    let lost = 0;
    setText(byId("microphone-state"), `Listening, ${formatFrequency(microphone.rate)}`);
    microphone.listen((chunk) => {
      const bytes = new Uint8Array(chunk.buffer);
      this.microphoneWave.push(peakOf(bytes, "s16le"));
      if (!this.connection.isOpen) {
        return;
      }
      // Live audio must not be delayed, so chunks are dropped.
      if (this.connection.socket.bufferedAmount > LAGGING_CHUNKS * bytes.length) {
        lost += 1;
        setText(
          byId("microphone-state"),
          `The service is too slow: ${(lost / FRAMES_PER_SECOND).toFixed(1)} s of audio were dropped`,
        );
        return;
      }
      this.connection.sendAudio(bytes);
      this.results.lastSent = performance.now();
    });
  }

  stopMicrophone(ends = true) {
    if (!this.microphone) {
      return;
    }
    this.microphone.close();
    this.microphone = null;
    setText(byId("microphone"), "Start the microphone");
    setText(byId("microphone-state"), "");
    if (ends && this.connection.isOpen) {
      this.endAfterAudio();
    }
  }
}

/** Return the kind of a JSON value, or the reason why a text is not JSON. */
function judgeItem(text) {
  try {
    const value = JSON.parse(text);
    if (value === null || typeof value !== "object") {
      return {
        kind:
          value === null
            ? "null"
            : { string: "a string", number: "a number", boolean: "true or false" }[typeof value],
      };
    }
    return {
      kind: Array.isArray(value)
        ? `a list of ${plural(value.length, "value")}`
        : `an object with ${plural(Object.keys(value).length, "key")}`,
    };
  } catch (error) {
    return { problem: error.message };
  }
}

function curlCommand(item, needsToken) {
  const quoted = `'${item.replaceAll("'", "'\\''")}'`;
  const token = needsToken ? ` \\\n  --header "Authorization: Bearer $TOKEN"` : "";
  return `curl ${new URL("call", location.href)} \\\n  --header 'Content-Type: application/json'${token} \\\n  --data ${quoted}`;
}

/** Make buttons work as tabs, with the arrow keys. */
function addTabs(ids) {
  const tabs = ids.map(byId);
  const select = (chosen) => {
    for (const tab of tabs) {
      const isChosen = tab === chosen;
      tab.setAttribute("aria-selected", String(isChosen));
      tab.tabIndex = isChosen ? 0 : -1;
      byId(tab.getAttribute("aria-controls")).hidden = !isChosen;
    }
    byId("end-choice").hidden = chosen === tabs[0];
  };
  tabs.forEach((tab, index) => {
    tab.addEventListener("click", () => select(tab));
    tab.addEventListener("keydown", ({ key }) => {
      const target = { ArrowRight: index + 1, ArrowLeft: index - 1, Home: 0, End: -1 }[key];
      if (target !== undefined) {
        const next = tabs.at(target % tabs.length);
        select(next);
        next.focus();
      }
    });
  });
}
