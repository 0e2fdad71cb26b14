//! From when until when a certificate is valid: two fields of X.509 in DER (RFC 5280, section 4.1).

use std::time::SystemTime;

const INTEGER: u8 = 0x02;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// When a certificate is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dates {
    pub(crate) not_before: SystemTime,
    pub(crate) not_after: SystemTime,
}

/// The dates of a certificate, if it is one.
pub(crate) fn read(certificate: &[u8]) -> Option<Dates> {
    let certificate = Der(certificate).next_of(SEQUENCE)?;
    let mut fields = Der(Der(certificate).next_of(SEQUENCE)?);
    // Of version 1 it is left out.
    if fields.0.first() == Some(&VERSION) {
        fields.next()?;
    }
    fields.next_of(INTEGER)?;
    let (_algorithm, _issuer) = (fields.next_of(SEQUENCE)?, fields.next_of(SEQUENCE)?);
    let mut validity = Der(fields.next_of(SEQUENCE)?);
    Some(Dates { not_before: time(validity.next()?)?, not_after: time(validity.next()?)? })
}

/// What is left of a sequence of elements.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The tag and the content of the next element.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, mut rest) = rest.split_first()?;
        let mut length = usize::from(first);
        if first >= 0x80 {
            // The length itself has as many bytes as the lower bits say.
            let (bytes, behind) = rest.split_at_checked(usize::from(first & 0x7f))?;
            length =
                bytes.iter().try_fold(0_usize, |length, &byte| Some(length.checked_mul(256)? + usize::from(byte)))?;
            rest = behind;
        }
        let (content, behind) = rest.split_at_checked(length)?;
        self.0 = behind;
        Some((tag, content))
    }

    fn next_of(&mut self, expected: u8) -> Option<&'a [u8]> {
        self.next().filter(|(tag, _)| *tag == expected).map(|(_, content)| content)
    }
}

/// `YYMMDDHHMMSSZ` with a year from 1950 to 2049, or `YYYYMMDDHHMMSSZ`.
fn time((tag, text): (u8, &[u8])) -> Option<SystemTime> {
    let text =
        str::from_utf8(text.strip_suffix(b"Z")?).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    let (century, text) = match (tag, text.len()) {
        (UTC_TIME, 12) => (if text < "50" { "20" } else { "19" }, text),
        (GENERALIZED_TIME, 14) => text.split_at(2),
        _ => return None,
    };
    let [year, month, day, hour, minute, second] = [0, 2, 4, 6, 8, 10].map(|place| &text[place..place + 2]);
    humantime::parse_rfc3339(&format!("{century}{year}-{month}-{day}T{hour}:{minute}:{second}Z")).ok()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn after(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn times_have_two_or_four_digits_of_the_year() {
        assert_eq!(time((UTC_TIME, b"700101000000Z")), Some(UNIX_EPOCH));
        assert_eq!(time((UTC_TIME, b"491231235959Z")), Some(after(2_524_607_999)));
        assert_eq!(time((GENERALIZED_TIME, b"20500101000000Z")), Some(after(2_524_608_000)));
        for (tag, text) in [
            (UTC_TIME, &b"70010100000Z"[..]),
            (UTC_TIME, b"7001010000000"),
            (UTC_TIME, b"701301000000Z"),
            (UTC_TIME, b"+00101000000Z"),
            (INTEGER, b"700101000000Z"),
        ] {
            assert_eq!(time((tag, text)), None);
        }
    }

    #[test]
    fn dates_are_read_from_whole_certificates_only() {
        let whole = b"\x30\x29\x30\x27\x02\x01\x01\x30\x00\x30\x00\x30\x1e\x17\x0d700101000000Z\x17\x0d700101000001Z";

        assert_eq!(read(whole), Some(Dates { not_before: UNIX_EPOCH, not_after: after(1) }));
        for end in 0..whole.len() {
            assert_eq!(read(&whole[..end]), None, "{end}");
        }
    }
}
