//! The small native values that commands read and write, and that native nodes work on.

/// A stretch of decoded audio.
#[derive(Clone, Debug, PartialEq)]
pub struct AudioChunk {
    /// Samples in `[-1, 1]`, interleaved: one frame after the other, `channels` samples a frame.
    pub samples: Vec<f32>,
    /// Samples in one frame.
    pub channels: u16,
    /// Frames in a second, in Hz.
    pub sample_rate: u32,
    /// Where the first frame lies in its stream, in seconds.
    pub start_secs: f64,
}

impl AudioChunk {
    /// The number of frames (samples of all channels at one instant).
    pub fn frames(&self) -> usize {
        self.samples.len() / usize::from(self.channels.max(1))
    }

    /// How long the chunk sounds, in seconds.
    pub fn duration_secs(&self) -> f64 {
        // A chunk never holds so many frames that an f64 cannot count them.
        #[allow(clippy::cast_precision_loss, reason = "frame counts stay far below 2^52")]
        let frames = self.frames() as f64;
        frames / f64::from(self.sample_rate.max(1))
    }
}

/// One native value: what JSON can say, and bytes and audio besides.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// No value.
    Null,
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A whole number that needs more than 64 bits, by its decimal digits.
    BigInt(String),
    /// A floating-point number.
    Float(f64),
    /// Unicode text.
    Text(String),
    /// Raw bytes.
    Bytes(Vec<u8>),
    /// An ordered list.
    List(Vec<Value>),
    /// Names and values, in the order in which they were written.
    Map(Vec<(String, Value)>),
    /// A stretch of audio.
    Audio(AudioChunk),
}

impl Value {
    /// The word for this kind of value in error texts.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "bool",
            Self::Int(_) | Self::BigInt(_) => "int",
            Self::Float(_) => "float",
            Self::Text(_) => "text",
            Self::Bytes(_) => "bytes",
            Self::List(_) => "list",
            Self::Map(_) => "map",
            Self::Audio(_) => "audio",
        }
    }

    /// The value under `key`, if this is a map that has it.
    pub fn get(&self, key: &str) -> Option<&Value> {
        match self {
            Self::Map(entries) => entries.iter().find(|(name, _)| name == key).map(|(_, value)| value),
            _ => None,
        }
    }
}
