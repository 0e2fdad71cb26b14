//! The numbers by which a WAV header names the format of its samples.

pub(crate) const PCM: u16 = 0x0001;
pub(crate) const IEEE_FLOAT: u16 = 0x0003;
pub(crate) const EXTENSIBLE: u16 = 0xFFFE;

/// The end of the format identifiers that continue one of the numbers above.
pub(crate) const SUBFORMAT_TAIL: [u8; 14] = [0, 0, 0, 0, 0x10, 0, 0x80, 0, 0, 0xAA, 0, 0x38, 0x9B, 0x71];
