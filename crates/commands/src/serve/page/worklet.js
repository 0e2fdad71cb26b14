// Runs on the browser's audio thread: converts the audio of the microphone to chunks of 16-bit samples.

class PcmWriter extends AudioWorkletProcessor {
  constructor({ processorOptions }) {
    super();
    this.chunk = new Int16Array(processorOptions.samples);
    this.used = 0;
  }

  process([channels]) {
    for (const sample of channels[0] ?? []) {
      const limited = Math.max(-1, Math.min(1, sample));
      this.chunk[this.used] = limited * 32767;
      this.used += 1;
      if (this.used === this.chunk.length) {
        this.port.postMessage(this.chunk.slice());
        this.used = 0;
      }
    }
    return true;
  }
}

registerProcessor("pcm-writer", PcmWriter);
