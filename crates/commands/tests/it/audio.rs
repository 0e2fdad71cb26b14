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

/// Write a tone and return its samples as they were rounded to the format.
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

/// A recording of 1000 samples whose header states these lengths.
fn with_lengths(desk: &Desk, riff: u32, data: u32) -> Vec<u8> {
    write_wav(&desk.path("in.wav"), spec(1, 8000, 16, SampleFormat::Int), 1000);
    let mut bytes = std::fs::read(desk.path("in.wav")).unwrap();
    bytes[4..8].copy_from_slice(&riff.to_le_bytes());
    bytes[40..44].copy_from_slice(&data.to_le_bytes());
    bytes
}

/// How many frames are read of these bytes, as a file and through a pipe.
fn frames(desk: &Desk, bytes: &[u8]) -> [Option<u64>; 2] {
    desk.file("in.wav", bytes);
    let read = |stdout: String| {
        let (_, count) = stdout.split_once("\"frames\":")?;
        count.split(',').next()?.parse().ok()
    };
    [
        read(desk.run("run loudness --input in.wav --chunk-ms 1000").good()),
        read(desk.run_with_input("run loudness --input - --format wav --chunk-ms 1000", bytes).good()),
    ]
}

#[test]
fn a_stream_that_states_no_length_is_read_to_its_end() {
    let desk = Desk::new();
    let unknown = u32::MAX;
    for (riff, data) in [
        (unknown, unknown),
        (0, 0),
        (36, 0),
        (unknown, 0),
        (0, unknown),
        (2036, 0),
        (0x7FFF_F024, 0x7FFF_F000),
        (0, 2000),
        (36, 2000),
    ] {
        let bytes = with_lengths(&desk, riff, data);

        assert_eq!(frames(&desk, &bytes), [Some(1000); 2], "{riff:#x} {data:#x}");
    }
}

#[test]
fn long_lengths_are_read_and_need_not_be_filled_in_either() {
    let desk = Desk::new();
    for (riff, data) in [(2072, 2000), (0, 0), (u64::MAX, u64::MAX), (72, 0)] {
        for short in [u32::MAX, 0] {
            let mut bytes = with_lengths(&desk, u32::MAX, short);
            bytes[..4].copy_from_slice(b"RF64");
            let long: Vec<u8> =
                [&b"ds64\x1c\0\0\0"[..], &u64::to_le_bytes(riff), &u64::to_le_bytes(data), &[0; 12]].concat();
            bytes.splice(12..12, long);
            // Where the length of the samples is known, what follows is not part of them.
            if data == 2000 {
                bytes.extend(b"LIST\x04\0\0\0abcd");
            }

            assert_eq!(frames(&desk, &bytes), [Some(1000); 2], "{riff:#x} {data:#x} {short:#x}");
        }
    }
}

#[test]
fn an_empty_recording_with_a_title_is_empty() {
    let desk = Desk::new();
    let mut bytes = with_lengths(&desk, 48, 0);
    bytes.truncate(44);

    assert_eq!(frames(&desk, &bytes), [None; 2]);
    bytes.extend(b"LIST\x04\0\0\0abcd");
    assert_eq!(frames(&desk, &bytes), [None; 2]);
}

#[test]
fn an_odd_length_of_samples_ends_before_its_padding() {
    let desk = Desk::new();
    write_wav(&desk.path("in.wav"), spec(1, 8000, 8, SampleFormat::Int), 81);
    let mut bytes = std::fs::read(desk.path("in.wav")).unwrap();
    bytes.extend(b"LIST\x04\0\0\0abcd");

    assert_eq!(frames(&desk, &bytes), [Some(81); 2]);
}

/// A recording in the extensible form with samples of `valid` bits in `width` bytes, one of them half of full scale.
fn extensible(width: u16, valid: u16, tag: u16, sample: &[u8]) -> Vec<u8> {
    let block = [width.to_le_bytes(), (width * 8).to_le_bytes(), 22_u16.to_le_bytes(), valid.to_le_bytes()].concat();
    let tail = [0, 0, 0, 0, 0x10, 0, 0x80, 0, 0, 0xAA, 0, 0x38, 0x9B, 0x71];
    let mut bytes = b"RIFF\0\0\0\0WAVEfmt \x28\0\0\0\xFE\xFF\x01\0\x40\x1f\0\0\0\0\0\0".to_vec();
    bytes.extend([&block[..], &[0; 4], &tag.to_le_bytes(), &tail, b"data\0\0\0\0", sample].concat());
    bytes
}

#[test]
fn samples_lie_at_the_high_end_of_an_extensible_container() {
    let desk = Desk::new();
    for (width, valid) in
        [(1, 8), (1, 6), (2, 16), (2, 8), (2, 12), (3, 20), (3, 24), (4, 20), (4, 24), (4, 32), (4, 0)]
    {
        let mut sample = vec![0; width.into()];
        // Eight bits are unsigned.
        *sample.last_mut().unwrap() = if width == 1 { 0xC0 } else { 0x40 };

        desk.file("in.wav", extensible(width, valid, 1, &sample));

        desk.run("run echo --input in.wav --output out.wav").good();
        assert_eq!(read_floats(&desk.path("out.wav")).1, [0.5], "{valid} bits in {width} bytes");
    }
}

#[test]
fn floats_in_an_extensible_container_stay_floats() {
    let desk = Desk::new();
    for (width, valid, sample) in [
        (4, 32, 0.5_f32.to_le_bytes().to_vec()),
        (4, 24, 0.5_f32.to_le_bytes().to_vec()),
        (8, 64, 0.5_f64.to_le_bytes().to_vec()),
    ] {
        desk.file("in.wav", extensible(width, valid, 3, &sample));

        desk.run("run echo --input in.wav --output out.wav").good();
        assert_eq!(read_floats(&desk.path("out.wav")).1, [0.5], "{valid} bits in {width} bytes");
    }
}

#[test]
fn plain_samples_of_24_bits_in_4_bytes_lie_at_the_low_end() {
    let desk = Desk::new();
    let mut bytes = with_lengths(&desk, 0, 0);
    bytes.truncate(44);
    bytes[32..36].copy_from_slice(&[4, 0, 24, 0]);
    bytes.extend(0x0040_0000_i32.to_le_bytes());
    desk.file("in.wav", bytes);

    desk.run("run echo --input in.wav --output out.wav").good();

    assert_eq!(read_floats(&desk.path("out.wav")).1, [0.5]);
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
fn raw_channels_and_formats_are_printed() {
    let desk = Desk::new();
    desk.file("in.pcm", [0_u8, 255].repeat(160));

    let stdout = desk.run("run loudness --input in.pcm --rate 8000 --channels 2 --sample-format u8").good();

    assert_eq!(stdout, "{\"start\":0.0,\"frames\":160,\"channels\":2,\"rate\":8000,\"peak\":1.0}\n");
}

#[test]
fn samples_beyond_full_scale_are_reported() {
    let desk = Desk::new();
    let mut writer = WavWriter::create(desk.path("in.wav"), spec(1, 8000, 32, SampleFormat::Float)).unwrap();
    for sample in [0.5_f32, 1.5, -1.5] {
        writer.write_sample(sample).unwrap();
    }
    writer.finalize().unwrap();

    let ran = desk.run("run echo --input in.wav --output out.wav --sample-format s16le");

    assert_eq!(
        ran.bad(0),
        "2 samples in out.wav exceeded full scale and were clipped; use --sample-format f32le to keep them\n"
    );
}

#[test]
fn a_wav_is_complete_after_a_failure() {
    let desk = Desk::new();
    write_wav(&desk.path("in.wav"), spec(1, 8000, 16, SampleFormat::Int), 1000);

    let ran = desk.run("run fail --input in.wav --output out.wav");

    assert_eq!(ran.code, 1);
    assert_eq!(read_floats(&desk.path("out.wav.partial")).1.len(), 2 * 160);
}

#[test]
fn more_channels_than_a_wav_can_hold_are_refused() {
    let desk = Desk::new();
    let mut bytes = with_lengths(&desk, 0, 0);
    bytes[22..24].copy_from_slice(&16_384_u16.to_le_bytes());
    bytes[32..34].copy_from_slice(&32_768_u16.to_le_bytes());
    bytes.extend(vec![0; 32_768]);
    desk.file("in.wav", bytes);

    let stderr = desk.run("run echo --input in.wav --output out.wav").bad(1);

    assert!(stderr.contains("8000 Hz and 16384 channels, which is more than a WAV file can contain"), "{stderr}");
    desk.run("run echo --input in.wav --output out.wav --sample-format s16le").good();
    assert_eq!(desk.run("run echo --input out.wav --output again.raw").good(), "");
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
        "native: output 1 is audio, which JSON and text cannot contain; use --output FILE.wav, or --output-format raw\n"
    );
}

#[test]
fn text_as_wav_names_the_way_out() {
    let desk = Desk::new();

    assert_eq!(
        desk.run_with_input("run echo --input - --output out.wav", b"a\n").bad(1),
        "native: output 1 is text, but a WAV file can contain only audio; use --output FILE.jsonl, or --output-format jsonl\n"
    );
}

#[test]
fn a_change_of_rate_within_a_recording_is_refused() {
    let desk = Desk::new();
    write_wav(&desk.path("in.wav"), spec(1, 8000, 16, SampleFormat::Int), 1000);

    assert_eq!(
        desk.run("run mixed --input in.wav --output out.wav").bad(1),
        "native: output 2 is audio of 16000 Hz and 1 channel, but the recording started with 8000 Hz and 1 channel; \
         resample it in a node\n\
         The outputs before the failure are in 'out.wav.partial'\n"
    );
}

#[test]
fn what_is_not_wav_is_refused() {
    let desk = Desk::new();
    desk.file("text.wav", "this is not a recording");
    desk.file("short.wav", b"RIFF\0\0\0\0WAVEfmt ");

    assert_eq!(
        desk.run("run echo --input text.wav").bad(1),
        "native: text.wav: not a WAV file: it does not start with RIFF … WAVE; set --format, or convert it with ffmpeg\n"
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
