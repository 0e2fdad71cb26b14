//! Audio in and out, with hound as the judge of WAV.

mod input;
mod output;

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

/// A recording of 1000 samples whose header states these lengths.
fn with_lengths(desk: &Desk, riff: u32, data: u32) -> Vec<u8> {
    write_wav(&desk.path("in.wav"), spec(1, 8000, 16, SampleFormat::Int), 1000);
    let mut bytes = std::fs::read(desk.path("in.wav")).unwrap();
    bytes[4..8].copy_from_slice(&riff.to_le_bytes());
    bytes[40..44].copy_from_slice(&data.to_le_bytes());
    bytes
}
