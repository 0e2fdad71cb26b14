//! What the query of a request says of raw audio.

use axum::extract::Query;
use axum::http::{StatusCode, Uri};
use clap::ValueEnum;
use serde::Deserialize;

use crate::input::Layout;
use crate::sample_format::SampleFormat;
use crate::serve::requests::reply::Problem;

const DEFAULT_RATE: u32 = 16_000;
const DEFAULT_CHUNK_MS: u32 = 20;

/// The query of `/stream` and `/session`, checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AudioQuery {
    pub(crate) rate: Option<u32>,
    pub(crate) channels: u16,
    pub(crate) sample_format: SampleFormat,
    pub(crate) chunk_ms: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    rate: Option<u32>,
    channels: Option<u16>,
    format: Option<String>,
    chunk_ms: Option<u32>,
}

impl AudioQuery {
    pub(crate) fn of(uri: &Uri) -> Result<Self, Problem> {
        let Query(written) = Query::<Written>::try_from_uri(uri).map_err(|error| bad(&error.to_string()))?;
        let within = |name: &str, value: Option<u32>, most: u32| match value {
            Some(value) if value == 0 || value > most => Err(bad(&format!("'{name}' must be from 1 to {most}"))),
            value => Ok(value),
        };
        let rate = within("rate", written.rate, 10_000_000)?;
        let channels = within("channels", written.channels.map(u32::from), 1024)?.unwrap_or(1);
        let chunk_ms = within("chunk_ms", written.chunk_ms, 60_000)?.unwrap_or(DEFAULT_CHUNK_MS);
        let sample_format = match written.format {
            None => SampleFormat::S16le,
            Some(name) => SampleFormat::from_str(&name, true)
                .map_err(|_| bad(&format!("'format' is '{name}'; use u8, s16le, s24le, s32le or f32le")))?,
        };
        let channels = u16::try_from(channels).unwrap_or(u16::MAX);
        Ok(Self { rate, channels, sample_format, chunk_ms })
    }

    pub(crate) fn layout(self) -> Layout {
        let rate = self.rate.unwrap_or(DEFAULT_RATE);
        Layout { rate, channels: self.channels, sample_format: self.sample_format }
    }
}

fn bad(what: &str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "QueryError", format!("the query is not valid: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(query: &str) -> Result<AudioQuery, Problem> {
        AudioQuery::of(&format!("/session?{query}").parse().unwrap())
    }

    #[test]
    fn a_query_describes_audio() {
        let query = of("rate=48000&channels=2&format=f32le").unwrap();

        let expected = Layout { rate: 48_000, channels: 2, sample_format: SampleFormat::F32le };
        assert_eq!((query.layout(), query.chunk_ms), (expected, 20));
        assert_eq!(of("").unwrap().layout().rate, 16_000);
    }

    #[test]
    fn a_query_that_makes_no_sense_is_refused() {
        for query in ["rate=0", "rate=x", "rate=-1", "channels=0", "format=mp3", "chunk_ms=0", "rat=1", "rate=1&rate=2"]
        {
            assert_eq!(of(query).unwrap_err().status(), 400, "{query}");
        }
    }
}
