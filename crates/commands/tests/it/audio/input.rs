//! Recordings that the nodes are given: every kind of WAV and raw samples, and what is refused.

use hound::SampleFormat;

use super::{read_floats, spec, with_lengths, write_wav};
use crate::program::Desk;

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
fn raw_channels_and_formats_are_printed() {
    let desk = Desk::new();
    desk.file("in.pcm", [0_u8, 255].repeat(160));

    let stdout = desk.run("run loudness --input in.pcm --rate 8000 --channels 2 --sample-format u8").good();

    assert_eq!(stdout, "{\"start\":0.0,\"frames\":160,\"channels\":2,\"rate\":8000,\"peak\":1.0}\n");
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
