// Audio: files as PCM, playback, the microphone, and waveforms.

const FRAMES_PER_SECOND = 50; // Chunks of 20 ms.
const DECODER_RATE = 48_000;
const LONGEST_RUN_SECS = 30;
const WAVE_BAR = { width: 3, gap: 1 };

/** The size of a sample in each format, and a function that reads it from a `DataView` as a number in [-1, 1]. */
const READERS = {
  s16le: { bytes: 2, read: (view, at) => view.getInt16(at, true) / 32768 },
  s32le: { bytes: 4, read: (view, at) => view.getInt32(at, true) / 2147483648 },
  f32le: { bytes: 4, read: (view, at) => view.getFloat32(at, true) },
};

/** Return the PCM of a file: `bytes`, `format`, `rate`, `channels`. The browser decodes formats other than WAV. */
async function readRecording(file) {
  const buffer = await file.arrayBuffer();
  if (buffer.byteLength === 0) {
    throw new Error("The file is empty.");
  }
  return readWav(buffer) ?? (await decodeRecording(buffer));
}

/** Return the PCM of a WAV file, or `null` if it is not one or its encoding is not supported here. */
function readWav(buffer) {
  const view = new DataView(buffer);
  const tag = (at) => String.fromCharCode(...new Uint8Array(buffer, at, 4));
  if (buffer.byteLength < 12 || tag(0) !== "RIFF" || tag(8) !== "WAVE") {
    return null;
  }
  let header = null;
  for (let at = 12; at + 8 <= buffer.byteLength;) {
    const size = view.getUint32(at + 4, true);
    const begin = at + 8;
    if (tag(at) === "fmt " && begin + 16 <= buffer.byteLength) {
      header = readWavHeader(view, begin, size);
    } else if (tag(at) === "data" && header) {
      // A program that writes to a pipe does not know the size, and writes one that is too large.
      const end = Math.min(begin + size, buffer.byteLength);
      return convertWav(new DataView(buffer, begin, end - begin), header);
    }
    at = begin + size + (size % 2);
  }
  return null;
}

function readWavHeader(view, at, size) {
  let kind = view.getUint16(at, true);
  if (kind === 0xfffe && size >= 26 && at + 26 <= view.byteLength) {
    kind = view.getUint16(at + 24, true);
  }
  return {
    kind,
    channels: view.getUint16(at + 2, true),
    rate: view.getUint32(at + 4, true),
    bits: view.getUint16(at + 14, true),
  };
}

function convertWav(data, { kind, channels, rate, bits }) {
  const bytesOf = { "1/16": 2, "1/32": 4, "3/32": 4, "1/8": 1, "1/24": 3 };
  const size = bytesOf[`${kind}/${bits}`];
  if (!size || channels === 0 || rate === 0) {
    return null;
  }
  const count = Math.floor(data.byteLength / size / channels) * channels;
  const as = (format, bytes) => ({ format, rate, channels, bytes });
  if (size === 1) {
    return as(
      "s16le",
      new Uint8Array(
        Int16Array.from({ length: count }, (_, index) => (data.getUint8(index) - 128) << 8).buffer,
      ),
    );
  }
  if (size === 3) {
    const wide = (index) => (data.getUint8(3 * index) << 8) | (data.getUint16(3 * index + 1, true) << 16);
    return as("s32le", new Uint8Array(Int32Array.from({ length: count }, (_, index) => wide(index)).buffer));
  }
  return as(
    { "1/16": "s16le", "1/32": "s32le", "3/32": "f32le" }[`${kind}/${bits}`],
    new Uint8Array(data.buffer, data.byteOffset, count * size),
  );
}

async function decodeRecording(buffer) {
  let decoded;
  try {
    decoded = await new OfflineAudioContext(1, 1, DECODER_RATE).decodeAudioData(buffer);
  } catch {
    throw new Error("The browser cannot decode this file as audio.");
  }
  const { numberOfChannels: channels, length, sampleRate: rate } = decoded;
  const samples = new Float32Array(length * channels);
  for (let channel = 0; channel < channels; channel += 1) {
    decoded
      .getChannelData(channel)
      .forEach((sample, index) => (samples[index * channels + channel] = sample));
  }
  return { format: "f32le", rate, channels, bytes: new Uint8Array(samples.buffer) };
}

/** Return the size of 20 ms in bytes: a whole number of frames. */
function chunkSize({ format, rate, channels }) {
  return Math.max(1, Math.round(rate / FRAMES_PER_SECOND)) * channels * READERS[format].bytes;
}

function durationOf({ bytes, format, rate, channels }) {
  return bytes.byteLength / READERS[format].bytes / channels / rate;
}

/** Return the largest absolute value of the samples. */
function peakOf(bytes, format) {
  const { bytes: size, read } = READERS[format];
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let peak = 0;
  for (let at = 0; at + size <= bytes.byteLength; at += size) {
    peak = Math.max(peak, Math.abs(read(view, at)));
  }
  return peak;
}

/** Divide PCM into `count` equal pieces, and return the peak of each. */
function peaksOf({ bytes, format, channels }, count) {
  const frame = READERS[format].bytes * channels;
  const frames = Math.floor(bytes.byteLength / frame);
  return Array.from({ length: count }, (_, index) => {
    const [begin, end] = [index, index + 1].map((place) => Math.floor((place * frames) / count) * frame);
    return peakOf(bytes.subarray(begin, end), format);
  });
}

/** Plays chunks of PCM one after the other. */
class Player {
  constructor() {
    this.context = null;
    this.playing = new Set();
    this.end = 0;
  }

  play(bytes, { rate, channels, format }) {
    const { bytes: size, read } = READERS[format];
    const frames = Math.floor(bytes.byteLength / size / channels);
    if (frames === 0) {
      return;
    }
    this.context ??= new AudioContext();
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const buffer = this.context.createBuffer(channels, frames, rate);
    for (let channel = 0; channel < channels; channel += 1) {
      const samples = Float32Array.from({ length: frames }, (_, frame) =>
        read(view, (frame * channels + channel) * size),
      );
      buffer.copyToChannel(samples, channel);
    }
    const source = new AudioBufferSourceNode(this.context, { buffer });
    source.connect(this.context.destination);
    source.onended = () => this.playing.delete(source);
    this.playing.add(source);
    this.end = Math.max(this.end, this.context.currentTime + 0.02);
    source.start(this.end);
    this.end += buffer.duration;
  }

  stop() {
    this.playing.forEach((source) => source.stop());
    this.playing.clear();
    this.end = 0;
  }
}

/** Draws peaks as bars: those of a whole recording, or of the last seconds. */
class Waveform {
  constructor(canvas) {
    this.canvas = canvas;
    this.peaks = [];
    this.played = 1;
    this.frame = 0;
    new ResizeObserver(() => this.redraw()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.redraw());
  }

  /** The number of bars that fit. */
  get room() {
    return Math.max(1, Math.floor(this.canvas.clientWidth / (WAVE_BAR.width + WAVE_BAR.gap)));
  }

  /** Add the peak of the next chunk of a live stream. */
  push(peak) {
    this.peaks = [...this.peaks.slice(-999), peak];
    this.redraw();
  }

  show(peaks, played = 1) {
    Object.assign(this, { peaks, played });
    this.redraw();
  }

  redraw() {
    cancelAnimationFrame(this.frame);
    this.frame = requestAnimationFrame(() => this.draw());
  }

  draw() {
    const { canvas } = this;
    const peaks = this.peaks.slice(-this.room);
    const { clientWidth: width, clientHeight: height } = canvas;
    const scale = window.devicePixelRatio || 1;
    canvas.width = width * scale;
    canvas.height = height * scale;
    const pen = canvas.getContext("2d");
    const style = getComputedStyle(canvas);
    const step = WAVE_BAR.width + WAVE_BAR.gap;
    const left = Math.max(0, width - this.room * step);
    pen.scale(scale, scale);
    pen.fillStyle = style.getPropertyValue("--line");
    pen.fillRect(0, height / 2 - 0.5, width, 1);
    peaks.forEach((peak, index) => {
      // The square root makes quiet sounds visible.
      const size = Math.max(1, Math.sqrt(Math.min(1, peak)) * (height - 4));
      pen.fillStyle = style.getPropertyValue(
        index < this.played * peaks.length ? "--accent-line" : "--faint",
      );
      pen.beginPath();
      pen.roundRect(left + index * step, (height - size) / 2, WAVE_BAR.width, size, 1.5);
      pen.fill();
    });
  }
}

/** Captures the microphone as chunks of 20 ms of 16-bit mono PCM. */
class Microphone {
  /** Start to capture, at the wanted rate if the browser can convert to it. */
  static async open(wantedRate) {
    if (!navigator.mediaDevices) {
      throw new Error(
        "Browsers allow the microphone only on pages that are loaded over HTTPS or from localhost.",
      );
    }
    let stream;
    try {
      // Without echo cancellation, a voice agent would respond to its own speech.
      const audio = { echoCancellation: true, noiseSuppression: false, autoGainControl: false };
      stream = await navigator.mediaDevices.getUserMedia({ audio });
    } catch (error) {
      const texts = {
        NotAllowedError: "The browser does not allow the microphone.",
        NotFoundError: "There is no microphone.",
      };
      throw new Error(texts[error.name] ?? `The microphone cannot be used: ${error.message}`);
    }
    const microphone = new Microphone();
    microphone.stream = stream;
    try {
      await microphone.connect(wantedRate);
    } catch (error) {
      microphone.close();
      throw error;
    }
    return microphone;
  }

  async connect(wantedRate) {
    let source;
    try {
      this.context = new AudioContext({ sampleRate: wantedRate });
      source = this.context.createMediaStreamSource(this.stream);
    } catch {
      // Some browsers cannot convert the rate of a microphone.
      await this.context?.close();
      this.context = new AudioContext();
      source = this.context.createMediaStreamSource(this.stream);
    }
    const address = URL.createObjectURL(new Blob([byId("worklet").textContent], { type: "text/javascript" }));
    try {
      await this.context.audioWorklet.addModule(address);
    } finally {
      URL.revokeObjectURL(address);
    }
    this.writer = new AudioWorkletNode(this.context, "pcm-writer", {
      channelCount: 1,
      channelCountMode: "explicit",
      processorOptions: { samples: Math.round(this.context.sampleRate / FRAMES_PER_SECOND) },
    });
    // Its output is silent, but some browsers run only nodes that are connected to the destination.
    source.connect(this.writer).connect(this.context.destination);
  }

  get rate() {
    return this.context.sampleRate;
  }

  /** Call a function with each chunk, an `Int16Array`. */
  listen(onChunk) {
    this.writer.port.onmessage = ({ data }) => onChunk(data);
  }

  close() {
    this.stream.getTracks().forEach((track) => track.stop());
    if (this.context && this.context.state !== "closed") {
      this.context.close();
    }
  }
}
