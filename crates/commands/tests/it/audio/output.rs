//! Audio that the nodes give, as WAV or raw samples.

use hound::{SampleFormat, WavReader, WavWriter};

use super::{read_floats, spec, with_lengths, write_wav};
use crate::program::Desk;

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
