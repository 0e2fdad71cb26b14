//! Samples as bytes: how PCM is laid out, and its way to and from samples in `[-1, 1]`.

use clap::ValueEnum;

/// How one sample is stored, little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SampleFormat {
    /// Unsigned 8-bit integers
    U8,
    /// Signed 16-bit integers
    S16le,
    /// Signed 24-bit integers in 3 bytes
    S24le,
    /// Signed 32-bit integers
    S32le,
    /// 32-bit floating point in [-1, 1]
    F32le,
    /// Signed 24-bit integers in the low end of 4 bytes, as `arecord -f S24_LE` writes them
    #[value(skip)]
    S24In32le,
    /// 64-bit floating point in [-1, 1]
    #[value(skip)]
    F64le,
}

const SCALE_16: f32 = 32_768.0;
const SCALE_24: f32 = 8_388_608.0;
const SCALE_32: f32 = 2_147_483_648.0;

impl SampleFormat {
    /// The name by which options and queries know it.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// Bytes of one sample.
    pub(crate) fn width(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::S16le => 2,
            Self::S24le => 3,
            Self::S32le | Self::F32le | Self::S24In32le => 4,
            Self::F64le => 8,
        }
    }

    /// Whether samples are floating-point numbers, which are not limited to `[-1, 1]`.
    pub(crate) fn is_float(self) -> bool {
        matches!(self, Self::F32le | Self::F64le)
    }

    /// The samples in `bytes`, a whole number of them.
    // Every format fits the range and precision of f32 but the 32-bit integers and f64, whose lowest bits are inaudible.
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "audio is f32 by definition")]
    pub(crate) fn decode(self, bytes: &[u8]) -> Vec<f32> {
        match self {
            Self::U8 => bytes.iter().map(|&byte| (f32::from(byte) - 128.0) / 128.0).collect(),
            Self::S16le => each(bytes, |b: [u8; 2]| f32::from(i16::from_le_bytes(b)) / SCALE_16),
            Self::S24le => each(bytes, |[low, mid, high]: [u8; 3]| {
                // Shifted to the top and back down, so that the sign fills the fourth byte.
                (i32::from_le_bytes([0, low, mid, high]) >> 8) as f32 / SCALE_24
            }),
            Self::S24In32le => each(bytes, |[low, mid, high, _]: [u8; 4]| {
                (i32::from_le_bytes([0, low, mid, high]) >> 8) as f32 / SCALE_24
            }),
            Self::S32le => each(bytes, |b: [u8; 4]| i32::from_le_bytes(b) as f32 / SCALE_32),
            Self::F32le => each(bytes, f32::from_le_bytes),
            Self::F64le => each(bytes, |b: [u8; 8]| f64::from_le_bytes(b) as f32),
        }
    }

    /// Append `samples` to `bytes`; returns how many were too loud for this format and were clipped.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates")]
    pub(crate) fn encode(self, samples: &[f32], bytes: &mut Vec<u8>) -> u64 {
        bytes.reserve(samples.len() * self.width());
        let mut clipped = 0;
        for &sample in samples {
            if !self.is_float() && !(-1.0..=1.0).contains(&sample) {
                clipped += 1;
            }
            match self {
                Self::U8 => bytes.push(sample.mul_add(128.0, 128.0).round() as u8),
                Self::S16le => bytes.extend(((sample * SCALE_16).round() as i16).to_le_bytes()),
                Self::S24le => bytes.extend(&to_24(sample)[..3]),
                Self::S24In32le => bytes.extend(to_24(sample)),
                Self::S32le => bytes.extend(((sample * SCALE_32).round() as i32).to_le_bytes()),
                Self::F32le => bytes.extend(sample.to_le_bytes()),
                Self::F64le => bytes.extend(f64::from(sample).to_le_bytes()),
            }
        }
        clipped
    }
}

#[allow(clippy::cast_possible_truncation, reason = "clamped to 24 bits")]
fn to_24(sample: f32) -> [u8; 4] {
    ((sample * SCALE_24).round().clamp(-SCALE_24, SCALE_24 - 1.0) as i32).to_le_bytes()
}

fn each<const N: usize>(bytes: &[u8], sample: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    bytes.as_chunks::<N>().0.iter().map(|&stored| sample(stored)).collect()
}

#[cfg(test)]
mod tests {
    use crate::sample_format::*;

    const ALL: [SampleFormat; 7] = [
        SampleFormat::U8,
        SampleFormat::S16le,
        SampleFormat::S24le,
        SampleFormat::S32le,
        SampleFormat::F32le,
        SampleFormat::S24In32le,
        SampleFormat::F64le,
    ];

    #[test]
    fn every_format_gives_back_what_it_was_given() {
        let samples = [0.0, 0.5, -0.5, -1.0, 0.25];
        for format in ALL {
            let mut bytes = Vec::new();

            let clipped = format.encode(&samples, &mut bytes);

            assert_eq!((clipped, bytes.len()), (0, samples.len() * format.width()));
            assert_eq!(format.decode(&bytes), samples, "{format:?}");
        }
    }

    #[test]
    fn samples_beyond_full_scale_are_clipped_and_counted() {
        let mut bytes = Vec::new();

        let clipped = SampleFormat::S16le.encode(&[2.0, -2.0, f32::NAN, 1.0], &mut bytes);

        assert_eq!(clipped, 3);
        assert_eq!(SampleFormat::S16le.decode(&bytes), [32767.0 / 32768.0, -1.0, 0.0, 32767.0 / 32768.0]);
    }

    #[test]
    fn floats_are_not_clipped() {
        let mut bytes = Vec::new();

        assert_eq!(SampleFormat::F32le.encode(&[2.0, -3.0], &mut bytes), 0);
        assert_eq!(SampleFormat::F32le.decode(&bytes), [2.0, -3.0]);
    }
}
