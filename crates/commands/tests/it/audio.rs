//! Audio in and out, with hound as the judge of WAV.

use std::f32::consts::TAU;
use std::path::Path;

use hound::{SampleFormat, WavReader, WavSpec, WavWriter};

use crate::program::Desk;

fn spec(channels: u16, sample_rate: u32, bits_per_sample: u16, sample_format: SampleFormat) -> WavSpec {
    WavSpec { channels, sample_rate, bits_per_sample, sample_format }
}

fn tone(count: u16) -> Vec<f32> {
    (0..count).map(|at| (f32::from(at) * TAU / 50.0).sin() * 0.5).collect()
}

/// Write a tone and answer its samples as they were rounded to the format.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "small numbers")]
fn write_wav(path: &Path, spec: WavSpec, samples: u16) -> Vec<f32> {
    let mut writer = WavWriter::create(path, spec).unwrap();
    let mut written = Vec::new();
    for sample in tone(samples) {
        if spec.sample_format == SampleFormat::Float {
            writer.write_sample(sample).unwrap();
            written.push(sample);
        } else {
            let full = (1_i64 << (spec.bits_per_sample - 1)) as f32;
            let integer = (sample * full).round() as i32;
            writer.write_sample(integer).unwrap();
            written.push(integer as f32 / full);
        }
    }
    writer.finalize().unwrap();
    written
}

fn read_floats(path: &Path) -> (WavSpec, Vec<f32>) {
    let reader = WavReader::open(path).unwrap();
    (reader.spec(), reader.into_samples().map(Result::unwrap).collect())
}

#[test]
fn every_kind_of_pcm_is_read_to_the_last_bit() {
    let desk = Desk::new();
    let kinds = [(8, SampleFormat::Int), (16, SampleFormat::Int), (24, SampleFormat::Int), (32, SampleFormat::Int)];
    for (bits, format) in kinds.into_iter().chain([(32, SampleFormat::Float)]) {
        for channels in [1, 2, 6] {
            let written = write_wav(&desk.path("in.wav"), spec(channels, 8000, bits, format), 1200);

            desk.run("run echo --input in.wav --output out.wav").good();

            let (read_spec, read) = read_floats(&desk.path("out.wav"));
            assert_eq!((read_spec.channels, read_spec.sample_rate), (channels, 8000));
            assert_eq!(read, written, "{bits} bits, {channels} channels");
        }
    }
}

#[test]
fn audio_comes_in_chunks_of_equal_length() {
    let desk = Desk::new();
    write_wav(&desk.path("in.wav"), spec(2, 16_000, 16, SampleFormat::Int), 1500);

    let stdout = desk.run("run loudness --input in.wav").good();

    let chunks: Vec<&str> = stdout.lines().map(|line| line.split(",\"peak\"").next().unwrap()).collect();
    assert_eq!(
        chunks,
        [
            "{\"start\":0.0,\"frames\":320,\"channels\":2,\"rate\":16000",
            "{\"start\":0.02,\"frames\":320,\"channels\":2,\"rate\":16000",
            "{\"start\":0.04,\"frames\":110,\"channels\":2,\"rate\":16000",
        ]
    );
}

#[test]
fn chunks_are_as_long_as_asked_and_each_file_begins_at_0() {
    let desk = Desk::new();
    write_wav(&desk.path("a.wav"), spec(1, 11_025, 16, SampleFormat::Int), 1500);

    let stdout = desk.run("run loudness -i a.wav -i a.wav --chunk-ms 100").good();

    let frames = |text: &str| text.matches("\"frames\":1103").count();
    assert_eq!((frames(&stdout), stdout.matches("\"start\":0.0,").count(), stdout.lines().count()), (2, 2, 4));
}

#[test]
fn a_stream_that_states_no_length_is_read_to_its_end() {
    let desk = Desk::new();
    write_wav(&desk.path("in.wav"), spec(1, 8000, 16, SampleFormat::Int), 1000);
    let mut bytes = std::fs::read(desk.path("in.wav")).unwrap();
    bytes[4..8].fill(0xFF);
    bytes[40..44].fill(0xFF);

    let stdout = desk.run_with_input("run loudness --input - --format wav --chunk-ms 1000", &bytes).good();

    assert!(stdout.contains("\"frames\":1000"), "{stdout}");
}

#[test]
fn chunks_of_other_kinds_are_skipped() {
    let desk = Desk::new();
    write_wav(&desk.path("in.wav"), spec(1, 8000, 16, SampleFormat::Int), 80);
    let mut bytes = std::fs::read(desk.path("in.wav")).unwrap();
    bytes.splice(12..12, *b"LIST\x03\0\0\0abc\0");
    bytes.extend(b"LIST\x04\0\0\0abcd");
    desk.file("in.wav", bytes);

    let stdout = desk.run("run loudness --input in.wav").good();

    assert!(stdout.contains("\"frames\":80"), "{stdout}");
}

#[test]
fn a_recording_that_was_cut_off_is_read_as_far_as_it_goes() {
    let desk = Desk::new();
    write_wav(&desk.path("in.wav"), spec(2, 8000, 16, SampleFormat::Int), 160);
    let bytes = std::fs::read(desk.path("in.wav")).unwrap();
    desk.file("in.wav", &bytes[..44 + 4 * 50 + 3]);

    let stdout = desk.run("run loudness --input in.wav").good();

    assert!(stdout.contains("\"frames\":50"), "{stdout}");
}

#[test]
fn wav_goes_out_as_float_or_as_asked() {
    let desk = Desk::new();
    write_wav(&desk.path("in.wav"), spec(1, 8000, 16, SampleFormat::Int), 100);

    desk.run("run half --input in.wav --output float.wav").good();
    desk.run("run half --input in.wav --output short.wav --sample-format s16le").good();

    let (float, samples) = read_floats(&desk.path("float.wav"));
    assert_eq!((float.sample_format, float.bits_per_sample, samples.len()), (SampleFormat::Float, 32, 100));
    let short = WavReader::open(desk.path("short.wav")).unwrap();
    assert_eq!((short.spec().bits_per_sample, short.duration()), (16, 100));
}

#[test]
fn raw_samples_pass_unchanged() {
    let desk = Desk::new();
    let bytes: Vec<u8> = (-250..250).flat_map(|at: i16| (at * 100).to_le_bytes()).collect();
    desk.file("in.raw", &bytes);

    desk.run("run echo --input in.raw --rate 8000 --sample-format s16le --output out.pcm").good();

    assert_eq!(std::fs::read(desk.path("out.pcm")).unwrap(), bytes);
}

#[test]
fn raw_channels_and_formats_are_told() {
    let desk = Desk::new();
    desk.file("in.pcm", [0_u8, 255].repeat(160));

    let stdout = desk.run("run loudness --input in.pcm --rate 8000 --channels 2 --sample-format u8").good();

    assert_eq!(stdout, "{\"start\":0.0,\"frames\":160,\"channels\":2,\"rate\":8000,\"peak\":1.0}\n");
}

#[test]
fn samples_beyond_full_scale_are_told() {
    let desk = Desk::new();
    let mut writer = WavWriter::create(desk.path("in.wav"), spec(1, 8000, 32, SampleFormat::Float)).unwrap();
    for sample in [0.5_f32, 1.5, -1.5] {
        writer.write_sample(sample).unwrap();
    }
    writer.finalize().unwrap();

    let ran = desk.run("run echo --input in.wav --output out.wav --sample-format s16le");

    assert_eq!(
        ran.bad(0),
        "2 samples in out.wav were beyond full scale and clipped; --sample-format f32le keeps them\n"
    );
}

#[test]
fn a_wav_is_complete_after_a_failure() {
    let desk = Desk::new();
    write_wav(&desk.path("in.wav"), spec(1, 8000, 16, SampleFormat::Int), 1000);

    let ran = desk.run("run fail --input in.wav --output out.wav");

    assert_eq!(ran.code, 1);
    assert_eq!(read_floats(&desk.path("out.wav")).1.len(), 2 * 160);
}

#[test]
fn an_odd_number_of_bytes_is_padded() {
    let desk = Desk::new();
    write_wav(&desk.path("in.wav"), spec(1, 8000, 8, SampleFormat::Int), 101);

    desk.run("run echo --input in.wav --output out.wav --sample-format u8").good();

    let bytes = std::fs::read(desk.path("out.wav")).unwrap();
    assert_eq!(
        (bytes.len(), &bytes[4..8], &bytes[40..44]),
        (146, &138_u32.to_le_bytes()[..], &101_u32.to_le_bytes()[..])
    );
}

#[test]
fn bytes_go_out_raw() {
    let desk = Desk::new();

    desk.run("run bytes --output out.raw").good();

    assert_eq!(std::fs::read(desk.path("out.raw")).unwrap(), [1, 2, 3]);
}

#[test]
fn audio_as_json_names_the_way_out() {
    let desk = Desk::new();
    write_wav(&desk.path("in.wav"), spec(1, 8000, 16, SampleFormat::Int), 10);

    assert_eq!(
        desk.run("run echo --input in.wav").bad(1),
        "native: output 1 is audio, which JSON and text cannot hold; use --output FILE.wav, or --output-format raw\n"
    );
}

#[test]
fn text_as_wav_names_the_way_out() {
    let desk = Desk::new();

    assert_eq!(
        desk.run_with_input("run echo --input - --output out.wav", b"a\n").bad(1),
        "native: output 1 is text, but a WAV file holds audio alone; use --output FILE.jsonl, or --output-format jsonl\n"
    );
}

#[test]
fn a_change_of_rate_within_a_recording_is_refused() {
    let desk = Desk::new();
    write_wav(&desk.path("in.wav"), spec(1, 8000, 16, SampleFormat::Int), 1000);

    assert_eq!(
        desk.run("run mixed --input in.wav --output out.wav").bad(1),
        "native: output 2 is audio of 16000 Hz and 1 channel, but the recording began with 8000 Hz and 1 channel; \
         resample it in a node\n"
    );
}

#[test]
fn what_is_no_wav_is_refused() {
    let desk = Desk::new();
    desk.file("text.wav", "this is no recording at all");
    desk.file("short.wav", b"RIFF\0\0\0\0WAVEfmt ");

    assert_eq!(
        desk.run("run echo --input text.wav").bad(1),
        "native: text.wav: not a WAV file: it does not begin with RIFF … WAVE; name its --format, or convert it with ffmpeg\n"
    );
    assert_eq!(
        desk.run("run echo --input short.wav").bad(1),
        "native: short.wav: not a WAV file: it ends within its header\n"
    );
}

#[test]
fn an_encoding_that_is_not_pcm_is_named() {
    let desk = Desk::new();
    write_wav(&desk.path("in.wav"), spec(1, 8000, 8, SampleFormat::Int), 10);
    let mut bytes = std::fs::read(desk.path("in.wav")).unwrap();
    bytes[20] = 7;
    desk.file("in.wav", bytes);

    assert_eq!(
        desk.run("run echo --input in.wav").bad(1),
        "native: in.wav: WAV with µ-law samples of 8 bits is not supported; convert it to PCM with ffmpeg\n"
    );
}
