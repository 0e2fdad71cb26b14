//! The trace that a request belongs to, as its client says: <https://www.w3.org/TR/trace-context/>.

use std::fmt;

use axum::http::HeaderMap;

pub(crate) const TRACEPARENT: &str = "traceparent";

/// Where the fields of `VERSION-TRACE-PARENT-FLAGS` begin.
const TRACE: usize = 3;
const PARENT: usize = 36;
const FLAGS: usize = 53;

/// The length of the whole, and the least length of later versions.
const LENGTH: usize = 55;

const INVALID_VERSION: u8 = 0xff;
const SAMPLED: u8 = 1;

/// Names a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TraceId(pub(crate) u128);

impl fmt::Display for TraceId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:032x}", self.0)
    }
}

/// The trace of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TraceContext {
    pub(crate) trace_id: TraceId,
    /// The span of the client, if it has said so.
    pub(crate) parent_id: Option<u64>,
    /// Whether the trace is recorded. The one who begins it decides.
    pub(crate) is_sampled: bool,
}

impl TraceContext {
    /// The one that the client names, or a new one.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let mut given = headers.get_all(TRACEPARENT).iter();
        let parsed = given.next().and_then(|value| Self::parse(value.as_bytes()));
        // Of several, none can be trusted.
        parsed.filter(|_| given.next().is_none()).unwrap_or_else(|| Self {
            trace_id: TraceId(fastrand::u128(1..)),
            parent_id: None,
            is_sampled: true,
        })
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let version = u8::try_from(hex(text.get(..2)?)?).ok()?;
        let has_more = text.len() > LENGTH;
        // Later versions may have more fields.
        if text.len() < LENGTH || version == INVALID_VERSION || has_more && (version == 0 || text[LENGTH] != b'-') {
            return None;
        }
        if [TRACE, PARENT, FLAGS].iter().any(|start| text[start - 1] != b'-') {
            return None;
        }
        let trace_id = hex(&text[TRACE..PARENT - 1]).filter(|id| *id != 0)?;
        let parent_id = hex(&text[PARENT..FLAGS - 1]).filter(|id| *id != 0)?;
        let flags = u8::try_from(hex(&text[FLAGS..LENGTH])?).ok()?;
        Some(Self {
            trace_id: TraceId(trace_id),
            parent_id: Some(u64::try_from(parent_id).ok()?),
            is_sampled: flags & SAMPLED != 0,
        })
    }
}

/// A number of at most 32 digits, which are lower case.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |number, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const VALID: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn parse(text: &str) -> Option<TraceContext> {
        TraceContext::parse(text.as_bytes())
    }

    #[test]
    fn the_fields_are_read() {
        let context = parse(VALID).unwrap();

        assert_eq!(context.trace_id.to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!((context.parent_id, context.is_sampled), (Some(0xb7ad_6b71_6920_3331), true));
    }

    #[test]
    fn what_breaks_a_rule_is_refused() {
        let (trace, parent) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
        for text in [
            String::new(),
            format!("ff-{trace}-{parent}-01"),
            format!("00-{trace}-{parent}-01-"),
            format!("00-{trace}-{parent}-01-more"),
            format!("cc-{trace}-{parent}-01.more"),
            format!("00-{}-{parent}-01", "0".repeat(32)),
            format!("00-{trace}-{}-01", "0".repeat(16)),
            format!("00-{}-{parent}-01", trace.to_uppercase()),
            format!("0x-{trace}-{parent}-01"),
            format!("00-{trace}-{parent}-1"),
            format!("00-{trace}-{parent}-0A"),
            format!("00_{trace}-{parent}-01"),
            format!("00-{trace}-{parent}_01"),
            format!("00-{trace}{parent}--01"),
        ] {
            assert_eq!(parse(&text), None, "{text}");
        }
    }

    #[test]
    fn later_versions_may_have_more_fields() {
        for text in [format!("cc{}", &VALID[2..]), format!("cc{}-more-to-come", &VALID[2..])] {
            assert_eq!(parse(&text), parse(VALID), "{text}");
        }
    }

    #[test]
    fn several_headers_are_none() {
        let mut headers = HeaderMap::new();
        headers.append(TRACEPARENT, VALID.parse().unwrap());
        assert_eq!(Some(TraceContext::of(&headers)), parse(VALID));

        headers.append(TRACEPARENT, VALID.parse().unwrap());

        assert_eq!(TraceContext::of(&headers).parent_id, None);
        assert_ne!(TraceContext::of(&headers).trace_id, TraceContext::of(&headers).trace_id);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(version in 0_u8..0xff, trace in 1_u128.., parent in 1_u64.., flags: u8) {
            let context = parse(&format!("{version:02x}-{trace:032x}-{parent:016x}-{flags:02x}"));

            let expected = TraceContext { trace_id: TraceId(trace), parent_id: Some(parent), is_sampled: flags & 1 == 1 };
            prop_assert_eq!(context, Some(expected));
        }

        #[test]
        fn one_changed_character_never_changes_the_length_of_a_field(place in 0_usize..55, byte: u8) {
            let mut text = VALID.as_bytes().to_vec();
            text[place] = byte;

            let is_dash = [2, 35, 52].contains(&place);
            let is_digit = byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
            prop_assert_eq!(TraceContext::parse(&text).is_some(), if is_dash { byte == b'-' } else { is_digit });
        }

        #[test]
        fn any_bytes_are_refused_or_read(text: Vec<u8>) {
            if let Some(context) = TraceContext::parse(&text) {
                prop_assert!(text.len() >= LENGTH && context.trace_id.0 != 0 && context.parent_id != Some(0));
            }
        }
    }
}
